//! Every rule of names, references, listeners and the process, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::each_is_reported;

#[test]
fn names_are_unique_and_well_formed() {
    each_is_reported(NAMES_ARE_UNIQUE_AND_WELL_FORMED);
}

#[test]
fn references_name_what_exists() {
    each_is_reported(REFERENCES_NAME_WHAT_EXISTS);
}

#[test]
fn listeners_bind_and_speak() {
    each_is_reported(LISTENERS_BIND_AND_SPEAK);
}

#[test]
fn listeners_terminate_tls() {
    each_is_reported(LISTENERS_TERMINATE_TLS);
}

#[test]
fn listeners_capture() {
    each_is_reported(LISTENERS_CAPTURE);
}

#[test]
fn listeners_trust_and_bound() {
    each_is_reported(LISTENERS_TRUST_AND_BOUND);
}

#[test]
fn the_process_is_bounded() {
    each_is_reported(THE_PROCESS_IS_BOUNDED);
}

const NAMES_ARE_UNIQUE_AND_WELL_FORMED: &[(&str, &str)] = &[
    (
        r#"listeners: [{name: A.b, bind: '127.0.0.1:1'}]"#,
        r#"listeners[0].name: the name "A.b" is empty or has characters that names cannot have
  help: use lower case letters, digits and `-`, `_`"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1'}, {name: a, bind: '127.0.0.1:2'}]"#,
        r#"listeners[1].name: the name "a" is taken by listeners[0]"#,
    ),
    (
        r#"routes: [{name: '', rules: [{respond: {status: 200}}]}]"#,
        r#"routes[0].name: the name "" is empty"#,
    ),
    (
        r#"routes: [{name: r, rules: [{respond: {status: 200}}]}, {name: r, rules: [{respond: {status: 200}}]}]"#,
        r#"routes[1].name: the name "r" is taken by routes[0]"#,
    ),
    (
        r#"pools: [{endpoints: ['10.0.0.1:1'], name: 'p q'}]"#,
        r#"pools[0].name: the name "p q""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1']}, {name: p, endpoints: ['10.0.0.1:1']}]"#,
        r#"pools[1].name: the name "p" is taken by pools[0]"#,
    ),
    (
        r#"plugins: {My: {kind: cors}}"#,
        r#"plugins.My: the name "My""#,
    ),
    (
        r#"plugins: {my: {kind: ''}}"#,
        r#"plugins.my.kind: must not be empty, found """#,
    ),
];

const REFERENCES_NAME_WHAT_EXISTS: &[(&str, &str)] = &[
    (
        r#"pools: [{name: web, endpoints: ['10.0.0.1:1']}, {name: api, endpoints: ['10.0.0.1:1']}]
routes: [{name: r, rules: [{pool: wbe}]}]"#,
        r#"routes[0].rules[0].pool: no pool is named "wbe"
  help: did you mean "web"? pools defined: api, web"#,
    ),
    (
        r#"routes: [{name: r, rules: [{pool: x}]}]"#,
        r#"routes[0].rules[0].pool: no pool is named "x"
  help: no pools are defined"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{split: [{pool: q, weight: 1}]}]}]"#,
        r#"routes[0].rules[0].split[0].pool: no pool is named "q""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, listeners: [wbe], rules: [{pool: p}]}]"#,
        r#"routes[0].listeners[0]: no listener is named "wbe"
  help: did you mean "web"? listeners defined: raw, web"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', plugins: [x]}]"#,
        r#"listeners[0].plugins[0]: no plugin is named "x""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', plugins: [{kind: ''}]}]"#,
        r#"listeners[0].plugins[0].kind: must not be empty"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, plugins: [x], rules: [{pool: p}]}]"#,
        r#"routes[0].plugins[0]: no plugin is named "x""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}, {name: t, protocol: tcp, endpoints: ['10.0.0.1:1']}]
listeners: [{name: web, bind: '127.0.0.1:1'}, {name: raw, bind: '127.0.0.1:2', protocol: tcp}]
routes: [{name: r, rules: [{pool: p, plugins: [limt]}]}]
plugins: {limit: {kind: rate_limit}}"#,
        r#"routes[0].rules[0].plugins[0]: no plugin is named "limt"
  help: did you mean "limit"?"#,
    ),
];

const LISTENERS_BIND_AND_SPEAK: &[(&str, &str)] = &[
    (
        r#"listeners: [{name: a, bind: 'localhost:80'}]"#,
        r#"listeners[0].bind: "localhost:80" is not an address and port"#,
    ),
    (
        r#"listeners: [{name: a, bind: 'unix:run/x'}]"#,
        r#"listeners[0].bind: "unix:run/x" does not name an absolute path"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1'}, {name: b, bind: '127.0.0.1:1'}]"#,
        r#"listeners[1].bind: "127.0.0.1:1" is taken by listeners[0].bind"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:9901'}]"#,
        r#"listeners[0].bind: "127.0.0.1:9901" is taken by admin.bind"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: https}]"#,
        r#"listeners[0].tls: is missing: protocol "https" terminates TLS"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: http, tls: {certificates: [{cert: c, key: k}]}}]"#,
        r#"listeners[0].tls: is not used by protocol "http""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tcp, tls: {certificates: [{cert: c, key: k}]}}]"#,
        r#"listeners[0].tls: is not used by protocol "tcp""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tls_passthrough, tls: {certificates: [{cert: c, key: k}]}}]"#,
        r#"listeners[0].tls: is not used by protocol "tls_passthrough""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tcp, trusted_proxies: [10.0.0.0/8]}]"#,
        r#"listeners[0].trusted_proxies: is not used by protocol "tcp""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tcp, role: mesh-outbound, service: x}]"#,
        r#"listeners[0].service: no service with a port of protocol "tcp" is called "x""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tls_passthrough, limits: {header_bytes: 1KiB}}]"#,
        r#"listeners[0].limits.header_bytes: is not used by protocol "tls_passthrough""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tls_passthrough, limits: {header_fields: 5}}]"#,
        r#"listeners[0].limits.header_fields: is not used by protocol "tls_passthrough""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tls_passthrough, limits: {target_bytes: 1KiB}}]"#,
        r#"listeners[0].limits.target_bytes: is not used by protocol "tls_passthrough""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tls_passthrough, limits: {keep_alive: 1s}}]"#,
        r#"listeners[0].limits.keep_alive: is not used by protocol "tls_passthrough""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tls_passthrough, limits: {h2_streams: 5}}]"#,
        r#"listeners[0].limits.h2_streams: is not used by protocol "tls_passthrough""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', protocol: tls_passthrough, limits: {write_timeout: 1s}}]"#,
        r#"listeners[0].limits.write_timeout: is not used by protocol "tls_passthrough""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', service: x}]"#,
        r#"listeners[0].service: "x" is only used with role "mesh-outbound""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', role: mesh-outbound, service: '*.x'}]"#,
        r#"listeners[0].service: "*.x" is not a host name"#,
    ),
];

const LISTENERS_TERMINATE_TLS: &[(&str, &str)] = &[
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {}}]"#,
        r#"listeners[0].tls.certificates: must not be empty, found []"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: '', key: k}]}}]"#,
        r#"listeners[0].tls.certificates[0].cert: must not be empty"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: ''}]}}]"#,
        r#"listeners[0].tls.certificates[0].key: must not be empty"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: k, hosts: ['a.*.b']}]}}]"#,
        r#"listeners[0].tls.certificates[0].hosts[0]: "a.*.b" has a `*`"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: k, default: true}, {cert: c, key: k, default: true}]}}]"#,
        r#"listeners[0].tls.certificates[1].default: certificates[0] is the default already"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: k}], min_version: '1.3', max_version: '1.2'}}]"#,
        r#"listeners[0].tls.min_version: "1.3" is newer than max_version "1.2""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: k}], alpn: []}}]"#,
        r#"listeners[0].tls.alpn: must not be empty"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: k}], alpn: [h2, h2]}}]"#,
        r#"listeners[0].tls.alpn[1]: is in the list already"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: k}], client_certificates: {mode: required, ca: ''}}}]"#,
        r#"listeners[0].tls.client_certificates.ca: must not be empty"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', tls: {certificates: [{cert: c, key: k}], handshake_timeout: 0s}}]"#,
        r#"listeners[0].tls.handshake_timeout: must be longer than 0s"#,
    ),
];

const LISTENERS_CAPTURE: &[(&str, &str)] = &[
    (
        r#"listeners: [{name: a, role: mesh-outbound, bind: '127.0.0.1:1', unknown: block}]"#,
        r#"listeners[0].unknown: is only used beside `capture`"#,
    ),
    (
        r#"listeners: [{name: a, role: mesh-outbound, bind: '127.0.0.1:1', capture: redirect, detect_timeout: 1s}]"#,
        r#"listeners[0].detect_timeout: is only used with protocol "auto""#,
    ),
    (
        r#"listeners: [{name: a, role: mesh-outbound, bind: '127.0.0.1:1', capture: redirect, protocol: auto, detect_timeout: 0s}]"#,
        r#"listeners[0].detect_timeout: must be"#,
    ),
    (
        r#"listeners: [{name: a, role: mesh-outbound, bind: '127.0.0.1:1', capture: redirect, protocol: auto, ports: {0: http}}]"#,
        r#"listeners[0].ports.0: is no port"#,
    ),
    (
        r#"listeners: [{name: a, role: mesh-outbound, bind: '127.0.0.1:1', capture: redirect}]
routes: [{name: passthrough, rules: [{respond: {status: 200}}]}]"#,
        r#"routes[0].name: the name "passthrough" is taken"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', capture: redirect}]"#,
        r#"listeners[0].capture: is only for the roles "mesh-outbound" and "mesh-inbound""#,
    ),
    (
        r#"listeners: [{name: a, role: mesh-outbound, bind: 'unix:/a', capture: tproxy}]"#,
        r#"listeners[0].capture: cannot be used with "unix:/a""#,
    ),
    (
        r#"listeners: [{name: a, role: mesh-inbound, bind: '127.0.0.1:1', capture: redirect, proxy_protocol: {mode: use, trusted: [10.0.0.0/8]}}]"#,
        r#"listeners[0].capture: cannot be used beside `proxy_protocol`"#,
    ),
];

const LISTENERS_TRUST_AND_BOUND: &[(&str, &str)] = &[
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', proxy_protocol: {trusted: [10.0.0.0/8]}}]"#,
        r#"listeners[0].proxy_protocol.trusted: is not used: mode is "ignore""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', proxy_protocol: {mode: use}}]"#,
        r#"listeners[0].proxy_protocol.trusted: must not be empty unless mode is "ignore""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', proxy_protocol: {mode: require}}]"#,
        r#"listeners[0].proxy_protocol.trusted: must not be empty"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', proxy_protocol: {mode: use, trusted: [10.0.0.0/8, 10.0.0.0/8]}}]"#,
        r#"listeners[0].proxy_protocol.trusted[1]: "10.0.0.0/8" is in the list already"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {connections: 0}}]"#,
        r#"listeners[0].limits.connections: must be from 1 to 4294967295, found 0"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {header_fields: 256}}]"#,
        r#"listeners[0].limits.header_fields: must be from 1 to 255, found 256"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {h2_streams: 0}}]"#,
        r#"listeners[0].limits.h2_streams: must be from 1"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {header_bytes: 1MiB}}]"#,
        r#"listeners[0].limits.header_bytes: must be from 1B to 512KiB, found "1MiB""#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {target_bytes: 0}}]"#,
        r#"listeners[0].limits.target_bytes: must be from 1B to 512KiB"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {header_timeout: 0s}}]"#,
        r#"listeners[0].limits.header_timeout: must be longer than 0s"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {keep_alive: 0s}}]"#,
        r#"listeners[0].limits.keep_alive: must be longer than 0s"#,
    ),
    (
        r#"listeners: [{name: a, bind: '127.0.0.1:1', limits: {write_timeout: 0s}}]"#,
        r#"listeners[0].limits.write_timeout: must be longer than 0s"#,
    ),
];

const THE_PROCESS_IS_BOUNDED: &[(&str, &str)] = &[
    (r#"server: {mark: 0}"#, r#"server.mark: must not be 0"#),
    (
        r#"server: {threads: 1025}"#,
        r#"server.threads: must be from 0 to 1024, found 1025"#,
    ),
    (
        r#"server: {upgrade_socket: ''}"#,
        r#"server.upgrade_socket: must not be empty"#,
    ),
    (
        r#"server: {pid_file: ''}"#,
        r#"server.pid_file: must not be empty"#,
    ),
    (
        r#"server: {drain_timeout: 2h}"#,
        r#"server.drain_timeout: must be at most 1h, found "2h""#,
    ),
    (
        r#"server: {stream_drain_timeout: 61m}"#,
        r#"server.stream_drain_timeout: must be at most 1h, found "61m""#,
    ),
    (
        r#"admin: {bind: x}"#,
        r#"admin.bind: "x" is not an address and port"#,
    ),
    (
        r#"admin: {bind: '0.0.0.0:1'}"#,
        r#"admin.bind: "0.0.0.0:1" can be reached by others"#,
    ),
    (
        r#"admin: {allow_remote: true}"#,
        r#"admin.allow_remote: is not used: "127.0.0.1:9901" cannot be reached"#,
    ),
    (
        r#"admin: {bind: 'off', allow_remote: true}"#,
        r#"admin.allow_remote: is not used: "off""#,
    ),
    (
        r#"observe: {access_log: {to: ''}}"#,
        r#"observe.access_log.to: must not be empty"#,
    ),
    (
        r#"observe: {access_log: {queue: 0}}"#,
        r#"observe.access_log.queue: must be from 1 to 1000000, found 0"#,
    ),
    (
        r#"observe: {metrics: {series: 99}}"#,
        r#"observe.metrics.series: must be from 100 to 1000000, found 99"#,
    ),
    (
        r#"observe: {traces: {otlp: '/v1/traces'}}"#,
        r#"observe.traces.otlp: "/v1/traces" does not start with http://"#,
    ),
    (
        r#"observe: {traces: {otlp: 'https://x'}}"#,
        r#"observe.traces.otlp: "https://x" does not start with http://"#,
    ),
    (
        r#"observe: {traces: {otlp: 'a b'}}"#,
        r#"observe.traces.otlp: "a b" is not a URL"#,
    ),
    (
        r#"observe: {traces: {service_name: ''}}"#,
        r#"observe.traces.service_name: must not be empty"#,
    ),
    (
        r#"observe: {traces: {interval: 0s}}"#,
        r#"observe.traces.interval: must be longer than 0s"#,
    ),
    (
        r#"observe: {recorder: {records: 99}}"#,
        r#"observe.recorder.records: must be from 100 to 100000, found 99"#,
    ),
    (
        r#"observe: {recorder: {bytes: 255KiB}}"#,
        r#"observe.recorder.bytes: must be from 256KiB to 64MiB, found "255KiB""#,
    ),
    (
        r#"observe: {recorder: {bytes: 1GiB}}"#,
        r#"observe.recorder.bytes: must be from 256KiB to 64MiB, found "1GiB""#,
    ),
];
