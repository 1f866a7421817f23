//! What connections are served with: the authority's own certificate, and whom it believes.
//! It must not know calls.
//! Made anew for the server when the state on disk changes or it gets old.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::error;
use openssl::error::ErrorStack;
use openssl::pkey::{PKeyRef, Private};
use openssl::ssl::{SslAcceptor, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode};
use openssl::x509::X509;

use crate::ca::authority::Authority;
use crate::ca::{certify, unix_now};
use crate::snapshot::identity::Trust;

/// The one in force.
#[derive(Default)]
pub(super) struct Owns(Mutex<Option<Own>>);

#[derive(Clone)]
pub(super) struct Own {
    pub(super) acceptor: SslAcceptor,
    pub(super) trust: Arc<Trust>,
    made: Instant,
    good_for: Duration,
    changed: Option<SystemTime>,
}

impl Owns {
    /// A change of roots shows at the next call. If none can be made, the last one is used on.
    pub(super) fn get(&self, authority: &Authority) -> Result<Own, String> {
        let changed = authority.changed();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |own: &&Own| own.changed == changed && own.made.elapsed() < own.good_for;
        if let Some(own) = held.as_ref().filter(is_fresh) {
            return Ok(own.clone());
        }
        let own = match (Own::make(authority, changed), &*held) {
            (Ok(own), _) => own,
            (Err(problem), None) => return Err(problem),
            (Err(problem), Some(last)) => {
                error!("its own certificate stays as it was: {problem}");
                Own {
                    made: Instant::now(),
                    good_for: RETRY,
                    changed,
                    ..last.clone()
                }
            }
        };
        *held = Some(own.clone());
        Ok(own)
    }
}

impl Own {
    fn make(authority: &Authority, changed: Option<SystemTime>) -> Result<Own, String> {
        let (chain, key, trust) = authority.own_identity()?;
        let told = |error: ErrorStack| error.to_string();
        let ends = chain.iter().map(|link| certify::ends(link).unwrap_or(0));
        let left = ends.min().unwrap_or(0).saturating_sub(unix_now());
        Ok(Own {
            acceptor: acceptor(&chain, &key).map_err(told)?,
            trust: Arc::new(trust),
            made: Instant::now(),
            // Where the issuer ends soon or has ended, the next one may be there at any moment.
            good_for: (Duration::from_secs(left) / 2).clamp(RETRY, OLDEST),
            changed,
        })
    }
}

fn acceptor(chain: &[X509], key: &PKeyRef<Private>) -> Result<SslAcceptor, ErrorStack> {
    // TLS 1.3 only.
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls_server())?;
    builder.set_certificate(&chain[0])?;
    for link in &chain[1..] {
        builder.add_extra_chain_cert(link.clone())?;
    }
    builder.set_private_key(key)?;
    // A resumed session would skip the certificate.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // What was read in may be a token: OpenSSL clears its own buffers then (`SSL_OP_CLEANSE_PLAINTEXT`, which the binding does not
    // name).
    builder.set_options(SslOptions::NO_TICKET | SslOptions::from_bits_retain(1 << 1));
    builder.set_num_tickets(0)?;
    // Any chain passes here: who needs one is judged after the handshake, by the same rules as everywhere in the mesh.
    builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    Ok(builder.build())
}

/// Its own certificate lives a day.
const OLDEST: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(5);
