//! Tests of trace context as callers send it and the next hop gets it.
//! They must not know how it is parsed.
//! Run by `cargo test`.

use http::HeaderName;
use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, value.parse().expect("a value"));
    }
    headers
}

fn context(fields: &[(&str, &str)]) -> TraceContext {
    TraceContext::from_headers(&headers(fields), &Sampler::share(0.0))
}

fn is_new_root(context: &TraceContext) -> bool {
    context.parent.is_none() && &*context.trace_id_hex() != TRACE && context.state.is_none()
}

#[test]
fn a_w3c_parent_is_continued_under_a_span_of_our_own() {
    let given = format!("00-{TRACE}-{SPAN}-01");
    let mut context = context(&[
        ("traceparent", &given),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ]);

    let attempt = context.begin_attempt();
    let sent = context.traceparent().expect("sent");

    assert_eq!(&*context.trace_id_hex(), TRACE);
    assert_eq!(
        context.parent,
        Some([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7])
    );
    assert!(context.sampled);
    assert_eq!(context.tracestate().expect("sent"), "a=1,b=2");
    let mut hex = [0; 16];
    ids::write_hex(&attempt, &mut hex);
    let hex = std::str::from_utf8(&hex).expect("ASCII");
    assert_eq!(sent, format!("00-{TRACE}-{hex}-01").as_str());
    assert_ne!(context.span_id, attempt);
}

#[test]
fn the_parents_decision_not_to_sample_is_kept() {
    let given = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00"))]);

    let context = TraceContext::from_headers(&given, &Sampler::share(1.0));

    assert!(!context.sampled);
}

#[test]
fn a_malformed_traceparent_begins_a_new_trace() {
    for bad in [
        "".into(),
        "00".into(),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}-{SPAN}-0g"),
        format!("01-{TRACE}-{SPAN}-01x"),
        format!("00_{TRACE}-{SPAN}-01"),
    ] {
        let context = context(&[("traceparent", &bad), ("tracestate", "a=1")]);

        assert!(is_new_root(&context), "{bad}");
    }
}

#[test]
fn two_traceparents_are_none() {
    let given = format!("00-{TRACE}-{SPAN}-01");

    assert!(is_new_root(&context(&[
        ("traceparent", &given),
        ("traceparent", &given)
    ])));
}

#[test]
fn later_versions_may_say_more() {
    let given = format!("cc-{TRACE}-{SPAN}-01-what-comes");

    assert_eq!(&*context(&[("traceparent", &given)]).trace_id_hex(), TRACE);
}

#[test]
fn a_tracestate_beyond_its_limits_is_left_out() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let many: Vec<_> = (0..33).map(|n| format!("k{n}=v")).collect();

    for bad in [
        many.join(","),
        format!("k={}", "v".repeat(5000)),
        "novalue".into(),
    ] {
        let context = context(&[("traceparent", &parent), ("tracestate", &bad)]);

        assert_eq!(context.state, None, "{bad}");
        assert_eq!(&*context.trace_id_hex(), TRACE);
    }
}

#[test]
fn b3_is_read_in_both_forms() {
    let short = "a3ce929d0e0e4736";
    let padded = format!("0000000000000000{short}");
    for (fields, trace, sampled) in [
        (vec![("b3", format!("{TRACE}-{SPAN}-1"))], TRACE, true),
        (
            vec![("b3", format!("{TRACE}-{SPAN}-d-{SPAN}"))],
            TRACE,
            true,
        ),
        (vec![("b3", format!("{TRACE}-{SPAN}-0"))], TRACE, false),
        (vec![("b3", format!("{short}-{SPAN}"))], &*padded, false),
        (
            vec![
                ("X-B3-TraceId", TRACE.to_uppercase()),
                ("X-B3-SpanId", SPAN.into()),
                ("X-B3-Sampled", "1".into()),
            ],
            TRACE,
            true,
        ),
        (
            vec![
                ("X-B3-TraceId", short.into()),
                ("X-B3-SpanId", SPAN.into()),
                ("X-B3-Flags", "1".into()),
            ],
            &*padded,
            true,
        ),
    ] {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();

        let context = context(&fields);

        assert_eq!(&*context.trace_id_hex(), trace, "{fields:?}");
        assert_eq!(context.sampled, sampled, "{fields:?}");
        assert!(context.parent.is_some(), "{fields:?}");
    }
}

#[test]
fn b3_may_decide_about_a_trace_that_begins_here() {
    let all = Sampler::share(1.0);

    assert!(context(&[("b3", "1")]).sampled);
    assert!(context(&[("x-b3-sampled", "true")]).sampled);
    let denied = TraceContext::from_headers(&headers(&[("b3", "0")]), &all);
    assert!(!denied.sampled);
    assert!(denied.parent.is_none());
}

#[test]
fn w3c_counts_before_b3() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let other = format!("{}-{SPAN}-0", "1".repeat(32));

    let context = context(&[("b3", &other), ("traceparent", &parent)]);

    assert_eq!(&*context.trace_id_hex(), TRACE);
    assert!(context.sampled);
}

#[test]
fn the_share_of_new_traces_is_sampled() {
    let none = HeaderMap::new();
    let sampled = |share| {
        let sampler = Sampler::share(share);
        let traces = (0..4000).map(|_| TraceContext::from_headers(&none, &sampler));
        traces.filter(|context| context.sampled).count()
    };

    assert_eq!(sampled(0.0), 0);
    assert_eq!(sampled(1.0), 4000);
    // Ten standard deviations around the mean of 1000.
    assert!((730..1270).contains(&sampled(0.25)));
}

#[test]
fn without_an_exporter_a_parent_is_passed_on_and_none_is_begun() {
    let given = format!("00-{TRACE}-{SPAN}-01");
    let passive = Sampler::passive();

    let mut told = TraceContext::from_headers(&headers(&[("traceparent", &given)]), &passive);
    told.begin_attempt();
    let untold = TraceContext::from_headers(&HeaderMap::new(), &passive);

    assert_eq!(told.traceparent().expect("sent"), given.as_str());
    assert_eq!(untold.traceparent(), None);
    assert!(!untold.sampled);
}

proptest! {
    #[test]
    fn no_bytes_make_a_context_that_cannot_be_sent(
        traceparent in proptest::collection::vec(any::<u8>(), 0..70),
        b3 in "[0-9a-fA-F-]{0,70}",
        state in proptest::collection::vec(any::<u8>(), 0..70),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [("traceparent", &traceparent[..]), ("b3", b3.as_bytes()), ("tracestate", &state)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(name, value);
            }
        }

        let context = TraceContext::from_headers(&headers, &Sampler::share(0.5));

        let sent = context.traceparent().expect("sent");
        let again = self::headers(&[("traceparent", sent.to_str().expect("ASCII"))]);
        let next = TraceContext::from_headers(&again, &Sampler::share(0.5));
        prop_assert_eq!(next.trace_id, context.trace_id);
        prop_assert_eq!(next.sampled, context.sampled);
        prop_assert_eq!(context.state.is_some(), context.tracestate().is_some());
    }
}
