//! Route semantics as others judge them: conformance cases of the Kubernetes Gateway API, run through a real proxy.
//! It must not know Kubernetes beyond HTTPRoute; what needs more than one plain listener is left out.
//! Part of the test binary.

use std::collections::BTreeMap;

use serde_json::{json, Value};

use crate::support::{Conn, Proxy, Upstream};

/// The conformance tests that one plain listener can show.
const SHOWN: &[&str] = &[
    "HTTPRoute303Redirect",
    "HTTPRoute308Redirect",
    "HTTPRouteExactPathMatching",
    "HTTPRouteMatchingAcrossRoutes",
    "HTTPRouteMethodMatching",
    "HTTPRoutePathMatchOrder",
    "HTTPRouteRedirectHostAndStatus",
    "HTTPRouteRedirectPort",
    "HTTPRouteRewriteHost",
    "HTTPRouteSimpleSameNamespace",
];

#[test]
fn httproute_cases_come_out_as_the_gateway_api_says() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/gateway-api/httproute-cases.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let tests = list(&golden["tests"]);
    let shown = tests
        .iter()
        .filter(|test| SHOWN.contains(&word(&test["test"])));

    let mut wrong = Vec::new();
    let mut cases = 0;
    for test in shown {
        let scene = Scene::new(list(&test["manifests"]));
        for case in list(&test["cases"]) {
            cases += 1;
            if let Err(fact) = scene.judge(case) {
                wrong.push(format!("{}: {case}: {fact}", test["test"]));
            }
        }
    }

    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(cases, 44);
}

/// A proxy with the routes of a test, before services that answer with their names.
struct Scene {
    proxy: Proxy,
    services: BTreeMap<String, Upstream>,
}

impl Scene {
    fn new(manifests: &[Value]) -> Scene {
        let specs: Vec<&Value> = manifests.iter().map(|manifest| &manifest["spec"]).collect();
        let rules = specs.iter().flat_map(|spec| list(&spec["rules"]));
        let backends = rules.flat_map(|rule| list(&rule["backendRefs"]));
        let services: BTreeMap<String, Upstream> = backends
            .map(|backend| word(&backend["name"]).to_owned())
            .map(|name| (name.clone(), Upstream::answering(&name)))
            .collect();
        let pools = services.iter().map(
            |(name, service)| json!({"name": name, "endpoints": [service.address.to_string()]}),
        );
        let pools: Vec<Value> = pools.collect();
        let routes = manifests.iter().map(|manifest| {
            let spec = &manifest["spec"];
            let rules: Vec<Value> = list(&spec["rules"]).iter().map(rule).collect();
            json!({"name": manifest["metadata"]["name"].as_str().map(|name| format!("r-{name}")), "hosts": list(&spec["hostnames"]), "rules": rules})
        });
        let routes: Vec<Value> = routes.collect();
        let yaml = format!("pools: {}\nroutes: {}\n", json!(pools), json!(routes));
        Scene {
            proxy: Proxy::http(&yaml),
            services,
        }
    }

    fn judge(&self, case: &Value) -> Result<(), String> {
        let request = &case["request"];
        let method = request["method"].as_str().unwrap_or("GET");
        let host = request["host"].as_str().unwrap_or("gateway.test");
        let mut text = format!(
            "{method} {} HTTP/1.1\r\nhost: {host}\r\n",
            word(&request["path"])
        );
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            text.push_str(&format!("{name}: {}\r\n", word(value)));
        }
        if matches!(method, "POST" | "PUT" | "PATCH") {
            text.push_str("content-length: 0\r\n");
        }
        text.push_str("\r\n");

        let reply = Conn::open(self.proxy.address("web")).ask(text);

        let status = case["response"]["status_code"].as_u64().unwrap_or(200);
        same("status", &reply.status.to_string(), &status.to_string())?;
        if let Some(backend) = case["backend"].as_str() {
            same("backend", &reply.text(), backend)?;
            self.upstream_saw(&case["expected_request"], backend)?;
        }
        redirected(
            &case["redirect_request"],
            reply.header("location").unwrap_or(""),
        )
    }

    fn upstream_saw(&self, expected: &Value, backend: &str) -> Result<(), String> {
        let seen = self.services[backend].last();
        let request = &expected["request"];
        if let Some(path) = request["path"].as_str() {
            same("path", &seen.target, path)?;
        }
        if let Some(host) = request["host"].as_str() {
            same("host", seen.header("host").unwrap_or(""), host)?;
        }
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            same(name, &seen.all(name).join(","), word(value))?;
        }
        for name in list(&expected["absent_headers"]) {
            same(word(name), &seen.all(word(name)).join(","), "")?;
        }
        Ok(())
    }
}

/// Compares the parts of a location that a case names.
fn redirected(expected: &Value, location: &str) -> Result<(), String> {
    if expected.is_null() {
        return Ok(());
    }
    let uri: http::Uri = location
        .parse()
        .map_err(|_| format!("location {location:?}"))?;
    let port = uri.port_u16().map(|port| port.to_string());
    let parts = [
        ("scheme", uri.scheme_str()),
        ("host", uri.host()),
        ("port", port.as_deref()),
        ("path", Some(uri.path())),
    ];
    for (part, seen) in parts {
        if let Some(wanted) = expected[part].as_str() {
            same(part, seen.unwrap_or(""), wanted)?;
        }
    }
    Ok(())
}

fn same(what: &str, seen: &str, wanted: &str) -> Result<(), String> {
    match seen == wanted {
        true => Ok(()),
        false => Err(format!("{what} is {seen:?}, should be {wanted:?}")),
    }
}

/// A rule of an HTTPRoute in our words.
fn rule(rule: &Value) -> Value {
    let mut ours =
        json!({"match": list(&rule["matches"]).iter().map(condition).collect::<Vec<_>>()});
    if let [backend] = list(&rule["backendRefs"]) {
        ours["pool"] = backend["name"].clone();
    }
    for filter in list(&rule["filters"]) {
        match word(&filter["type"]) {
            "RequestRedirect" => ours["redirect"] = redirect(&filter["requestRedirect"]),
            "URLRewrite" => ours["rewrite"] = json!({"host": filter["urlRewrite"]["hostname"]}),
            "RequestHeaderModifier" => {
                ours["request_headers"] = edits(&filter["requestHeaderModifier"])
            }
            other => panic!("no adapter for {other}"),
        }
    }
    ours
}

fn condition(condition: &Value) -> Value {
    let mut ours = json!({});
    let path = &condition["path"];
    match path["type"].as_str() {
        Some("Exact") => ours["path"] = json!({"exact": path["value"]}),
        Some("PathPrefix") => ours["path"] = json!({"prefix": path["value"]}),
        _ => {}
    }
    if condition["method"].is_string() {
        ours["method"] = condition["method"].clone();
    }
    ours["headers"] = pairs(&condition["headers"]);
    ours
}

fn redirect(redirect: &Value) -> Value {
    let mut ours = json!({});
    for (theirs, name) in [
        ("scheme", "scheme"),
        ("hostname", "host"),
        ("port", "port"),
        ("statusCode", "status"),
    ] {
        if !redirect[theirs].is_null() {
            ours[name] = redirect[theirs].clone();
        }
    }
    ours
}

fn edits(edits: &Value) -> Value {
    json!({"set": pairs(&edits["set"]), "add": pairs(&edits["add"]), "remove": list(&edits["remove"])})
}

/// `[{name, value}]` as a map.
fn pairs(pairs: &Value) -> Value {
    let pairs = list(pairs).iter();
    pairs
        .map(|pair| (word(&pair["name"]).to_owned(), pair["value"].clone()))
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
