//! Mutual TLS between workloads: what listeners ask of callers and pools of endpoints, and how both are proven.
//! It must not know sockets; handshakes are made in `proxy`, and verification is `identity::verify`.
//! Built by `config::compile`; read for each connection.

use std::any::Any;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use pingora::protocols::tls::{HandshakeCompleteHook, SslDigest, TlsRef};
use pingora::tls::error::ErrorStack;
use pingora::tls::ext;
use pingora::tls::ssl::{
    select_next_proto, AlpnError, Ssl, SslAcceptor, SslContext, SslMethod, SslMode, SslOptions,
    SslRef, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use pingora::upstreams::peer::HttpPeer;
use windrose_plugins::contract::{causes, Cause};

use super::identity::{IdPattern, Identity, Proof, Rejection, SpiffeId, Svid, Workload};
use super::tls::reason;

/// What becomes of callers in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Refused.
    Strict,
    /// Let in, without a principal.
    Permissive,
}

impl Mode {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Strict => "strict",
            Mode::Permissive => "permissive",
        }
    }
}

/// Mutual TLS of a listener.
pub struct Inbound {
    /// Who workloads here are.
    pub identity: Arc<Identity>,
    /// What becomes of callers in the clear.
    pub mode: Mode,
    /// The same at single ports, by original destination.
    pub ports: Box<[(u16, Mode)]>,
    /// The workload every connection is for; `None` to find it by port or name.
    pub workload: Option<Arc<Workload>>,
    /// Whether connections carry tunnels.
    pub hbone: bool,
    /// Time for a handshake.
    pub handshake_timeout: Duration,
    /// The context of every handshake. Certificates are put in for each.
    pub acceptor: SslAcceptor,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Inbound {
    /// The mode at a port.
    pub fn mode(&self, port: u16) -> Mode {
        let own = self.ports.iter().find(|(one, _)| *one == port);
        own.map_or(self.mode, |(_, mode)| *mode)
    }

    /// The workload that a connection is for: the listener's, else the one at the port, else the one whose name was asked for,
    /// else the one the listener belongs to, else the only one if it is known by nothing.
    pub fn workload(&self, listener: &str, port: u16, sni: Option<&str>) -> Option<&Arc<Workload>> {
        let identity = &self.identity;
        let named = || sni.and_then(|name| identity.workload(name));
        self.workload
            .as_ref()
            .or_else(|| identity.at_port(port))
            .or_else(named)
            .or_else(|| identity.at_listener(listener))
            .or_else(|| identity.only_callee())
    }

    /// The workload in whose name the connection's requests go on, and whose limits they count for: the same without the name that
    /// was asked for. The other end chooses that, and then sends what it likes.
    pub fn placed(&self, listener: &str, port: u16) -> Option<&Arc<Workload>> {
        self.workload(listener, port, None)
    }
}

/// The context of a listener: TLS 1.3, a certificate asked of everybody, any taken for the moment, since it is judged after the
/// handshake with a word for what is wrong; no resumption, which would skip that. `alpn` is `None` where bytes are carried.
///
/// # Errors
/// What OpenSSL refuses.
pub fn acceptor(alpn: Option<&'static [u8]>) -> Result<SslAcceptor, String> {
    let text = |error: ErrorStack| reason(&error);
    let mut builder = SslAcceptor::mozilla_modern_v5(SslMethod::tls()).map_err(text)?;
    builder
        .set_min_proto_version(Some(SslVersion::TLS1_3))
        .map_err(text)?;
    builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    builder
        .set_session_id_context(b"windrose mtls")
        .map_err(text)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0).map_err(text)?;
    builder.set_alpn_select_callback(move |_, offered| {
        // Somebody who offers only protocols of his own carries bytes.
        let chosen = alpn.and_then(|known| select_next_proto(known, offered));
        chosen.ok_or(AlpnError::NOACK)
    });
    Ok(builder.build())
}

/// Shows a workload's certificate in a handshake.
///
/// # Errors
/// What OpenSSL refuses.
pub fn show(svid: &Svid, ssl: &mut SslRef) -> Result<(), ErrorStack> {
    let own = svid.own();
    ext::ssl_use_certificate(ssl, own.leaf())?;
    ext::ssl_use_private_key(ssl, own.key())?;
    let mut links = own.intermediates().iter();
    links.try_for_each(|link| ext::ssl_add_chain_cert(ssl, link))
}

/// What the peer of a handshake proved.
///
/// # Errors
/// Why it proved nothing.
pub fn prove(ssl: &SslRef, identity: &Identity) -> Result<Arc<Proof>, Rejection> {
    let Some(leaf) = ssl.peer_certificate() else {
        let detail = "no certificate was shown".to_owned();
        return Err(Rejection {
            cause: &causes::MTLS_NO_CERTIFICATE,
            detail,
        });
    };
    if ssl.version2() != Some(SslVersion::TLS1_3) {
        let detail = format!(
            "it agreed on {} only; mutual TLS is made with TLS 1.3",
            ssl.version_str()
        );
        return Err(Rejection {
            cause: &causes::UPSTREAM_TLS,
            detail,
        });
    }
    let (registry, on_expiry) = (&identity.registry, identity.on_expiry);
    registry.prove(leaf, ssl.peer_cert_chain(), on_expiry)
}

/// A workload's certificate that can be shown now; waits for the first one as long as the hold.
///
/// # Errors
/// Why there is none.
pub async fn current(workload: &Workload, hold: Duration) -> Result<Arc<Svid>, String> {
    let svid = match workload.held.svid() {
        Some(svid) => Some(svid),
        // Rare, and a timer is large.
        None if hold.is_zero() => None,
        None => Box::pin(workload.held.wait(hold)).await,
    };
    let name = &workload.name;
    let svid = svid.ok_or_else(|| format!("workload=\"{name}\" has no certificate"))?;
    match svid.not_after > unix_now() {
        true => Ok(svid),
        false => Err(format!(
            "the certificate of workload=\"{name}\" has expired"
        )),
    }
}

/// The word for a handshake that failed, by what OpenSSL says of it: a certificate without its key, or an alert of the peer's about
/// the certificate that it saw; else the given one.
pub fn failed(error: &str, otherwise: &'static Cause) -> &'static Cause {
    let is_alert = || {
        let (_, alert) = error.split_once(" alert ")?;
        let about = [
            "certificate",
            "bad certificate",
            "unsupported certificate",
            "unknown ca",
            "access denied",
        ];
        Some(about.iter().any(|one| alert.starts_with(one)))
    };
    if error.contains("bad signature") {
        &causes::MTLS_KEY
    } else if is_alert() == Some(true) {
        &causes::MTLS_REFUSED
    } else {
        otherwise
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The context of every handshake that [`Outbound::handshake`] begins. Without the system's roots, which nothing is judged by.
static CLIENT: LazyLock<Result<SslContext, ErrorStack>> = LazyLock::new(|| {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_verify(SslVerifyMode::NONE);
    // As every stream of `tokio_ssl` wants it.
    builder.set_mode(
        SslMode::AUTO_RETRY | SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::ENABLE_PARTIAL_WRITE,
    );
    Ok(builder.build())
});

/// Mutual TLS to the endpoints of a pool.
pub struct Outbound {
    /// Who workloads here are.
    pub identity: Arc<Identity>,
    /// Who endpoints may be.
    pub peers: Box<[IdPattern]>,
    /// Who calls; `None` for the workload that does.
    pub workload: Option<Arc<Workload>>,
    /// The name to ask for; never empty.
    pub sni: String,
    /// The port of HBONE on the endpoints' nodes; `None` for mutual TLS with the endpoints themselves.
    pub hbone: Option<u16>,
    hook: HandshakeCompleteHook,
    fingerprint: u64,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Outbound {
    fn eq(&self, other: &Outbound) -> bool {
        let who = |one: &Outbound| {
            let workload = one.own()?;
            Some((
                workload.name.clone(),
                workload.id.clone(),
                workload.matches.is_empty(),
                (one.identity.hold, one.identity.on_expiry),
            ))
        };
        (&self.peers, &self.sni, self.hbone, who(self))
            == (&other.peers, &other.sni, other.hbone, who(other))
    }
}

/// Who calls, and the certificate to show.
pub type Caller = (Arc<Workload>, Arc<Svid>);

/// What the handshake with an endpoint proved; kept with its connection.
struct Proven(Result<Arc<Proof>, Rejection>);

impl Outbound {
    /// Mutual TLS with these endpoints.
    pub fn new(
        identity: Arc<Identity>,
        peers: Box<[IdPattern]>,
        workload: Option<Arc<Workload>>,
        sni: String,
    ) -> Outbound {
        let judge = identity.clone();
        let hook: HandshakeCompleteHook = Arc::new(move |ssl: &TlsRef| {
            let proven = Proven(prove(ssl, &judge));
            Some(Arc::new(proven) as Arc<dyn Any + Send + Sync>)
        });
        Outbound {
            fingerprint: hash((&peers, &sni)),
            identity,
            peers,
            workload,
            sni,
            hbone: None,
            hook,
        }
    }

    /// The same, through the endpoints' nodes if there is a port.
    pub fn through(self, hbone: Option<u16>) -> Outbound {
        Outbound { hbone, ..self }
    }

    /// Who calls, and the certificate to show: the pool's own workload, else the given one, else the only one if it is known by
    /// nothing.
    ///
    /// # Errors
    /// Why nobody can call.
    pub async fn caller(&self, given: Option<&Arc<Workload>>) -> Result<Caller, String> {
        let found = self.workload.as_ref().or(given);
        self.as_workload(found.or_else(|| self.identity.only_caller()))
            .await
    }

    /// Who looks after the health of endpoints, and the certificate to show: no workload calls then, so that the node's only one is
    /// taken however it is known.
    ///
    /// # Errors
    /// Why nobody can.
    pub async fn prober(&self) -> Result<Caller, String> {
        self.as_workload(self.own()).await
    }

    fn own(&self) -> Option<&Arc<Workload>> {
        self.workload.as_ref().or_else(|| self.identity.only())
    }

    async fn as_workload(&self, workload: Option<&Arc<Workload>>) -> Result<Caller, String> {
        let workload = workload.ok_or("it is not known which workload calls")?;
        let svid = current(workload, self.identity.hold).await?;
        Ok((workload.clone(), svid))
    }

    /// A handshake with an endpoint that is not begun yet, for connections that are not Pingora's. What the endpoint shows is taken
    /// for the moment: [`prove`] judges it, with a word for what is wrong.
    ///
    /// # Errors
    /// What OpenSSL refuses.
    pub fn handshake(&self, svid: &Svid) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(CLIENT.as_ref().map_err(Clone::clone)?)?;
        if self.sni.parse::<IpAddr>().is_err() {
            ssl.set_hostname(&self.sni)?;
        }
        show(svid, &mut ssl)?;
        Ok(ssl)
    }

    /// Makes a peer one over mutual TLS. Its connections are those of this workload with this certificate, to these peers, under
    /// these roots: nobody else's are found for it.
    pub fn dress(&self, peer: &mut HttpPeer, workload: &Workload, svid: &Svid) {
        peer.client_cert_key = Some(svid.own().clone());
        let options = &mut peer.options;
        // The hook verifies, with a word for what is wrong; what it found is asked before the first byte.
        options.verify_cert = false;
        options.verify_hostname = false;
        options.upstream_tls_handshake_complete_hook = Some(self.hook.clone());
        peer.group_key ^= self.group(workload, svid);
    }

    /// What keeps connections of other workloads, certificates, peers and roots apart.
    pub fn group(&self, workload: &Workload, svid: &Svid) -> u64 {
        let generation = self.identity.registry.trust().generation;
        hash((self.fingerprint, &workload.id, svid.fingerprint, generation))
    }

    /// What the endpoint of a connection proved, if it is one of those wanted. Asked of each connection, new or kept.
    ///
    /// # Errors
    /// The word for why not, and more for the log.
    pub fn check<'d>(
        &self,
        digest: Option<&'d SslDigest>,
    ) -> Result<&'d Arc<Proof>, (&'static Cause, String)> {
        let proven = digest.and_then(|digest| digest.extension.get::<Proven>());
        match proven.map(|proven| &proven.0) {
            Some(Ok(proof)) => match proof.fallen() {
                None => self.wants(&proof.id).map(|()| proof),
                Some(cause) => Err((cause, format!("{}: judged again", proof.id))),
            },
            Some(Err(rejection)) => Err((rejection.cause, rejection.detail.clone())),
            None => Err((
                &causes::MTLS_NO_CERTIFICATE,
                "nothing was proven in the handshake".into(),
            )),
        }
    }

    /// What the endpoint of a connection proved, whoever it is.
    pub fn proof<'d>(&self, digest: Option<&'d SslDigest>) -> Option<&'d Arc<Proof>> {
        let proven = digest?.extension.get::<Proven>()?;
        proven.0.as_ref().ok()
    }

    /// Whether an ID is among the peers.
    ///
    /// # Errors
    /// The word for why not, and more for the log.
    pub fn wants(&self, id: &SpiffeId) -> Result<(), (&'static Cause, String)> {
        if self.peers.iter().any(|peer| peer.matches(id)) {
            return Ok(());
        }
        let wanted: Vec<&str> = self.peers.iter().map(IdPattern::as_str).collect();
        let detail = format!("the endpoint is \"{id}\", expected: {}", wanted.join(", "));
        Err((&causes::MTLS_WRONG_PEER, detail))
    }
}

fn hash(value: impl Hash) -> u64 {
    ahash::RandomState::with_seeds(5, 6, 7, 8).hash_one(value)
}

#[cfg(test)]
mod tests {
    use super::super::identity::tests::Maker;
    use super::super::identity::{Identities, Matches, OnExpiry, Seed, Source, TrustDomain};
    use super::*;

    fn workload(registry: &Identities, name: &str, id: &str, ports: &[u16]) -> Arc<Workload> {
        let id = SpiffeId::parse(id).unwrap();
        Arc::new(Workload {
            bounds: Default::default(),
            name: name.into(),
            held: registry.held(name, &id),
            id,
            matches: Matches {
                ports: ports.into(),
                ..Matches::default()
            },
            files: None,
            service: None,
        })
    }

    fn identity() -> Arc<Identity> {
        let registry = Arc::<Identities>::default();
        let web = workload(&registry, "web", "spiffe://td/web", &[80]);
        let shop = workload(&registry, "shop", "spiffe://td/shop", &[90]);
        node(registry, vec![web, shop])
    }

    fn node(registry: Arc<Identities>, workloads: Vec<Arc<Workload>>) -> Arc<Identity> {
        Arc::new(Identity {
            trust_domain: TrustDomain::parse("td").unwrap(),
            source: Source::Files { bundle: "b".into() },
            workloads,
            federated: Vec::new(),
            hold: Duration::ZERO,
            on_expiry: OnExpiry::Keep,
            seed: Seed::default(),
            registry,
        })
    }

    #[test]
    fn handshakes_fail_with_a_word_for_whose_certificate_it_was() {
        let of = |text: &str| failed(text, &causes::TLS_HANDSHAKE).name;

        assert_eq!(
            of("error:0A000415:SSL routines:x:ssl/tls alert certificate expired:y"),
            "mtls.refused"
        );
        assert_eq!(
            of("error:0A000418:SSL routines:x:tlsv1 alert unknown ca:y"),
            "mtls.refused"
        );
        assert_eq!(
            of("error:0A00045C:SSL routines:x:tlsv13 alert certificate required:y"),
            "mtls.refused"
        );
        assert_eq!(
            of("error:0A00007B:SSL routines:x:bad signature:y"),
            "mtls.key"
        );
        assert_eq!(
            of("error:0A000410:SSL routines:x:ssl/tls alert handshake failure:y"),
            causes::TLS_HANDSHAKE.name
        );
        assert_eq!(of("certificate verify failed"), causes::TLS_HANDSHAKE.name);
    }

    #[test]
    fn connections_are_for_the_workload_at_the_port_or_by_name() {
        let inbound = Inbound {
            identity: identity(),
            mode: Mode::Strict,
            ports: Box::new([(90, Mode::Permissive)]),
            workload: None,
            hbone: false,
            handshake_timeout: Duration::ZERO,
            acceptor: acceptor(None).unwrap(),
        };
        let name = |port, sni| {
            inbound
                .workload("in", port, sni)
                .map(|one| one.name.to_string())
        };

        assert_eq!(name(80, Some("shop")), Some("web".into()));
        assert_eq!(name(81, Some("shop")), Some("shop".into()));
        assert_eq!(name(81, None), None);
        let placed = |port| inbound.placed("in", port).map(|one| one.name.to_string());
        assert_eq!(placed(80), Some("web".into()));
        assert_eq!(
            placed(81),
            None,
            "a name that was asked for is nobody's right"
        );
        assert_eq!(
            (inbound.mode(80), inbound.mode(90)),
            (Mode::Strict, Mode::Permissive)
        );
    }

    /// A node with one workload.
    fn alone(id: &str, ports: &[u16]) -> Arc<Identity> {
        let registry = Arc::<Identities>::default();
        let web = workload(&registry, "web", id, ports);
        web.held.put(Maker::new("root").svid(id), None);
        node(registry, vec![web])
    }

    #[tokio::test]
    async fn the_only_workload_is_everybodys_unless_it_is_known_by_something() {
        let inbound = |identity| Inbound {
            identity,
            mode: Mode::Strict,
            ports: Box::default(),
            workload: None,
            handshake_timeout: Duration::ZERO,
            hbone: false,
            acceptor: acceptor(None).unwrap(),
        };
        let outbound = |identity| Outbound::new(identity, Box::default(), None, "pool".into());
        let (anyone, known) = (
            alone("spiffe://td/web", &[]),
            alone("spiffe://td/web", &[80]),
        );

        let (to_anyone, to_known) = (inbound(anyone.clone()), inbound(known.clone()));
        let (by_anyone, by_known) = (outbound(anyone), outbound(known));

        assert!(to_anyone.workload("in", 81, None).is_some());
        assert!(to_known.workload("in", 81, None).is_none());
        assert!(to_known.workload("in", 80, None).is_some());
        assert!(by_anyone.caller(None).await.is_ok());
        assert!(by_known.caller(None).await.is_err());
        assert!(by_known.prober().await.is_ok(), "no workload calls then");
    }

    #[test]
    fn pools_are_kept_only_while_they_call_as_the_same_workload() {
        let outbound = |id: &str, ports: &[u16]| {
            Outbound::new(alone(id, ports), Box::default(), None, "pool".into())
        };

        let before = outbound("spiffe://td/web", &[]);

        assert!(before == outbound("spiffe://td/web", &[]));
        assert!(before != outbound("spiffe://td/other", &[]), "another ID");
        assert!(
            before != outbound("spiffe://td/web", &[80]),
            "not anybody's"
        );
    }

    #[tokio::test]
    async fn connections_are_kept_apart_by_caller_certificate_peers_and_roots() {
        let identity = identity();
        let maker = Maker::new("root");
        let [web, shop] = [&identity.workloads[0], &identity.workloads[1]];
        web.held.put(maker.svid("spiffe://td/web"), None);
        shop.held.put(maker.svid("spiffe://td/shop"), None);
        let to = |pattern: &str| {
            let peers = [IdPattern::parse(pattern).unwrap()];
            Outbound::new(identity.clone(), Box::new(peers), None, "pool".into())
        };
        let (one, other) = (to("spiffe://td/a"), to("spiffe://td/b"));
        let key = |out: &Outbound, workload: &Workload| {
            let mut peer = HttpPeer::new("127.0.0.1:1", true, "pool".into());
            out.dress(&mut peer, workload, &workload.held.svid().unwrap());
            assert!(peer.options.upstream_tls_handshake_complete_hook.is_some());
            peer.group_key
        };

        let before = key(&one, web);
        assert_eq!(before, key(&one, web));
        assert_ne!(before, key(&one, shop));
        assert_ne!(before, key(&other, web));
        web.held.put(maker.svid("spiffe://td/web"), None);
        let renewed = key(&one, web);
        assert_ne!(before, renewed);
        identity
            .registry
            .set_source_bundles([(identity.trust_domain.clone(), maker.bundle())].into());
        assert_ne!(renewed, key(&one, web));

        assert!(
            one.caller(None).await.is_err(),
            "two workloads, and nothing tells which one calls"
        );
        assert_eq!(one.caller(Some(shop)).await.unwrap().0.name, shop.name);
        assert_eq!(one.check(None).unwrap_err().0.name, "mtls.no_certificate");
        assert_eq!(one.wants(&shop.id).unwrap_err().0.name, "mtls.wrong_peer");
    }
}
