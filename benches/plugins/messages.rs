//! Plugins that look into bodies or change them, with a body of 1 KiB each.
//! What is sent must be what the plugin is for: right by its schema, in its coding, worth keeping.
//! Part of the scenes.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use windrose_plugins::testkit::{Exchange, Kit};

use crate::bodies;
use crate::scenes::{fields, get, has, post, posted};
use crate::stage::{Done, Stage};

pub(crate) fn set(stage: Stage, what: &str) -> Stage {
    match stage.plugin.kind {
        "compress" => compress(stage, what),
        "decompress" => decompress(stage, what),
        "grpc_json" => grpc_json(stage),
        "grpc_web" => grpc_web(stage, what),
        "llm" => llm(stage),
        "response_cache" => cache(stage, what),
        _ => whole(stage),
    }
}

/// Bodies of JSON, whole or as they pass.
fn whole(mut stage: Stage) -> Stage {
    let order = bodies::order();
    let body = match stage.plugin.kind {
        "graphql_limits" => bodies::query(),
        _ => order.clone(),
    };
    stage.works = match stage.plugin.kind {
        "body" => |_, done: &Done| {
            let changed = String::from_utf8_lossy(done.exchange.body()).contains("gateway");
            changed && done.received.as_deref() == Some(b"{\"status\": 200, \"order\": 4711}")
        },
        _ => |_: &Kit, _: &Done| true,
    };
    match stage.plugin.kind {
        "json_schema" => stage.settings = format!("schema: {}\nrequired: true", bodies::ORDER),
        "openapi" => {
            stage.settings = format!(
                "undeclared: {{parameters: reject}}\ndocument: {{openapi: 3.1.0, info: {{title: orders, version: '1'}}, servers: [{{url: \
                 'https://api.example.com/api'}}], paths: {{'/orders/{{id}}': {{post: {{parameters: [{{name: id, in: path, required: true, schema: \
                 {{type: integer}}}}, {{name: limit, in: query, schema: {{type: integer}}}}, {{name: sort, in: query, schema: {{enum: [date, \
                 price]}}}}], requestBody: {{content: {{application/json: {{schema: {}}}}}}}, responses: {{'200': {{description: one}}}}}}}}}}}}",
                bodies::ORDER
            );
        }
        _ => {}
    }
    stage.sent = Some(order.clone());
    stage.received = Some(order);
    stage.request = Box::new(move || post().with_body(body.clone()));
    stage
}

fn compress(mut stage: Stage, coding: &str) -> Stage {
    stage.settings = format!("algorithms: [{coding}]");
    stage.request = Box::new(|| get().with_response("content-length", "1024"));
    stage.received = Some(bodies::order());
    stage.works = |_, done| {
        has(&done.exchange.response.headers, "content-encoding") && is_less(&done.received)
    };
    stage
}

fn is_less(body: &Option<Bytes>) -> bool {
    body.as_ref()
        .is_some_and(|body| (1..bodies::order().len()).contains(&body.len()))
}

/// Of requests alone.
fn decompress(mut stage: Stage, coding: &str) -> Stage {
    let coding = coding.to_owned();
    stage.sent = Some(bodies::coded(&coding, &bodies::order()));
    stage.request = Box::new(move || post().with("content-encoding", &coding));
    stage.works = |_, done| done.sent == Some(bodies::order());
    stage
}

/// The message is that of the example: one text.
fn grpc_json(mut stage: Stage) -> Stage {
    let (frame, json) = bodies::message();
    stage.trailers = status();
    stage.received = Some(frame);
    stage.request = Box::new(move || {
        let request = Exchange::new("POST", "https://api.example.com/shop.Orders/Get");
        let request = request
            .with("content-type", "application/json")
            .with("accept", "application/json");
        request
            .with_response("content-type", "application/grpc")
            .with_body(json.clone())
    });
    stage.works = |_, done| {
        done.received
            .as_ref()
            .is_some_and(|body| body.starts_with(b"{"))
    };
    stage
}

fn grpc_web(mut stage: Stage, what: &str) -> Stage {
    use base64::prelude::{Engine as _, BASE64_STANDARD};
    let (frame, _) = bodies::message();
    let kind = match what {
        "text" => {
            stage.sent = Some(BASE64_STANDARD.encode(&frame).into());
            "application/grpc-web-text"
        }
        _ => {
            stage.sent = Some(frame.clone());
            "application/grpc-web+proto"
        }
    };
    stage.received = Some(frame);
    stage.trailers = status();
    stage.settings = "{}".to_owned();
    stage.request = Box::new(move || {
        let request = Exchange::new("POST", "https://api.example.com/shop.Orders/Get");
        let request = request.with("content-type", kind).with("x-grpc-web", "1");
        request.with_response("content-type", "application/grpc+proto")
    });
    stage.works = |_, done| has(&done.exchange.upstream.headers, "te");
    stage
}

fn status() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn llm(mut stage: Stage) -> Stage {
    stage.settings = stage
        .settings
        .replace("limit: 100000,", "limit: 100000000000,");
    let body = bodies::question();
    let request = move || {
        posted(
            "https://api.example.com/v1/chat/completions",
            "application/json",
        )
    };
    stage.request = Box::new(move || request().with_body(body.clone()));
    stage.received = Some(bodies::reply());
    stage.works = |kit, _| kit.counted_of("completion_tokens", "large") > 0;
    stage
}

/// The same response each time, or one that was never asked for.
fn cache(mut stage: Stage, what: &str) -> Stage {
    let is_new = what == "miss";
    let number = AtomicU64::new(0);
    stage.request = Box::new(move || {
        let of = if is_new {
            number.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let request = fields(Exchange::get(&format!(
            "https://api.example.com/api/orders/{of:06}?limit=20"
        )));
        request
            .with_response("cache-control", "max-age=60")
            .with_response("vary", "accept-encoding")
    });
    stage.received = Some(bodies::order());
    stage.works = match is_new {
        true => |kit, _| kit.counted("hit") == 0 && kit.counted("miss") > 0,
        false => |kit, _| kit.counted("hit") > 0,
    };
    stage
}
