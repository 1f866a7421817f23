//! A message's fields as a plain map, and what the fields of a request say of it.
//! It must not know who asks.
//! `admit` takes the case of names away with it; `forward` sets what endpoints and clients are told.

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, UPGRADE};
use http::{request, response, HeaderMap, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::Result;

use super::deadline::{brought, Deadline};

/// Changes fields as a plain map. Pingora's own methods parse and store the name again for each field, and keep, copy and search
/// a second map for the case of names; afterwards that map is gone. Names then travel in lower case, as in HTTP/2 (RFC 9113
/// section 8.2), but for a few common ones that Pingora spells in HTTP/1's way.
///
/// # Errors
/// When the target is no target, which a parsed header's is.
pub fn change(head: &mut RequestHeader, change: impl FnOnce(&mut HeaderMap)) -> Result<()> {
    // Parts keep a URI only, which has the bytes of this form alone.
    let is_kept = head.raw_path().starts_with(b"/") && head.raw_path_is_utf8();
    let target = (!is_kept).then(|| head.raw_path().to_vec());
    let blank = http::Request::new(()).into_parts().0;
    let mut parts = request::Parts::from(std::mem::replace(head, blank.into()));
    change(&mut parts.headers);
    *head = parts.into();
    target.map_or(Ok(()), |target| head.set_raw_path(&target))
}

/// As [`change`], for a response.
///
/// # Errors
/// When the reason phrase is none, which a parsed header's is.
pub fn change_response(
    head: &mut ResponseHeader,
    change: impl FnOnce(&mut HeaderMap),
) -> Result<()> {
    let reason = head.get_reason_phrase();
    let odd = (reason != head.status.canonical_reason()).then(|| reason.map(str::to_owned));
    let blank = http::Response::new(()).into_parts().0;
    let mut parts = response::Parts::from(std::mem::replace(head, blank.into()));
    change(&mut parts.headers);
    *head = parts.into();
    odd.map_or(Ok(()), |odd| head.set_reason_phrase(odd.as_deref()))
}

/// The value of a cookie; of a repeated one the first.
pub fn cookie<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h [u8]> {
    let fields = headers.get_all(COOKIE).iter();
    let crumbs = fields.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    crumbs.map(<[u8]>::trim_ascii).find_map(|crumb| {
        let value = crumb.strip_prefix(wanted.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

/// What a request says of itself that decides on times and bounds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// Bytes of the body, as far as the header says.
    pub length: u64,
    /// Asks for another protocol on the connection.
    pub is_upgrade: bool,
    /// Says that it is gRPC.
    pub is_grpc: bool,
    /// The time it brings.
    pub deadline: Option<Deadline>,
    /// Asks for server-sent events.
    wants_events: bool,
}

impl Nature {
    /// Looks at every field once, which costs less than to look four names up.
    pub fn of(headers: &HeaderMap) -> Nature {
        let mut nature = Nature::default();
        for (name, value) in headers {
            match *name {
                CONTENT_LENGTH => nature.length = number(value),
                UPGRADE => nature.is_upgrade = true,
                CONTENT_TYPE => nature.is_grpc |= value.as_bytes().starts_with(b"application/grpc"),
                ACCEPT => nature.wants_events |= value.as_bytes().starts_with(b"text/event-stream"),
                _ => nature.deadline = shorter(nature.deadline, brought(name.as_str(), value)),
            }
        }
        nature
    }

    /// Whether it is over only when somebody ends it, so that its time holds until the response's header: an upgrade,
    /// server-sent events. A gRPC call's time holds for all of it.
    pub fn is_endless(&self) -> bool {
        self.is_upgrade || (self.wants_events && !self.is_grpc)
    }

    /// Whether it begins something long-lived: an upgrade, gRPC, server-sent events.
    pub fn is_stream(&self) -> bool {
        self.is_upgrade || self.is_grpc || self.wants_events
    }
}

fn shorter(one: Option<Deadline>, other: Option<Deadline>) -> Option<Deadline> {
    match (one, other) {
        (Some(one), Some(other)) if other.time < one.time => Some(other),
        (one, other) => one.or(other),
    }
}

fn number(value: &HeaderValue) -> u64 {
    let number = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_target_stays_and_the_case_of_names_goes() {
        for target in [&b"/a?b=1"[..], b"*", b"http://a.example/b", b"/a?\xff"] {
            let mut head = RequestHeader::build("OPTIONS", target, None).unwrap();
            head.insert_header("X-Case", "1").unwrap();

            change(&mut head, |fields| {
                fields.insert("y", HeaderValue::from_static("2"));
            })
            .unwrap();

            assert_eq!(head.raw_path(), target);
            assert!(!head.has_case());
            assert_eq!(head.headers["x-case"], "1");
            assert_eq!(head.headers["y"], "2");
        }
    }

    #[test]
    fn a_reason_of_the_endpoints_own_stays() {
        let mut head = ResponseHeader::build(404, None).unwrap();
        for reason in [Some("Not Found"), Some("Gone Fishing"), None] {
            head.set_reason_phrase(reason).unwrap();

            change_response(&mut head, |_| {}).unwrap();

            assert_eq!(
                head.get_reason_phrase(),
                Some(reason.unwrap_or("Not Found"))
            );
        }
    }

    #[test]
    fn a_request_tells_its_nature() {
        let of = |name: &'static str, value| {
            let field = (name.parse().unwrap(), HeaderValue::from_static(value));
            Nature::of(&HeaderMap::from_iter([field]))
        };

        assert_eq!(of("content-length", " 12").length, 12);
        assert!(of("upgrade", "websocket").is_stream());
        assert!(of("content-type", "application/grpc+proto").is_grpc);
        assert!(of("accept", "text/event-stream, */*").is_stream());
        assert_eq!(of("accept", "*/*"), Nature::default());
    }
}
