//! Which scenes there are, and those of plugins that look at heads alone.
//! It must not count.
//! Asked for by name, by the process that prints and by those that valgrind watches.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::json;
use windrose_plugins::contract::Principal;
use windrose_plugins::testkit::{Exchange, Kit};
use windrose_plugins::BUILTIN;

use crate::stage::{Done, Stage};
use crate::{credentials, messages, services};

/// The scenes of a kind, by name: the kind, and what tells them apart.
pub(crate) fn of(kind: &str) -> Vec<String> {
    let several: &[&str] = match kind {
        "compress" | "decompress" => &["gzip", "br", "zstd"],
        "grpc_web" => &["binary", "text"],
        "hmac_auth" => &["head", "body"],
        "quota" | "rate_limit" => &["local", "store"],
        "response_cache" => &["hit", "miss"],
        _ => return vec![kind.to_owned()],
    };
    let scenes = several.iter().map(|what| format!("{kind}:{what}"));
    scenes.collect()
}

/// A scene by its name.
pub(crate) fn stage(scene: &str) -> Option<Stage> {
    let (kind, what) = scene.split_once(':').unwrap_or((scene, ""));
    let plugin = BUILTIN.iter().find(|plugin| plugin.kind == kind)?;
    let stage = Stage {
        plugin,
        kit: Kit::for_examples().in_folder(GEO),
        settings: plugin.example.to_owned(),
        request: Box::new(get),
        sent: None,
        received: None,
        trailers: HeaderMap::new(),
        works: |_, _| true,
    };
    Some(match kind {
        "auth" | "basic_auth" | "hmac_auth" | "jwt" | "key_auth" | "mtls_auth" | "oidc" => {
            credentials::set(stage, what)
        }
        "aggregate" | "ext_authz" | "forward_auth" | "oauth2_introspection" | "opa" => {
            services::set(stage)
        }
        "body" | "body_limit" | "compress" | "decompress" | "graphql_limits" | "grpc_json"
        | "grpc_web" | "json_schema" | "llm" | "openapi" | "response_cache" | "waf_lite" => {
            messages::set(stage, what)
        }
        "log_file" => log_file(stage),
        "quota" | "rate_limit" => limit(stage, what),
        _ => plain(stage),
    })
}

/// A request as browsers and clients of APIs send them.
pub(crate) fn get() -> Exchange {
    fields(Exchange::get(URL))
}

/// The same with a body of JSON to come.
pub(crate) fn post() -> Exchange {
    posted(URL, "application/json")
}

pub(crate) fn posted(url: &str, kind: &str) -> Exchange {
    fields(Exchange::new("POST", url))
        .with("content-type", kind)
        .with("content-length", "1024")
}

pub(crate) fn fields(exchange: Exchange) -> Exchange {
    exchange
        .with("accept", "application/json")
        .with("accept-encoding", "gzip, br, zstd")
        .with("user-agent", "bench/1.0")
        .with("origin", "https://app.example.com")
        .with_response("content-type", "application/json")
        .with_response("server", "origin")
}

/// What is told apart by the head.
fn plain(mut stage: Stage) -> Stage {
    let settings = match stage.plugin.kind {
        "ip_filter" => Some("allow: [192.0.2.0/24, '2001:db8::/32']\ndeny: [192.0.2.77/32]"),
        "log_syslog" => Some("server: tls://logs.example\nhostname: edge-1\nformat: structured"),
        "respond" => Some("status: 503\njson: {error: maintenance}\nwhen: {path_prefix: /api/, query: {mock: '*'}}"),
        _ => None,
    };
    if let Some(settings) = settings {
        settings.clone_into(&mut stage.settings);
    }
    if stage.plugin.kind == "cel" {
        let claims = json!({"tenant": "api"}).as_object().cloned();
        let mut ann = Principal::consumer("ann");
        ann.claims = claims.map(Arc::new);
        stage.request = Box::new(move || get().proven(ann.clone()));
        return stage;
    }
    stage.request = Box::new(match stage.plugin.kind {
        "acl" | "concurrency_limit" | "headers" => || get().as_consumer("ann"),
        "csrf" => || {
            let request = post().with("cookie", "a=1; __Host-csrf=0123456789abcdef");
            request.with("x-csrf-token", "0123456789abcdef")
        },
        "geo" => || get().from("81.2.69.142"),
        "redirect" => || {
            fields(Exchange::get(
                "https://www.shop.test/api/orders/4711?limit=20",
            ))
        },
        "referer" => || get().with("referer", "https://shop.example.com/cart"),
        "rewrite" => || {
            fields(Exchange::get(
                "https://api.example.com/api/users/4711?limit=20&debug=1",
            ))
        },
        _ => get,
    });
    stage.works = seen(stage.plugin.kind);
    stage
}

/// What shows that one of these had something to do. Those that only judge show nothing.
fn seen(kind: &str) -> fn(&Kit, &Done) -> bool {
    match kind {
        "cors" => |_, done| {
            has(
                &done.exchange.response.headers,
                "access-control-allow-origin",
            )
        },
        "geo" => |_, done| has(&done.exchange.upstream.headers, "x-country"),
        "headers" => |_, done| has(&done.exchange.upstream.headers, "x-user"),
        "log_http" | "log_syslog" => |kit, _| kit.counted("dropped") == 0,
        "request_id" => |_, done| has(&done.exchange.upstream.headers, "x-correlation-id"),
        "rewrite" => {
            |_, done| done.exchange.upstream.uri == "/v1/accounts/4711?limit=20&source=edge"
        }
        "security_headers" => {
            |_, done| has(&done.exchange.response.headers, "strict-transport-security")
        }
        _ => |_, _| true,
    }
}

/// So much of everything that nothing is refused.
fn limit(mut stage: Stage, what: &str) -> Stage {
    let settings = match stage.plugin.kind {
        "quota" => "limit: 1000000000\nper: day",
        _ => "key: [route, client_ip]\nrate: 100000000\nper: 1s\nburst: 100000000",
    };
    stage.settings = match what {
        "store" => format!("{settings}\nstore: shared"),
        _ => settings.to_owned(),
    };
    stage.request = Box::new(|| get().as_consumer("ann"));
    stage.works = |_, done| has(&done.exchange.response.headers, "ratelimit");
    stage
}

/// The line itself is the kit's, which is shorter than the proxy's.
fn log_file(mut stage: Stage) -> Stage {
    stage.settings = "path: /dev/null".to_owned();
    stage.works = |kit, _| kit.counted("dropped") == 0;
    stage
}

pub(crate) fn has(headers: &HeaderMap, name: &str) -> bool {
    headers.contains_key(name)
}

const URL: &str = "https://api.example.com/api/orders/4711?limit=20&sort=date";
const GEO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/geo");
