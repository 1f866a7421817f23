//! What a service manager such as systemd hears: start, reloads, upgrades, the end.
//! The manager is a datagram socket named in `NOTIFY_SOCKET`, as in sd_notify(3).
//! Part of the test binary.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use rustix::time::{clock_gettime, ClockId};
use tempfile::TempDir;

use crate::support::proxy::{Proxy, WEB};
use crate::support::DEADLINE;

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// A proxy that this manager started, ready.
    fn starts() -> (Manager, Proxy) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let proxy = Proxy::start_as(folder, &saying("old"), |command| {
            command.env("NOTIFY_SOCKET", &path);
            command.env("RUNTIME_DIRECTORY", path.parent().unwrap());
        });
        (Manager(socket), proxy)
    }

    /// The next message.
    fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Whether there is no further message.
    fn hears_nothing(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let heard = self.0.recv(&mut [0; 16]);
        heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

fn saying(word: &str) -> String {
    format!(
        "{SERVER}{WEB}routes:\n- {{name: all, rules: [{{respond: {{status: 200, body: '{word}'}}}}]}}\n"
    )
}

/// Without `upgrade_socket`: the manager gives a folder for it.
const SERVER: &str = "server: {threads: 1, pid_file: FOLDER/pid, drain_timeout: 5s}\n";

fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

#[test]
fn the_manager_hears_once_that_the_proxy_is_ready() {
    let (manager, _proxy) = Manager::starts();

    assert_eq!(manager.hears(), "READY=1\nSTATUS=generation 1 runs");
    assert!(manager.hears_nothing());
}

#[test]
fn the_manager_hears_when_a_reload_begins_and_that_it_worked() {
    let (manager, proxy) = Manager::starts();
    manager.hears();
    let before = now();

    proxy.reload(&saying("new"));

    let begun = manager.hears();
    let time = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let time: i64 = time.expect(&begun).parse().unwrap();
    assert!((before..=now()).contains(&time), "{begun}");
    assert_eq!(manager.hears(), "READY=1\nSTATUS=generation 2 runs");
}

#[test]
fn the_manager_hears_why_a_reload_was_refused() {
    let (manager, proxy) = Manager::starts();
    manager.hears();

    proxy.reload("listeners: 3\n");

    assert!(manager.hears().starts_with("RELOADING=1\n"));
    let over = manager.hears();
    let told = "READY=1\nSTATUS=reload refused, generation 1 stays: ";
    assert!(over.starts_with(told), "{over}");
    assert!(over.contains("windrose.yaml:1:"), "{over}");
    assert_eq!(over.lines().count(), 2, "{over}");
}

#[test]
fn the_manager_follows_the_process_that_took_over() {
    let (manager, mut proxy) = Manager::starts();
    manager.hears();

    proxy.signal("USR2");

    let told = manager.hears();
    let heir = std::fs::read_to_string(proxy.file("pid")).unwrap();
    let heir = heir.trim();
    assert_ne!(heir, proxy.pid().to_string());
    let expected = format!("MAINPID={heir}\nREADY=1\nSTATUS=generation 1 runs");
    assert_eq!(told, expected);
    proxy.wait_exit();
    assert!(manager.hears_nothing(), "the old process is to be silent");
}

#[test]
fn the_manager_hears_when_the_proxy_stops() {
    let (manager, mut proxy) = Manager::starts();
    manager.hears();

    proxy.signal("TERM");

    assert!(manager.hears().starts_with("STOPPING=1\n"));
    proxy.wait_exit();
    assert!(manager.hears_nothing());
}
