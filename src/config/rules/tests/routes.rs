//! Every rule of routes and their conditions, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::each_is_reported;

#[test]
fn routes_are_attached_and_act() {
    each_is_reported(ROUTES_ARE_ATTACHED_AND_ACT);
}

#[test]
fn tcp_routes_use_nothing_of_http() {
    each_is_reported(TCP_ROUTES_USE_NOTHING_OF_HTTP);
}

#[test]
fn conditions_can_hold() {
    each_is_reported(CONDITIONS_CAN_HOLD);
}

const ROUTES_ARE_ATTACHED_AND_ACT: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, listeners: [], rules: [{pool: p}]}]"#,
        r#"routes[0].listeners: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, listeners: [web, web], rules: [{pool: p}]}]"#,
        r#"routes[0].listeners[1]: "web" is in the list already"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, listeners: [raw], rules: [{pool: p}]}]"#,
        r#"routes[0].listeners[0]: "raw" has protocol "tcp" and sees no requests"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, listeners: [web], rules: [{pool: t}]}]"#,
        r#"routes[0].listeners[0]: "web" has protocol "http" and passes no bytes through"#,
    ),
    (
        r#"routes: [{name: r, rules: []}]"#,
        r#"routes[0].rules: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{}]}]"#,
        r#"routes[0].rules[0]: has no action"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, respond: {status: 200}}]}]"#,
        r#"routes[0].rules[0]: has 2 actions: `pool`, `respond`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: t}]}]"#,
        r#"routes[0].rules[0].pool: the pool "t" has protocol "tcp", and this route carries requests"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: p}]}]"#,
        r#"routes[0].rules[0].pool: the pool "p" does not have protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, hosts: [A.b], rules: [{pool: p}]}]"#,
        r#"routes[0].hosts[0]: "A.b" has upper case letters
  help: hosts are compared in lower case; write "a.b""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, hosts: ['a.b:80'], rules: [{pool: p}]}]"#,
        r#"routes[0].hosts[0]: "a.b:80" has a port"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, hosts: ['a..b'], rules: [{pool: p}]}]"#,
        r#"routes[0].hosts[0]: "a..b" is not a host name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, hosts: ['*'], rules: [{pool: p}]}]"#,
        r#"routes[0].hosts[0]: "*" has a `*` that is not the whole first label"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, hosts: [a, a], rules: [{pool: p}]}]"#,
        r#"routes[0].hosts[1]: "a" is in the list already"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, timeouts: {idle: 0s}, rules: [{pool: p}]}]"#,
        r#"routes[0].timeouts.idle: must be longer than 0s"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, timeouts: {response_header: 0s}}]}]"#,
        r#"routes[0].rules[0].timeouts.response_header: must be longer than 0s"#,
    ),
];

const TCP_ROUTES_USE_NOTHING_OF_HTTP: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, plugins: [{kind: cors}], rules: [{pool: t}]}]"#,
        r#"routes[0].plugins: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, body_limit: 1, rules: [{pool: t}]}]"#,
        r#"routes[0].body_limit: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, timeouts: {response_header: 1s}, rules: [{pool: t}]}]"#,
        r#"routes[0].timeouts.response_header: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, timeouts: {request: 1s}, rules: [{pool: t}]}]"#,
        r#"routes[0].timeouts.request: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, match: [{path: {exact: /}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, match: [{method: GET}]}]}]"#,
        r#"routes[0].rules[0].match[0].method: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, match: [{headers: {a: b}}]}]}]"#,
        r#"routes[0].rules[0].match[0].headers: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, match: [{query: {a: b}}]}]}]"#,
        r#"routes[0].rules[0].match[0].query: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, match: [{principals: [a]}]}]}]"#,
        r#"routes[0].rules[0].match[0].principals: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{redirect: {scheme: https}}]}]"#,
        r#"routes[0].rules[0].redirect: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{respond: {status: 200}}]}]"#,
        r#"routes[0].rules[0].respond: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, rewrite: {path: /}}]}]"#,
        r#"routes[0].rules[0].rewrite: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, request_headers: {remove: [a]}}]}]"#,
        r#"routes[0].rules[0].request_headers: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, response_headers: {remove: [a]}}]}]"#,
        r#"routes[0].rules[0].response_headers: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, retry: {}}]}]"#,
        r#"routes[0].rules[0].retry: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, body_limit: 1}]}]"#,
        r#"routes[0].rules[0].body_limit: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, plugins: [{kind: cors}]}]}]"#,
        r#"routes[0].rules[0].plugins: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, timeouts: {response_header: 1s}}]}]"#,
        r#"routes[0].rules[0].timeouts.response_header: is not used by a route with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, protocol: tcp, rules: [{pool: t, timeouts: {request: 1s}}]}]"#,
        r#"routes[0].rules[0].timeouts.request: is not used by a route with protocol "tcp""#,
    ),
];

const CONDITIONS_CAN_HOLD: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {exact: a}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path.exact: "a" does not start with "/""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {prefix: '/a?b'}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path.prefix: "/a?b" holds a query or fragment"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {prefix: '/a b'}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path.prefix: "/a b" holds white space"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {prefix: //a}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path.prefix: "//a" holds an empty segment"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {exact: /a/../b}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path.exact: "/a/../b" holds a "." or ".." segment"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {regex: '('}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path.regex: "(" is not a regular expression: unclosed group"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{path: {regex: '\w{1000}'}}]}]}]"#,
        r#"routes[0].rules[0].match[0].path.regex: "\w{1000}" needs more than 1MiB when compiled"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{method: get}]}]}]"#,
        r#"routes[0].rules[0].match[0].method: "get" has lower case letters
  help: methods are case-sensitive; write "GET""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{method: 'G T'}]}]}]"#,
        r#"routes[0].rules[0].match[0].method: "G T" is not a method"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{headers: {'a b': x}}]}]}]"#,
        r#"routes[0].rules[0].match[0].headers.a b: "a b" is not a header name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{headers: {a: {regex: '['}}}]}]}]"#,
        r#"routes[0].rules[0].match[0].headers.a.regex: "[" is not a regular expression"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{query: {'': x}}]}]}]"#,
        r#"routes[0].rules[0].match[0].query.: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{query: {a: {regex: '*'}}}]}]}]"#,
        r#"routes[0].rules[0].match[0].query.a.regex: "*" is not a regular expression"#,
    ),
    (
        r#"routes: [{name: r, rules: [{respond: {status: 200}, match: [{destinations: [{}]}]}]}]"#,
        r#"routes[0].rules[0].match[0].destinations[0]: names neither a network nor a port"#,
    ),
    (
        r#"routes: [{name: r, rules: [{respond: {status: 200}, match: [{destinations: [{ports: [0]}]}]}]}]"#,
        r#"routes[0].rules[0].match[0].destinations[0].ports: has port 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{sni: ['a:1']}]}]}]"#,
        r#"routes[0].rules[0].match[0].sni[0]: "a:1" has a port"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{principals: ['']}]}]}]"#,
        r#"routes[0].rules[0].match[0].principals[0]: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, match: [{principals: ['a*b']}]}]}]"#,
        r#"routes[0].rules[0].match[0].principals[0]: "a*b" has a `*` that is not its last character"#,
    ),
];

#[test]
fn services_are_told_apart() {
    super::each_is_reported(SERVICES_ARE_TOLD_APART);
}

const SERVICES_ARE_TOLD_APART: &[(&str, &str)] = &[
    (
        r#"services: [{name: a, ports: [{port: 80}], endpoints: ['10.0.0.1:1']}]"#,
        r#"services: are called through listeners with role "mesh-outbound", and there is none"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
services: [{name: a, ports: [], endpoints: ['10.0.0.1:1']}]"#,
        r#"services[0].ports: must have 1 to 64 entries, found 0"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
services: [{name: a, ports: [{port: 80}]}]"#,
        r#"services[0]: needs one of `endpoints`, `discovery` and `pool`"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
services: [{name: a, ports: [{port: 80}, {port: 80}], endpoints: [10.0.0.1]}]"#,
        r#"services[0].ports[1].port: 80 is in the list already"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
services: [{name: a, ports: [{port: 0}], endpoints: [10.0.0.1]}]"#,
        r#"services[0].ports[0].port: must be"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
services: [{name: a, ports: [{port: 80}, {port: 81}], endpoints: ['10.0.0.1:1']}]"#,
        r#"services[0].endpoints[0]: "10.0.0.1:1" has a port, but the service has several"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
services:
- {name: a, addresses: [10.1.1.1], ports: [{port: 80}], endpoints: [10.0.0.1]}
- {name: b, addresses: [10.1.1.1], ports: [{port: 80}], endpoints: [10.0.0.1]}"#,
        r#"services[1].ports[0]: 10.1.1.1 port 80 is called already by services[0].ports[0]"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
services: [{name: a, ports: [{port: 80}], pool: none}]"#,
        r#"services[0].pool: no pool is named "none""#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
pools: [{name: p, endpoints: ['10.0.0.1:1']}]
services: [{name: a, ports: [{port: 80, target: 81}], pool: p, balance: {algorithm: ewma}}]"#,
        r#"services[0].balance: is not used beside `pool`"#,
    ),
    (
        r#"
listeners: [{name: out, role: mesh-outbound, bind: '127.0.0.1:1'}]
pools: [{name: p, endpoints: ['10.0.0.1:1']}]
services: [{name: a, ports: [{port: 80, target: 81}], pool: p}]"#,
        r#"services[0].ports[0].target: is not used beside `pool`"#,
    ),
    (
        r#"services_from: {file: ''}"#,
        r#"services_from.file: must"#,
    ),
];
