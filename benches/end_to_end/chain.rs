//! Ten common plugins on one route, beside the same route without any.
//! It must not measure plugins one by one: `benches/plugins.rs` counts their instructions. Called by the bench.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::prelude::{Engine as _, BASE64_URL_SAFE_NO_PAD};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::peers::{Proxy, Site, BINARY};
use super::process::free_port;

/// Which of the two.
#[derive(Clone, Copy)]
pub(crate) enum Route {
    /// No plugin, no access log.
    Bare,
    /// Nine plugins and the access log.
    Chain,
}

/// A proxy with one route.
pub(crate) fn proxy(folder: &Path, origin: u16, route: Route) -> Result<Proxy, Box<dyn Error>> {
    let site = Site::new(folder, origin)?;
    let (name, log, plugins) = match route {
        Route::Bare => ("bare route", "off", ""),
        Route::Chain => ("ten plugins", "FOLDER/PLAIN-access.log", PLUGINS),
    };
    let text = ROUTE
        .replace("LOG", log)
        .replace("PLUGINS", plugins)
        .replace("ADMIN", &free_port()?.to_string());
    let config: PathBuf = site.write("chain.yaml", &text)?;
    let mut command = Command::new(BINARY);
    command.arg("run").arg("-c").arg(config);
    site.proxy(name, command)
}

/// A script for `wrk` whose requests satisfy the plugins.
pub(crate) fn script(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let path = folder.join("chain.lua");
    let script = format!(
        "wrk.headers['authorization'] = 'Bearer {}'\nwrk.headers['origin'] = 'https://app.example.com'\n",
        token()?
    );
    fs::write(&path, script)?;
    Ok(path)
}

/// A token for `ann`, who is in the group that may call.
fn token() -> Result<String, Box<dyn Error>> {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"HS256","typ":"JWT"}"#),
        part(r#"{"iss":"bench","aud":"shop","sub":"ann","exp":32503680000}"#)
    );
    let key = PKey::hmac(SECRET.as_bytes())?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    let signature = signer.sign_oneshot_to_vec(signed.as_bytes())?;
    Ok(format!(
        "{signed}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(signature)
    ))
}

const SECRET: &str = "a secret of the bench, long enough for SHA-256";

const ROUTE: &str = r#"server: {threads: 1, upgrade_socket: FOLDER/PLAIN.sock}
admin: {bind: "127.0.0.1:ADMIN"}
observe: {access_log: {to: LOG}}
listeners: [{name: plain, role: ingress, bind: "127.0.0.1:PLAIN"}]
consumers: [{name: ann, groups: [staff]}]
pools: [{name: app, endpoints: ["127.0.0.1:ORIGIN"]}]
routes:
- name: all
  rules: [{pool: app}]
PLUGINS"#;

const PLUGINS: &str = r#"  plugins:
  - {kind: request_id, config: {header: x-correlation-id}}
  - {kind: ip_filter, config: {allow: [127.0.0.0/8, "::1/128"], deny: [127.9.9.9/32]}}
  - {kind: cors, config: {origins: ["https://app.example.com"]}}
  - kind: jwt
    config: {issuer: bench, audience: shop, keys: [{secret: "a secret of the bench, long enough for SHA-256"}]}
  - {kind: acl, config: {allow: {groups: [staff]}}}
  - {kind: rate_limit, config: {key: [route, client_ip], rate: 100000000, per: 1s}}
  - {kind: headers, config: {request: {set: {x-tenant: shop}}, response: {set: {x-served-by: windrose}}}}
  - {kind: rewrite, config: {strip_prefix: /api}}
  - {kind: security_headers}
"#;
