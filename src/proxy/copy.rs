//! Bytes moved both ways between the two ends of a connection.
//! It must not know where the ends lead.
//! Called by `tcp`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::line::{Carrier, Line};
use crate::snapshot::incoming::Socket;

/// Bytes moved at a time in each direction of a connection.
pub(super) const BUFFER: usize = 16 * 1024;

/// Bytes that went each way.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

/// Which end of a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client's.
    Downstream,
    /// The endpoint's.
    Upstream,
}

/// Moves bytes both ways. An end of one direction is passed on as a half-close while the other goes on; an end that breaks is
/// passed on as a reset, so that nobody takes what was cut off for whole.
///
/// # Errors
/// Which end broke.
pub(super) async fn copy(
    mut transport: Carrier,
    mut upstream: Line,
    counts: &Counts,
) -> Result<(), Broken> {
    let down = match &mut transport {
        Carrier::Plain(transport) => halves(transport),
        Carrier::Tls(stream) => halves(stream),
    };
    let up = match &mut upstream {
        Line::Plain(Socket::Tcp(upstream)) => halves(upstream),
        Line::Plain(Socket::Unix(upstream)) => halves(upstream),
        Line::Tunnel(upstream) => halves(upstream),
        Line::Tls(upstream, _) => halves(upstream),
    };
    let copied = both(down, up, counts).await;
    match copied {
        Ok(()) => {}
        Err(Broken::Downstream) => upstream.reset(),
        Err(Broken::Upstream) => transport.reset(),
    }
    copied
}

type Halves<'s> = (
    Box<dyn AsyncRead + Send + Unpin + 's>,
    Box<dyn AsyncWrite + Send + Unpin + 's>,
);

/// One type for streams of several, so that the copying is compiled once.
fn halves<'s>(stream: &'s mut (impl AsyncRead + AsyncWrite + Send + Unpin)) -> Halves<'s> {
    let (read, write) = tokio::io::split(stream);
    (Box::new(read), Box::new(write))
}

async fn both(down: Halves<'_>, up: Halves<'_>, counts: &Counts) -> Result<(), Broken> {
    use Broken::{Downstream, Upstream};
    let ((down_read, down_write), (up_read, up_write)) = (down, up);
    let up = one_way((down_read, Downstream), (up_write, Upstream), &counts.up);
    let down = one_way((up_read, Upstream), (down_write, Downstream), &counts.down);
    tokio::try_join!(up, down).map(|_| ())
}

async fn one_way(
    (mut from, source): (impl AsyncRead + Unpin, Broken),
    (mut to, sink): (impl AsyncWrite + Unpin, Broken),
    count: &AtomicU64,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| source)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| sink);
        }
        to.write_all(&buffer[..read]).await.map_err(|_| sink)?;
        to.flush().await.map_err(|_| sink)?;
        count.fetch_add(read as u64, Relaxed);
    }
}

/// Ends when nothing moved for the idle time; looks four times in it.
pub(super) async fn silence(counts: &Counts, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    let mut seen = (0, 0);
    let mut quiet = 0;
    let mut ticks = tokio::time::interval((idle / 4).max(Duration::from_millis(10)));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = (counts.up.load(Relaxed), counts.down.load(Relaxed));
        quiet = if now == seen { quiet + 1 } else { 0 };
        if quiet >= 4 {
            return;
        }
        seen = now;
    }
}
