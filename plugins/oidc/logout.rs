//! How a session ends before its time: here, and at the provider (OpenID Connect RP-Initiated Logout 1.0).
//! It must not know how sessions begin.
//! Called for requests to `logout.path`; asked for each request whether its session was logged out of.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use http::header::SET_COOKIE;
use http::{HeaderName, HeaderValue, Method};

use super::{causes, sent_on, Gate, Place};
use crate::contract::{Request, Verdict};
use crate::query::encoded;

/// Sessions that were logged out of, until they would have ended anyhow. Cookies that were copied are good for nothing then, in
/// this process. The oldest goes first where there are too many.
#[derive(Default)]
pub(super) struct Ended(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    until: HashMap<String, u64>,
    order: VecDeque<String>,
}

impl Ended {
    pub(super) fn has(&self, name: &str, now: u64) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.until.get(name).is_some_and(|until| now < *until)
    }

    fn add(&self, name: &str, until: u64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.until.insert(name.to_owned(), until).is_none() {
            inner.order.push_back(name.to_owned());
        }
        while inner.order.len() > MOST_ENDED {
            if let Some(oldest) = inner.order.pop_front() {
                inner.until.remove(&oldest);
            }
        }
    }
}

impl Gate {
    /// Ends the session.
    pub(super) async fn leave(&self, request: &Request<'_>, place: &Place<'_>) -> Verdict {
        let is_asked = matches!(request.head.method, Method::GET | Method::POST);
        let from = request.head.headers.get(SEC_FETCH_SITE);
        if !is_asked || from.is_some_and(|from| from == "cross-site") {
            return self.refuse(&causes::LOGOUT, request.effects).into();
        }
        let session = self.opened(request, place).ok().flatten();
        let mut location = format!("{}{}", place.origin, self.logout_after);
        if self.logout_at_provider && session.is_some() {
            // Where it cannot be asked, the session ends here all the same.
            match self.provider.described(request.effects).await {
                Ok(described) => {
                    if let (Some(page), Some((session, _))) =
                        (&described.value.end_session, &session)
                    {
                        location = self.end_session(page, &session.tokens.identity, &location);
                    }
                }
                Err(verdict @ Verdict::Unknown(_)) => return verdict,
                Err(_) => {}
            }
        }
        if let Some((session, _)) = &session {
            let until = session.began + self.times.absolute;
            let _ = self
                .ended
                .with(request.effects, |ended| ended.add(&session.name, until));
        }
        let Ok(location) = HeaderValue::from_str(&location) else {
            return self.refuse(&causes::LOGOUT, request.effects).into();
        };
        let mut answer = sent_on(&causes::LOGGED_OUT, location);
        // A form's answer is fetched anew, with GET.
        if request.head.method == Method::POST {
            answer.status = 303;
        }
        let headers = &request.head.headers;
        for field in self.cookies.end_session(headers, place.scheme) {
            answer = answer.with(SET_COOKIE, field);
        }
        if request.effects.is_live() {
            (self.logged_out)(1);
        }
        answer.into()
    }

    fn end_session(&self, page: &str, identity: &str, after: &str) -> String {
        let begin = if page.contains('?') { '&' } else { '?' };
        format!(
            "{page}{begin}id_token_hint={}&client_id={}&post_logout_redirect_uri={}",
            encoded(identity),
            encoded(&self.client.id),
            encoded(after),
        )
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MOST_ENDED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_ended_are_remembered_within_a_bound() {
        let ended = Ended::default();
        for number in 0..MOST_ENDED + 10 {
            ended.add(&number.to_string(), 100);
        }

        assert!(!ended.has("0", 50), "the oldest is gone");
        assert!(ended.has("10", 50) && !ended.has("10", 100));
        assert_eq!(ended.0.lock().unwrap().until.len(), MOST_ENDED);
    }
}
