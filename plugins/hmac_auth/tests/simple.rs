//! The simple scheme.
//! It must not know RFC 9421.
//! Part of the tests of `hmac_auth`.

use super::*;

const DATE: &str = "Thu, 01 Jan 1970 00:16:40 GMT";

fn plugin(more: &str) -> Instance {
    kit().instance(&PLUGIN, &format!("scheme: simple\n{more}"))
}

fn with(exchange: Exchange, lines: &str, date: &str) -> Exchange {
    let code = hmac(lines);
    exchange
        .with("date", date)
        .with("authorization", &format!("HMAC-SHA256 k1:{code}"))
}

#[test]
fn a_request_signed_over_its_lines_proves_whose_key_it_was() {
    let lines = format!("GET\n/a?x=1\nshop.test\n{DATE}\n\nk1\n");
    let mut exchange = with(get(), &lines, DATE);

    assert_eq!(who(&plugin(""), &mut exchange), ann());
    plugin("").upstream_request(&mut exchange);
    assert!(!exchange.upstream.headers.contains_key("authorization"));
}

#[test]
fn what_is_missing_old_or_another_request_is_refused() {
    let lines = |date: &str| format!("GET\n/a?x=1\nshop.test\n{date}\n\nk1\n");
    let old = "Thu, 01 Jan 1970 00:11:00 GMT";
    let right = || with(get(), &lines(DATE), DATE);
    let code = hmac(&lines(DATE));
    for (exchange, cause) in [
        (get(), "auth.signature_missing"),
        (
            get().with("authorization", "Bearer x"),
            "auth.signature_missing",
        ),
        (
            right().with("authorization", "Basic x"),
            "auth.signature_malformed",
        ),
        (
            get().with("authorization", "HMAC-SHA256 k1"),
            "auth.signature_malformed",
        ),
        (
            get().with("authorization", "HMAC-SHA256 k1:!"),
            "auth.signature_malformed",
        ),
        (
            get().with("authorization", "HMAC-SHA256 k2:AA=="),
            "auth.signature_key",
        ),
        (
            get().with("authorization", &format!("HMAC-SHA256 k1:{code}")),
            "auth.signature_uncovered",
        ),
        (right().with("date", DATE), "auth.signature_malformed"),
        (with(get(), &lines(old), old), "auth.signature_time"),
        (
            with(get(), &lines("now"), "now"),
            "auth.signature_malformed",
        ),
        (
            with(Exchange::get("https://shop.test/b"), &lines(DATE), DATE),
            "auth.signature_wrong",
        ),
        (
            with(Exchange::get("https://b.test/a?x=1"), &lines(DATE), DATE),
            "auth.signature_wrong",
        ),
        (
            right().with("content-digest", "sha-256=:AA==:"),
            "auth.signature_wrong",
        ),
        (
            right().with("content-length", "5"),
            "auth.signature_uncovered",
        ),
    ] {
        assert_eq!(who(&plugin(""), &mut { exchange }), Err(cause));
    }
}
