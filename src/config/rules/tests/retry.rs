//! Every rule of times, retries and budgets, provoked once.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::each_is_reported;

#[test]
fn times_and_retries_make_sense() {
    let head = "pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}]\nlisteners: [{name: web, bind: '127.0.0.1:1'}]\n";
    let rule = "routes: [{name: r, rules: [{pool: p, retry: {";
    let cases = RETRIES.map(|(settings, fact)| {
        (
            format!("{head}{rule}{settings}}}}}]}}]"),
            format!("routes[0].rules[0].retry.{fact}"),
        )
    });
    let cases = cases.each_ref().map(|(yaml, fact)| (&**yaml, &**fact));

    each_is_reported(&cases);
}

const RETRIES: [(&str, &str); 8] = [
    (
        "statuses: [200]",
        "statuses[0]: must be from 400 to 599, found 200",
    ),
    (
        "statuses: [503, 503]",
        "statuses[1]: 503 is in the list already",
    ),
    (
        "grpc: [aborted, aborted]",
        "grpc[1]: 10 is in the list already",
    ),
    (
        "backoff: {base: 0s}",
        "backoff.base: must be longer than 0s",
    ),
    (
        "backoff: {base: 1s}",
        "backoff.base: \"1s\" is longer than max \"250ms\"",
    ),
    (
        "backoff: {max: 11s}",
        "backoff.max: must be at most 10s, found 11s",
    ),
    (
        "budget: {window: 500ms}",
        "budget.window: must be from 1s to 60s, found 500ms",
    ),
    (
        "budget: {min_per_second: 1000001}",
        "budget.min_per_second: must be from 0 to 1000000, found 1000001",
    ),
];

#[test]
fn what_cannot_matter_is_refused() {
    each_is_reported(&[
        (
            "pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1'], retry_budget: {window: 61s}}]",
            "pools[0].retry_budget.window: must be from 1s to 60s, found 61s",
        ),
        (
            "pools: [{name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]\nlisteners: [{name: raw, bind: '127.0.0.1:2', protocol: tcp}]\nroutes: [{name: r, protocol: tcp, listeners: [raw], retry: {}, rules: [{pool: t}]}]",
            "routes[0].retry: is not used by a route with protocol \"tcp\"",
        ),
        (
            "pools: [{name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]\nlisteners: [{name: raw, bind: '127.0.0.1:2', protocol: tcp}]\nroutes: [{name: r, protocol: tcp, listeners: [raw], rules: [{pool: t, timeouts: {per_try: 1s}}]}]",
            "routes[0].rules[0].timeouts.per_try: is not used by a route with protocol \"tcp\"",
        ),
    ]);
}
