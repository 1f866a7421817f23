//! Endpoints that die and come back while requests flow.
//! It must not know how the proxy gets over it.
//! Part of the test binary.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::until;
use crate::support::{client::Conn, Proxy};

/// A service that can be killed as by the kernel: its connections are reset, with whatever they were about to carry.
struct Mortal {
    address: SocketAddr,
    life: Mutex<Option<Arc<Life>>>,
}

#[derive(Default)]
struct Life {
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Mortal {
    fn new() -> Mortal {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mortal = Mortal {
            address,
            life: Mutex::default(),
        };
        mortal.live(listener);
        mortal
    }

    fn live(&self, listener: TcpListener) {
        let life = Arc::<Life>::default();
        *self.life.lock().unwrap() = Some(life.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if life.over.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                life.open.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || serve(stream));
            }
        });
    }

    fn kill(&self) {
        let Some(life) = self.life.lock().unwrap().take() else {
            return;
        };
        life.over.store(true, SeqCst);
        // Wakes the thread that accepts, which then closes the port.
        let _ = TcpStream::connect(self.address);
        for stream in life.open.lock().unwrap().drain(..) {
            let socket = socket2::Socket::from(stream);
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn rise(&self) {
        let listener = until("the port is free again", || {
            TcpListener::bind(self.address).ok()
        });
        self.live(listener);
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(mut stream: TcpStream) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    let mut line = String::new();
    while matches!(reader.read_line(&mut line), Ok(read) if read > 0) {
        let is_end = line.trim_end().is_empty();
        line.clear();
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        if is_end && stream.write_all(reply).is_err() {
            return;
        }
    }
}

#[test]
fn clients_see_nothing_of_endpoints_that_die_and_come_back() {
    let services: Vec<Mortal> = (0..10).map(|_| Mortal::new()).collect();
    let addresses: Vec<String> = services
        .iter()
        .map(|one| format!("'{}'", one.address))
        .collect();
    let addresses = addresses.join(", ");
    let proxy = Proxy::http(&format!(
        "pools:\n- name: app\n  endpoints: [{addresses}]\n  ejection: {{base_time: 200ms}}\n\
         routes:\n- name: all\n  rules:\n  - {{pool: app, retry: {{attempts: 5}}}}\n"
    ));
    let (asked, bad) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let address = proxy.address("web");

    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client(address, &asked, &bad)))
            .collect();
        let is_over = || clients.iter().all(|client| client.is_finished());
        let mut round = 0;
        while !is_over() {
            let dying: Vec<&Mortal> = (0..3)
                .map(|n| &services[(round * 7 + n * 3) % 10])
                .collect();
            dying.iter().for_each(|one| one.kill());
            pass(&asked, is_over);
            dying.iter().for_each(|one| one.rise());
            pass(&asked, is_over);
            round += 1;
        }
    });

    assert_eq!(*bad.lock().unwrap(), Vec::<String>::new());
    let retries = proxy.metric("windrose_request_retries_total", &[]);
    assert!(retries > 0.0, "nothing happened");
}

/// Waits until some more requests were answered.
fn pass(asked: &AtomicUsize, is_over: impl Fn() -> bool) {
    let goal = asked.load(SeqCst) + 100;
    until("some requests", || {
        (asked.load(SeqCst) >= goal || is_over()).then_some(())
    });
}

fn client(address: SocketAddr, asked: &AtomicUsize, bad: &Mutex<Vec<String>>) {
    let mut conn = Conn::open(address);
    for _ in 0..500 {
        let reply = conn.ask("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        if reply.status != 200 {
            bad.lock()
                .unwrap()
                .push(format!("{} {}", reply.status, reply.why()));
            conn = Conn::open(address);
        }
        asked.fetch_add(1, SeqCst);
    }
}
