//! Keys of `tests`: a request, and what should become of it.
//! It must not know how tests are run; `config::tests` does that with `decide`.
//! Run by `windrose check` and before every reload.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, Route};

/// A request and what should become of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigTest {
    /// Shown when it fails. Default: the method and address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The request.
    pub request: TestRequest,
    /// What should become of it; only what is given is compared.
    pub expect: Expect,
}

impl Config {
    /// Every test with its path, and the route it stands under.
    pub fn all_tests(&self) -> impl Iterator<Item = (String, &ConfigTest, Option<&Route>)> {
        let top = self.tests.iter().enumerate();
        let top = top.map(|(at, test)| (format!("tests[{at}]"), test, None));
        let routes = self.routes.iter().enumerate();
        let below = routes.flat_map(|(route_at, route)| {
            let tests = route.tests.iter().enumerate();
            tests.map(move |(at, test)| {
                (format!("routes[{route_at}].tests[{at}]"), test, Some(route))
            })
        });
        top.chain(below)
    }
}

impl ConfigTest {
    /// Its name, or the request.
    pub fn title(&self) -> String {
        let request = &self.request;
        let title = || format!("{} {}", request.method, request.url);
        self.name.clone().unwrap_or_else(title)
    }
}

/// A request for a test.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestRequest {
    /// Default: GET.
    #[serde(default = "method")]
    pub method: String,
    /// `http://host/path?query` or `https://…`.
    pub url: String,
    /// Request fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body. A `content-length` is added where none is given. Default: none; plugins that want to see the body are then told that it is empty, or unknown where `headers` announce one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The listener that gets it. Default: the one at the address's port, else the first with role `ingress`, else the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The client's address. Default: 192.0.2.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<std::net::IpAddr>,
    /// Where the connection was going, such as `10.96.0.10:80`. Default: the listener's address, unless it stands for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<std::net::SocketAddr>,
    /// The principal that was proven. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The name asked for in TLS, for `https://`. Default: the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
}

fn method() -> String {
    "GET".into()
}

/// What should become of a request.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The principal in the end, as plugins proved it: `consumer:NAME`, `certificate:NAME` or a SPIFFE ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The pool's name; for a split, the one that the request decides on, else one of its pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The labels that the rule, or the share, asks of the pool's endpoints.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, String>,
    /// The status of an answer made by the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The cause of an answer made by the proxy, such as `no_route`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The policy that refused it, as `NAME[RULE]`; `NAME` where no rule of the policy, or of any other that allows, matched, and `default` for `authorization.default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The path as sent upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The Host as sent upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where a redirect points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Request fields as sent upstream, or the answer's fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}
