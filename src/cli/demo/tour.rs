//! The page the demo shows: what is where, and commands to copy.
//! It must not know how the commands' outcome is checked; `check` does that for every act.
//! Called by `demo` once everything is ready.

use super::Stage;

/// One thing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Hosts,
    Canary,
    Testers,
    Redirect,
    Why,
    Password,
    Limit,
    Mesh,
    Ejection,
    Reload,
    Metrics,
    Grpc,
    WebSocket,
    Tcp,
}

impl Act {
    /// In the order shown. Ejection and reload change what later requests meet.
    pub(super) const ALL: [Act; 14] = [
        Act::Hosts,
        Act::Canary,
        Act::Testers,
        Act::Redirect,
        Act::Why,
        Act::Password,
        Act::Limit,
        Act::Mesh,
        Act::Ejection,
        Act::Reload,
        Act::Metrics,
        Act::Grpc,
        Act::WebSocket,
        Act::Tcp,
    ];

    /// What is shown, in a line.
    pub(super) fn title(self) -> &'static str {
        match self {
            Act::Hosts => "A host and its service",
            Act::Canary => "A canary: of 200 requests about 20 see version 2",
            Act::Testers => "Testers choose version 2 with a header",
            Act::Redirect => "Old addresses move, the rest of the path is kept",
            Act::Why => "An answer of the proxy's own says why",
            Act::Password => "A password, checked at the edge: 401 without, 200 with",
            Act::Limit => "A rate limit per user: the sixth request within 10 s is refused",
            Act::Mesh => "Through the mesh: edge, node a, node b; by host; by a port of its own",
            Act::Ejection => "A failing endpoint is ejected: three 503, then none",
            Act::Reload => "Another split without a restart: all to version 2",
            Act::Metrics => "Metrics",
            Act::Grpc => "gRPC: headers, the message, and the status in the trailers",
            Act::WebSocket => "WebSocket",
            Act::Tcp => "Plain TCP",
        }
    }

    /// The commands, each a line for a shell.
    fn commands(self, stage: &Stage<'_>) -> Vec<String> {
        let ports = stage.ports;
        let shop = format!("http://shop.localhost:{}", ports.web);
        let api = format!("http://api.localhost:{}", ports.web);
        let admin = format!("http://127.0.0.1:{}", ports.edge_admin);
        match self {
            Act::Hosts => vec![format!("curl {shop}/")],
            Act::Canary => vec![format!(
                "for i in $(seq 200); do curl -s {shop}/; done | grep -o '\"version\":\"v.\"' | sort | uniq -c"
            )],
            Act::Testers => vec![format!("curl -H 'x-canary: always' {shop}/")],
            Act::Redirect => vec![format!("curl -i {shop}/old/shoes?size=42")],
            Act::Why => vec![format!("curl -i http://nobody.localhost:{}/", ports.web)],
            Act::Password => vec![
                format!("curl -i {api}/orders/7"),
                format!("curl -u ann:windrose {api}/orders/7"),
            ],
            Act::Limit => vec![format!(
                "for i in $(seq 8); do curl -s -o /dev/null -w '%{{http_code}} ' -u ann:windrose {api}/; done; echo"
            )],
            Act::Mesh => vec![
                format!("curl {shop}/orders/7"),
                format!("curl -H 'host: orders.mesh' http://127.0.0.1:{}/7", ports.a_out),
                format!("curl http://127.0.0.1:{}/7", ports.a_billing),
            ],
            Act::Ejection => vec![format!(
                "for i in $(seq 20); do curl -s -o /dev/null -w '%{{http_code}} ' {shop}/flaky; done; echo; curl -s {admin}/pools | grep -B4 -A4 'ejected after'"
            )],
            Act::Reload => reload(stage),
            Act::Metrics => vec![format!("curl -s {admin}/metrics | grep 'requests_total.*\"shop\"'")],
            Act::Grpc => vec![format!(
                "printf '\\0\\0\\0\\0\\5hello' | curl -s --http2-prior-knowledge -D - -o - -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- http://grpc.localhost:{}/demo.Echo/Say",
                ports.web
            )],
            Act::WebSocket => vec![format!(
                "{{ printf '{HANDSHAKE}'; sleep 1; printf '\\201\\205\\0\\0\\0\\0hello'; sleep 1; }} | curl -s --max-time 3 telnet://127.0.0.1:{}",
                ports.web
            )],
            Act::Tcp => vec![format!(
                "echo hello | curl -s --max-time 2 telnet://127.0.0.1:{}",
                ports.tcp
            )],
        }
    }
}

fn reload(stage: &Stage<'_>) -> Vec<String> {
    let Some(edge) = stage.proxies.named("edge") else {
        return Vec::new();
    };
    let file = edge.config.display();
    vec![
        format!("sed -i 's/weight: 90/weight: 0/' {file}"),
        format!(
            "{} reload -c {file}     # or: kill -HUP {}",
            program(),
            edge.pid()
        ),
    ]
}

fn program() -> String {
    let path = std::env::current_exe();
    path.map_or("windrose".into(), |path| path.display().to_string())
}

/// The whole page.
pub(super) fn page(stage: &Stage<'_>) -> String {
    let ports = stage.ports;
    let mut page = format!(
        "
Windrose demo. Everything runs on this machine and is gone when you press Ctrl-C.

  clients -> edge -> shop v1 (two, and one that always fails), shop v2
                  -> node a -> node b -> orders, billing

  edge     http://shop.localhost:{web}  http://api.localhost:{web}  tcp 127.0.0.1:{tcp}
  node a   by host: 127.0.0.1:{a_out}   a port each: orders 127.0.0.1:{a_orders}, billing 127.0.0.1:{a_billing}
  admin    edge http://127.0.0.1:{edge}/   node a http://127.0.0.1:{a}/   node b http://127.0.0.1:{b}/
  files    {folder}/
",
        web = ports.web,
        tcp = ports.tcp,
        a_out = ports.a_out,
        a_orders = ports.a_orders,
        a_billing = ports.a_billing,
        edge = ports.edge_admin,
        a = ports.a_admin,
        b = ports.b_admin,
        folder = stage.folder.display(),
    );
    for (at, act) in Act::ALL.into_iter().enumerate() {
        if at == MAIN {
            page.push_str("\nAnd:\n");
        }
        let number = match at < MAIN {
            true => format!("{:>2}.", at + 1),
            false => "  *".into(),
        };
        page.push_str(&format!("\n{number} {}\n", act.title()));
        for command in act.commands(stage) {
            page.push_str(&format!("    {command}\n"));
        }
    }
    if let Some(edge) = stage.proxies.named("edge") {
        let log = edge.log.display();
        page.push_str(&format!("\nOne line for each request: tail -f {log}\n"));
    }
    page
}

/// A client's first message, as `printf` takes it.
const HANDSHAKE: &str = r"GET / HTTP/1.1\r\nHost: chat.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The numbered acts; the rest is for the curious.
const MAIN: usize = 10;
