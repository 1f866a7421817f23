//! Changes of responses: what is held, decoded, changed and sent on with a head that tells the truth about it.
//! It must not know how changes are made.
//! Part of `body`.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED,
    RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::causes::{
    RESPONSE_MALFORMED, RESPONSE_TOO_LARGE, RESPONSE_UNFIT, RESPONSE_UNSUPPORTED, TEMPLATE,
};
use super::change::{Change, Unchanged};
use super::{facts, is_json, Larger, Others};
use crate::codec::{self, is_not_to_change, recoded};
use crate::contract::{
    self, Answer, Cause, Counter, Held, Hold, Principal, Request, Response, Slot, Verdict,
};
use crate::statuses::Statuses;

/// Changes responses.
pub(super) struct Responses {
    pub(super) change: Change,
    pub(super) statuses: Statuses,
    pub(super) larger: Larger,
    pub(super) others: Others,
    pub(super) most: u64,
    /// Who called, for templates.
    pub(super) caller: Slot<Principal>,
    pub(super) changed: Counter,
}

impl Responses {
    /// Asks the service for all of a plain response: no part can be changed, and what is not plain only after it is decoded. A client
    /// that asked for a part, or for a coding, would else get past the change.
    pub(super) fn ask(&self, request: &mut Request<'_>) -> Verdict {
        if let Some(principal) = request.principal.as_ref() {
            request.slots.put(self.caller, principal.clone());
        }
        request.head.remove_header(&RANGE);
        request.head.remove_header(&IF_RANGE);
        let _ = request
            .head
            .insert_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Verdict::Continue
    }

    /// A response to HEAD has the head of the one to GET, but for the length, which nobody knows.
    pub(super) fn head(&self, response: &mut Response<'_>) -> Verdict {
        let is_of_head = response.request.method == Method::HEAD && response.cause.is_none();
        if is_of_head && self.is_meant(response) && self.can_change(&response.head.headers) {
            self.correct(response, None);
        }
        Verdict::Continue
    }

    fn is_meant(&self, response: &Response<'_>) -> bool {
        let status = response.head.status;
        match self.statuses.is_empty() {
            true => status.is_success(),
            false => self.statuses.has(status),
        }
    }

    /// Whether the head says that the body is of the kind that is changed.
    fn can_change(&self, headers: &HeaderMap) -> bool {
        let reads = self.change.reads_body("response.body");
        !headers.contains_key(CONTENT_RANGE)
            && !is_not_to_change(headers)
            && (!reads || is_json(headers) && codec::coding(headers) != codec::Coded::Otherwise)
    }

    /// Whether a response is held.
    pub(super) fn wish(&self, response: &mut Response<'_>) -> Hold {
        if !self.is_meant(response) || response.head.status == StatusCode::RESET_CONTENT {
            return Hold::Nothing;
        }
        let is_other = !self.can_change(&response.head.headers)
            || response.head.status == StatusCode::PARTIAL_CONTENT;
        let larger = match (is_other, self.others, self.larger) {
            (true, Others::Pass, _) => return Hold::Nothing,
            // It is refused in its turn, before anything of it came.
            (true, Others::Refuse, _) => contract::Larger::Refuse(&RESPONSE_UNSUPPORTED),
            (false, _, Larger::Pass) => contract::Larger::Pass,
            (false, _, Larger::Refuse) => contract::Larger::Refuse(&RESPONSE_TOO_LARGE),
        };
        let most = if is_other { 0 } else { self.most };
        Hold::Within { most, larger }
    }

    /// Changes a response that is whole.
    pub(super) fn change(&self, response: &mut Response<'_>, held: &mut Held) -> Verdict {
        if held.body.bytes().is_empty() && self.change.reads_body("response.body") {
            return Verdict::Continue;
        }
        if !self.can_change(&response.head.headers)
            || response.head.status == StatusCode::PARTIAL_CONTENT
        {
            return Answer::of(&RESPONSE_UNSUPPORTED).into();
        }
        match self.changed(response, held.body.bytes()) {
            Ok((body, media)) => {
                self.correct(response, media);
                held.body.replace(body);
                if response.effects.is_live() {
                    (self.changed)(1);
                }
                Verdict::Continue
            }
            Err(verdict) => verdict,
        }
    }

    fn changed(
        &self,
        response: &Response<'_>,
        body: &Bytes,
    ) -> Result<(Bytes, Option<HeaderValue>), Verdict> {
        let headers = &response.head.headers;
        let refuse = |cause: &'static Cause| Verdict::from(Answer::of(cause));
        let document = match self.change.reads_body("response.body") {
            false => None,
            true => Some(self.read(headers, body).map_err(refuse)?),
        };
        let facts = |document: Option<Value>| {
            let caller = response.slots.value(self.caller);
            let mut all = facts::of(response.request, response.client, caller, None);
            all["response"] = serde_json::json!({
                "status": response.head.status.as_u16(),
                "headers": facts::headers(headers),
            });
            if let Some(document) = document {
                all["response"]["body"] = document;
            }
            all
        };
        let changed = self.change.apply(document, self.most, facts);
        changed.map_err(|why| match why {
            Unchanged::Malformed => refuse(&RESPONSE_MALFORMED),
            Unchanged::Unfit => refuse(&RESPONSE_UNFIT),
            Unchanged::TooLarge => refuse(&RESPONSE_TOO_LARGE),
            Unchanged::Failed(reason) => Verdict::Failed {
                cause: &TEMPLATE,
                reason,
            },
        })
    }

    fn read(&self, headers: &HeaderMap, body: &Bytes) -> Result<Value, &'static Cause> {
        use codec::whole::NotPlain;
        let plain = codec::whole::plain(headers, body, self.most);
        let plain = plain.map_err(|why| match why {
            NotPlain::Unknown => &RESPONSE_UNSUPPORTED,
            NotPlain::Malformed => &RESPONSE_MALFORMED,
            NotPlain::TooLarge => &RESPONSE_TOO_LARGE,
        })?;
        serde_json::from_slice(&plain).map_err(|_| &RESPONSE_MALFORMED)
    }

    /// What the head says of the body that was. A body of a template depends on more than the service's, so no tag of the service's
    /// holds for it; a patched one means the same as long as the service's does.
    fn correct(&self, response: &mut Response<'_>, media: Option<HeaderValue>) {
        recoded(response.head);
        response.head.remove_header(&CONTENT_ENCODING);
        if let Change::Template(template) = &self.change {
            response.head.remove_header(&ETAG);
            response.head.remove_header(&LAST_MODIFIED);
            let media = media.unwrap_or_else(|| template.media.clone());
            let _ = response.head.insert_header(CONTENT_TYPE, media);
        }
    }
}
