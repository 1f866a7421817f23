//! A snapshot for the admin address to show: one pool, one listener and rules of every kind of precedence.
//! It must not know what is asked.
//! Used by the tests of the admin address.

use std::time::Duration;

use super::super::*;
use crate::control::pools::tests::snapshot;
use crate::snapshot::chain::Chain;
use crate::snapshot::listener::{Limits, Listener, Protocol, ProxyHeader, Role};
use crate::snapshot::net::NetSet;
use crate::snapshot::pool::Pool;
use crate::snapshot::route::{
    Action, Candidate, Conditions, HeaderOps, PathPattern, Respond, Retry, Rewrite, RouteTable,
    Rule, TcpTable, Timeouts, ValueCondition,
};
use crate::snapshot::secrets::Secrets;
use crate::snapshot::Snapshot;

/// A snapshot with one pool, one listener and some rules.
pub(super) fn shown(pool: &Arc<Pool>, metrics: &Arc<Metrics>) -> Snapshot {
    let empty = snapshot(vec![pool.clone()]);
    let mut snapshot = Arc::try_unwrap(empty).ok().unwrap();
    snapshot.generation = 7;
    snapshot.effective = "pools:\n- name: web\n".into();
    snapshot.warnings = vec!["pool <web> is unused".into()];
    snapshot.secrets = Arc::new(Secrets::new(["put-in"].into_iter()));
    let mut order = 0;
    let mut candidate = |host: &str, path: PathPattern, conditions: Conditions, action: Action| {
        order += 1;
        Candidate {
            rule: Arc::new(rule(order, action)),
            alternative: 0,
            host: host.into(),
            path,
            conditions: Arc::new(conditions),
            policies: None,
            metrics: metrics.route("edge", "r", "web"),
            order,
        }
    };
    let any = Conditions::default;
    let by_header = Conditions {
        headers: [(
            "x-beta".parse().unwrap(),
            ValueCondition::Exact("put-in".into()),
        )]
        .into(),
        ..any()
    };
    let prefix = |path: &str| PathPattern::Prefix(path.into());
    let candidates = [
        candidate("", prefix(""), any(), respond()),
        candidate("*.test", prefix(""), any(), Action::Pool(pool.clone())),
        candidate("web.test", prefix("/a"), any(), respond()),
        candidate("web.test", prefix("/a/b"), any(), respond()),
        candidate("web.test", prefix("/a"), by_header, respond()),
        candidate(
            "web.test",
            PathPattern::Exact("/a".into()),
            any(),
            respond(),
        ),
    ];
    snapshot.listeners = vec![Arc::new(listener(RouteTable::new(candidates), metrics))];
    snapshot
}

fn respond() -> Action {
    Action::Respond(Respond {
        status: StatusCode::OK,
        body: "hi".into(),
        content_type: "text/plain".parse().unwrap(),
    })
}

fn rule(order: u32, action: Action) -> Rule {
    Rule {
        route: format!("r{order}").into(),
        index: 0,
        path: format!("routes[{order}].rules[0]").into(),
        place: "a.yaml:3".into(),
        action,
        experiments: None,
        rewrite: Rewrite::default(),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        timeouts: Timeouts {
            response_header: Some(Duration::from_secs(60)),
            ..Timeouts::default()
        },
        retry: Retry {
            attempts: 1,
            on_connect_failure: true,
            ..Retry::default()
        },
        body_limit: 64,
        priority: Default::default(),
        chain: Chain::default(),
    }
}

fn listener(routes: RouteTable, metrics: &Metrics) -> Listener {
    Listener {
        mtls: None,
        capture: None,
        unrouted: metrics.route("edge", "ingress", ""),
        name: "edge".into(),
        place: "".into(),
        role: Role::Ingress,
        bind: Bind::Tcp(([127, 0, 0, 1], 80).into()),
        protocol: Protocol::Http,
        proxy_header: ProxyHeader::Ignore,
        trusted_proxies: NetSet::default(),
        service: None,
        limits: Limits {
            connections: 0,
            connections_per_client: 0,
            header_bytes: 0,
            header_fields: 0,
            target_bytes: 0,
            header_timeout: Duration::ZERO,
            keep_alive: Duration::ZERO,
            connection_age: Duration::ZERO,
            h2_streams: 0,
            write_timeout: Duration::ZERO,
        },
        chain: Chain::default(),
        routes,
        tcp: TcpTable::default(),
        metrics: metrics.listener("edge", "ingress"),
    }
}
