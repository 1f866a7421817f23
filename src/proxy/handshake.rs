//! The TLS handshake of a downstream connection, within its time.
//! It must not know requests.
//! Called by `accept`; the certificate comes from the listener's termination at that moment.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use http::HeaderValue;
use pingora::listeners::TlsAccept;
use pingora::protocols::tls::server::handshake_with_callback;
use pingora::protocols::tls::{SslStream, TlsRef};
use pingora::tls::hash::MessageDigest;
use windrose_plugins::contract::{causes, ClientCertificate, Principal, PrincipalKind};

use super::accept::Refusal;
use super::transport::Transport;
use crate::snapshot::certs::{principal, Cert, ClientAuth, Termination};
use crate::snapshot::identity::{Proof, SpiffeId, Svid, Workload};
use crate::snapshot::listener::Listener;
use crate::snapshot::mtls::{self, Inbound};

/// What a handshake brought.
pub(super) struct Shaken {
    pub(super) version: &'static str,
    pub(super) http2: bool,
    pub(super) cert: Option<Arc<Cert>>,
    pub(super) principal: Option<Principal>,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
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
    let certificate = if asks { certificate(ssl) } else { None };
    let shaken = Shaken {
        version: ssl.version_str(),
        http2: ssl.selected_alpn_protocol() == Some(b"h2"),
        cert: choice.cert.get().cloned().flatten(),
        principal: certificate.as_ref().and_then(|it| principal(it.leaf())),
        certificate,
    };
    Ok((stream, shaken))
}

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpn {
    Http2,
    Http1,
    /// Nothing was agreed.
    None,
}

/// What a handshake between workloads brought.
pub(super) struct Proven {
    pub(super) version: &'static str,
    pub(super) alpn: Alpn,
    /// Who the caller is.
    pub(super) principal: Principal,
    /// What the application is told of it.
    pub(super) told: HeaderValue,
    /// What the caller showed.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// What that rests on.
    pub(super) proof: Arc<Proof>,
}

struct Shown(Arc<Svid>);

#[async_trait]
impl TlsAccept for Shown {
    async fn certificate_callback(&self, ssl: &mut TlsRef) {
        if let Err(error) = mtls::show(&self.0, ssl) {
            log::error!(
                "certificate cannot be shown: id={} cause={error}",
                self.0.id
            );
        }
    }
}

/// Makes the handshake of a workload with another one, and judges the caller before anything of it is read.
pub(super) async fn mutual(
    transport: Transport,
    mtls: &Inbound,
    workload: &Workload,
    listener: &Listener,
) -> Result<(SslStream<Transport>, Proven), Refusal> {
    let no_identity = |detail| Refusal::new(&causes::MTLS_NO_IDENTITY, detail);
    let svid = mtls::current(workload, mtls.identity.hold)
        .await
        .map_err(no_identity)?;
    let shown = Shown(svid.clone());
    let started = Instant::now();
    let handshake = handshake_with_callback(&mtls.acceptor, transport, &shown);
    let stream = match tokio::time::timeout(mtls.handshake_timeout, Box::pin(handshake)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refusal(&error.to_string())),
        Err(_) => {
            let detail = "during the TLS handshake";
            return Err(Refusal::new(&causes::CONNECTION_TIMEOUT, detail));
        }
    };
    let ssl = stream.ssl();
    let took = started.elapsed().as_secs_f64();
    listener
        .metrics
        .tls_handshake(ssl.version_str(), ssl.session_reused(), took);
    let proof = mtls::prove(ssl, &mtls.identity)
        .map_err(|rejection| Refusal::new(rejection.cause, rejection.detail))?;
    let proven = Proven {
        version: ssl.version_str(),
        alpn: match ssl.selected_alpn_protocol() {
            Some(b"h2") => Alpn::Http2,
            Some(_) => Alpn::Http1,
            None => Alpn::None,
        },
        told: told(&svid, &proof.id, ssl),
        principal: Principal::new(PrincipalKind::Workload, proof.id.as_str()),
        certificate: certificate(ssl),
        proof,
    };
    Ok((stream, proven))
}

/// What the other end showed. The library keeps it as well, so it costs no copy.
fn certificate(ssl: &TlsRef) -> Option<Arc<ClientCertificate>> {
    let leaf = ssl.peer_certificate()?;
    let chain = ssl.peer_cert_chain().into_iter().flatten();
    let chain = chain.map(ToOwned::to_owned).collect();
    Some(Arc::new(ClientCertificate::new(leaf, chain)))
}

/// Whether a connection ended because of what its other side had proved itself with.
pub(super) fn unproven(proof: &Proof) -> Result<(), Refusal> {
    proof.fallen().map_or(Ok(()), |cause| {
        let detail = format!("{}: judged again while the connection was open", proof.id);
        Err(Refusal::new(cause, detail))
    })
}

/// `x-forwarded-client-cert` as Envoy writes it; IDs hold nothing that would need quotes.
fn told(own: &Svid, caller: &SpiffeId, ssl: &TlsRef) -> HeaderValue {
    let digest = ssl
        .peer_certificate()
        .and_then(|leaf| leaf.digest(MessageDigest::sha256()).ok());
    let digest = digest.as_deref().unwrap_or_default();
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let value = format!("By={};Hash={hash};URI={caller}", own.id);
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

fn refusal(error: &str) -> Refusal {
    let detail = detail(error);
    Refusal::new(mtls::failed(error, &causes::TLS_HANDSHAKE), detail)
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
