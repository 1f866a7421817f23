//! Connections kept between requests, to endpoints that close them earlier than the proxy would.
//! It must not know how their limit is learned inside.
//! Part of the test binary.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::support::proxy::ALL_TO_APP;
use crate::support::{until, Proxy};

/// Requests at a time, so that as many connections are kept.
const TOGETHER: usize = 24;
const LIMIT: Duration = Duration::from_millis(600);

/// A service that closes connections idle for [`LIMIT`], and counts who was first.
struct Impatient {
    address: SocketAddr,
    closed_itself: Arc<AtomicUsize>,
    was_left: Arc<AtomicUsize>,
}

impl Impatient {
    fn start() -> Impatient {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Impatient {
            address: listener.local_addr().unwrap(),
            closed_itself: Arc::default(),
            was_left: Arc::default(),
        };
        let all = Arc::new(Barrier::new(TOGETHER));
        let counts = (service.closed_itself.clone(), service.was_left.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, counts) = (all.clone(), counts.clone());
                thread::spawn(move || match serve(stream, &all) {
                    true => counts.0.fetch_add(1, SeqCst),
                    false => counts.1.fetch_add(1, SeqCst),
                });
            }
        });
        service
    }
}

/// Whether it was the service that ended the connection.
fn serve(stream: TcpStream, all: &Barrier) -> bool {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut lines = BufReader::new(&stream);
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return false,
            Ok(_) if line == "\r\n" => {
                all.wait();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if (&stream).write_all(answer).is_err() {
                    return false;
                }
            }
            Ok(_) => {}
            Err(_) => return true,
        }
    }
}

fn requests(proxy: &Proxy) -> Vec<u16> {
    thread::scope(|scope| {
        let asking: Vec<_> = (0..TOGETHER)
            .map(|_| scope.spawn(|| proxy.get("/").status))
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn limit(proxy: &Proxy) -> Option<f64> {
    proxy.admin("/pools")["pools"][0]["endpoints"][0]["idle_limit_ms"].as_f64()
}

#[test]
fn the_limit_of_an_endpoint_is_learned_and_connections_are_given_up_before_it() {
    let service = Impatient::start();
    let address = service.address;
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  endpoints: ['{address}']\n{ALL_TO_APP}"
    ));

    let mut rounds = 0;
    let learned = until("a learned limit", || {
        assert_eq!(requests(&proxy), [200; TOGETHER]);
        rounds += 1;
        // On a slow machine the limit may be learned from the first ones that end, and hold for the last.
        until("every connection to end", || {
            let ended = service.closed_itself.load(SeqCst) + service.was_left.load(SeqCst);
            (ended == rounds * TOGETHER).then_some(())
        });
        limit(&proxy)
    });

    let own = LIMIT.as_millis() as f64;
    assert!((own * 0.9..own * 1.5).contains(&learned), "{learned}");
    let closed = proxy.metric("windrose_endpoint_idle_ends_total", &["when=\"closed\""]);
    assert!(closed >= 3.0, "{closed}");
    let before = service.was_left.load(SeqCst);
    assert_eq!(requests(&proxy), [200; TOGETHER]);
    until("the proxy to be first", || {
        (service.was_left.load(SeqCst) - before == TOGETHER).then_some(())
    });
}
