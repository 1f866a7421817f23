//! Services behind the proxy: small HTTP/1.1 servers on threads that remember what they saw.
//! It must not know the proxy.
//! Used as endpoints of pools.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Bytes of the header, exactly.
    pub(crate) raw: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The body's begin.
    pub(crate) body: Vec<u8>,
    /// The body's length.
    pub(crate) length: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter();
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
            .collect()
    }
}

/// What a service does with a request; `false` ends the connection.
type Handler = dyn Fn(&Seen, &mut TcpStream) -> io::Result<bool> + Send + Sync;

/// A service.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    /// Keeps the port of a service that takes no connections.
    _socket: Option<socket2::Socket>,
}

#[derive(Default)]
struct Inner {
    stopped: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    seen: Mutex<Vec<Seen>>,
}

impl Upstream {
    /// Answers every request with this text.
    pub(crate) fn answering(text: &str) -> Upstream {
        let text = text.to_owned();
        Upstream::with(move |_, stream| answer(stream, 200, &[], text.as_bytes()))
    }

    /// Answers with the request as JSON.
    pub(crate) fn echo() -> Upstream {
        Upstream::with(|seen, stream| {
            let headers: Vec<_> = seen
                .headers
                .iter()
                .map(|(name, value)| json!([name, value]))
                .collect();
            let body = json!({
                "method": seen.method, "target": seen.target, "headers": headers,
                "body": String::from_utf8_lossy(&seen.body), "length": seen.length,
            });
            let kind = [("content-type", "application/json")];
            answer(stream, 200, &kind, body.to_string().as_bytes())
        })
    }

    /// Answers with these statuses in turn, the last one from then on.
    pub(crate) fn statuses(statuses: &[u16]) -> Upstream {
        let (statuses, at) = (statuses.to_vec(), AtomicUsize::new(0));
        Upstream::with(move |_, stream| {
            let at = at.fetch_add(1, SeqCst).min(statuses.len() - 1);
            answer(stream, statuses[at], &[], b"")
        })
    }

    /// Writes these bytes as its answer and closes.
    pub(crate) fn raw(bytes: &'static [u8]) -> Upstream {
        Upstream::with(move |_, stream| stream.write_all(bytes).map(|()| false))
    }

    /// Reads requests and never answers.
    pub(crate) fn silent() -> Upstream {
        Upstream::with(|_, stream| {
            let _ = stream.read(&mut [0; 1]);
            Ok(false)
        })
    }

    /// Closes the connection when a request has arrived.
    pub(crate) fn closing() -> Upstream {
        Upstream::with(|_, _| Ok(false))
    }

    /// A port that nobody else gets and nobody listens on.
    pub(crate) fn refusing() -> Upstream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        Upstream {
            address: socket.local_addr().unwrap().as_socket().unwrap(),
            inner: Arc::default(),
            _socket: Some(socket),
        }
    }

    /// Listens, but its queue is full: connections to it are never made.
    pub(crate) fn full() -> Upstream {
        let upstream = Upstream::refusing();
        let socket = upstream._socket.as_ref().unwrap();
        socket.listen(0).unwrap();
        let moment = Duration::from_millis(100);
        while let Ok(stream) = TcpStream::connect_timeout(&upstream.address, moment) {
            upstream.inner.open.lock().unwrap().push(stream);
        }
        upstream
    }

    /// Does this with each request.
    pub(crate) fn with(
        handler: impl Fn(&Seen, &mut TcpStream) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::<Inner>::default();
        let (shared, handler) = (inner.clone(), Arc::new(handler));
        std::thread::spawn(move || accept(&listener, &shared, &handler));
        Upstream {
            address,
            inner,
            _socket: None,
        }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(SeqCst)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.inner.seen.lock().unwrap().len()
    }

    /// Every request, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Seen {
        let seen = self.inner.seen.lock().unwrap();
        seen.last().cloned().expect("a request arrived")
    }

    /// Ends the connections that are open.
    pub(crate) fn drop_connections(&self) {
        for stream in self.inner.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.inner.stopped.store(true, SeqCst);
        if self._socket.is_none() {
            let _ = TcpStream::connect(self.address);
        }
        self.drop_connections();
    }
}

fn accept<H>(listener: &TcpListener, inner: &Arc<Inner>, handler: &Arc<H>)
where
    H: Fn(&Seen, &mut TcpStream) -> io::Result<bool> + Send + Sync + 'static,
{
    for stream in listener.incoming() {
        if inner.stopped.load(SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        inner.connections.fetch_add(1, SeqCst);
        if let Ok(copy) = stream.try_clone() {
            inner.open.lock().unwrap().push(copy);
        }
        let (inner, handler) = (inner.clone(), handler.clone());
        std::thread::spawn(move || serve(stream, &inner, &*handler));
    }
}

fn serve(mut stream: TcpStream, inner: &Inner, handler: &Handler) {
    let Ok(copy) = stream.try_clone() else { return };
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(copy);
    while let Ok(Some(seen)) = request(&mut reader, &mut stream) {
        inner.seen.lock().unwrap().push(seen.clone());
        match handler(&seen, &mut stream) {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn request(reader: &mut BufReader<TcpStream>, stream: &mut TcpStream) -> io::Result<Option<Seen>> {
    let mut seen = Seen::default();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        seen.raw.push_str(&text);
        let text = text.trim_end();
        if text.is_empty() {
            break;
        }
        match text.split_once(':') {
            Some((name, value)) if !seen.method.is_empty() => {
                let pair = (name.to_ascii_lowercase(), value.trim().to_owned());
                seen.headers.push(pair);
            }
            _ => {
                let mut words = text.split(' ');
                seen.method = words.next().unwrap_or_default().to_owned();
                seen.target = words.next().unwrap_or_default().to_owned();
            }
        }
    }
    if seen.header("expect") == Some("100-continue") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    body(reader, &mut seen)?;
    Ok(Some(seen))
}

fn body(reader: &mut BufReader<TcpStream>, seen: &mut Seen) -> io::Result<()> {
    if seen.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
            take(reader, seen, size)?;
            reader.read_exact(&mut [0; 2])?;
            if size == 0 {
                return Ok(());
            }
        }
    }
    let length = seen.header("content-length").unwrap_or("0").parse();
    take(reader, seen, length.map_err(io::Error::other)?)
}

/// Reads a piece of body; only the begin is kept.
fn take(reader: &mut impl Read, seen: &mut Seen, mut left: usize) -> io::Result<()> {
    let mut piece = vec![0; left.min(64 << 10)];
    while left > 0 {
        let part = left.min(piece.len());
        reader.read_exact(&mut piece[..part])?;
        seen.length += part;
        left -= part;
        if seen.body.len() < MOST_KEPT {
            seen.body.extend_from_slice(&piece[..part]);
        }
    }
    Ok(())
}

/// Writes an answer with its length.
pub(crate) fn answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<bool> {
    let mut head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)?;
    Ok(true)
}

const MOST_KEPT: usize = 1 << 20;
