//! `log_syslog` through the real proxy: what syslog servers of every transport receive, and what becomes of it when one goes away.
//! It must not know how messages are made; the plugin's own tests do.
//! Part of the test binary.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::thread;

use openssl::ssl::{SslAcceptor, SslMethod};
use tempfile::TempDir;

use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::{until, Authority, Pair, Proxy, Upstream, DEADLINE};

fn configuration(app: &Upstream, server: &str, more: &str) -> String {
    format!(
        "{WEB}{}{ALL_TO_APP}  plugins:\n  - {{kind: log_syslog, config: {{server: '{server}', hostname: edge{more}}}}}\n",
        pool("app", &[app])
    )
}

fn events(proxy: &Proxy, event: &str) -> f64 {
    proxy.metric(
        "windrose_plugin_events_total",
        &[&format!("event=\"{event}\"")],
    )
}

/// A server of counted messages: each connection's, as far as they are whole.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    /// One that closes its first connections after their first message.
    fn start(closes: usize, identity: Option<Pair>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let all = heard.clone();
        let acceptor = identity.map(|pair| {
            let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap();
            builder.set_certificate(&pair.cert).unwrap();
            builder.set_private_key(&pair.key).unwrap();
            builder.build()
        });
        thread::spawn(move || {
            for (at, stream) in listener.incoming().flatten().enumerate() {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let mut stream: Box<dyn Read> = match &acceptor {
                    None => Box::new(stream),
                    Some(acceptor) => match acceptor.accept(stream) {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                all.lock().unwrap().push(Vec::new());
                let mut room = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut room) {
                    let mut all = all.lock().unwrap();
                    let own = all.last_mut().unwrap();
                    own.extend_from_slice(&room[..count]);
                    if at < closes && !messages(own).is_empty() {
                        break;
                    }
                }
            }
        });
        Server { address, heard }
    }

    /// Every message, over all connections.
    fn messages(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().flat_map(|one| messages(one)).collect()
    }

    fn wait_for(&self, words: &str) -> String {
        until(words, || {
            self.messages()
                .into_iter()
                .find(|message| message.contains(words))
        })
    }
}

/// Counted messages (RFC 6587 section 3.4.1), as far as they are whole.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&bytes[..space])
            .unwrap()
            .parse()
            .unwrap();
        let rest = &bytes[space + 1..];
        if rest.len() < length {
            break;
        }
        all.push(String::from_utf8(rest[..length].to_vec()).unwrap());
        bytes = &rest[length..];
    }
    all
}

/// Holds a message to the grammar of RFC 5424 section 6.
fn is_well_formed(message: &str) -> bool {
    let grammar = r#"^<(?:[0-9]|[1-9][0-9]|1[0-8][0-9]|19[01])>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z [!-~]{1,255} [!-~]{1,48} [!-~]{1,128} [!-~]{1,32} (?:-|(?:\[[!#-<>-\\^-~]{1,32}(?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\.)*")*\])+)(?: .*)?$"#;
    regex::Regex::new(grammar).unwrap().is_match(message)
}

#[test]
fn datagrams_reach_servers_over_udp_and_a_unix_socket() {
    let app = Upstream::answering("ok");
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let to = format!("udp://{}", server.local_addr().unwrap());
    let folder = TempDir::new().unwrap();
    let log = UnixDatagram::bind(folder.path().join("log")).unwrap();
    log.set_read_timeout(Some(DEADLINE)).unwrap();
    let proxy = Proxy::start(&configuration(&app, &to, ", facility: local4"));
    let mut room = [0; 65536];

    proxy.get("/a?token=hidden");
    let length = server.recv(&mut room).unwrap();
    let text = std::str::from_utf8(&room[..length]).unwrap();
    assert!(is_well_formed(text), "{text}");
    assert!(
        text.starts_with("<166>1 ") && text.contains(" edge windrose "),
        "{text}"
    );
    assert!(
        text.contains("\"path\":\"/a\"") && !text.contains("hidden"),
        "{text}"
    );

    let socket = format!("unix://{}", folder.path().join("log").display());
    proxy.reload(&configuration(
        &app,
        &socket,
        ", format: structured, query: true",
    ));
    proxy.get("/b?q=%22%5D");
    let length = log.recv(&mut room).unwrap();
    let text = std::str::from_utf8(&room[..length]).unwrap();
    assert!(is_well_formed(text), "{text}");
    assert!(
        text.contains(" path=\"/b\"") && text.ends_with("] GET /b 200"),
        "{text}"
    );
}

#[test]
fn a_stream_that_breaks_is_made_anew_and_what_waits_survives_reloads_and_the_end() {
    let (app, server) = (Upstream::answering("ok"), Server::start(1, None));
    let to = format!("tcp://{}", server.address);
    let mut proxy = Proxy::start(&configuration(&app, &to, ""));

    proxy.get("/first");
    server.wait_for("/first");
    proxy.get("/second");
    // The first connection was closed in between.
    server.wait_for("/second");
    assert!(server.heard.lock().unwrap().len() >= 2);
    assert!(events(&proxy, "failed") >= 1.0);

    proxy.get("/before");
    proxy.reload(&configuration(&app, &to, ", format: structured"));
    server.wait_for("/before");
    proxy.get("/last");
    proxy.signal("TERM");
    proxy.wait_exit();
    server.wait_for("/last");
    assert!(server
        .messages()
        .iter()
        .all(|message| is_well_formed(message)));
}

#[test]
fn a_server_over_tls_is_verified_before_it_hears_anything() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = Upstream::answering("ok");
    let trusted = Server::start(0, Some(authority.issue(&["logs.test"])));
    let untrusted = Server::start(0, Some(stranger.issue(&["logs.test"])));
    let misnamed = Server::start(0, Some(authority.issue(&["other.test"])));
    let folder = TempDir::new().unwrap();
    authority.0.write(folder.path(), "ca");
    let yaml = |server: &Server| {
        configuration(
            &app,
            &format!("tls://{}", server.address),
            ", ca: ca.crt, server_name: logs.test",
        )
    };
    let proxy = Proxy::start_in(folder, &yaml(&untrusted));

    proxy.get("/a");
    until("it is refused", || {
        (events(&proxy, "failed") >= 1.0).then_some(())
    });
    proxy.reload(&yaml(&misnamed));
    let before = events(&proxy, "failed");
    until("the other is refused", || {
        (events(&proxy, "failed") > before).then_some(())
    });
    proxy.reload(&yaml(&trusted));

    let message = trusted.wait_for("/a");
    assert!(is_well_formed(&message), "{message}");
    assert!(untrusted.messages().is_empty() && misnamed.messages().is_empty());
}

#[test]
fn a_server_that_is_away_holds_nobody_up() {
    let app = Upstream::answering("ok");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(&configuration(&app, &format!("tcp://{gone}"), ", queue: 2"));

    let statuses: Vec<u16> = (0..10).map(|_| proxy.get("/").status).collect();

    assert_eq!(statuses, [200; 10]);
    until("they are dropped", || {
        (events(&proxy, "dropped") == 8.0).then_some(())
    });
}

#[test]
fn a_file_is_begun_anew_on_a_signal_and_no_line_is_lost() {
    let app = Upstream::answering("ok");
    let yaml = |more: &str| {
        format!(
            "{WEB}{}{ALL_TO_APP}  plugins: [{{kind: log_file, config: {{path: own.jsonl{more}}}}}]\n",
            pool("app", &[&app])
        )
    };
    let mut proxy = Proxy::start(&yaml(""));
    let count = |name: &str| {
        let text = std::fs::read_to_string(name).unwrap_or_default();
        text.lines().count()
    };
    let [own, old] =
        ["own.jsonl", "own.jsonl.1"].map(|name| proxy.file(name).display().to_string());

    (0..50).for_each(|_| drop(proxy.get("/a")));
    until("lines", || (count(&own) == 50).then_some(()));
    std::fs::rename(&own, &old).unwrap();
    proxy.signal("USR1");
    until("the new file", || {
        proxy.get("/b");
        std::path::Path::new(&own).exists().then_some(())
    });
    (0..50).for_each(|_| drop(proxy.get("/c")));
    proxy.reload(&yaml(", queue: 5000"));
    (0..50).for_each(|_| drop(proxy.get("/d")));
    let all = app.requests();
    proxy.signal("TERM");
    proxy.wait_exit();

    assert_eq!(count(&own) + count(&old), all);
}
