//! What proxies one behind the other tell each other about attempts, so that each does not multiply those of the next.
//! It must not know budgets or rules.
//! The data path reads and writes it; requests say which attempt they are, responses that no further one is wanted.
//!
//! With three attempts at each of three hops one request can become 27 at the service that fails. Here only the hop next to the
//! failure tries again, and all hops together make no more attempts than each may make alone.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use windrose_plugins::contract::{causes, Cause, Principal, PrincipalKind};

/// Which attempt a request is, from the second on. Believed of peers that [`is_believed`].
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-windrose-attempt");
/// On a response: whoever is in front should not try again. Told to the same peers only, and heeded whoever says it.
pub const NO_RETRY: HeaderName = HeaderName::from_static("x-windrose-no-retry");

/// Whether who sends a request is believed about attempts: a trusted peer, or a workload that has proven who it is. With a lie it
/// would have its own requests tried less.
pub fn is_believed(trusted: bool, peer: Option<&Principal>) -> bool {
    trusted || peer.is_some_and(|peer| peer.kind == PrincipalKind::Workload)
}

/// Attempts that hops before made of this request, without the present one: those that a trusted peer names.
pub fn before(headers: &HeaderMap, trusted: bool) -> u8 {
    let given = headers.get(&ATTEMPT).filter(|_| trusted);
    let number = given.and_then(|value| value.to_str().ok()?.parse::<u8>().ok());
    number.map_or(0, |number| number.saturating_sub(1).min(MOST))
}

/// More than any rule allows; a bound on what a field can say.
const MOST: u8 = 20;

/// Tells the next hop which attempt this is.
pub(super) fn tell(headers: &mut HeaderMap, number: u8) {
    if number > 1 {
        headers.insert(ATTEMPT, HeaderValue::from(u16::from(number)));
    }
}

/// Whether a response asks for no further attempt.
pub fn declines(headers: &HeaderMap) -> bool {
    headers.contains_key(&NO_RETRY)
}

/// What a response says of attempts to who gets it. `tried` is whether attempts were made here after a failure, or refused.
pub fn ask(headers: &mut HeaderMap, status: StatusCode, told: Told) {
    let failed = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let wanted = told.trusted && failed && (told.tried || told.cause.is_some_and(is_overload));
    if wanted {
        headers.insert(NO_RETRY, HeaderValue::from_static("1"));
    } else if !(told.trusted && failed) {
        headers.remove(NO_RETRY);
    }
}

/// What decides about [`ask`].
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Whether who gets it is a trusted peer.
    pub trusted: bool,
    /// Whether attempts were made here after a failure, or refused by a bound.
    pub tried: bool,
    /// Why the proxy answers by itself, if it does.
    pub cause: Option<&'static Cause>,
}

/// Whether more attempts would be the last thing that helps.
fn is_overload(cause: &'static Cause) -> bool {
    [
        &causes::OVERLOADED,
        &causes::POOL_OVERLOADED,
        &causes::RETRY_BUDGET_SPENT,
    ]
    .contains(&cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(status: u16, told: Told) -> bool {
        let mut headers = HeaderMap::new();
        ask(&mut headers, StatusCode::from_u16(status).unwrap(), told);
        declines(&headers)
    }

    const TRIED: Told = Told {
        trusted: true,
        tried: true,
        cause: None,
    };

    #[test]
    fn a_failure_after_attempts_asks_a_trusted_peer_for_no_more() {
        assert!(asked(503, TRIED));
        assert!(!asked(200, TRIED));
        let stranger = Told {
            trusted: false,
            ..TRIED
        };
        assert!(!asked(503, stranger));
        let first = Told {
            tried: false,
            ..TRIED
        };
        assert!(!asked(503, first));
    }

    #[test]
    fn an_overloaded_proxy_asks_for_no_more_at_once() {
        let full = Told {
            tried: false,
            cause: Some(&causes::POOL_OVERLOADED),
            ..TRIED
        };
        assert!(asked(503, full));
    }

    #[test]
    fn what_an_endpoint_asks_goes_to_trusted_peers_only() {
        let mut headers = HeaderMap::new();
        headers.insert(NO_RETRY, HeaderValue::from_static("1"));
        let first = Told {
            tried: false,
            ..TRIED
        };
        ask(&mut headers, StatusCode::BAD_GATEWAY, first);
        assert!(declines(&headers));

        let stranger = Told {
            trusted: false,
            ..first
        };
        ask(&mut headers, StatusCode::BAD_GATEWAY, stranger);
        assert!(!declines(&headers));
    }

    #[test]
    fn only_a_trusted_peer_says_which_attempt_it_is() {
        let mut headers = HeaderMap::new();
        tell(&mut headers, 3);

        assert_eq!((before(&headers, true), before(&headers, false)), (2, 0));
        headers.clear();
        tell(&mut headers, 1);
        assert_eq!(before(&headers, true), 0);
        headers.insert(ATTEMPT, HeaderValue::from_static("255"));
        assert_eq!(before(&headers, true), MOST);
        headers.insert(ATTEMPT, HeaderValue::from_static("-1"));
        assert_eq!(before(&headers, true), 0);
    }
}
