//! The body of a request that is explained, for hooks that want to see it whole.
//! It must not read anything: the question tells the body, or nobody does.
//! Used by `explain` as the data path uses what clients send.

use std::future::ready;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::http::RequestHeader;
use windrose_plugins::contract::{Unknown, WholeBody};

use crate::snapshot::chain::{BodyFuture, BodySource, Unread};

/// What the question says of the body.
pub(super) struct GivenBody {
    bytes: Option<Bytes>,
    /// Whether the question brought it, so that hooks on pieces see it, too.
    is_given: bool,
    is_changed: bool,
}

impl GivenBody {
    /// A request that announces no body has an empty one.
    pub(super) fn new(head: &RequestHeader, body: Option<Vec<u8>>) -> GivenBody {
        let length = head.headers.get(CONTENT_LENGTH);
        let announced = length.is_some_and(|length| length.as_bytes() != b"0")
            || head.headers.contains_key(TRANSFER_ENCODING);
        let is_given = body.is_some();
        let nothing = (!announced).then(Bytes::new);
        GivenBody {
            bytes: body.map(Bytes::from).or(nothing),
            is_given,
            is_changed: false,
        }
    }

    /// The length of what hooks have put in its place.
    pub(super) fn changed_length(&self) -> Option<usize> {
        let bytes = self.bytes.as_ref().filter(|_| self.is_changed);
        bytes.map(Bytes::len)
    }

    /// As hooks left it, if the question brought one.
    pub(super) fn into_bytes(self) -> Option<Bytes> {
        self.bytes.filter(|_| self.is_given)
    }
}

impl BodySource for GivenBody {
    fn whole(&mut self, most: u64) -> BodyFuture<'_> {
        let body = match &self.bytes {
            None => Err(Unread::Unknown(Unknown("the request's body".into()))),
            Some(bytes) if bytes.len() as u64 > most => Err(Unread::TooLarge),
            Some(bytes) => Ok(Box::new(WholeBody::new(bytes.clone()))),
        };
        Box::pin(ready(body))
    }

    fn begin(&mut self, most: u64) -> BodyFuture<'_> {
        match &self.bytes {
            Some(bytes) if bytes.len() as u64 > most => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let begin = WholeBody::cut(bytes.slice(..most));
                Box::pin(ready(Ok(Box::new(begin))))
            }
            _ => self.whole(most),
        }
    }

    fn replace(&mut self, body: Box<WholeBody>) {
        self.bytes = Some(body.bytes().clone());
        (self.is_given, self.is_changed) = (true, true);
    }
}
