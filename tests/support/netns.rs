//! Network namespaces of a test's own: a node and a machine outside, joined by a cable, gone with the test.
//! It must not touch the namespace the tests run in.
//! Used by tests of rules that capture.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use openssl::ssl::{SslAcceptor, SslMethod};

use super::proxy::Proxy;
use super::tls::Authority;
use super::wait::until;

/// A network namespace.
pub(crate) struct Netns(String);

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Netns {
    /// `None` where this process may not make any.
    pub(crate) fn new() -> Option<Netns> {
        let count = COUNT.fetch_add(1, Relaxed);
        let name = format!("wrc-{}-{count}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!(
                "SKIPPED: network namespaces cannot be made here (root and iproute2 are needed)"
            );
            return None;
        }
        let space = Netns(name);
        space.ip("link set lo up");
        Some(space)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, line: &str) {
        let arguments: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
        let done = self.run(&arguments);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "ip {line}: {said}");
    }

    /// A command line in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// Runs a command in it.
    pub(crate) fn run(&self, line: &[&str]) -> Output {
        self.command(line[0]).args(&line[1..]).output().unwrap()
    }

    /// Runs a command in it as another user.
    pub(crate) fn run_as(&self, user: &str, line: &[&str]) -> Output {
        let mut command = self.command("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        command.args(line).output().unwrap()
    }

    /// The same, with a file of host names of its own.
    pub(crate) fn run_as_with_hosts(&self, user: &str, hosts: &str, line: &[&str]) -> Output {
        // `ip netns exec` has made a view of files of its own by then.
        let mut command = self.command("sh");
        command.args(["-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]);
        command.args([hosts, "setpriv", "--reuid", user, "--regid", user]);
        command.arg("--clear-groups");
        command.args(line).output().unwrap()
    }

    /// Counts connections that come to these ports from here on, answered or not.
    pub(crate) fn count(&self, ports: &[u16]) {
        let counters = ports.iter().map(|port| format!("counter p{port} {{}}\n"));
        let rules = ports.iter().map(|port| {
            format!("tcp dport {port} tcp flags & (syn | ack) == syn counter name p{port}\n")
        });
        let text = format!(
            "table inet counted {{\n{}chain come {{\ntype filter hook input priority 0;\n{}}}\n}}\n",
            counters.collect::<String>(),
            rules.collect::<String>()
        );
        let done = self.run(&["sh", "-c", "printf '%s' \"$0\" | nft -f -", &text]);
        assert!(done.status.success(), "{done:?}");
    }

    /// How many came.
    pub(crate) fn arrivals(&self, port: u16) -> u64 {
        let told = self.run(&[
            "nft",
            "list",
            "counter",
            "inet",
            "counted",
            &format!("p{port}"),
        ]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let mut words = told
            .split_ascii_whitespace()
            .skip_while(|word| *word != "packets");
        words
            .nth(1)
            .and_then(|word| word.parse().ok())
            .expect("a counter")
    }

    /// Starts a proxy in it.
    pub(crate) fn proxy(&self, yaml: &str) -> Proxy {
        self.proxy_in(tempfile::TempDir::new().unwrap(), yaml)
    }

    /// Starts a proxy in it whose folder has files already.
    pub(crate) fn proxy_in(&self, folder: tempfile::TempDir, yaml: &str) -> Proxy {
        Proxy::start_as(folder, yaml, |command| {
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let config = Path::new(arguments.last().unwrap());
            let log = fs::File::create(config.with_file_name("stderr")).unwrap();
            let mut inside = self.command(command.get_program().to_str().unwrap());
            inside.args(&arguments);
            inside
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            *command = inside;
        })
    }

    /// Starts a server in it, by what `serve` understands.
    pub(crate) fn server(&self, what: &str) -> Server {
        let test = std::env::current_exe().unwrap();
        let mut command = self.command(test.to_str().unwrap());
        command.args(["--exact", "captured::serves", "--ignored", "--nocapture"]);
        command.env("WINDROSE_TEST_SERVE", what);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Server(child.unwrap());
        for address in what.split(' ').filter_map(|one| one.split_once('=')) {
            let port = format!(":{}", address.1.rsplit(':').next().unwrap());
            until("the server listens", || {
                let sockets = self.run(&["ss", "-Hlntu"]);
                String::from_utf8_lossy(&sockets.stdout)
                    .contains(&port)
                    .then_some(())
            });
        }
        server
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// A process that serves until the test ends.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node with applications and a proxy, and a machine outside.
pub(crate) struct World {
    pub(crate) node: Netns,
    pub(crate) outside: Netns,
}

impl World {
    /// The node is 10.77.0.1 and fd77::1, the other 10.77.0.2 and fd77::2.
    pub(crate) fn new() -> Option<World> {
        let (node, outside) = (Netns::new()?, Netns::new()?);
        node.ip(&format!(
            "link add w0 type veth peer name w1 netns {}",
            outside.name()
        ));
        for (space, link, last) in [(&node, "w0", 1), (&outside, "w1", 2)] {
            space.ip(&format!("addr add 10.77.0.{last}/24 dev {link}"));
            space.ip(&format!("addr add fd77::{last}/64 dev {link} nodad"));
            space.ip(&format!("link set {link} up"));
        }
        node.ip("route add default via 10.77.0.2");
        node.ip("-6 route add default via fd77::2");
        Some(World { node, outside })
    }
}

/// Nodes on one switch, which is a machine as well.
pub(crate) struct Lan {
    pub(crate) nodes: Vec<Netns>,
    pub(crate) switch: Netns,
}

impl Lan {
    /// Nodes are 10.88.0.1 and so on, the switch 10.88.0.254.
    pub(crate) fn new(count: usize) -> Option<Lan> {
        let switch = Netns::new()?;
        switch.ip("link add br0 type bridge");
        switch.ip("addr add 10.88.0.254/24 dev br0");
        switch.ip("link set br0 up");
        let mut nodes = Vec::new();
        for at in 1..=count {
            let node = Netns::new()?;
            switch.ip(&format!(
                "link add p{at} type veth peer name eth0 netns {}",
                node.name()
            ));
            switch.ip(&format!("link set p{at} master br0"));
            switch.ip(&format!("link set p{at} up"));
            node.ip(&format!("addr add 10.88.0.{at}/24 dev eth0"));
            node.ip("link set eth0 up");
            // Where services' virtual addresses would lead, were they not captured.
            node.ip("route add default via 10.88.0.254");
            nodes.push(node);
        }
        Some(Lan { nodes, switch })
    }
}

/// Serves what is asked for until the process ends: `http=ADDRESS` answers requests, `tls=ADDRESS` does so over TLS,
/// `banner=ADDRESS` speaks first, `udp=ADDRESS` sends back what came.
pub(crate) fn serve(what: &str) {
    for (kind, address) in what.split(' ').filter_map(|one| one.split_once('=')) {
        let address: SocketAddr = address.parse().unwrap();
        match kind {
            "udp" => drop(thread::spawn(move || {
                echo(&UdpSocket::bind(address).unwrap())
            })),
            "tls" => {
                let listener = TcpListener::bind(address).unwrap();
                thread::spawn(move || accept_tls(&listener));
            }
            kind => {
                let listener = TcpListener::bind(address).unwrap();
                let speaks_first = kind == "banner";
                thread::spawn(move || accept(&listener, speaks_first));
            }
        }
    }
    loop {
        thread::park();
    }
}

fn echo(socket: &UdpSocket) {
    let mut bytes = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut bytes) {
        let _ = socket.send_to(&bytes[..length], from);
    }
}

fn accept(listener: &TcpListener, speaks_first: bool) {
    for mut stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if speaks_first {
                let _ = stream.write_all(b"HELLO\n");
            }
            answer(&mut stream);
        });
    }
}

fn accept_tls(listener: &TcpListener) {
    let pair = Authority::new().issue(&["served.test"]);
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap();
    builder.set_certificate(&pair.cert).unwrap();
    builder.set_private_key(&pair.key).unwrap();
    let acceptor = builder.build();
    for stream in listener.incoming().flatten() {
        let acceptor = acceptor.clone();
        thread::spawn(move || {
            acceptor
                .accept(stream)
                .map(|mut stream| answer(&mut stream))
        });
    }
}

fn answer(stream: &mut (impl Read + Write)) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nserved\n";
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
