use super::*;
use crate::testkit::{answered, went_on, Exchange, Kit};

fn post(length: &str) -> Exchange {
    Exchange::new("POST", "http://shop.test/upload").with("content-length", length)
}

#[test]
fn a_stated_length_above_the_limit_is_refused_before_the_body() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "max: 1KiB");

    let answer = answered(plugin.request(&mut post("1025")));

    assert_eq!((answer.status, answer.cause.name), (413, "body_too_large"));
    assert_eq!(kit.counted("refused"), 1);
}

#[test]
fn a_stated_length_at_the_limit_or_none_at_all_goes_on() {
    let plugin = Kit::new().instance(&PLUGIN, "max: 1KiB");

    let at_limit = plugin.request(&mut post("1024"));
    let unstated = plugin.request(&mut Exchange::get("http://shop.test/"));

    assert!(went_on(&at_limit) && went_on(&unstated));
}

#[test]
fn a_streamed_body_is_cut_at_the_piece_that_passes_the_limit() {
    let plugin = Kit::new().instance(&PLUGIN, "max: 10");
    let mut exchange = Exchange::new("POST", "http://shop.test/upload");
    let mut first = Some(Bytes::from_static(b"0123456789"));
    let mut second = Some(Bytes::from_static(b"x"));
    plugin.request(&mut exchange);

    let within = plugin.request_body(&mut exchange, &mut first, false);
    let above = plugin.request_body(&mut exchange, &mut second, false);

    assert!(went_on(&within));
    assert_eq!(answered(above).cause.name, "body_too_large");
    assert_eq!(second, None);
}

#[test]
fn an_empty_last_piece_changes_nothing() {
    let plugin = Kit::new().instance(&PLUGIN, "max: 0B");
    let mut exchange = Exchange::new("POST", "http://shop.test/upload");

    assert!(went_on(&plugin.request_body(
        &mut exchange,
        &mut None,
        true
    )));
}

#[test]
fn a_dry_run_refuses_the_same_and_counts_nothing() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "max: 1KiB");

    let answer = answered(plugin.request(&mut post("9999").dry()));

    assert_eq!(answer.status, 413);
    assert_eq!(kit.counted("refused"), 0);

    let mut told = Exchange::new("POST", "http://shop.test/upload").dry();
    plugin.request(&mut told);
    let mut piece = Some(Bytes::from(vec![0; 2000]));
    let cut = plugin.request_body(&mut told, &mut piece, true);
    assert_eq!(answered(cut).status, 413);
    assert_eq!(kit.counted("refused"), 0);
}

#[test]
fn a_size_without_meaning_is_refused_at_its_path() {
    let kit = Kit::new();

    assert_eq!(kit.problem_paths(&PLUGIN, "max: ten"), ["max"]);
    assert_eq!(kit.problem_paths(&PLUGIN, "{}"), [""]);
    assert_eq!(
        kit.problem_paths(
            &PLUGIN,
            "types: [{type: image, max: 1}, {type: a/b, max: x}]"
        ),
        ["types[1].max"]
    );
    assert_eq!(
        kit.problem_paths(&PLUGIN, "types: [{type: image, max: 1}]"),
        ["types[0].type"]
    );
}

#[test]
fn a_media_type_has_a_limit_of_its_own() {
    let plugin = Kit::new().instance(
        &PLUGIN,
        "max: 10\ntypes: [{type: image/*, max: 100}, {type: image/png, max: 1}]",
    );
    let of = |kind: &str, length: &str| {
        went_on(&plugin.request(&mut post(length).with("content-type", kind)))
    };

    assert!(
        of("IMAGE/png; x=y", "100") && !of("image/png", "101"),
        "the first that fits"
    );
    assert!(of("text/plain", "10") && !of("text/plain", "11"));
    let only = Kit::new().instance(&PLUGIN, "types: [{type: image/*, max: 1}]");
    assert!(
        went_on(&only.request(&mut post("99999"))),
        "no limit for others"
    );
}

#[test]
fn a_streamed_body_has_its_types_limit_and_a_further_attempt_counts_anew() {
    let plugin = Kit::new().instance(&PLUGIN, "types: [{type: text/*, max: 10}]");
    let mut exchange =
        Exchange::new("POST", "http://shop.test/upload").with("content-type", "text/csv");
    let send = |exchange: &mut Exchange, length: usize| {
        let mut piece = Some(Bytes::from(vec![b'a'; length]));
        went_on(&plugin.request_body(exchange, &mut piece, false))
    };

    plugin.request(&mut exchange);
    plugin.upstream_request(&mut exchange);
    assert!(send(&mut exchange, 8));
    plugin.upstream_request(&mut exchange);
    assert!(send(&mut exchange, 8));
    assert!(!send(&mut exchange, 8));
}

#[test]
fn a_body_that_does_not_state_its_length_is_refused_where_asked() {
    let plugin = Kit::new().instance(&PLUGIN, "max: 10\nrequire_length: true");
    let chunked = || Exchange::new("POST", "http://a.test/").with("transfer-encoding", "chunked");

    let answer = answered(plugin.request(&mut chunked()));

    assert_eq!(
        (answer.status, answer.cause.name),
        (411, "body_limit.no_length")
    );
    assert!(went_on(&plugin.request(&mut post("10"))));
    assert!(
        went_on(&plugin.request(&mut Exchange::get("http://a.test/"))),
        "no body"
    );
}

#[test]
fn responses_are_bounded_by_what_they_state_and_by_what_comes() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "max_response: 10");
    let mut stated = Exchange::get("http://a.test/").with_response("content-length", "11");
    let mut unstated = Exchange::get("http://a.test/");

    let answer = answered(plugin.response(&mut stated));
    assert!(went_on(&plugin.response(&mut unstated)));
    let piece = |exchange: &mut Exchange| {
        let mut piece = Some(Bytes::from_static(b"123456"));
        plugin.response_body(exchange, &mut piece, false)
    };
    let within = went_on(&piece(&mut unstated));
    let above = answered(piece(&mut unstated));

    assert_eq!(
        (answer.status, answer.cause.name),
        (502, "body_limit.response")
    );
    assert!(within);
    assert_eq!(above.cause.name, "body_limit.response");
    assert_eq!(kit.counted("refused_responses"), 2);
}

#[test]
fn what_has_no_body_may_state_any_length() {
    let plugin = Kit::new().instance(&PLUGIN, "max_response: 10");
    let of = |method: &str, status: u16| {
        let exchange =
            Exchange::new(method, "http://a.test/").with_response("content-length", "99");
        went_on(&plugin.response(&mut exchange.with_status(status)))
    };

    assert!(of("HEAD", 200) && of("GET", 304) && !of("GET", 200));
}
