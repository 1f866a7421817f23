//! Steady traffic of every kind while something else happens to the proxy.
//! It must not know what happens.
//! Used by tests of reloads and upgrades.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::{dial, Conn};
use super::grpc::{call, frame, Client};
use super::stream::WebSocket;
use super::wait::{pause, until, DEADLINE};

/// Traffic under way.
#[derive(Default)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the workers tell.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicUsize,
    reopened: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What came of the traffic.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exchanges that went well.
    pub(crate) done: usize,
    /// Kept connections that ended between two requests, so that the client asked again on another.
    pub(crate) reopened: usize,
    /// Everything that went wrong.
    pub(crate) failures: Vec<String>,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(SeqCst)
    }

    fn count(&self, what: &str, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => {
                self.done.fetch_add(1, SeqCst);
                pause(Duration::from_millis(1));
                true
            }
            Err(error) => {
                let failure = format!("{what}: {error}");
                self.failures.lock().unwrap().push(failure);
                false
            }
        }
    }
}

impl Load {
    fn spawn(mut self, work: impl FnOnce(&Shared) + Send + 'static) -> Load {
        let shared = self.shared.clone();
        self.workers.push(std::thread::spawn(move || work(&shared)));
        self
    }

    /// Requests one after another on a kept connection.
    pub(crate) fn http(self, address: SocketAddr) -> Load {
        self.spawn(move |shared| {
            let mut conn = Conn::open(address);
            let mut used = false;
            while shared.goes_on() {
                let result = exchange(&mut conn);
                if result.is_err() && used {
                    // A connection may end between requests; clients then ask again on another.
                    shared.reopened.fetch_add(1, SeqCst);
                    conn = Conn::open(address);
                    used = false;
                    continue;
                }
                let closes = matches!(result, Ok(true));
                shared.count("http", result.map(|_| ()));
                used = true;
                if closes {
                    conn = Conn::open(address);
                    used = false;
                }
            }
        })
    }

    /// Each request on a connection of its own.
    pub(crate) fn new_connections(self, address: SocketAddr) -> Load {
        self.spawn(move |shared| {
            while shared.goes_on() {
                let result = TcpStream::connect(address)
                    .map_err(|error| error.to_string())
                    .and_then(|stream| {
                        stream.set_read_timeout(Some(DEADLINE)).unwrap();
                        exchange(&mut Conn::new(stream))
                    });
                shared.count("new connection", result.map(|_| ()));
            }
        })
    }

    /// Frames on one WebSocket.
    pub(crate) fn websocket(self, address: SocketAddr) -> Load {
        self.spawn(move |shared| {
            let mut socket = WebSocket::open(address, "/ws");
            let mut number = 0;
            while shared.goes_on() {
                let text = number.to_string();
                let heard = socket.talk(&text);
                let result = match heard.as_ref() == Some(&text) {
                    true => Ok(()),
                    false => Err(format!("cut at {number}: {heard:?}")),
                };
                if !shared.count("websocket", result) {
                    return;
                }
                number += 1;
            }
        })
    }

    /// Bytes on one TCP connection to an echo.
    pub(crate) fn tcp(self, address: SocketAddr) -> Load {
        self.spawn(move |shared| {
            let mut stream = dial(address);
            while shared.goes_on() {
                let mut back = [0; 4];
                let result = stream.write_all(b"ping");
                let result = result.and_then(|()| stream.read_exact(&mut back));
                if !shared.count("tcp", result.map_err(|error| error.to_string())) {
                    return;
                }
            }
        })
    }

    /// Messages on one gRPC stream.
    pub(crate) fn grpc(self, address: SocketAddr) -> Load {
        self.spawn(move |shared| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let client = Client::connect(address).await;
                let (reply, mut sending) = client.open(call("bidi")).await.unwrap();
                let _ = sending.send_data(frame("first"), false);
                let mut body = reply.await.unwrap().into_body();
                let _ = body.data().await;
                while shared.goes_on() {
                    let sent = sending.send_data(frame("more"), false);
                    let heard = match sent {
                        Ok(()) => body.data().await,
                        Err(error) => Some(Err(error)),
                    };
                    let result = match heard {
                        Some(Ok(piece)) => {
                            let _ = body.flow_control().release_capacity(piece.len());
                            Ok(())
                        }
                        other => Err(format!("{other:?}")),
                    };
                    if !shared.count("grpc", result) {
                        return;
                    }
                }
            });
        })
    }

    /// Waits until this many more exchanges went well.
    pub(crate) fn runs(&self, more: usize) {
        let goal = self.shared.done.load(SeqCst) + more;
        until("the load runs", || {
            let failed = !self.shared.failures.lock().unwrap().is_empty();
            (failed || self.shared.done.load(SeqCst) >= goal).then_some(())
        });
    }

    /// Stops and tells.
    pub(crate) fn finish(self) -> Outcome {
        self.shared.stop.store(true, SeqCst);
        for worker in self.workers {
            worker.join().expect("a worker does not panic");
        }
        Outcome {
            done: self.shared.done.load(SeqCst),
            reopened: self.shared.reopened.load(SeqCst),
            failures: std::mem::take(&mut *self.shared.failures.lock().unwrap()),
        }
    }
}

/// One request and its reply; whether the server closes the connection after it.
fn exchange(conn: &mut Conn) -> Result<bool, String> {
    let sent = conn
        .stream
        .write_all(b"GET /load HTTP/1.1\r\nhost: test\r\n\r\n");
    let reply = sent
        .and_then(|()| conn.reply())
        .map_err(|error| error.to_string())?;
    match reply.status {
        200 => Ok(reply
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))),
        status => Err(format!("{status} {}", reply.why())),
    }
}
