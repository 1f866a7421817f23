//! Wires of plugins: sockets that a plugin's task sends bytes over, as streams or as datagrams.
//! It must not know what is sent. Sockets are made by `own`, so that the process's own connections are known.
//! Made by `config::compile` for plugins that ask; opened by their tasks alone.

use std::future::{poll_fn, Future};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509VerifyResult, X509};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio::time::timeout;
use tokio_openssl::SslStream;
use windrose_plugins::contract::{Far, Wire, WireFailure, WireFuture, WireSettings, Wires};

use super::own;
use super::ssrf::Guard;

/// Opens wires to one peer, as far as the guard allows.
///
/// # Errors
/// The authorities cannot be used.
pub fn wires(settings: &WireSettings, guard: Option<Arc<Guard>>) -> Result<Arc<dyn Wires>, String> {
    let way = match &settings.far {
        Far::Udp { .. } => Way::Udp,
        Far::Tcp { .. } => Way::Tcp,
        Far::Tls { name, ca, .. } => Way::Tls {
            connector: connector(ca.as_deref()).map_err(|error| error.to_string())?,
            name: name.clone(),
        },
        Far::Unix { path } => Way::Unix(path.clone()),
    };
    let authority = match &settings.far {
        Far::Udp { host, port } | Far::Tcp { host, port } | Far::Tls { host, port, .. } => {
            match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            }
        }
        Far::Unix { .. } => String::new(),
    };
    Ok(Arc::new(Line {
        way,
        authority,
        guard,
        time: settings.timeout,
    }))
}

fn connector(ca: Option<&[u8]>) -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_verify(SslVerifyMode::PEER);
    if let Some(pem) = ca {
        let mut store = X509StoreBuilder::new()?;
        for authority in X509::stack_from_pem(pem)? {
            store.add_cert(authority)?;
        }
        builder.set_verify_cert_store(store.build())?;
    }
    Ok(builder.build())
}

struct Line {
    way: Way,
    /// Host and port.
    authority: String,
    guard: Option<Arc<Guard>>,
    time: Duration,
}

enum Way {
    Udp,
    Tcp,
    Tls {
        connector: SslConnector,
        name: String,
    },
    Unix(PathBuf),
}

impl Wires for Line {
    fn open(&self) -> WireFuture<'_, Box<dyn Wire>> {
        Box::pin(async {
            let opened = timeout(self.time, self.opened()).await;
            opened
                .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
                .map_err(WireFailure::Broken)
        })
    }
}

impl Line {
    async fn opened(&self) -> Result<Box<dyn Wire>, String> {
        let time = self.time;
        let said = |error: io::Error| error.to_string();
        Ok(match &self.way {
            Way::Udp => {
                let socket = own::datagrams_to(&self.authority, self.guard())
                    .await
                    .map_err(said)?;
                Box::new(Datagrams {
                    to: To::Udp(socket),
                    time,
                })
            }
            Way::Unix(path) => {
                let socket = UnixDatagram::unbound().map_err(said)?;
                socket.connect(path).map_err(said)?;
                Box::new(Datagrams {
                    to: To::Unix(socket),
                    time,
                })
            }
            Way::Tcp => Box::new(Stream {
                over: self.connected().await.map_err(said)?,
                time,
            }),
            Way::Tls { connector, name } => {
                let over = self.connected().await.map_err(said)?;
                let over = secured(connector, name, over).await?;
                Box::new(Stream { over, time })
            }
        })
    }

    fn guard(&self) -> Option<&Guard> {
        self.guard.as_deref()
    }

    async fn connected(&self) -> io::Result<TcpStream> {
        let stream = own::connect_to(&self.authority, self.guard()).await?;
        // Nobody answers, so only this tells that what is sent arrives nowhere.
        SockRef::from(&stream).set_tcp_user_timeout(Some(self.time))?;
        Ok(stream)
    }
}

async fn secured(
    connector: &SslConnector,
    name: &str,
    over: TcpStream,
) -> Result<SslStream<TcpStream>, String> {
    let ssl = connector.configure().and_then(|ssl| ssl.into_ssl(name));
    let ssl = ssl.map_err(|error| error.to_string())?;
    let mut stream = SslStream::new(ssl, over).map_err(|error| error.to_string())?;
    let shaken = Pin::new(&mut stream).connect().await;
    shaken.map_err(|error| {
        let verified = stream.ssl().verify_result();
        match verified == X509VerifyResult::OK {
            true => format!("the TLS handshake failed: {error}"),
            false => format!("its certificate is refused: {}", verified.error_string()),
        }
    })?;
    Ok(stream)
}

/// A stream. What the peer says is not read, except that it is gone.
struct Stream<S> {
    over: S,
    time: Duration,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for Stream<S> {
    fn send(&mut self, bytes: Bytes) -> WireFuture<'_, ()> {
        Box::pin(async move {
            let time = self.time;
            let sent = async {
                // What is written after the peer closed is lost without a word.
                self.is_open().await?;
                self.over.write_all(&bytes).await?;
                self.over.flush().await
            };
            match timeout(time, sent).await {
                Ok(sent) => sent.map_err(|error| WireFailure::Broken(error.to_string())),
                Err(_) => Err(WireFailure::Broken("it takes nothing more".to_owned())),
            }
        })
    }

    fn close(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            // Closing with something unread would take back what the peer has not read yet.
            let ended = async {
                self.over.shutdown().await?;
                while self.heard().await? > 0 {}
                io::Result::Ok(())
            };
            // Whatever comes of it, there is nothing more to do.
            let _ = timeout(CLOSING, ended).await;
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream<S> {
    /// Whether the peer has not closed, without waiting for it; what it said is forgotten, up to a bound.
    async fn is_open(&mut self) -> io::Result<()> {
        for _ in 0..MOST_HEARD {
            let mut heard = std::pin::pin!(self.heard());
            let heard = poll_fn(|cx| match heard.as_mut().poll(cx) {
                Poll::Ready(heard) => Poll::Ready(Some(heard)),
                Poll::Pending => Poll::Ready(None),
            });
            match heard.await {
                None => return Ok(()),
                Some(Ok(0)) => return Err(io::ErrorKind::ConnectionReset.into()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn heard(&mut self) -> io::Result<usize> {
        let mut room = [0; 512];
        poll_fn(|cx| {
            let mut read = ReadBuf::new(&mut room);
            let polled = Pin::new(&mut self.over).poll_read(cx, &mut read);
            polled.map_ok(|()| read.filled().len())
        })
        .await
    }
}

struct Datagrams {
    to: To,
    time: Duration,
}

enum To {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Wire for Datagrams {
    fn send(&mut self, bytes: Bytes) -> WireFuture<'_, ()> {
        Box::pin(async move {
            let sent = async {
                match &self.to {
                    To::Udp(socket) => socket.send(&bytes).await,
                    To::Unix(socket) => socket.send(&bytes).await,
                }
            };
            match timeout(self.time, sent).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    Err(WireFailure::TooLong)
                }
                Ok(Err(error)) => Err(WireFailure::Broken(error.to_string())),
                Err(_) => Err(WireFailure::Broken("it takes nothing more".to_owned())),
            }
        })
    }

    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

/// Time for the peer to read what is on its way.
const CLOSING: Duration = Duration::from_secs(1);
/// Pieces of what a peer says that are forgotten before each sending.
const MOST_HEARD: usize = 16;
