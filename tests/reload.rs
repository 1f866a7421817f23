//! Changes while traffic flows: reloads, certificates, upgrades, stopping.
//! It must not know how a reload is made.
//! Part of the test binary.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{chown, PermissionsExt};
use std::os::unix::net::UnixListener;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tempfile::TempDir;

use crate::support::client::dial;
use crate::support::grpc::Client;
use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::tls::{connect, serial, Wish};
use crate::support::{
    run, until, Authority, Echo, Grpc, Load, Proxy, Upstream, WebSocket, DEADLINE,
};

/// A configuration whose only rule answers with this.
fn saying(text: &str) -> String {
    format!("{WEB}routes:\n- {{name: all, rules: [{{respond: {{status: 200, body: {text}}}}}]}}\n")
}

#[test]
fn a_reload_by_signal_changes_what_is_answered() {
    let proxy = Proxy::start(&saying("old"));
    let mut kept = proxy.connect();
    let ask = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(kept.ask(ask).text(), "old");

    let outcome = proxy.reload(&saying("new"));

    assert_eq!(outcome["ok"], true, "{outcome}");
    assert_eq!(
        kept.ask(ask).text(),
        "new",
        "on the connection that was there"
    );
    let applied = proxy.metric("windrose_config_reloads_total", &["applied"]);
    assert_eq!(applied, 1.0);
}

#[test]
fn a_reload_adds_and_removes_listeners() {
    let proxy = Proxy::start(&saying("x"));
    let web = proxy.address("web");
    let both = format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0'}}\n- {{name: more, bind: '127.0.0.1:0'}}\n{}",
        saying("x").split_once("routes").map(|(_, rest)| format!("routes{rest}")).unwrap()
    );

    proxy.reload(&both);
    let more = proxy.address("more");
    let from_more = crate::support::Conn::open(more).ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    proxy.reload(&saying("x"));

    assert_eq!(from_more.text(), "x");
    assert_eq!(proxy.address("web"), web, "its socket stayed");
    until("the port is closed", || {
        std::net::TcpStream::connect(more).is_err().then_some(())
    });
}

#[test]
fn a_broken_configuration_changes_nothing_and_is_visible() {
    let proxy = Proxy::start(&saying("old"));

    let outcome = proxy.reload("listeners: [{name: web, bnd: x}]\n");

    assert_eq!(outcome["ok"], false);
    let problems = outcome["problems"].to_string();
    assert!(
        problems.contains("bnd") && problems.contains("windrose.yaml:1:"),
        "{problems}"
    );
    assert_eq!(proxy.get("/").text(), "old");
    let ready = proxy.admin("/readyz");
    assert_eq!(
        (&ready["ready"], &ready["config_differs_from_disk"]),
        (&true.into(), &true.into())
    );
    assert_eq!(
        proxy.metric("windrose_config_reloads_total", &["rejected"]),
        1.0
    );
    assert_eq!(proxy.metric("windrose_config_differs", &[]), 1.0);
    assert!(proxy.stderr().contains("bnd"), "the log says why");
}

#[test]
fn a_test_of_the_configuration_that_fails_refuses_the_reload() {
    let proxy = Proxy::start(&saying("old"));
    let test =
        "tests:\n- {name: root is old, request: {url: 'http://a/'}, expect: {status: 418}}\n";

    let outcome = proxy.reload(&format!("{}{test}", saying("new")));

    assert_eq!(outcome["ok"], false, "{outcome}");
    assert!(
        outcome["problems"].to_string().contains("root is old"),
        "{outcome}"
    );
    assert_eq!(proxy.get("/").text(), "old");
}

#[test]
fn a_listener_that_cannot_be_bound_is_visible() {
    let proxy = Proxy::start(&saying("x"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "- {{name: more, bind: '{}'}}\n",
        taken.local_addr().unwrap()
    );

    let outcome = proxy.reload(&saying("x").replace("routes:", &format!("{more}routes:")));

    if outcome["ok"] == true {
        let ready = proxy.admin("/readyz");
        assert_eq!(ready["ready"], false, "{ready}");
    }
    assert_eq!(proxy.get("/").text(), "x", "the others go on");
}

#[test]
fn the_command_says_what_changed_and_exits_with_the_outcome() {
    let proxy = Proxy::start(&saying("old"));

    proxy.rewrite(&saying("new"));
    let applied = proxy.reload_command();
    let unchanged = proxy.reload_command();
    proxy.rewrite("listeners: 3\n");
    let refused = proxy.reload_command();

    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(applied.status.code(), Some(0), "{}", text(&applied.stderr));
    assert!(
        text(&applied.stdout).contains("all"),
        "{}",
        text(&applied.stdout)
    );
    assert!(
        text(&unchanged.stdout).contains("nothing changed"),
        "{}",
        text(&unchanged.stdout)
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("windrose.yaml:1:"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(proxy.get("/").text(), "new");
}

#[test]
fn ejections_and_balance_survive_a_reload() {
    let (bad, good) = (Upstream::statuses(&[503]), Upstream::answering("ok"));
    let config = |name: &str| {
        format!(
            "{WEB}{}  balance: {{algorithm: round_robin}}\nroutes:\n- name: {name}\n  rules:\n  - pool: app\n",
            pool("app", &[&bad, &good])
        )
    };
    let proxy = Proxy::start(&config("one"));
    for _ in 0..10 {
        proxy.get("/");
    }

    proxy.reload(&config("two"));

    let out = proxy.pool("app")["endpoints"].to_string();
    assert!(out.contains("\"ejected\":true"), "{out}");
    assert_eq!([(); 4].map(|()| proxy.get("/").status), [200; 4]);
    assert_eq!(bad.requests(), 5);
}

#[test]
fn upstream_connections_survive_a_reload() {
    let service = Upstream::answering("ok");
    let config = |name: &str| {
        format!(
            "{WEB}{}routes:\n- {{name: {name}, rules: [{{pool: app}}]}}\n",
            pool("app", &[&service])
        )
    };
    let proxy = Proxy::start(&config("one"));
    proxy.get("/");

    proxy.reload(&config("two"));
    proxy.get("/");

    assert_eq!((service.requests(), service.connections()), (2, 1));
}

#[test]
fn a_stream_whose_route_goes_away_is_drained_and_others_are_not() {
    let service = WebSocket::service();
    let base = |more: &str| {
        format!(
            "server: {{stream_drain_timeout: 1s, drain_timeout: 1s}}\n{WEB}{}routes:\n- {{name: stays, hosts: [test], rules: [{{match: [{{path: {{prefix: /stays}}}}], pool: app}}]}}\n{more}",
            pool("app", &[&service])
        )
    };
    let proxy = Proxy::start(&base(
        "- {name: goes, hosts: [test], rules: [{match: [{path: {prefix: /goes}}], pool: app}]}\n",
    ));
    let mut stays = WebSocket::open(proxy.address("web"), "/stays");
    let mut goes = WebSocket::open(proxy.address("web"), "/goes");

    proxy.reload(&base(""));

    assert!(goes.ends());
    assert_eq!(stays.talk("still"), Some("still".into()));
    let line = proxy.logged(|line| line["route"] == "goes");
    assert_eq!(line["why"], "drained");
}

#[tokio::test]
async fn a_silent_stream_of_http2_whose_route_goes_away_is_drained_alone() {
    let service = Grpc::start();
    let base = |more: &str| {
        format!(
            "server: {{stream_drain_timeout: 1s, drain_timeout: 1s}}\n{WEB}pools: [{{name: app, protocol: http2, endpoints: ['{}']}}]\nroutes:\n- {{name: stays, hosts: [test], rules: [{{match: [{{path: {{prefix: /stays}}}}], pool: app}}]}}\n{more}",
            service.address
        )
    };
    let proxy = Proxy::start(&base(
        "- {name: goes, hosts: [test], rules: [{match: [{path: {prefix: /goes}}], pool: app}]}\n",
    ));
    let client = Client::connect(proxy.address("web")).await;
    let (mut stays, mut stays_body) = stream(&client, "/stays/bidi").await;
    let (_goes, mut goes_body) = stream(&client, "/goes/bidi").await;

    proxy.reload(&base(""));
    let ended = tokio::time::timeout(DEADLINE, goes_body.data()).await;

    let reason = ended.expect("it ends").expect("not in order").unwrap_err();
    assert!(reason.is_reset(), "{reason}");
    stays.send_data("still".into(), false).unwrap();
    assert_eq!(stays_body.data().await.unwrap().unwrap(), "still");
    let line = proxy.logged(|line| line["route"] == "goes");
    assert_eq!(
        (&line["why"], &line["status"]),
        (&"drained".into(), &200.into())
    );
    let open = proxy.metric("windrose_streams_open", &["goes"]);
    assert_eq!(open, 0.0);
}

/// A stream on which nothing has been said but the headers.
async fn stream(client: &Client, path: &str) -> (SendStream<Bytes>, RecvStream) {
    let call = http::Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (reply, sending) = client.open(call).await.unwrap();
    (sending, reply.await.unwrap().into_body())
}

#[test]
fn renewed_certificates_are_served_without_a_reload() {
    let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
    let (old, new) = (authority.issue(&["a.test"]), authority.issue(&["a.test"]));
    old.write(folder.path(), "a");
    let path = folder.path().to_owned();
    let proxy = Proxy::start_in(
        folder,
        "listeners:\n- {name: web, bind: '127.0.0.1:0', tls: {certificates: [{cert: a.crt, key: a.key}]}}\nroutes: []\n",
    );
    let address = proxy.address("web");
    let shown = || {
        let wish = Wish {
            sni: Some("a.test"),
            ..Wish::default()
        };
        let conn = connect(address, &wish).expect("shakes hands");
        serial(&conn.stream.ssl().peer_certificate().unwrap())
    };
    assert_eq!(shown(), old.serial());

    new.write(&path, "a");

    until("the new one is served", || {
        (shown() == new.serial()).then_some(())
    });
}

#[test]
fn a_broken_certificate_file_keeps_the_old_one() {
    let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
    let old = authority.issue(&["a.test"]);
    old.write(folder.path(), "a");
    let proxy = Proxy::start_in(
        folder,
        "listeners:\n- {name: web, bind: '127.0.0.1:0', tls: {certificates: [{cert: a.crt, key: a.key}]}}\nroutes: []\n",
    );

    fs::write(proxy.file("a.crt"), "nonsense").unwrap();

    until("the problem is shown", || {
        let view = proxy.admin("/listeners")["listeners"][0]["certificate_problems"].clone();
        view.is_array().then_some(())
    });
    let conn = connect(proxy.address("web"), &Wish::default()).unwrap();
    let shown = serial(&conn.stream.ssl().peer_certificate().unwrap());
    assert_eq!(shown, old.serial());
}

/// Services for every kind of traffic.
struct Services {
    web: Upstream,
    socket: Upstream,
    echo: Echo,
    grpc: Grpc,
}

impl Services {
    fn start() -> Services {
        Services {
            web: Upstream::answering("ok"),
            socket: WebSocket::service(),
            echo: Echo::start(),
            grpc: Grpc::start(),
        }
    }

    /// A configuration for all of them; `number` makes each one another.
    fn config(&self, number: usize) -> String {
        let (web, socket, echo, grpc) = (
            self.web.address,
            self.socket.address,
            self.echo.address,
            self.grpc.address,
        );
        format!(
            "listeners:\n- {{name: web, bind: '127.0.0.1:0'}}\n- {{name: raw, bind: '127.0.0.1:0', protocol: tcp}}\n\
             pools:\n- {{name: web, endpoints: ['{web}']}}\n- {{name: ws, endpoints: ['{socket}']}}\n- {{name: raw, protocol: tcp, endpoints: ['{echo}']}}\n- {{name: grpc, protocol: http2, endpoints: ['{grpc}']}}\n\
             routes:\n- name: raw\n  protocol: tcp\n  listeners: [raw]\n  rules: [{{pool: raw}}]\n\
             - name: all\n  rules:\n  - {{match: [{{path: {{prefix: /ws}}}}], pool: ws}}\n  - {{match: [{{path: {{prefix: /demo.Echo}}}}], pool: grpc}}\n  - {{pool: web, response_headers: {{set: {{x-number: '{number}'}}}}}}\n\
             - name: extra-{number}\n  hosts: [extra-{number}.test]\n  rules: [{{pool: web}}]\n"
        )
    }

    fn load(proxy: &Proxy) -> Load {
        let (web, raw) = (proxy.address("web"), proxy.address("raw"));
        Load::default()
            .http(web)
            .http(web)
            .new_connections(web)
            .websocket(web)
            .tcp(raw)
            .grpc(web)
    }
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request_and_cut_no_stream() {
    let services = Services::start();
    let proxy = Proxy::start(&services.config(0));
    let load = Services::load(&proxy);
    load.runs(50);

    for number in 1..=100 {
        let outcome = proxy.reload(&services.config(number));
        assert_eq!(outcome["ok"], true, "{outcome}");
    }
    load.runs(50);
    let outcome = load.finish();

    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.done > 500, "{outcome:?}");
    assert_eq!(outcome.reopened, 0, "{outcome:?}");
    assert_eq!(proxy.get("/").header("x-number"), Some("100"));
    assert_eq!(proxy.admin("/readyz")["generation"], 101);
}

#[test]
fn an_upgrade_under_load_fails_no_request() {
    let services = Services::start();
    let mut proxy = Proxy::start(&services.config(0));
    let (web, old) = (proxy.address("web"), proxy.pid());
    let load = Load::default()
        .http(web)
        .new_connections(web)
        .new_connections(web);
    load.runs(50);

    proxy.signal("USR2");
    until("another process took over", || {
        let pid = fs::read_to_string(proxy.file("pid")).ok()?;
        (pid.trim() != old.to_string()).then_some(())
    });
    proxy.wait_exit();
    load.runs(50);
    let outcome = load.finish();

    assert_eq!(outcome.failures, Vec::<String>::new(), "{}", proxy.stderr());
    assert_eq!(proxy.address("web"), web);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn an_upgrade_by_command_leaves_streams_with_the_old_process() {
    let services = Services::start();
    let mut proxy = Proxy::start(&services.config(0));
    let load = Load::default()
        .websocket(proxy.address("web"))
        .tcp(proxy.address("raw"))
        .grpc(proxy.address("web"));
    load.runs(50);

    let done = run(&["upgrade", "-c", proxy.config().to_str().unwrap()]);
    load.runs(50);
    let outcome = load.finish();
    proxy.wait_exit();

    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn an_upgrade_to_a_broken_configuration_leaves_the_old_process_serving() {
    let mut proxy = Proxy::start(&saying("old"));
    proxy.rewrite("listeners: 3\n");

    proxy.signal("USR2");

    until("the log says why", || {
        proxy.stderr().contains("windrose.yaml:1:").then_some(())
    });
    assert_eq!(proxy.get("/").text(), "old");
    assert!(proxy.is_running());
}

#[test]
fn an_upgrade_whose_socket_is_not_ours_to_make_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("taken");
    std::fs::create_dir(&socket).unwrap();
    let yaml = format!(
        "server: {{upgrade_socket: '{}'}}\n{}",
        socket.display(),
        saying("old")
    );
    let mut proxy = Proxy::start(&yaml);

    proxy.signal("USR2");

    until("the log says why", || {
        proxy.stderr().contains("cannot be removed").then_some(())
    });
    assert_eq!(proxy.get("/").text(), "old");
    assert!(proxy.is_running());
}

#[test]
fn an_upgrade_through_a_folder_open_to_all_is_refused() {
    let folder = TempDir::new().unwrap();
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let yaml = format!(
        "server: {{upgrade_socket: FOLDER/open/s}}\n{}",
        saying("old")
    );
    let mut proxy = Proxy::start_in(folder, &yaml);

    proxy.signal("USR2");

    until("the log says why", || {
        let told = "can be written to by others";
        proxy.stderr().contains(told).then_some(())
    });
    assert_eq!(proxy.get("/").text(), "old");
    assert!(proxy.is_running());
}

#[test]
fn quit_without_a_process_that_waits_changes_nothing() {
    let mut proxy = Proxy::start(&saying("old"));

    proxy.signal("QUIT");

    until("the log says why", || {
        proxy.stderr().contains("no process waits").then_some(())
    });
    assert_eq!(proxy.get("/").text(), "old");
    assert!(proxy.is_running());
}

#[test]
fn quit_hands_nothing_to_another_user() {
    let mut proxy = Proxy::start(&saying("old"));
    let socket = proxy.file("upgrade.sock");
    let thief = UnixListener::bind(&socket).unwrap();
    thief.set_nonblocking(true).unwrap();
    // Only root can give a file away.
    if chown(&socket, Some(65534), None).is_err() {
        return;
    }

    proxy.signal("QUIT");

    until("the log says why", || {
        let told = "not a socket of our own user";
        proxy.stderr().contains(told).then_some(())
    });
    assert!(thief.accept().is_err(), "nobody connected");
    assert_eq!(proxy.get("/").text(), "old");
    assert!(proxy.is_running());
}

#[test]
fn an_edit_that_nobody_reloaded_is_visible() {
    let proxy = Proxy::start(&saying("old"));

    proxy.rewrite(&saying("new"));

    until("the difference is seen", || {
        (proxy.admin("/readyz")["config_differs_from_disk"] == true).then_some(())
    });
    assert_eq!(proxy.metric("windrose_config_differs", &[]), 1.0);
    assert_eq!(proxy.get("/").text(), "old");
}

#[test]
fn a_stop_lets_requests_finish_and_takes_no_more() {
    let (tell, told) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let service = Upstream::with(move |_, stream| {
        tell.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        crate::support::upstream::answer(stream, 200, &[], b"finished")
    });
    let mut proxy = Proxy::to(&[&service]);
    let web = proxy.address("web");
    let mut conn = proxy.connect();
    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    told.recv().unwrap();

    proxy.signal("TERM");
    until("the port is closed", || {
        std::net::TcpStream::connect(web).is_err().then_some(())
    });
    release.send(()).unwrap();
    let reply = conn.reply().unwrap();
    let status = proxy.wait_exit();

    assert_eq!(reply.text(), "finished");
    assert!(conn.ends());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_stop_cuts_what_outlasts_the_drain_time() {
    let silent = Upstream::silent();
    let mut proxy = Proxy::start(&format!(
        "server: {{drain_timeout: 300ms, stream_drain_timeout: 300ms}}\n{WEB}{}{ALL_TO_APP}",
        pool("app", &[&silent])
    ));
    let mut conn = proxy.connect();
    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    until("it is under way", || (silent.requests() == 1).then_some(()));

    proxy.signal("TERM");
    proxy.wait_exit();

    assert!(conn.ends());
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let silent = Upstream::silent();
    let mut proxy = Proxy::to(&[&silent]);
    let mut conn = proxy.connect();
    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    until("it is under way", || (silent.requests() == 1).then_some(()));

    proxy.signal("INT");
    until("it says so", || {
        proxy.stderr().contains("stopping").then_some(())
    });
    proxy.signal("INT");

    assert_eq!(proxy.wait_exit().code(), Some(130));
}

#[test]
fn a_byte_stream_survives_reloads() {
    let echo = Echo::start();
    let config = |name: &str| {
        format!("listeners:\n- {{name: raw, bind: '127.0.0.1:0', protocol: tcp}}\npools:\n- {{name: {name}, endpoints: ['127.0.0.1:9']}}\n- {{name: raw, protocol: tcp, endpoints: ['{}']}}\nroutes:\n- {{name: raw, protocol: tcp, rules: [{{pool: raw}}]}}\n", echo.address)
    };
    let proxy = Proxy::start(&config("a"));
    let mut stream = dial(proxy.address("raw"));
    stream.write_all(b"before").unwrap();

    proxy.reload(&config("b"));
    stream.write_all(b" after").unwrap();
    let mut back = [0; 12];
    stream.read_exact(&mut back).unwrap();

    assert_eq!(&back, b"before after");
}
