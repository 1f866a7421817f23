//! Reloads on probation: confirmed, forgotten, taken back by hand, and rolled back because requests went worse.
//! It must not know how a configuration comes back.
//! Part of the test binary.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use crate::support::proxy::{pool, ALL_TO_APP, BINARY, WEB};
use crate::support::{run, until, Proxy, Upstream, WebSocket};

/// A configuration whose only rule answers with this.
fn saying(text: &str) -> String {
    format!("{WEB}routes:\n- {{name: all, rules: [{{respond: {{status: 200, body: {text}}}}}]}}\n")
}

/// Runs a command for a proxy to its end, with nothing to read.
fn command(proxy: &Proxy, arguments: &[&str]) -> Output {
    let config = proxy.config();
    run(&[arguments, &["-c", config.to_str().unwrap()]].concat())
}

/// Begins a command for a proxy, with an input that stays open.
fn begin(proxy: &Proxy, arguments: &[&str]) -> Child {
    let begun = Command::new(BINARY)
        .args(arguments)
        .arg("-c")
        .arg(proxy.config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    begun.expect("the binary starts")
}

/// Puts a configuration on probation and leaves it alone.
fn try_out(proxy: &Proxy, yaml: &str, time: &str) {
    proxy.rewrite(yaml);
    let done = command(proxy, &["reload", "--confirm", time, "--detach"]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
}

fn wait_for_end(proxy: &Proxy) -> serde_json::Value {
    until("the probation is over", || {
        let view = proxy.admin("/probation");
        view["on_probation"].is_null().then(|| view["last"].clone())
    })
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_configuration_that_nobody_confirms_goes_back_by_itself() {
    let proxy = Proxy::start(&saying("old"));
    proxy.rewrite(&saying("new"));

    let mut command = begin(&proxy, &["reload", "--confirm", "2s"]);
    until("it is live", || {
        (proxy.get("/").text() == "new").then_some(())
    });
    let shown = proxy.admin("/config?format=json")["probation"]["generation"].clone();
    let status = until("the command ends", || command.try_wait().unwrap());
    let told = command.wait_with_output().unwrap();

    assert_eq!(shown, 2);
    assert_eq!(status.code(), Some(1));
    assert!(out(&told).contains("windrose confirm"), "{}", out(&told));
    assert!(
        err(&told).contains("not confirmed within 2 s"),
        "{}",
        err(&told)
    );
    assert_eq!(proxy.get("/").text(), "old");
    let ready = proxy.admin("/readyz");
    assert_eq!(
        (&ready["generation"], &ready["config_differs_from_disk"]),
        (&3.into(), &true.into())
    );
    let because = ready["config_differs_because"].to_string();
    assert!(because.contains("rolled back"), "{because}");
    let counted = proxy.metric(
        "windrose_config_probations_total",
        &["rolled_back_unconfirmed"],
    );
    assert_eq!(counted, 1.0);
    assert_eq!(proxy.metric("windrose_config_probation", &[]), 0.0);
    assert!(proxy.stderr().contains("configuration rolled back"));
}

#[test]
fn a_confirmed_configuration_stays() {
    let proxy = Proxy::start(&saying("old"));
    proxy.rewrite(&saying("new"));
    let mut waiting = begin(&proxy, &["reload", "--confirm", "10m"]);
    until("it is live", || {
        (proxy.get("/").text() == "new").then_some(())
    });
    until("it is on probation", || {
        (proxy.metric("windrose_config_probation", &[]) == 1.0).then_some(())
    });

    let field = "content-length: 0\r\nx-windrose-admin: reload\r\n";
    let another = proxy.ask_admin("POST", "/confirm?generation=7", field);
    let confirmed = command(&proxy, &["confirm"]);
    let again = command(&proxy, &["confirm"]);
    let status = until("the command ends", || waiting.try_wait().unwrap());

    assert_eq!(another.unwrap().status, 409, "that is not on probation");
    assert_eq!(confirmed.status.code(), Some(0), "{}", err(&confirmed));
    assert!(out(&confirmed).contains("generation 2 confirmed"));
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("no configuration is on probation"));
    assert_eq!(status.code(), Some(0));
    assert_eq!(proxy.get("/").text(), "new");
    assert_eq!(proxy.admin("/readyz")["config_differs_from_disk"], false);
    let counted = proxy.metric("windrose_config_probations_total", &["confirmed"]);
    assert_eq!(counted, 1.0);
}

#[test]
fn enter_at_the_waiting_command_confirms() {
    let proxy = Proxy::start(&saying("old"));
    proxy.rewrite(&saying("new"));

    let arguments = ["reload", "--confirm", "10m", "--confirm-by-line"];
    let mut command = begin(&proxy, &arguments);
    command.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let told = command.wait_with_output().unwrap();

    assert_eq!(told.status.code(), Some(0), "{}", err(&told));
    assert!(
        out(&told).contains("generation 2 confirmed"),
        "{}",
        out(&told)
    );
    assert_eq!(proxy.get("/").text(), "new");
}

#[test]
fn a_line_of_a_script_confirms_nothing() {
    let proxy = Proxy::start(&saying("old"));
    proxy.rewrite(&saying("new"));

    let mut command = begin(&proxy, &["reload", "--confirm", "2s"]);
    command.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let told = command.wait_with_output().unwrap();

    assert_eq!(told.status.code(), Some(1), "{}", out(&told));
    assert!(err(&told).contains("not confirmed"), "{}", err(&told));
    assert!(!out(&told).contains("Enter"), "{}", out(&told));
    assert_eq!(proxy.get("/").text(), "old");
}

#[test]
fn a_configuration_that_makes_requests_fail_goes_back_with_the_reason() {
    let (live, dead) = (Upstream::answering("ok"), Upstream::refusing());
    let config = |to: &Upstream| format!("{WEB}{}{ALL_TO_APP}", pool("app", &[to]));
    let proxy = Proxy::start(&config(&live));
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    proxy.rewrite(&config(&dead));

    let mut command = begin(&proxy, &["reload", "--confirm", "10m"]);
    let status = until("it goes back under load", || {
        proxy.get("/");
        command.try_wait().unwrap()
    });
    let told = err(&command.wait_with_output().unwrap());

    assert_eq!(status.code(), Some(1));
    assert!(told.contains("5xx went from 0.0 % to "), "{told}");
    assert!(
        told.contains("connect_refused") || told.contains("no_healthy"),
        "{told}"
    );
    assert_eq!(proxy.get("/").text(), "ok");
    let counted = proxy.metric("windrose_config_probations_total", &["rolled_back_worse"]);
    assert_eq!(counted, 1.0);
    let reloads = proxy.admin("/status")["reloads"].clone();
    assert_eq!(reloads[0]["ok"], false);
    assert!(
        reloads[0]["outcome"].to_string().contains("5xx went"),
        "{reloads}"
    );
}

#[test]
fn trying_again_after_a_roll_back_is_measured_against_the_minutes_before_the_first() {
    let (live, dead) = (Upstream::answering("ok"), Upstream::refusing());
    let config = |to: &Upstream| format!("{WEB}{}{ALL_TO_APP}", pool("app", &[to]));
    let proxy = Proxy::start(&config(&live));
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 200);
    }
    proxy.rewrite(&config(&dead));
    let go_back = || {
        let mut command = begin(&proxy, &["reload", "--confirm", "10m"]);
        until("it goes back under load", || {
            proxy.get("/");
            command.try_wait().unwrap()
        });
        err(&command.wait_with_output().unwrap())
    };

    let first = go_back();
    let second = go_back();

    assert!(first.contains("5xx went from 0.0 % to "), "{first}");
    assert!(second.contains("5xx went from 0.0 % to "), "{second}");
}

#[test]
fn a_comment_on_probation_is_told_as_a_change_of_the_text() {
    let proxy = Proxy::start(&saying("old"));
    proxy.rewrite(&format!("# a word\n{}", saying("old")));

    let told = command(&proxy, &["reload", "--confirm", "10m", "--detach"]);

    assert_eq!(told.status.code(), Some(0), "{}", err(&told));
    assert!(out(&told).contains("no object changed, the text did"));
    assert!(!out(&told).contains("nothing changed"), "{}", out(&told));
    assert!(out(&told).contains("generation 2 is live on probation"));
}

/// One route of this name to a service of streams.
fn streaming(name: &str, service: &Upstream) -> String {
    format!(
        "server: {{stream_drain_timeout: 1s, drain_timeout: 1s}}\n{WEB}{}routes:\n- {{name: {name}, hosts: [test], rules: [{{pool: app}}]}}\n",
        pool("app", &[service])
    )
}

#[test]
fn streams_of_what_comes_back_are_not_cut_and_those_of_what_goes_are() {
    let service = WebSocket::service();
    let config = |name: &str| streaming(name, &service);
    let proxy = Proxy::start(&config("before"));
    let mut before = WebSocket::open(proxy.address("web"), "/");

    try_out(&proxy, &config("tried"), "10m");
    let mut tried = WebSocket::open(proxy.address("web"), "/");
    let during = before.talk("during");
    let back = command(&proxy, &["reload", "--rollback"]);

    assert_eq!(back.status.code(), Some(0), "{}", err(&back));
    assert!(tried.ends(), "its route is gone");
    assert_eq!(during, Some("during".into()));
    assert_eq!(before.talk("after"), Some("after".into()));
    let counted = proxy.metric("windrose_streams_open", &["before"]);
    assert_eq!(counted, 1.0, "its series stayed");
}

#[test]
fn streams_of_what_was_replaced_are_drained_once_that_is_confirmed() {
    let service = WebSocket::service();
    let config = |name: &str| streaming(name, &service);
    let proxy = Proxy::start(&config("before"));
    let mut before = WebSocket::open(proxy.address("web"), "/");
    try_out(&proxy, &config("tried"), "10m");

    command(&proxy, &["confirm"]);

    assert!(before.ends());
}

#[test]
fn a_listener_that_was_taken_away_comes_back_at_its_port_with_its_connections() {
    let proxy = Proxy::start(&format!(
        "listeners:\n- {{name: more, bind: '127.0.0.1:0'}}\n{}",
        saying("old").replace("listeners:\n", "")
    ));
    let more = proxy.address("more");
    let mut kept = crate::support::Conn::open(more);
    let ask = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    kept.ask(ask);

    try_out(&proxy, &saying("new"), "10m");
    let mut turned_away = crate::support::Conn::open(more);
    let gone = turned_away.ends();
    let back = command(&proxy, &["rollback"]);

    assert!(gone, "on probation nothing is served there");
    assert_eq!(back.status.code(), Some(0), "{}", err(&back));
    assert_eq!(proxy.address("more"), more);
    assert_eq!(
        kept.ask(ask).text(),
        "old",
        "on the connection that was there"
    );
    let mut fresh = crate::support::Conn::open(more);
    assert_eq!(fresh.ask(ask).text(), "old");
}

#[test]
fn a_listener_that_moved_is_back_at_its_old_address() {
    let at = |file: &str| saying(file).replace("127.0.0.1:0", &format!("unix:FOLDER/{file}"));
    let proxy = Proxy::start(&at("old"));
    let says = |file: &str| {
        let stream = std::os::unix::net::UnixStream::connect(proxy.file(file)).ok()?;
        let mut conn = crate::support::Conn::new(stream);
        Some(conn.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").text())
    };

    try_out(&proxy, &at("new"), "10m");
    let during = says("new");
    let back = command(&proxy, &["rollback"]);

    assert_eq!(during.as_deref(), Some("new"));
    assert_eq!(back.status.code(), Some(0), "{}", err(&back));
    assert_eq!(says("old").as_deref(), Some("old"));
    until("the other address is closed", || {
        says("new").is_none().then_some(())
    });
}

#[test]
fn a_plain_reload_neither_confirms_nor_ends_a_probation() {
    let proxy = Proxy::start(&saying("old"));
    try_out(&proxy, &saying("new"), "10m");

    let by_signal = proxy.reload(&saying("newer"));
    let by_command = proxy.reload_command();

    assert_eq!(by_signal["ok"], false, "{by_signal}");
    assert_eq!(by_command.status.code(), Some(1));
    assert!(err(&by_command).contains("generation 2 is on probation"));
    assert_eq!(proxy.get("/").text(), "new");
    assert_eq!(proxy.admin("/readyz")["probation"]["generation"], 2);
}

#[test]
fn another_probation_takes_the_place_of_the_first_and_goes_back_to_the_same() {
    let proxy = Proxy::start(&saying("old"));
    try_out(&proxy, &saying("new"), "10m");

    try_out(&proxy, &saying("newer"), "10m");
    let during = proxy.get("/").text();
    let last = proxy.admin("/probation")["last"].clone();
    let back = command(&proxy, &["rollback"]);

    assert_eq!(during, "newer");
    assert_eq!(
        (&last["generation"], &last["confirmed"]),
        (&2.into(), &false.into())
    );
    assert_eq!(back.status.code(), Some(0), "{}", err(&back));
    assert_eq!(proxy.get("/").text(), "old");
}

#[test]
fn trying_out_what_runs_or_what_is_broken_begins_no_probation() {
    let proxy = Proxy::start(&saying("old"));

    let same = command(&proxy, &["reload", "--confirm", "10m"]);
    proxy.rewrite("listeners: 3\n");
    let broken = command(&proxy, &["reload", "--confirm", "10m"]);

    assert_eq!(same.status.code(), Some(0), "{}", err(&same));
    assert!(out(&same).contains("nothing changed"), "{}", out(&same));
    assert_eq!(broken.status.code(), Some(1));
    assert!(
        err(&broken).contains("windrose.yaml:1:"),
        "{}",
        err(&broken)
    );
    assert!(proxy.admin("/probation")["on_probation"].is_null());
}

#[test]
fn no_upgrade_reads_what_is_on_probation_and_a_stop_says_what_comes_next() {
    let mut proxy = Proxy::start(&saying("old"));
    try_out(&proxy, &saying("new"), "10m");

    proxy.signal("USR2");
    until("the upgrade is refused", || {
        proxy.stderr().contains("upgrade refused").then_some(())
    });
    let by_command = command(&proxy, &["upgrade"]);
    let answer = proxy.get("/").text();
    proxy.signal("TERM");
    let status = proxy.wait_exit();

    assert_eq!(by_command.status.code(), Some(1));
    assert!(
        err(&by_command).contains("is on probation"),
        "{}",
        err(&by_command)
    );
    assert_eq!(answer, "new");
    assert_eq!(status.code(), Some(0));
    assert!(
        proxy.stderr().contains("never confirmed"),
        "{}",
        proxy.stderr()
    );
}

#[test]
fn nothing_goes_on_probation_while_a_new_process_takes_over() {
    let mut proxy = Proxy::start(&saying("old"));
    let old = proxy.pid();

    proxy.signal("USR2");
    until("the new process is being started", || {
        has_child(&old.to_string()).then_some(())
    });
    let tried = command(&proxy, &["reload", "--confirm", "10m", "--detach"]);
    proxy.wait_exit();

    assert_eq!(tried.status.code(), Some(1), "{}", out(&tried));
    let words = "went to a new process";
    assert!(err(&tried).contains(words), "{}", err(&tried));
    assert!(!proxy.stderr().contains("configuration on probation"));
    assert_eq!(proxy.get("/").text(), "old");
}

/// Whether a process started another (proc(5): the parent is the second field after the name).
fn has_child(parent: &str) -> bool {
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    let mut all = folders.filter_map(|one| std::fs::read_to_string(one.path().join("stat")).ok());
    all.any(|stat| {
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        after_name.split(' ').nth(1) == Some(parent)
    })
}

#[test]
fn after_a_roll_back_the_next_reload_is_an_ordinary_one() {
    let proxy = Proxy::start(&saying("old"));
    try_out(&proxy, &saying("new"), "1s");
    let last = wait_for_end(&proxy);

    let outcome = proxy.reload(&saying("newer"));

    assert_eq!(last["confirmed"], false, "{last}");
    assert_eq!(outcome["ok"], true, "{outcome}");
    assert_eq!(proxy.get("/").text(), "newer");
    let ready = proxy.admin("/readyz");
    assert_eq!(ready["config_differs_from_disk"], false);
    assert!(ready["config_differs_because"].is_null(), "{ready}");
}

#[test]
fn the_status_says_in_one_line_and_by_its_code_whether_all_is_well() {
    let (live, dead) = (Upstream::answering("ok"), Upstream::refusing());
    let config = |to: &Upstream| {
        let health = "  health: {tcp: {}, interval: 100ms, timeout: 100ms, fall: 1}\n";
        format!("{WEB}{}{health}{ALL_TO_APP}", pool("app", &[to]))
    };
    let proxy = Proxy::start(&config(&live));

    let well = command(&proxy, &["status"]);
    proxy.reload(&config(&dead));
    let bad = until("the endpoint is found dead", || {
        let told = command(&proxy, &["status"]);
        (told.status.code() == Some(1)).then_some(told)
    });
    let json = command(&proxy, &["status", "--json"]);

    assert_eq!(well.status.code(), Some(0), "{}{}", out(&well), err(&well));
    assert!(out(&well).starts_with("all is well\n"), "{}", out(&well));
    assert!(out(&well).contains("pid "), "{}", out(&well));
    assert!(
        out(&bad).starts_with("1 thing needs attention\n"),
        "{}",
        out(&bad)
    );
    assert!(out(&bad).contains("none of 1 endpoints"), "{}", out(&bad));
    assert_eq!(json.status.code(), Some(1));
    let view: serde_json::Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!(view["generation"], 2);
    assert_eq!(view["quarantined"], serde_json::json!([]));
}

#[test]
fn the_status_of_no_process_has_a_code_of_its_own() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, "admin: {bind: 'unix:/nowhere/admin.sock'}\n").unwrap();

    let told = run(&["status", "-c", path.to_str().unwrap()]);

    assert_eq!(told.status.code(), Some(2));
    assert!(err(&told).contains("is windrose running"), "{}", err(&told));
}
