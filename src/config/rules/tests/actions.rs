//! Every rule of actions and header edits, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::each_is_reported;

#[test]
fn actions_can_be_carried_out() {
    each_is_reported(ACTIONS_CAN_BE_CARRIED_OUT);
}

#[test]
fn headers_can_be_edited() {
    each_is_reported(HEADERS_CAN_BE_EDITED);
}

const ACTIONS_CAN_BE_CARRIED_OUT: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{split: [{pool: p, weight: 0}]}]}]"#,
        r#"routes[0].rules[0].split: the weights add up to 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{split: [{pool: p, weight: 1000001}]}]}]"#,
        r#"routes[0].rules[0].split[0].weight: must be from 0 to 1000000, found 1000001"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{split: [{pool: p, weight: 1}, {pool: p, weight: 1}]}]}]"#,
        r#"routes[0].rules[0].split[1].pool: "p" has a share already"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {}}]}]"#,
        r#"routes[0].rules[0].redirect: changes nothing"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {path: /a, status: 300}}]}]"#,
        r#"routes[0].rules[0].redirect.status: 300 is not a status of a redirect"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {scheme: ftp}}]}]"#,
        r#"routes[0].rules[0].redirect.scheme: "ftp" is neither "http" nor "https""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {host: 'a b'}}]}]"#,
        r#"routes[0].rules[0].redirect.host: "a b" is not a host name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {port: 0}}]}]"#,
        r#"routes[0].rules[0].redirect.port: must be from 1 to 65535, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {path: /a, path_prefix: /b}, match: [{path: {prefix: /c}}]}]}]"#,
        r#"routes[0].rules[0].redirect: changes the path in 2 ways: `path`, `path_prefix`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {path: a}}]}]"#,
        r#"routes[0].rules[0].redirect.path: "a" does not start with "/""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {path_prefix: /b}}]}]"#,
        r#"routes[0].rules[0].redirect.path_prefix: "/b" replaces a matched prefix, and not every alternative"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{respond: {status: 199}}]}]"#,
        r#"routes[0].rules[0].respond.status: must be from 200 to 599, found 199"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{respond: {status: 200, content_type: "a\nb"}}]}]"#,
        r#"routes[0].rules[0].respond.content_type: "a\nb" holds characters"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, rewrite: {path_prefix: /b}, match: [{path: {prefix: /c}}, {path: {exact: /d}}]}]}]"#,
        r#"routes[0].rules[0].rewrite.path_prefix: "/b" replaces a matched prefix"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, rewrite: {path: /b, path_regex: {pattern: a, replace: b}}}]}]"#,
        r#"routes[0].rules[0].rewrite: changes the path in 2 ways: `path`, `path_regex`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, rewrite: {path_regex: {pattern: '(', replace: b}}}]}]"#,
        r#"routes[0].rules[0].rewrite.path_regex.pattern: "(" is not a regular expression"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, rewrite: {host: 'a b'}}]}]"#,
        r#"routes[0].rules[0].rewrite.host: "a b" is not a host name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, retry: {attempts: 6}}]}]"#,
        r#"routes[0].rules[0].retry.attempts: must be from 0 to 5, found 6"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, retry: {on: []}}]}]"#,
        r#"routes[0].rules[0].retry.on: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, retry: {methods: [get]}}]}]"#,
        r#"routes[0].rules[0].retry.methods[0]: "get" has lower case letters"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{respond: {status: 200}, rewrite: {path: /}}]}]"#,
        r#"routes[0].rules[0].rewrite: is not used by the action `respond`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{respond: {status: 200}, request_headers: {remove: [a]}}]}]"#,
        r#"routes[0].rules[0].request_headers: is not used by the action `respond`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{respond: {status: 200}, timeouts: {idle: 1s}}]}]"#,
        r#"routes[0].rules[0].timeouts: is not used by the action `respond`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{respond: {status: 200}, retry: {}}]}]"#,
        r#"routes[0].rules[0].retry: is not used by the action `respond`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{respond: {status: 200}, body_limit: 1}]}]"#,
        r#"routes[0].rules[0].body_limit: is not used by the action `respond`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{redirect: {path: /a}, retry: {}}]}]"#,
        r#"routes[0].rules[0].retry: is not used by the action `redirect`"#,
    ),
];

const HEADERS_CAN_BE_EDITED: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [connection]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "connection" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [keep-alive]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "keep-alive" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [proxy-connection]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "proxy-connection" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [te]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "te" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [trailer]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "trailer" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [transfer-encoding]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "transfer-encoding" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [upgrade]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "upgrade" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {remove: [content-length]}}]}]"#,
        r#"routes[0].rules[0].request_headers.remove[0]: the field "content-length" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, response_headers: {set: {Upgrade: x}}}]}]"#,
        r#"routes[0].rules[0].response_headers.set.Upgrade: the field "Upgrade" belongs to the connection"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {set: {Host: x}}}]}]"#,
        r#"routes[0].rules[0].request_headers.set.Host: the field "Host" cannot be edited here
  help: use `rewrite.host`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, response_headers: {set: {Host: x}}}]}]"#,
        r#"routes[0].rules[0].response_headers.set.Host: a response has no "host" field"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {add: {'a b': x}}}]}]"#,
        r#"routes[0].rules[0].request_headers.add.a b: "a b" is not a header field name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, request_headers: {add: {a: "x\ny"}}}]}]"#,
        r#"routes[0].rules[0].request_headers.add.a: "x\ny" holds characters"#,
    ),
];
