//! What the fields of a request say of it.
//! It must not know who asks.
//! Read by the data path and by whatever explains it.

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, UPGRADE};
use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{ErrorType, OrErr, Result};

use super::deadline::{brought, Deadline};

/// Puts another query into a request, or none.
///
/// # Errors
/// When it is no query, which a part of one is.
pub fn set_query(head: &mut RequestHeader, query: &str) -> Result<()> {
    let path = head.uri.path();
    let target = match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    let uri = target.parse().or_err(ErrorType::InternalError, "a query")?;
    head.set_uri(uri);
    Ok(())
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
