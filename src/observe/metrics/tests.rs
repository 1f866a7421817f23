//! Tests of the metrics as a scraper sees them.
//! They must not know how handles keep their series.
//! Run by `cargo test`.

use windrose_plugins::contract::causes;

use super::*;

fn line(metrics: &Metrics, series: &str) -> String {
    let page = metrics.render();
    let found = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.map_or_else(|| format!("absent in:\n{page}"), String::from)
}

#[test]
fn a_finished_request_shows_in_every_family_of_its_route() {
    let metrics = Metrics::new(100);
    let route = metrics.route("edge", "ingress", "shop");

    route.started();
    route.started();
    route.finished(&RequestSample {
        status: 503,
        seconds: 0.02,
        request_bytes: 10,
        response_bytes: 300,
        cause: Some(&causes::NO_HEALTHY_ENDPOINT),
        grpc_status: Some(14),
    });
    route.retried("connect_refused");

    let labels = r#"listener="edge",role="ingress",route="shop""#;
    for (series, value) in [
        (
            format!(r#"windrose_requests_total{{code="503",{labels}}}"#),
            "1",
        ),
        (format!("windrose_requests_in_flight{{{labels}}}"), "1"),
        (
            format!(r#"windrose_request_duration_seconds_bucket{{{labels},le="0.025"}}"#),
            "1",
        ),
        (
            format!(r#"windrose_request_duration_seconds_bucket{{{labels},le="0.01"}}"#),
            "0",
        ),
        (
            format!("windrose_response_body_bytes_sum{{{labels}}}"),
            "300",
        ),
        (
            format!(r#"windrose_request_causes_total{{cause="no_healthy_endpoint",{labels}}}"#),
            "1",
        ),
        (
            format!(r#"windrose_request_retries_total{{cause="connect_refused",{labels}}}"#),
            "1",
        ),
        (
            format!(r#"windrose_grpc_responses_total{{grpc_status="14",{labels}}}"#),
            "1",
        ),
    ] {
        assert_eq!(line(&metrics, &series), value, "{series}");
    }
}

#[test]
fn statuses_outside_http_share_one_series() {
    let metrics = Metrics::new(100);
    let route = metrics.route("edge", "ingress", "shop");

    for status in [600, 999, 7] {
        route.started();
        route.finished(&RequestSample {
            status,
            ..RequestSample::default()
        });
    }

    let series =
        r#"windrose_requests_total{code="other",listener="edge",role="ingress",route="shop"}"#;
    assert_eq!(line(&metrics, series), "3");
}

#[test]
fn the_same_labels_give_the_same_handle() {
    let metrics = Metrics::new(100);

    let first = metrics.route("edge", "ingress", "shop");
    let again = metrics.route("edge", "ingress", "shop");
    let other = metrics.route("edge", "ingress", "blog");

    assert!(Arc::ptr_eq(&first, &again));
    assert!(!Arc::ptr_eq(&first, &other));
}

#[test]
fn attempts_count_for_the_endpoint_and_its_pool() {
    let metrics = Metrics::new(100);

    metrics.endpoint("web", "10.0.0.1:80").attempt(true, 0.003);
    metrics.endpoint("web", "10.0.0.2:80").attempt(false, 0.5);

    for (series, value) in [
        (
            r#"windrose_endpoint_attempts_total{endpoint="10.0.0.2:80",pool="web",result="failed"}"#,
            "1",
        ),
        (
            r#"windrose_endpoint_attempt_seconds_total{endpoint="10.0.0.2:80",pool="web"}"#,
            "0.5",
        ),
        (
            r#"windrose_pool_attempts_total{pool="web",result="ok"}"#,
            "1",
        ),
        (
            r#"windrose_pool_attempts_total{pool="web",result="failed"}"#,
            "1",
        ),
        (
            r#"windrose_pool_attempt_duration_seconds_count{pool="web"}"#,
            "2",
        ),
    ] {
        assert_eq!(line(&metrics, series), value, "{series}");
    }
}

#[test]
fn an_endpoint_that_went_away_leaves_no_series_and_its_pool_keeps_its_totals() {
    let metrics = Metrics::new(100);
    metrics.endpoint("web", "gone:80").attempt(true, 0.1);
    metrics.endpoint("web", "here:80").attempt(true, 0.1);

    metrics.retain(&|family, _, name| family != MetricFamily::Endpoint || name != "gone:80");

    assert!(!metrics.render().contains("gone:80"));
    let kept = r#"windrose_endpoint_attempts_total{endpoint="here:80",pool="web",result="ok"}"#;
    assert_eq!(line(&metrics, kept), "1");
    let pool = r#"windrose_pool_attempts_total{pool="web",result="ok"}"#;
    assert_eq!(line(&metrics, pool), "2");
}

#[test]
fn of_addresses_that_come_and_go_few_are_remembered() {
    let metrics = Metrics::new(10_000);
    let stays = metrics.endpoint("web", "stays:80");
    stays.attempt(true, 0.1);

    for number in 0..1000 {
        metrics
            .endpoint("web", &format!("{number}:80"))
            .attempt(true, 0.1);
    }

    let page = metrics.render();
    let of = |name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    assert!(of("windrose_endpoint_healthy{") <= 64);
    assert!(of("windrose_endpoint_attempts_total{") <= 128);
    let kept = r#"windrose_endpoint_attempts_total{endpoint="stays:80",pool="web",result="ok"}"#;
    assert_eq!(line(&metrics, kept), "1");
    let pool = r#"windrose_pool_attempts_total{pool="web",result="ok"}"#;
    assert_eq!(line(&metrics, pool), "1001");
}

#[test]
fn the_budget_of_series_can_be_changed() {
    let metrics = Metrics::new(1);

    metrics.pool("one").endpoints(1, 1);
    metrics.pool("other").endpoints(1, 1);
    metrics.bound(100);
    metrics.pool("third").endpoints(1, 1);

    let page = metrics.render();
    let told = |pool| page.contains(&format!("windrose_pool_endpoints{{pool=\"{pool}\"}} 1"));
    assert_eq!(["one", "other", "third"].map(told), [true, false, true]);
    let over = r#"windrose_series_overflow_total{metric="windrose_pool_endpoints"}"#;
    assert_eq!(line(&metrics, over), "1");
}

#[test]
fn ejections_count_by_reason_and_the_gauge_falls_when_the_endpoint_is_back() {
    let metrics = Metrics::new(100);
    let endpoint = metrics.endpoint("web", "a:80");
    let out = r#"windrose_endpoint_ejected{endpoint="a:80",pool="web"}"#;

    endpoint.ejected("success_rate");
    endpoint.ejected("probation");
    endpoint.ejected("probation");

    assert_eq!(line(&metrics, out), "1");
    let series = |reason: &str| {
        format!(
            r#"windrose_endpoint_ejections_total{{endpoint="a:80",pool="web",reason="{reason}"}}"#
        )
    };
    assert_eq!(line(&metrics, &series("success_rate")), "1");
    assert_eq!(line(&metrics, &series("probation")), "2");
    endpoint.not_ejected();
    assert_eq!(line(&metrics, out), "0");
}

#[test]
fn listeners_count_connections_refusals_handshakes_and_certificates() {
    let metrics = Metrics::new(100);
    let listener = metrics.listener("edge", "ingress");

    listener.accepted();
    listener.accepted();
    listener.closed();
    listener.refused(&causes::TLS_HANDSHAKE);
    listener.tls_handshake("TLSv1.3", true, 0.001);
    listener.tls_handshake("made up\n", false, 0.001);
    listener.bytes(3, 4);
    metrics.certificate("edge", "CN=shop.example", 1_900_000_000);

    for (series, value) in [
        (
            r#"windrose_connections_total{listener="edge",role="ingress"}"#,
            "2",
        ),
        (
            r#"windrose_connections_open{listener="edge",role="ingress"}"#,
            "1",
        ),
        (
            r#"windrose_connection_failures_total{cause="connection.tls_handshake",listener="edge"}"#,
            "1",
        ),
        (
            r#"windrose_tls_handshakes_total{listener="edge",resumed="true",version="TLSv1.3"}"#,
            "1",
        ),
        (
            r#"windrose_tls_handshakes_total{listener="edge",resumed="false",version="other"}"#,
            "1",
        ),
        (
            r#"windrose_connection_sent_bytes_total{listener="edge",role="ingress"}"#,
            "4",
        ),
        (
            r#"windrose_tls_certificate_expiry_timestamp_seconds{listener="edge",subject="CN=shop.example"}"#,
            "1900000000",
        ),
    ] {
        assert_eq!(line(&metrics, series), value, "{series}");
    }
}

#[test]
fn a_rejected_reload_says_that_the_configuration_differs() {
    let metrics = Metrics::new(100);
    let took = std::time::Duration::from_millis(3);

    metrics.reload().finished(ReloadOutcome::Applied, took);
    metrics.reload().generation(1);
    metrics.reload().finished(ReloadOutcome::Rejected, took);

    assert_eq!(line(&metrics, "windrose_config_differs"), "1");
    assert_eq!(line(&metrics, "windrose_config_generation"), "1");
    let rejected = r#"windrose_config_reloads_total{outcome="rejected"}"#;
    assert_eq!(line(&metrics, rejected), "1");
}

#[test]
fn plugins_count_through_the_contract() {
    let metrics = Metrics::new(100);

    let counter = CounterFactory::counter(&*metrics, "limit", "refused");
    counter(2);
    metrics.plugin_event("limit", "refused").inc();

    let series = r#"windrose_plugin_events_total{event="refused",plugin="limit"}"#;
    assert_eq!(line(&metrics, series), "3");
}

#[test]
fn label_values_cannot_break_out_of_their_line() {
    let metrics = Metrics::new(100);

    metrics.pool("a\"} 1\nevil 2").endpoints(1, 1);

    assert!(metrics
        .render()
        .lines()
        .all(|line| !line.starts_with("evil")));
}
