//! Two hops of a mesh, from a workload through its node's proxy and the other node's to the application: what mutual TLS costs
//! beside the clear, and beside Envoy doing the same; and how much memory a node's proxy needs for many services.
//! It must not compare machines: ratios are taken within a round. Called by the bench.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::chaos::{self, Seen};
use super::load;
use super::peers::{self, BINARY};
use super::process::{free_port, Process};

/// A way from a client to the origin, through these processes.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    processes: Vec<Process>,
}

impl Way {
    fn cpu(&self) -> Duration {
        self.processes.iter().map(Process::cpu).sum()
    }

    /// Microseconds of all its processes for each request, over a load of some seconds.
    pub(crate) fn cost(&self, seconds: u64) -> Result<f64, Box<dyn Error>> {
        let before = self.cpu();
        let requests = load::small(self.port, seconds)?;
        let spent = self.cpu().saturating_sub(before);
        Ok(spent.as_secs_f64() * 1e6 / requests as f64)
    }

    /// What clients see at a steady pace.
    pub(crate) fn pace(&self, time: Duration) -> Result<Seen, Box<dyn Error>> {
        chaos::load(self.port, "/ok", time, |_| Ok(()))
    }
}

/// All ways that can be had: straight to the origin, through one node, through two in the clear and with mutual TLS, and through
/// one and two of Envoy.
pub(crate) fn ways(folder: &Path, origin: u16) -> Result<Vec<Way>, Box<dyn Error>> {
    identities(folder)?;
    let straight = Way {
        name: "straight",
        port: origin,
        processes: Vec::new(),
    };
    let mut ways = vec![
        straight,
        one(folder, origin)?,
        windrose("two nodes, clear", folder, origin, Wire::Clear)?,
        windrose("two nodes, mutual TLS", folder, origin, Wire::Mutual)?,
    ];
    match envoy(folder, origin) {
        Ok(peers) => ways.extend(peers),
        Err(problem) => println!("envoy is left out: {problem}"),
    }
    Ok(ways)
}

/// One node in the clear.
fn one(folder: &Path, origin: u16) -> Result<Way, Box<dyn Error>> {
    let port = free_port()?;
    let config = format!(
        "{}listeners: [{{name: out, role: mesh-outbound, bind: '127.0.0.1:{port}'}}]\npools: [{{name: app, endpoints: ['127.0.0.1:{origin}']}}]\nroutes: [{{name: r, listeners: [out], rules: [{{pool: app}}]}}]\n",
        head("web")?,
    );
    Ok(Way {
        name: "one node, clear",
        port,
        processes: vec![node(folder, port, &config)?],
    })
}

/// How the two nodes speak.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Clear,
    Mutual,
}

fn windrose(
    name: &'static str,
    folder: &Path,
    origin: u16,
    wire: Wire,
) -> Result<Way, Box<dyn Error>> {
    let (first, second) = (free_port()?, free_port()?);
    let [accepts, calls] = match wire {
        Wire::Clear => ["", ", protocol: http2"],
        Wire::Mutual => [
            ", mtls: {}",
            ", protocol: http2, mtls: {peers: ['spiffe://bench/app']}",
        ],
    };
    let inside = format!(
        "{}listeners: [{{name: in, role: mesh-inbound, bind: '127.0.0.1:{second}'{accepts}}}]\npools: [{{name: app, endpoints: ['127.0.0.1:{origin}']}}]\nroutes: [{{name: r, listeners: [in], rules: [{{pool: app}}]}}]\n",
        head("app")?,
    );
    let outside = format!(
        "{}listeners: [{{name: out, role: mesh-outbound, bind: '127.0.0.1:{first}'}}]\npools: [{{name: app, endpoints: ['127.0.0.1:{second}']{calls}}}]\nroutes: [{{name: r, listeners: [out], rules: [{{pool: app}}]}}]\n",
        head("web")?,
    );
    let processes = vec![
        node(folder, second, &inside)?,
        node(folder, first, &outside)?,
    ];
    Ok(Way {
        name,
        port: first,
        processes,
    })
}

fn head(workload: &str) -> Result<String, Box<dyn Error>> {
    let admin = free_port()?;
    Ok(format!(
        "server: {{threads: 1, upgrade_socket: FOLDER/{admin}.sock}}\nadmin: {{bind: '127.0.0.1:{admin}'}}\nobserve: {{access_log: {{to: FOLDER/{admin}.log}}}}\nidentity: {{trust_domain: bench, source: {{files: {{bundle: root.pem}}}}, workloads: [{{name: {workload}, id: 'spiffe://bench/{workload}', certificate: {{cert: {workload}.pem, key: {workload}.key}}}}]}}\n"
    ))
}

fn node(folder: &Path, port: u16, config: &str) -> Result<Process, Box<dyn Error>> {
    let file = folder.join(format!("mesh-{port}.yaml"));
    fs::write(
        &file,
        config.replace("FOLDER", &folder.display().to_string()),
    )?;
    let mut command = Command::new(BINARY);
    command.arg("run").arg("-c").arg(&file);
    Process::start(command, &file.with_extension("out"), port)
}

fn envoy(folder: &Path, origin: u16) -> Result<[Way; 2], Box<dyn Error>> {
    let (first, second, single) = (free_port()?, free_port()?, free_port()?);
    let alone = ENVOY
        .replace("PORT", &single.to_string())
        .replace("TARGET", &origin.to_string())
        .replace("DOWN", "")
        .replace("UP", "");
    let inside = ENVOY
        .replace("PORT", &second.to_string())
        .replace("TARGET", &origin.to_string())
        .replace("DOWN", &tls("Downstream", "app", "web"))
        .replace("UP", "");
    let outside = ENVOY
        .replace("PORT", &first.to_string())
        .replace("TARGET", &second.to_string())
        .replace("DOWN", "")
        .replace(
            "UP",
            &(ENVOY_H2.to_owned() + &tls("Upstream", "web", "app")),
        );
    let mut processes = Vec::new();
    for (port, text) in [(second, inside), (first, outside), (single, alone)] {
        let file = folder.join(format!("mesh-{port}-envoy.yaml"));
        fs::write(&file, text.replace("FOLDER", &folder.display().to_string()))?;
        let mut command = Command::new(peers::envoy_binary()?);
        command.arg("-c").arg(&file);
        command.args("--concurrency 1 --disable-hot-restart -l error".split(' '));
        processes.push(Process::start(command, &file.with_extension("out"), port)?);
    }
    let alone = processes.split_off(2);
    Ok([
        Way {
            name: "one of Envoy, clear",
            port: single,
            processes: alone,
        },
        Way {
            name: "two of Envoy, mutual TLS",
            port: first,
            processes,
        },
    ])
}

fn tls(side: &str, own: &str, peer: &str) -> String {
    let indent = if side == "Downstream" {
        "      "
    } else {
        "    "
    };
    let require = match side {
        "Downstream" => "require_client_certificate: true, ",
        _ => "",
    };
    format!("{indent}transport_socket: {{name: tls, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext, {require}common_tls_context: {{alpn_protocols: [h2], tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, tls_certificates: [{{certificate_chain: {{filename: FOLDER/{own}.pem}}, private_key: {{filename: FOLDER/{own}.key}}}}], validation_context: {{trusted_ca: {{filename: FOLDER/root.pem}}, match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: 'spiffe://bench/{peer}'}}}}]}}}}}}}}\n")
}

/// Resident bytes of a node's proxy with this many services of ten endpoints each, after a request, and how many of them are its
/// own: at rest, and after its metrics were asked for.
pub(crate) fn resident(folder: &Path, services: usize) -> Result<[(u64, u64); 2], Box<dyn Error>> {
    let port = free_port()?;
    let head = head("web")?;
    let admin = head.split("admin: {bind: '127.0.0.1:").nth(1);
    let admin: u16 = admin
        .and_then(|rest| rest.split('\'').next())
        .ok_or("no admin port")?
        .parse()?;
    let mut text = format!(
        "{head}listeners: [{{name: out, role: mesh-outbound, bind: '127.0.0.1:{port}'}}]\nservices:\n"
    );
    for at in 0..services {
        let endpoints: Vec<String> = (1..=10)
            .map(|last| format!("'10.{}.{}.{last}:80'", at / 250, at % 250))
            .collect();
        let _ = writeln!(
            text,
            "- {{name: s{at}, hosts: [s{at}.mesh], ports: [{{port: 80}}], endpoints: [{}]}}",
            endpoints.join(", ")
        );
    }
    let process = node(folder, port, &text)?;
    let _ = load::asked_once(port);
    // The allocator gives back what is free within seconds.
    std::thread::sleep(Duration::from_secs(4));
    let at_rest = (process.resident(), process.anonymous());
    scrape(admin)?;
    std::thread::sleep(Duration::from_secs(4));
    Ok([at_rest, (process.resident(), process.anonymous())])
}

/// Asks for the metrics, all of them.
fn scrape(admin: u16) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(("127.0.0.1", admin))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A root, and certificates of two workloads below it.
fn identities(folder: &Path) -> Result<(), Box<dyn Error>> {
    let openssl = |line: &str| -> Result<(), Box<dyn Error>> {
        let mut command = Command::new("openssl");
        let made = command.args(line.split(' ')).current_dir(folder).output()?;
        match made.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&made.stderr).into()),
        }
    };
    openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=root -addext keyUsage=critical,keyCertSign -out root.pem -keyout root.key")?;
    for name in ["web", "app"] {
        openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -out {name}.csr -keyout {name}.key"))?;
        fs::write(
            folder.join("san"),
            format!("subjectAltName=URI:spiffe://bench/{name}\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n"),
        )?;
        openssl(&format!("x509 -req -in {name}.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile san -out {name}.pem"))?;
    }
    Ok(())
}

const ENVOY: &str = r#"static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          forward_client_cert_details: SANITIZE_SET
          set_current_client_cert_details: {uri: true}
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: next}}]}]}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          access_log:
          - name: file
            typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: FOLDER/PORT-envoy.log}
DOWN  clusters:
  - name: next
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 10000, max_requests: 10000, max_pending_requests: 10000}]}
    load_assignment: {cluster_name: next, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: TARGET}}}}]}]}
UP"#;

const ENVOY_H2: &str = r#"    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}
"#;
