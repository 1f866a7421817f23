//! Sends spans to an OpenTelemetry collector from a thread of its own.
//! It must not know what a span tells, and never makes a request wait: what the queue cannot hold is dropped and counted.
//! The fast path hands it finished requests; the supervisor makes and flushes it.

use std::fmt;
use std::sync::{mpsc as std_mpsc, Arc};
use std::thread;
use std::time::Duration;

use crate::observe::metrics::IntCounter;
use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use opentelemetry_sdk::Resource;
use tokio::sync::{mpsc, Notify};

use super::FinishedSpan;

/// What an operator can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracerSettings {
    /// The collector's OTLP/HTTP address, such as `http://127.0.0.1:4318/v1/traces`.
    pub otlp: String,
    /// The service name spans carry.
    pub service_name: String,
    /// Longest wait before waiting spans are sent.
    pub interval: Duration,
}

/// Why there is no tracer.
#[derive(Debug)]
pub enum TracerError {
    /// The address is not one that spans can be sent to.
    Address(String),
    /// The thread could not be started.
    Thread(std::io::Error),
}

impl fmt::Display for TracerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TracerError::Address(reason) => f.write_str(reason),
            TracerError::Thread(error) => write!(f, "the exporter's thread: {error}"),
        }
    }
}

impl std::error::Error for TracerError {}

/// The handle. Clones share one queue and one thread, which sends what is left when the last clone is gone.
/// Make it after the process became a daemon: a fork would leave the thread behind.
#[derive(Clone)]
pub struct Tracer(Arc<Inner>);

struct Inner {
    spans: mpsc::Sender<FinishedSpan>,
    flushes: mpsc::UnboundedSender<std_mpsc::Sender<()>>,
    hurry: Arc<Notify>,
    dropped: IntCounter,
}

impl Tracer {
    /// Starts the exporter. The collector need not be there yet.
    ///
    /// # Errors
    /// When the address cannot be used or the thread not be started.
    pub fn new(settings: &TracerSettings, dropped: IntCounter) -> Result<Tracer, TracerError> {
        check_address(&settings.otlp)?;
        let (spans, waiting) = mpsc::channel(QUEUE);
        let (flushes, asked) = mpsc::unbounded_channel();
        let hurry = Arc::new(Notify::new());
        let exporter = Exporter {
            otlp: build_exporter(settings)?,
            scope: InstrumentationScope::builder("windrose")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            interval: settings.interval,
            spans: waiting,
            flushes: asked,
            hurry: hurry.clone(),
            dropped: dropped.clone(),
            failing: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TracerError::Thread)?;
        thread::Builder::new()
            .name("traces".into())
            .spawn(move || runtime.block_on(exporter.run()))
            .map_err(TracerError::Thread)?;
        Ok(Tracer(Arc::new(Inner {
            spans,
            flushes,
            hurry,
            dropped,
        })))
    }

    /// Queues the spans of a request. Never blocks; a request that is not sampled is ignored.
    pub fn span(&self, span: FinishedSpan) {
        if !span.context.sampled {
            return;
        }
        let lost = 1 + span.attempts.len() as u64;
        if self.0.spans.try_send(span).is_err() {
            self.0.dropped.inc_by(lost);
        }
        if self.0.spans.capacity() <= QUEUE / 2 {
            self.0.hurry.notify_one();
        }
    }

    /// Waits until everything queued before was sent or given up, but no longer than this. Says whether that was enough.
    pub fn flush(&self, longest: Duration) -> bool {
        let (done, wait) = std_mpsc::channel();
        self.0.flushes.send(done).is_ok() && wait.recv_timeout(longest).is_ok()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hurry.notify_one();
    }
}

fn check_address(otlp: &str) -> Result<(), TracerError> {
    let uri: http::Uri = otlp
        .parse()
        .map_err(|error| TracerError::Address(format!("{otlp:?} is not a URL: {error}")))?;
    match uri.scheme_str() {
        Some("http") => Ok(()),
        Some("https") => Err(TracerError::Address(format!(
            "{otlp:?} is https; spans are sent over http only, so run a collector beside the proxy and let it do TLS"
        ))),
        _ => Err(TracerError::Address(format!(
            "{otlp:?} must begin with http://"
        ))),
    }
}

fn build_exporter(
    settings: &TracerSettings,
) -> Result<opentelemetry_otlp::SpanExporter, TracerError> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.otlp.clone())
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| TracerError::Address(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// The thread's side.
struct Exporter {
    otlp: opentelemetry_otlp::SpanExporter,
    scope: InstrumentationScope,
    interval: Duration,
    spans: mpsc::Receiver<FinishedSpan>,
    flushes: mpsc::UnboundedReceiver<std_mpsc::Sender<()>>,
    hurry: Arc<Notify>,
    dropped: IntCounter,
    failing: bool,
}

impl Exporter {
    async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                // Between a first span and its batch this thread does not look at the queue, so that
                // requests need not wake it for each span.
                first = self.spans.recv(), if batch.is_empty() => match first {
                    Some(span) => span.export_into(&self.scope, &mut batch),
                    None => return,
                },
                () = company(self.interval, &self.hurry), if !batch.is_empty() => {
                    self.send_all(&mut batch).await;
                }
                Some(done) = self.flushes.recv() => {
                    self.send_all(&mut batch).await;
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(());
                }
            }
        }
    }

    async fn send_all(&mut self, batch: &mut Vec<SpanData>) {
        // What comes while sending waits for the next batch, or a flush would never end.
        let waiting = self.spans.len();
        for _ in 0..waiting {
            if let Ok(span) = self.spans.try_recv() {
                span.export_into(&self.scope, batch);
            }
            if batch.len() >= BATCH {
                self.send(std::mem::take(batch)).await;
            }
        }
        if !batch.is_empty() {
            self.send(std::mem::take(batch)).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let many = batch.len() as u64;
        match self.otlp.export(batch).await {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.dropped.inc_by(many);
                // Once per outage; the counter tells the rest.
                if !std::mem::replace(&mut self.failing, true) {
                    log::warn!("the trace collector does not take spans, they are lost: {error}");
                }
            }
        }
    }
}

async fn company(interval: Duration, hurry: &Notify) {
    tokio::select! {
        () = tokio::time::sleep(interval) => {}
        () = hurry.notified() => {}
    }
}

/// Requests whose spans may wait.
const QUEUE: usize = 4096;

/// Spans sent at once: at about 1 KiB each, well within what collectors take.
const BATCH: usize = 512;

/// Longest that one request to the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
