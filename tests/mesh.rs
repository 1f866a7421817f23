//! A mesh of three nodes in namespaces of the test's own: applications that know nothing, identities from the built-in authority,
//! policies, and what happens when certificates, roots, nodes and the authority itself come and go under load.
//! It must not touch the rules of the machine it runs on. Without root the test skips, and says so. Part of the test binary.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::netns::{Lan, Netns, Server};
use crate::support::proxy::BINARY;
use crate::support::wait::pause;
use crate::support::{until, Proxy};

/// The user of applications.
const APP: &str = "64201";
const SECRET: &str = "/what-nobody-on-the-wire-may-read";

/// Three nodes at 10.88.0.1 to 3 on one switch, which also runs the authority at 10.88.0.254.
struct Mesh {
    /// Killed before its namespace goes.
    ca: Option<Child>,
    proxies: Vec<Proxy>,
    /// What each node's configuration says of who it is.
    identities: Vec<String>,
    _servers: Vec<Server>,
    nodes: Vec<Netns>,
    switch: Netns,
    folder: TempDir,
    root_hash: String,
}

impl Mesh {
    fn new() -> Option<Mesh> {
        let Lan { nodes, switch } = Lan::new(3)?;
        let servers = nodes[1..]
            .iter()
            .map(|node| node.server("http=127.0.0.1:8080 banner=127.0.0.1:5432"));
        let servers = servers.collect();
        let folder = TempDir::new().unwrap();
        let mut mesh = Mesh {
            ca: None,
            proxies: Vec::new(),
            identities: Vec::new(),
            _servers: servers,
            nodes,
            switch,
            folder,
            root_hash: String::new(),
        };
        let told = mesh.authority(&[
            "init",
            "--trust-domain",
            "mesh.test",
            "--life",
            "6s",
            "--clock-skew",
            "1s",
            "--refresh",
            "1s",
        ]);
        mesh.root_hash = told
            .lines()
            .find_map(|line| line.strip_prefix("root_hash: "))
            .unwrap()
            .to_owned();
        mesh.serve();
        Some(mesh)
    }

    /// A command of the authority, on its own folder.
    fn act(&self, arguments: &[&str]) -> Result<String, String> {
        let done = self
            .switch
            .command(BINARY)
            .arg("ca")
            .args(arguments)
            .arg("-f")
            .arg(self.folder.path())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match done.status.success() {
            true => Ok(text(&done.stdout)),
            false => Err(text(&done.stderr)),
        }
    }

    fn authority(&self, arguments: &[&str]) -> String {
        self.act(arguments).unwrap()
    }

    fn serve(&mut self) {
        let child = until("the authority serves", || {
            let mut command = self.switch.command(BINARY);
            command
                .args(["ca", "serve", "--bind", "10.88.0.254:15012", "-f"])
                .arg(self.folder.path());
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            if line.contains("15012") {
                return Some(child);
            }
            child.wait().unwrap();
            None
        });
        self.ca = Some(child);
    }

    fn kill_authority(&mut self) {
        if let Some(mut child) = self.ca.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts the proxy of a node; the first one calls, the others serve.
    fn start(&mut self, at: usize, yaml: &str) {
        let node = &self.nodes[at];
        let workload = if at == 0 { "web" } else { "orders" };
        let token = self.authority(&[
            "token",
            &format!("spiffe://mesh.test/ns/shop/sa/{workload}"),
        ]);
        let token_file = self.folder.path().join(format!("join-{at}"));
        fs::write(&token_file, token).unwrap();
        let identity = format!(
            "identity:\n  trust_domain: mesh.test\n  source: {{ca: {{address: '10.88.0.254:15012', root_hash: '{}', token_file: '{}', state: FOLDER/state}}}}\n  hold: 10s\n  workloads: [{{name: {workload}, id: 'spiffe://mesh.test/ns/shop/sa/{workload}'}}]\n",
            self.root_hash,
            token_file.display(),
        );
        self.proxies.push(node.proxy(&format!("{identity}{yaml}")));
        self.identities.push(identity);
        let proxy = &self.proxies[at];
        until("a certificate", || serial(proxy));
    }

    /// What curl prints as the application on the first node: the statuses, and the bodies between them.
    fn curl(&self, arguments: &[&str]) -> String {
        let mut line = vec!["curl", "-s", "--max-time", "60", "-w", "%{http_code}\n"];
        line.extend(arguments);
        let output = self.nodes[0].run_as(APP, &line);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Requests one after the other, twenty a second, until dropped.
    fn load(&self) -> Load {
        let out = self.folder.path().join("load");
        let mut command = self.nodes[0].command("setpriv");
        command.args(["--reuid", APP, "--regid", APP, "--clear-groups"]);
        command.args([
            "stdbuf",
            "-oL",
            "curl",
            "-s",
            "--rate",
            "20/s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}\n",
            "http://10.99.0.10/load/[1-100000]",
        ]);
        let log = fs::File::create(&out).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Load { child, out }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.kill_authority();
        self.proxies.clear();
    }
}

struct Load {
    child: Child,
    out: std::path::PathBuf,
}

impl Load {
    fn statuses(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for so many more answers; all so far must be good.
    fn more(&self, answers: usize) {
        let wanted = self.statuses().len() + answers;
        until("answers under load", || {
            (self.statuses().len() >= wanted).then_some(())
        });
        let bad: Vec<_> = self
            .statuses()
            .into_iter()
            .filter(|status| status != "200")
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn clock(proxy: &Proxy) -> Value {
    proxy.admin("/certs")["workloads"][0].clone()
}

fn serial(proxy: &Proxy) -> Option<String> {
    clock(proxy)["serial"].as_str().map(str::to_owned)
}

const CALLS: &str = "listeners: [{name: out, role: mesh-outbound, bind: '0.0.0.0:15001', protocol: auto, capture: redirect}]
pools:
- {name: orders, endpoints: ['10.88.0.2:15006', '10.88.0.3:15006'], protocol: auto, mtls: {peers: ['spiffe://mesh.test/ns/shop/sa/orders'], sni: orders}, connections: {connect_timeout: 1s}}
- {name: store, protocol: tcp, endpoints: ['10.88.0.2:5432'], mtls: {peers: ['spiffe://mesh.test/ns/shop/sa/orders'], hbone: {port: 15008}}}
routes:
- {name: orders, listeners: [out], timeouts: {per_try: 1s}, retry: {attempts: 2}, rules: [{match: [{destinations: [{net: 10.99.0.10/32, ports: [80]}]}], pool: orders}]}
services:
- {name: store-service, hosts: [store], addresses: [10.99.0.20], ports: [{port: 5432, protocol: tcp, pool: store}]}
";

fn serves(policies: &str) -> String {
    format!(
        "listeners:
- {{name: in, role: mesh-inbound, bind: '0.0.0.0:15006', mtls: {{mode: strict}}}}
- {{name: tunnels, role: mesh-inbound, bind: '0.0.0.0:15008', protocol: tcp, mtls: {{hbone: true}}}}
pools:
- {{name: app, endpoints: ['127.0.0.1:8080']}}
- {{name: store, protocol: tcp, endpoints: ['127.0.0.1:5432']}}
routes:
- {{name: app, listeners: [in], rules: [{{pool: app}}]}}
- {{name: store, protocol: tcp, listeners: [tunnels], rules: [{{pool: store}}]}}
{policies}"
    )
}

const NO_ADMIN: &str = "policies:
- {name: no-admin, action: deny, to: {routes: [app]}, rules: [{when: {paths: [{prefix: /admin}]}}]}
";
const NO_STORE: &str = "policies:
- {name: no-store, action: deny, to: {routes: [store]}, rules: [{from: {principals: ['spiffe://mesh.test/ns/shop/sa/web']}}]}
";

#[test]
fn a_mesh_of_three_nodes_holds_through_everything() {
    let Some(mut mesh) = Mesh::new() else { return };
    let serving = serves(NO_ADMIN);
    mesh.start(0, CALLS);
    mesh.start(1, &serving);
    mesh.start(2, &serving);
    captures(&mesh);

    let wire = Wire::listen(&mesh);
    traffic_is_encrypted_and_named(&mesh, wire);
    policies_allow_and_deny(&mesh);
    let load = mesh.load();
    load.more(20);
    certificates_change(&mesh, &load);
    authority_is_killed(&mut mesh, &load);
    roots_change(&mesh, &load);
    drop(load);
    a_node_is_cut_off_and_comes_back(&mesh);
    a_principal_is_revoked(&mesh);
}

fn captures(mesh: &Mesh) {
    let proxy = &mesh.proxies[0];
    let (config, state) = (proxy.config(), proxy.file("capture-state"));
    let mut command = mesh.nodes[0].command(BINARY);
    command
        .args(["capture", "apply", "--user", APP, "-c"])
        .arg(config)
        .arg("--state")
        .arg(state);
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// What goes over the switch.
struct Wire {
    child: Child,
    file: std::path::PathBuf,
}

impl Wire {
    fn listen(mesh: &Mesh) -> Wire {
        let file = mesh.folder.path().join("wire");
        let mut command = mesh.switch.command("tcpdump");
        command
            .args(["-i", "br0", "-U", "-s", "0", "-w"])
            .arg(&file)
            .arg("tcp");
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("tcpdump listens", || {
            fs::metadata(&file)
                .is_ok_and(|file| file.len() > 0)
                .then_some(())
        });
        Wire { child, file }
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

fn traffic_is_encrypted_and_named(mesh: &Mesh, wire: Wire) {
    let before = wire.bytes().len();
    assert_eq!(
        mesh.curl(&[&format!("http://10.99.0.10{SECRET}")]),
        "served\n200\n"
    );

    let lines = [&mesh.proxies[1], &mesh.proxies[2]].map(|proxy| proxy.log());
    let line = lines
        .iter()
        .flatten()
        .find(|line| line["path"] == SECRET)
        .unwrap();
    assert_eq!(line["principal"], "spiffe://mesh.test/ns/shop/sa/web");
    let heard = mesh.nodes[0].run_as(
        APP,
        &[
            "timeout",
            "10",
            "bash",
            "-c",
            "exec 3<>/dev/tcp/10.99.0.20/5432; head -c 5 <&3",
        ],
    );
    assert_eq!(String::from_utf8_lossy(&heard.stdout), "HELLO");
    let seen = until("traffic on the wire", || {
        Some(wire.bytes()).filter(|bytes| bytes.len() > before + 2000)
    });
    // Records of application data in TLS (RFC 8446 section 5.1), and nothing of what is in them.
    assert!(holds(&seen, &[0x17, 0x03, 0x03]));
    for plain in [SECRET.as_bytes(), b"GET /", b"HELLO", b"served\n"] {
        assert!(
            !holds(&seen, plain),
            "{:?} was on the wire",
            String::from_utf8_lossy(plain)
        );
    }
}

fn policies_allow_and_deny(mesh: &Mesh) {
    assert_eq!(
        mesh.curl(&["-o", "/dev/null", "http://10.99.0.10/admin/users"]),
        "403\n"
    );
    assert_eq!(
        mesh.curl(&["-o", "/dev/null", "http://10.99.0.10/orders"]),
        "200\n"
    );
    let lines = [&mesh.proxies[1], &mesh.proxies[2]].map(|proxy| proxy.log());
    let denied = lines
        .iter()
        .flatten()
        .find(|line| line["path"] == "/admin/users")
        .unwrap();
    assert_eq!(denied["why"], "policy_denied");
}

/// Every node has had two more certificates.
fn certificates_change(mesh: &Mesh, load: &Load) {
    for proxy in &mesh.proxies {
        let mut seen = vec![serial(proxy)];
        until("further certificates", || {
            let now = serial(proxy);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            (seen.len() > 2).then_some(())
        });
    }
    load.more(10);
}

fn authority_is_killed(mesh: &mut Mesh, load: &Load) {
    mesh.kill_authority();
    until("a renewal that fails", || {
        let failures = clock(&mesh.proxies[0])["failures"].as_u64();
        failures.filter(|failures| *failures > 0).map(|_| ())
    });
    mesh.serve();
    until("it recovers by itself", || {
        (clock(&mesh.proxies[0])["failures"] == 0).then_some(())
    });
    load.more(10);
}

fn roots_change(mesh: &Mesh, load: &Load) {
    mesh.authority(&["rotate", "begin"]);
    until("every node trusts the new root", || {
        mesh.act(&["rotate", "switch"]).ok()
    });
    load.more(10);
    until("nothing in use chains to the old root", || {
        mesh.act(&["rotate", "finish"]).ok()
    });
    load.more(20);
}

fn a_node_is_cut_off_and_comes_back(mesh: &Mesh) {
    mesh.switch.ip("link set p3 down");
    let statuses = mesh.curl(&["-o", "/dev/null", "http://10.99.0.10/cut/[1-20]"]);
    assert_eq!(statuses, "200\n".repeat(20));
    mesh.switch.ip("link set p3 up");
    until("the node serves again", || {
        mesh.curl(&["-o", "/dev/null", "http://10.99.0.10/healed/[1-10]"]);
        let lines = mesh.proxies[2].log();
        lines
            .iter()
            .any(|line| {
                line["path"]
                    .as_str()
                    .is_some_and(|path| path.starts_with("/healed"))
            })
            .then_some(())
    });
}

fn a_principal_is_revoked(mesh: &Mesh) {
    let mut command = mesh.nodes[0].command("setpriv");
    command.args([
        "--reuid",
        APP,
        "--regid",
        APP,
        "--clear-groups",
        "bash",
        "-c",
    ]);
    command.arg("exec 3<>/dev/tcp/10.99.0.20/5432; head -c 6 <&3; cat <&3; echo ended");
    let mut open = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(open.stdout.take().unwrap()).lines();
    assert_eq!(words.next().unwrap().unwrap(), "HELLO");
    pause(Duration::from_millis(50));
    assert!(
        open.try_wait().unwrap().is_none(),
        "it was over before it was revoked"
    );

    mesh.proxies[1].reload(&format!("{}{}", mesh.identities[1], serves(NO_STORE)));
    let begin = Instant::now();
    assert_eq!(words.next().unwrap().unwrap(), "ended");

    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    open.wait().unwrap();
    let line = mesh.proxies[1].logged(|line| line["why"] == "policy_denied");
    assert_eq!(line["principal"], "spiffe://mesh.test/ns/shop/sa/web");
}
