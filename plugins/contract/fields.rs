//! Fields of a message as a plain map: the cheap way to change several of them.
//! It must not know what is changed.
//! Used by the proxy for what it adds itself, and by plugins.

use http::{request, response, HeaderMap};
use pingora_http::{RequestHeader, ResponseHeader};

use super::{Request, Response};

/// Changes the fields of a request as a plain map. Pingora's own methods parse, copy and store the name again for each field, and
/// keep and search a second map for the case of names; afterwards that map is gone. Names then travel in lower case, as in HTTP/2
/// (RFC 9113 section 8.2), but for a few common ones that Pingora spells in HTTP/1's way.
pub fn change_request<R>(head: &mut RequestHeader, change: impl FnOnce(&mut HeaderMap) -> R) -> R {
    // Parts keep a URI only, which has the bytes of this form alone.
    let is_kept = head.raw_path().starts_with(b"/") && head.raw_path_is_utf8();
    let target = (!is_kept).then(|| head.raw_path().to_vec());
    let blank = http::Request::new(()).into_parts().0;
    let mut parts = request::Parts::from(std::mem::replace(head, blank.into()));
    let said = change(&mut parts.headers);
    *head = parts.into();
    if let Some(target) = target {
        // Cannot fail: it is the target of a parsed head.
        let _ = head.set_raw_path(&target);
    }
    said
}

/// As [`change_request`], for a response.
pub fn change_response<R>(
    head: &mut ResponseHeader,
    change: impl FnOnce(&mut HeaderMap) -> R,
) -> R {
    let reason = head.get_reason_phrase();
    let odd = (reason != head.status.canonical_reason()).then(|| reason.map(str::to_owned));
    let blank = http::Response::new(()).into_parts().0;
    let mut parts = response::Parts::from(std::mem::replace(head, blank.into()));
    let said = change(&mut parts.headers);
    *head = parts.into();
    if let Some(odd) = odd {
        // Cannot fail: any phrase is taken.
        let _ = head.set_reason_phrase(odd.as_deref());
    }
    said
}

impl Request<'_> {
    /// Changes fields as a plain map: for more than one field much cheaper than [`head`](Request::head)'s own methods, and it never
    /// fails. The case of names is gone afterwards, which the proxy drops anyway.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut HeaderMap) -> R) -> R {
        change_request(self.head, change)
    }
}

impl Response<'_> {
    /// As [`Request::change`].
    pub fn change<R>(&mut self, change: impl FnOnce(&mut HeaderMap) -> R) -> R {
        change_response(self.head, change)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_form_of_target_stays_and_the_case_of_names_goes() {
        for target in [&b"/a?b=1"[..], b"*", b"http://a.example/b", b"/a?\xff"] {
            let mut head = RequestHeader::build("OPTIONS", target, None).unwrap();
            head.insert_header("X-Case", "1").unwrap();

            change_request(&mut head, |fields| {
                fields.insert("y", HeaderValue::from_static("2"));
            });

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

            change_response(&mut head, |_| {});

            assert_eq!(
                head.get_reason_phrase(),
                Some(reason.unwrap_or("Not Found"))
            );
        }
    }
}
