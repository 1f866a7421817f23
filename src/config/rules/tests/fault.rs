//! Every rule of faults, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

fn of_rule(rule: &str) -> String {
    format!(
        "pools: [{{name: p, endpoints: ['10.0.0.1:1']}}, {{name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}}]
listeners: [{{name: web, bind: '127.0.0.1:1'}}, {{name: raw, bind: '127.0.0.1:2', protocol: tcp}}]
routes: [{{name: r, {rule}}}]"
    )
}

fn of_fault(fault: &str) -> String {
    of_rule(&format!("rules: [{{pool: p, fault: {{{fault}}}}}]"))
}

#[test]
fn faults_can_be_carried_out_and_hit_nobody_by_accident() {
    for (fault, expected) in FAULTS {
        let expected = format!("routes[0].rules[0].fault{expected}");
        each_is_reported(&[(&of_fault(fault), &expected)]);
    }
}

#[test]
fn a_fault_is_used_only_where_requests_go_on() {
    for (rule, expected) in [
        (
            "rules: [{respond: {status: 200}, fault: {everyone: true, delay: {time: 1s, percent: 1%}}}]",
            "fault: is not used by the action `respond`",
        ),
        (
            "protocol: tcp, listeners: [raw], rules: [{pool: t, fault: {everyone: true, delay: {time: 1s, percent: 1%}}}]",
            r#"fault: is not used by a route with protocol "tcp""#,
        ),
    ] {
        let expected = format!("routes[0].rules[0].{expected}");
        each_is_reported(&[(&of_rule(rule), &expected)]);
    }
}

#[test]
fn a_guarded_fault_keeps_every_rule() {
    for guard in [
        "clients: [10.0.0.0/8], by_header: true",
        "principals: ['consumer:qa*']",
        "when: {headers: {x-drill: {present: true}}}",
        "everyone: true",
    ] {
        let fault = format!("abort: {{status: 503, percent: 0.1%}}, {guard}");

        assert_eq!(reported(&of_fault(&fault)), "", "{guard}");
    }
}

const FAULTS: &[(&str, &str)] = &[
    ("everyone: true", ": injects nothing"),
    ("delay: {time: 1s, percent: 1%}", ": nothing guards it"),
    (
        "delay: {time: 1s, percent: 1%}, everyone: true, clients: [10.0.0.0/8]",
        ".everyone: is said of a fault that is guarded",
    ),
    (
        "by_header: true, everyone: true",
        ".by_header: lets strangers delay and abort requests",
    ),
    (
        "by_header: true, when: {headers: {a: b}}",
        ".by_header: lets strangers delay and abort requests",
    ),
    (
        "everyone: true, delay: {time: 1s, percent: 0%}",
        ".delay.percent: must be at least 0.01%, found \"0%\"",
    ),
    (
        "everyone: true, abort: {status: 500, percent: 0.001%}",
        ".abort.percent: must be at least 0.01%, found \"0%\"",
    ),
    (
        "everyone: true, delay: {time: 0s, percent: 1%}",
        ".delay.time: must be longer than 0s",
    ),
    (
        "everyone: true, delay: {time: 6m, percent: 1%}",
        ".delay.time: must be at most 5m, found 6m",
    ),
    (
        "everyone: true, abort: {percent: 1%}",
        ".abort: answers with no status",
    ),
    (
        "everyone: true, abort: {status: 500, grpc_status: 14, percent: 1%}",
        ".abort: answers with 2 statuses",
    ),
    (
        "everyone: true, abort: {status: 200, percent: 1%}",
        ".abort.status: must be from 400 to 599, found 200",
    ),
    (
        "everyone: true, abort: {grpc_status: 0, percent: 1%}",
        ".abort.grpc_status: must be from 1 to 16, found 0",
    ),
    (
        "delay: {time: 1s, percent: 1%}, when: {headers: {'a b': c}}",
        r#".when.headers.a b: "a b" is not a header name"#,
    ),
    (
        "delay: {time: 1s, percent: 1%}, when: {headers: {a: {regex: '('}}}",
        r#".when.headers.a.regex: "(" is not a regular expression"#,
    ),
    (
        "delay: {time: 1s, percent: 1%}, principals: ['*a']",
        r#".principals[0]: "*a" has a `*` that is not its last character"#,
    ),
];
