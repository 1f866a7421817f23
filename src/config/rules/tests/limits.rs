//! Every rule of limits and overload, provoked once: a snippet, and the line that must be reported for it.
//! It must not test decoding or places.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

#[test]
fn limits_can_be_counted() {
    each_is_reported(LIMITS_CAN_BE_COUNTED);
}

#[test]
fn queues_can_be_waited_in() {
    each_is_reported(QUEUES_CAN_BE_WAITED_IN);
}

#[test]
fn adaptive_limits_have_room() {
    each_is_reported(ADAPTIVE_LIMITS_HAVE_ROOM);
}

#[test]
fn overload_can_be_measured() {
    each_is_reported(OVERLOAD_CAN_BE_MEASURED);
}

#[test]
fn limits_that_hold_are_not_reported() {
    for limits in [
        "{}",
        "{requests: 10, pending: 5, queue_timeout: 1s}",
        "{connections: 10, endpoint_requests: 5, retries: 0}",
        "{endpoint_requests: 1, pending: 100000, queue_timeout: 1h}",
        "{adaptive: {}, pending: 10}",
        "{requests: 5, adaptive: {min: 1, max: 1, window: 10ms, measure_every: 1s}}",
    ] {
        let found = reported(&format!(
            "pools: [{{name: p, endpoints: ['10.0.0.1:1'], limits: {limits}}}]"
        ));
        assert_eq!(found, "", "{limits}");
    }
}

const LIMITS_CAN_BE_COUNTED: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {requests: 0}}]"#,
        r#"pools[0].limits.requests: must be from 1 to 1000000, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {connections: 0}}]"#,
        r#"pools[0].limits.connections: must be from 1 to 1000000, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {endpoint_requests: 1000001}}]"#,
        r#"pools[0].limits.endpoint_requests: must be from 1 to 1000000, found 1000001"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {retries: 1000001}}]"#,
        r#"pools[0].limits.retries: must be from 0 to 1000000, found 1000001"#,
    ),
    (
        r#"pools: [{name: p, protocol: http2, endpoints: ['10.0.0.1:1'], limits: {connections: 1}}]"#,
        r#"pools[0].limits.connections: cannot be counted on HTTP/2, whose connections carry many requests
  help: bound `requests`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {connections: 1, requests: 1}}]"#,
        r#"pools[0].limits.connections: bounds the same as `requests`"#,
    ),
    (
        r#"pools: [{name: p, protocol: tcp, endpoints: ['10.0.0.1:1'], limits: {requests: 1}}]"#,
        r#"pools[0].limits.requests: is not used: a pool with protocol "tcp" has connections"#,
    ),
    (
        r#"pools: [{name: p, protocol: tcp, endpoints: ['10.0.0.1:1'], limits: {retries: 1}}]"#,
        r#"pools[0].limits.retries: is not used: connections of a pool with protocol "tcp""#,
    ),
];

const ADAPTIVE_LIMITS_HAVE_ROOM: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {adaptive: {min: 0}}}]"#,
        r#"pools[0].limits.adaptive.min: must be from 1 to 1000000, found 0"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {adaptive: {max: 1000001}}}]"#,
        r#"pools[0].limits.adaptive.max: must be from 1 to 1000000, found 1000001"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {adaptive: {min: 10, max: 5}}}]"#,
        r#"pools[0].limits.adaptive.min: 10 is above max, 5"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {adaptive: {window: 1ms}}}]"#,
        r#"pools[0].limits.adaptive.window: must be from 10ms to 1h, found "1ms""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {adaptive: {measure_every: 500ms}}}]"#,
        r#"pools[0].limits.adaptive.measure_every: must be from 1s to 1h, found "500ms""#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {adaptive: {measure_requests: 501}}}]"#,
        r#"pools[0].limits.adaptive.measure_requests: must be from 1 to 500, found 501"#,
    ),
    (
        r#"pools: [{name: p, protocol: tcp, endpoints: ['10.0.0.1:1'], limits: {adaptive: {}}}]"#,
        r#"pools[0].limits.adaptive: cannot follow the latency of a pool with protocol "tcp""#,
    ),
];

const OVERLOAD_CAN_BE_MEASURED: &[(&str, &str)] = &[
    (
        r#"overload: {lag: 5ms}"#,
        r#"overload.lag: must be at least 20ms, found "5ms""#,
    ),
    (
        r#"overload: {memory: 0%, memory_limit: 1GiB}"#,
        r#"overload.memory_limit: is not used: `memory` is 0%"#,
    ),
    (
        r#"overload: {memory_limit: 1MiB}"#,
        r#"overload.memory_limit: must be at least 64MiB, found "1MiB""#,
    ),
    (
        r#"overload: {priority_header: 'x y'}
listeners: [{name: a, bind: '127.0.0.1:1', trusted_proxies: [10.0.0.0/8]}]"#,
        r#"overload.priority_header: "x y""#,
    ),
    (
        r#"overload: {priority_header: x-priority}
listeners: [{name: a, bind: '127.0.0.1:1'}]"#,
        r#"overload.priority_header: is not used: no listener has `trusted_proxies`"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1']}]
routes: [{name: r, rules: [{priority: low, respond: {status: 200}}]}]"#,
        r#"routes[0].rules[0].priority: is not used by the action `respond`"#,
    ),
];

const QUEUES_CAN_BE_WAITED_IN: &[(&str, &str)] = &[
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {pending: 5}}]"#,
        r#"pools[0].limits.pending: is not used: without a bound there is always a place
  help: give `requests`, `connections` or `endpoint_requests` too"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {requests: 1, pending: 100001}}]"#,
        r#"pools[0].limits.pending: must be from 0 to 100000, found 100001"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {requests: 1, queue_timeout: 1s}}]"#,
        r#"pools[0].limits.queue_timeout: is not used: nobody may wait"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {requests: 1, pending: 1, queue_timeout: 0s}}]"#,
        r#"pools[0].limits.queue_timeout: must be longer than 0s"#,
    ),
    (
        r#"pools: [{name: p, endpoints: ['10.0.0.1:1'], limits: {requests: 1, pending: 1, queue_timeout: 2h}}]"#,
        r#"pools[0].limits.queue_timeout: must be at most 1h, found "2h""#,
    ),
];
