//! Plugins that ask somebody, and what they are answered.
//! The answers must be small and let the request go on: what a service costs is not the plugin's.
//! Part of the scenes.

use serde_json::json;
use windrose_plugins::testkit::{reply, Kit};

use crate::bodies;
use crate::scenes::{get, has};
use crate::stage::Stage;

pub(crate) fn set(mut stage: Stage) -> Stage {
    let kit = &stage.kit;
    stage.request = Box::new(|| get().with("authorization", "Bearer an-example-of-a-token"));
    stage.works = |_, done| has(&done.exchange.upstream.headers, "x-user");
    match stage.plugin.kind {
        "aggregate" => {
            let settings = "calls:\n- {name: user, service: 'http://users.example', path: '/users/7', headers: [authorization], group: user, deny: [password]}
- {name: orders, service: 'http://orders.example', path: '/orders?user={responses.user.customer}', target: items, wrap: orders}";
            settings.clone_into(&mut stage.settings);
            answers(
                kit,
                "http://users.example/users/7",
                bodies::order().to_vec(),
            );
            answers(
                kit,
                "http://orders.example/orders",
                bodies::order().to_vec(),
            );
            stage.works = |kit, _| kit.counted("merged") > 0;
        }
        "ext_authz" => {
            let url = "h2c://127.0.0.1:9191/envoy.service.auth.v3.Authorization/Check";
            let fields = [("content-type", "application/grpc")];
            let mut allowed = reply(200, &fields, bodies::framed(ALLOWED));
            allowed
                .trailers
                .insert("grpc-status", http::HeaderValue::from_static("0"));
            kit.answer(url, Ok(allowed));
        }
        "forward_auth" => {
            let fields = [("x-auth-user", "ann"), ("x-auth-groups", "staff")];
            kit.answer("https://auth.example/verify", Ok(reply(200, &fields, "")));
            stage.works = |_, done| done.exchange.principal().is_some();
        }
        "oauth2_introspection" => {
            let said = json!({"active": true, "sub": "ann", "scope": "read orders", "exp": 3600});
            answers(
                kit,
                "https://idp.example/oauth2/introspect",
                said.to_string(),
            );
        }
        _ => {
            let said = json!({"result": {"allow": true, "headers": {"x-user": "ann"}}});
            answers(
                kit,
                "http://127.0.0.1:8181/v1/data/http/authz",
                said.to_string(),
            );
            stage.works = |kit, _| kit.counted("call_answered") > 1;
        }
    }
    stage
}

fn answers(kit: &Kit, url: &str, body: impl Into<bytes::Bytes>) {
    kit.answer(
        url,
        Ok(reply(200, &[("content-type", "application/json")], body)),
    );
}

/// A `CheckResponse` that adds `x-user: ann`.
const ALLOWED: &[u8] = b"\x0a\x00\x1a\x11\x12\x0f\x0a\x0d\x0a\x06x-user\x12\x03ann";
