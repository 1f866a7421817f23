//! Envoy as another node of a mesh: one listener, one cluster, mutual TLS on the side that a test wants.
//! It must not know the proxy; its configuration is what Envoy's own documentation says.
//! Used by tests that have both sides of a handshake written by different people.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::client::Conn;
use super::tls::{Authority, Pair};
use super::wait::{until, DEADLINE};

/// Who Envoy is, and who the other side of its mutual TLS has to be.
pub(crate) struct Who<'a> {
    /// Its certificate.
    pub(crate) svid: Pair,
    /// Whom it believes.
    pub(crate) roots: &'a Authority,
    /// The ID that the other side has to have.
    pub(crate) expects: &'a str,
}

/// A running Envoy.
pub(crate) struct Envoy {
    child: Child,
    folder: TempDir,
}

impl Envoy {
    /// Takes requests in the clear and calls `endpoint` over mutual TLS and HTTP/2. `None` where Envoy is not installed.
    pub(crate) fn calling(endpoint: SocketAddr, who: &Who<'_>) -> Option<Envoy> {
        let context = context("Upstream", who, ", sni: mesh");
        Envoy::start(who, FORWARDS, ["", &format!("{HTTP2}{context}")], endpoint)
    }

    /// Takes requests over mutual TLS and calls `endpoint` in the clear. `None` where Envoy is not installed.
    pub(crate) fn called(endpoint: SocketAddr, who: &Who<'_>) -> Option<Envoy> {
        let context = context("Downstream", who, ", require_client_certificate: true");
        Envoy::start(who, FORWARDS, [&context, ""], endpoint)
    }

    /// Takes connections in the clear and carries them to `target` in tunnels (HBONE) through the node at `endpoint`. `None`
    /// where Envoy is not installed.
    pub(crate) fn tunnelling(
        endpoint: SocketAddr,
        target: SocketAddr,
        who: &Who<'_>,
    ) -> Option<Envoy> {
        let context = context("Upstream", who, ", sni: mesh");
        let filter = TUNNELS.replace("TARGET", &target.to_string());
        Envoy::start(who, &filter, ["", &format!("{HTTP2}{context}")], endpoint)
    }

    /// Takes tunnels over mutual TLS, and carries what is in them to `endpoint` in the clear. `None` where Envoy is not installed.
    pub(crate) fn terminating(endpoint: SocketAddr, who: &Who<'_>) -> Option<Envoy> {
        let context = context("Downstream", who, ", require_client_certificate: true");
        Envoy::start(who, TERMINATES, [&context, ""], endpoint)
    }

    /// `security` of its listener, and of its cluster.
    fn start(
        who: &Who<'_>,
        filter: &str,
        security: [&str; 2],
        endpoint: SocketAddr,
    ) -> Option<Envoy> {
        let [inbound, outbound] = security;
        let binary = binary()?;
        let folder = TempDir::new().unwrap();
        who.svid.write(folder.path(), "own");
        who.roots.write_bundle(folder.path(), "roots.pem");
        let text = TEMPLATE
            .replace("FILTER", filter)
            .replace("INBOUND", inbound)
            .replace("OUTBOUND", outbound)
            .replace("ENDPOINT_IP", &endpoint.ip().to_string())
            .replace("ENDPOINT_PORT", &endpoint.port().to_string())
            .replace("FOLDER", &folder.path().to_string_lossy());
        fs::write(folder.path().join("envoy.yaml"), text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(folder.path().join("envoy.yaml"));
        command.args("--concurrency 1 --disable-hot-restart -l warning".split(' '));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(log).spawn().expect("Envoy starts");
        Some(Envoy { child, folder })
    }

    /// Where it takes requests.
    pub(crate) fn address(&self) -> SocketAddr {
        until("Envoy listens", || {
            let view: Value = serde_json::from_str(&self.ask("/listeners?format=json")?).ok()?;
            let address = &view["listener_statuses"][0]["local_address"]["socket_address"];
            let (ip, port) = (address["address"].as_str()?, &address["port_value"]);
            let address = format!("{ip}:{port}").parse().ok()?;
            (self.ask("/ready")?.trim() == "LIVE").then_some(address)
        })
    }

    /// A number that it counts; 0 where it counts no such thing.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let text = self.ask("/stats").expect("Envoy's admin answers");
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        let number = found.and_then(|rest| rest.strip_prefix(": ")?.parse().ok());
        number.unwrap_or(0)
    }

    fn ask(&self, path: &str) -> Option<String> {
        let stream = UnixStream::connect(self.folder.path().join("admin.sock")).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let mut conn = Conn::new(stream);
        conn.send(format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n"));
        Some(conn.reply().ok()?.text())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log"));
            eprintln!("Envoy's log:\n{}", log.unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `$ENVOY`, the one in `$PATH`, or the one that `./dev test` keeps.
fn binary() -> Option<PathBuf> {
    let kept = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let kept = kept.or_else(home).unwrap_or_default();
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let all = [
        named,
        Some("envoy".into()),
        Some(kept.join("windrose/envoy/bin/envoy")),
    ];
    let runs = |path: &PathBuf| {
        let said = Command::new(path).arg("--version").output();
        said.is_ok_and(|said| said.status.success())
    };
    let found = all.into_iter().flatten().find(runs);
    if found.is_none() {
        eprintln!("SKIPPED: Envoy is not installed (`./dev test` does it, or set $ENVOY)");
    }
    found
}

/// A `transport_socket` for one side.
fn context(side: &str, who: &Who<'_>, extra: &str) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        r#", transport_socket: {{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext{extra}, common_tls_context: {{
      alpn_protocols: [h2], tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}},
      tls_certificates: [{{certificate_chain: {{filename: FOLDER/own.crt}}, private_key: {{filename: FOLDER/own.key}}}}],
      validation_context: {{trusted_ca: {{filename: FOLDER/roots.pem}}, match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: '{}'}}}}]}}}}}}}}"#,
        who.expects
    );
    text
}

const HTTP2: &str = r#", typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}"#;

/// Requests, as they are. It forgets nothing that came in of `x-forwarded-client-cert`, so that the other side has to.
const FORWARDS: &str = r#"{name: http, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
        stat_prefix: in, forward_client_cert_details: ALWAYS_FORWARD_ONLY,
        route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: other}}]}]},
        http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}"#;

/// Bytes, each connection in a CONNECT stream.
const TUNNELS: &str = r#"{name: tcp, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy,
        stat_prefix: in, cluster: other, tunneling_config: {hostname: "TARGET"}}}"#;

/// CONNECT streams, taken apart.
const TERMINATES: &str = r#"{name: http, typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
        stat_prefix: in, http2_protocol_options: {allow_connect: true}, upgrade_configs: [{upgrade_type: CONNECT}],
        route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {connect_matcher: {}}, route: {cluster: other, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}}]}]},
        http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}"#;

const TEMPLATE: &str = r#"admin: {address: {pipe: {path: FOLDER/admin.sock}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - {filters: [FILTER]INBOUND}
  clusters:
  - {name: other, type: STATIC, load_assignment: {cluster_name: other, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: ENDPOINT_IP, port_value: ENDPOINT_PORT}}}}]}]}OUTBOUND}
"#;
