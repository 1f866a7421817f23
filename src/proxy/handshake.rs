//! The TLS handshake of a downstream connection, within its time.
//! It must not know requests.
//! Called by `accept`; the certificate comes from the listener's termination at that moment.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::protocols::tls::server::handshake_with_callback;
use pingora::protocols::tls::{SslStream, TlsRef};
use windrose_plugins::contract::{causes, Principal};

use super::accept::Refusal;
use super::transport::Transport;
use crate::snapshot::certs::{principal, Cert, ClientAuth, Termination};
use crate::snapshot::listener::Listener;

/// What a handshake brought.
pub(super) struct Shaken {
    pub(super) version: &'static str,
    pub(super) http2: bool,
    pub(super) cert: Option<Arc<Cert>>,
    pub(super) principal: Option<Principal>,
}

struct Choice {
    termination: Arc<Termination>,
    cert: OnceLock<Option<Arc<Cert>>>,
}

#[async_trait]
impl TlsAccept for Choice {
    async fn certificate_callback(&self, ssl: &mut TlsRef) {
        let _ = self.cert.set(self.termination.install(ssl));
    }
}

/// Makes the handshake.
pub(super) async fn accept(
    transport: Transport,
    termination: &Arc<Termination>,
    listener: &Listener,
) -> Result<(SslStream<Transport>, Shaken), Refusal> {
    let choice = Choice {
        termination: termination.clone(),
        cert: OnceLock::new(),
    };
    let started = Instant::now();
    let handshake = handshake_with_callback(&termination.acceptor, transport, &choice);
    let stream =
        match tokio::time::timeout(termination.settings.handshake_timeout, Box::pin(handshake))
            .await
        {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failure(&choice, &error.to_string())),
            Err(_) => {
                return Err(Refusal::new(
                    &causes::CONNECTION_TIMEOUT,
                    "during the TLS handshake",
                ))
            }
        };
    let ssl = stream.ssl();
    listener.metrics.tls_handshake(
        ssl.version_str(),
        ssl.session_reused(),
        started.elapsed().as_secs_f64(),
    );
    let asks = termination.settings.client != ClientAuth::None;
    let leaf = if asks { ssl.peer_certificate() } else { None };
    let shaken = Shaken {
        version: ssl.version_str(),
        http2: ssl.selected_alpn_protocol() == Some(b"h2"),
        cert: choice.cert.get().cloned().flatten(),
        principal: leaf.and_then(|leaf| principal(&leaf)),
    };
    Ok((stream, shaken))
}

fn failure(choice: &Choice, error: &str) -> Refusal {
    let detail = detail(error);
    let cause = if matches!(choice.cert.get(), Some(None)) {
        &causes::NO_CERTIFICATE
    } else if choice.termination.settings.client != ClientAuth::None
        && error.contains("certificate")
    {
        &causes::TLS_CLIENT_CERTIFICATE
    } else {
        &causes::TLS_HANDSHAKE
    };
    Refusal::new(cause, detail)
}

/// OpenSSL's reason (`error:CODE:library:function:reason:file:line`), bounded and on one line.
fn detail(error: &str) -> String {
    let reason = error
        .split_once("error:")
        .and_then(|(_, rest)| rest.split(':').nth(3));
    let text = reason.unwrap_or(error).trim();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reason_is_told() {
        let error = "TLS accept() failed: error:0A000102:SSL routines:some_function:unsupported protocol:some.c:19:";

        assert_eq!(detail(error), "unsupported protocol");
        assert_eq!(detail("eof\n"), "eof");
    }
}
