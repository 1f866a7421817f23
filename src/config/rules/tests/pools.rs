//! Every rule of pools and tests, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::each_is_reported;

#[test]
fn endpoints_come_from_one_source() {
    each_is_reported(ENDPOINTS_COME_FROM_ONE_SOURCE);
}

#[test]
fn pools_speak_and_choose() {
    each_is_reported(POOLS_SPEAK_AND_CHOOSE);
}

#[test]
fn ejection_can_act() {
    each_is_reported(EJECTION_CAN_ACT);
}

#[test]
fn pools_are_checked() {
    each_is_reported(POOLS_ARE_CHECKED);
}

#[test]
fn tests_can_be_run() {
    each_is_reported(TESTS_CAN_BE_RUN);
}

const ENDPOINTS_COME_FROM_ONE_SOURCE: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p}]"#,
        r#"pools[0]: the pool "p" has no endpoints"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], discovery: {file: {path: x}}}]"#,
        r#"pools[0]: has both `endpoints` and `discovery`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: [x]}]"#,
        r#"pools[0].endpoints[0]: "x" is not an address and port"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['api.internal:80']}]"#,
        r#"pools[0].endpoints[0]: "api.internal:80" has a name where an IP address must be
  help: use `discovery.dns`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:0']}]"#,
        r#"pools[0].endpoints[0]: "10.0.0.1:0" has port 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: [{address: '10.0.0.1:1', weight: 1001}]}]"#,
        r#"pools[0].endpoints[0].weight: must be from 0 to 1000, found 1001"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', {address: '10.0.0.1:1'}]}]"#,
        r#"pools[0].endpoints[1].address: "10.0.0.1:1" is endpoints[0] already"#,
    ),
    (
        r#"pools: [{name: p, discovery: {file: {path: ''}}}]"#,
        r#"pools[0].discovery.file.path: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, discovery: {dns: {name: x}}}]"#,
        r#"pools[0].discovery.dns.port: is missing: addresses in DNS have no port"#,
    ),
    (
        r#"pools: [{name: p, discovery: {dns: {name: x, port: 0}}}]"#,
        r#"pools[0].discovery.dns.port: must be from 1 to 65535, found 0"#,
    ),
    (
        r#"pools: [{name: p, discovery: {dns: {name: x, record: srv, port: 5}}}]"#,
        r#"pools[0].discovery.dns.port: 5 is not used: SRV records carry the port"#,
    ),
    (
        r#"pools: [{name: p, discovery: {dns: {name: x, port: 1, servers: [x]}}}]"#,
        r#"pools[0].discovery.dns.servers[0]: "x" is not an IP address and port"#,
    ),
    (
        r#"pools: [{name: p, discovery: {dns: {name: x, port: 1, min_ttl: 0s}}}]"#,
        r#"pools[0].discovery.dns.min_ttl: must be longer than 0s"#,
    ),
    (
        r#"pools: [{name: p, discovery: {dns: {name: x, port: 1, min_ttl: 10m}}}]"#,
        r#"pools[0].discovery.dns.min_ttl: "10m" is longer than max_ttl "5m""#,
    ),
    (
        r#"pools: [{name: p, discovery: {dns: {name: 'x y', port: 1}}}]"#,
        r#"pools[0].discovery.dns.name: "x y" is not a host name"#,
    ),
];

const POOLS_SPEAK_AND_CHOOSE: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: auto}]"#,
        r#"pools[0].tls: is missing: protocol "auto" is agreed"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: tcp, tls: {sni: a}}]"#,
        r#"pools[0].tls: TLS to endpoints of pools with protocol "tcp" is not supported yet"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], tls: {sni: ''}}]"#,
        r#"pools[0].tls.sni: "" is not a host name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], tls: {sni: a, ca: ''}}]"#,
        r#"pools[0].tls.ca: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], tls: {sni: a, client_certificate: {cert: '', key: k}}}]"#,
        r#"pools[0].tls.client_certificate.cert: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], tls: {sni: a, client_certificate: {cert: c, key: ''}}}]"#,
        r#"pools[0].tls.client_certificate.key: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: http2, proxy_protocol: v1}]"#,
        r#"pools[0].proxy_protocol: cannot be sent on HTTP/2"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: auto, tls: {sni: a}, proxy_protocol: v2}]"#,
        r#"pools[0].proxy_protocol: cannot be sent on HTTP/2"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], balance: {hash: client_ip}}]"#,
        r#"pools[0].balance.hash: is only used by the algorithms "maglev" and "ketama""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: tcp, balance: {algorithm: maglev, hash: path}}]"#,
        r#"pools[0].balance.hash: needs a request"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], balance: {algorithm: maglev, hash: {header: 'a b'}}}]"#,
        r#"pools[0].balance.hash.header: "a b" is not a header name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], balance: {algorithm: ketama, hash: {cookie: ''}}}]"#,
        r#"pools[0].balance.hash.cookie: "" is not a cookie name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], connections: {connect_timeout: 0s}}]"#,
        r#"pools[0].connections.connect_timeout: must be longer than 0s"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], connections: {h2_streams: 0}}]"#,
        r#"pools[0].connections.h2_streams: must be from 1"#,
    ),
];

const EJECTION_CAN_ACT: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {base_time: 0s}}]"#,
        r#"pools[0].ejection.base_time: must be longer than 0s"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {base_time: 10m}}]"#,
        r#"pools[0].ejection.base_time: "10m" is longer than max_time "5m""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {interval: 500ms}}]"#,
        r#"pools[0].ejection.interval: must be at least 1000ms, found 500ms"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: tcp, ejection: {consecutive_5xx: 3}}]"#,
        r#"pools[0].ejection.consecutive_5xx: needs answers with a status"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {ended_by_health: false}}]"#,
        r#"pools[0].ejection.ended_by_health: is false, but the pool has no health check"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {success_rate: {}}}]"#,
        r#"pools[0].ejection.success_rate.minimum_endpoints: is 5, but the pool has 1"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '10.0.0.4:1', '10.0.0.5:1'], ejection: {success_rate: {minimum_endpoints: 2}}}]"#,
        r#"pools[0].ejection.success_rate.minimum_endpoints: must be from 3 to 1000000, found 2"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '10.0.0.4:1', '10.0.0.5:1'], ejection: {success_rate: {minimum_requests: 0}}}]"#,
        r#"pools[0].ejection.success_rate.minimum_requests: must be from 1 to 1000000, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '10.0.0.4:1', '10.0.0.5:1'], ejection: {success_rate: {deviations: 0}}}]"#,
        r#"pools[0].ejection.success_rate.deviations: must be above 0 and at most 100, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '10.0.0.4:1', '10.0.0.5:1'], ejection: {success_rate: {deviations: 2}}}]"#,
        r#"pools[0].ejection.success_rate.deviations: 2 is out of reach: of 5 endpoints none can be more than 2.00"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '10.0.0.4:1', '10.0.0.5:1'], ejection: {failure_percentage: {at_least: 0%}}}]"#,
        r#"pools[0].ejection.failure_percentage.at_least: must be more than 0%"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {failure_percentage: {}}}]"#,
        r#"pools[0].ejection.failure_percentage.minimum_endpoints: is 5, but the pool has 1"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {failure_percentage: {minimum_endpoints: 1}}}]"#,
        r#"pools[0].ejection.failure_percentage.minimum_endpoints: must be from 2 to 1000000, found 1"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '10.0.0.4:1', '10.0.0.5:1'], ejection: {failure_percentage: {minimum_requests: 0}}}]"#,
        r#"pools[0].ejection.failure_percentage.minimum_requests: must be from 1 to 1000000, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {success_below: {rate: 0%}}}]"#,
        r#"pools[0].ejection.success_below.rate: must be more than 0%"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {success_below: {minimum_requests: 0}}}]"#,
        r#"pools[0].ejection.success_below.minimum_requests: must be from 1 to 1000000, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], ejection: {success_below: {window: 50ms}}}]"#,
        r#"pools[0].ejection.success_below.window: must be at least 100ms, found 50ms"#,
    ),
];

const POOLS_ARE_CHECKED: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {rise: 1}}]"#,
        r#"pools[0].health: says nothing about how to ask"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {http: {}, tcp: {}}}]"#,
        r#"pools[0].health: has 2 kinds: `http`, `tcp`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}, interval: 0s}}]"#,
        r#"pools[0].health.interval: must be longer than 0s"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}, timeout: 0s}}]"#,
        r#"pools[0].health.timeout: must be longer than 0s"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}, timeout: 11s}}]"#,
        r#"pools[0].health.timeout: "11s" is longer than the interval "10s""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}, rise: 0}}]"#,
        r#"pools[0].health.rise: must be from 1"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}, fall: 0}}]"#,
        r#"pools[0].health.fall: must be from 1"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}, port: 0}}]"#,
        r#"pools[0].health.port: must be from 1 to 65535, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {http: {path: x}}}]"#,
        r#"pools[0].health.http.path: "x" does not start with "/""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {http: {host: 'a b'}}}]"#,
        r#"pools[0].health.http.host: "a b" is not a host name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {http: {statuses: [99, 200]}}}]"#,
        r#"pools[0].health.http.statuses[0]: must be from 100 to 599, found 99"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {http: {statuses: [200, 600]}}}]"#,
        r#"pools[0].health.http.statuses[1]: must be from 100 to 599, found 600"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {http: {statuses: [300, 200]}}}]"#,
        r#"pools[0].health.http.statuses: the lowest, 300, is above the highest, 200"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: tcp, health: {http: {}}}]"#,
        r#"pools[0].health.http: cannot be asked of a pool with protocol "tcp""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: tcp, health: {grpc: {}}}]"#,
        r#"pools[0].health.grpc: cannot be asked of a pool with protocol "tcp""#,
    ),
];

const TESTS_CAN_BE_RUN: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: '/a'}, expect: {status: 200}}]"#,
        r#"tests[0].request.url: "/a" does not start with http:// or https://"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/', method: get}, expect: {status: 200}}]"#,
        r#"tests[0].request.method: "get" has lower case letters"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/', headers: {'a b': x}}, expect: {status: 200}}]"#,
        r#"tests[0].request.headers.a b: "a b" is not a header name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/', headers: {a: "x\ny"}}, expect: {status: 200}}]"#,
        r#"tests[0].request.headers.a: "x\ny" holds characters"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/', listener: wbe}, expect: {status: 200}}]"#,
        r#"tests[0].request.listener: no listener is named "wbe""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/', listener: raw}, expect: {status: 200}}]"#,
        r#"tests[0].request.listener: "raw" has protocol "tcp" and sees no requests"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/'}, expect: {route: x}}]"#,
        r#"tests[0].expect.route: no route is named "x""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/'}, expect: {pool: x}}]"#,
        r#"tests[0].expect.pool: no pool is named "x""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/'}, expect: {status: 600}}]"#,
        r#"tests[0].expect.status: must be from 200 to 599, found 600"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/'}, expect: {cause: no_rote}}]"#,
        r#"warning: tests[0].expect.cause: no built-in cause is named "no_rote"
  help: did you mean "no_route"?"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/'}, expect: {headers: {'a b': x}}}]"#,
        r#"tests[0].expect.headers.a b: "a b" is not a header name"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p}]}]
tests: [{request: {url: 'http://a/'}, expect: {}}]"#,
        r#"tests[0].expect: expects nothing"#,
    ),
];
