//! What a stream under way was let through on, so that it can be judged again by the policies of a later configuration.
//! It must not end anything itself; whoever asks does that.
//! Kept in the lease of a stream or connection, asked by `control::reload`.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::Method;
use windrose_plugins::contract::Principal;

use super::{authorize, Deaf, Ruled, Subject};
use crate::decide::Head;
use crate::snapshot::lease::Standing;
use crate::snapshot::policy::PolicySet;
use crate::snapshot::Snapshot;

/// What a stream was let through on.
pub struct Stood {
    /// Who it is in the end.
    pub principal: Option<Principal>,
    /// Whom the connection proved.
    pub peer: Option<Principal>,
    /// The client's address.
    pub client: IpAddr,
    /// The port that was connected to.
    pub port: Option<u16>,
    /// The listener.
    pub listener: Arc<str>,
    /// The route.
    pub route: Arc<str>,
    /// The pool.
    pub pool: Arc<str>,
    /// The name asked for in TLS.
    pub sni: Option<Box<str>>,
    /// The request; `None` for connections passed through as bytes.
    pub http: Option<Box<Asked>>,
    /// Why it is no longer allowed.
    pub refusal: Arc<Refusal>,
}

/// What was asked, as the decision saw it.
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Canonical host.
    pub host: Box<str>,
    /// Canonical path.
    pub path: Box<str>,
    /// The query.
    pub query: Option<Box<str>>,
    /// All fields.
    pub headers: HeaderMap,
}

/// Where a stream learns why it is no longer allowed.
#[derive(Debug, Default)]
pub struct Refusal(OnceLock<Box<Ruled>>);

impl Refusal {
    /// Why it is no longer allowed, if it is not.
    pub fn ruled(&self) -> Option<&Ruled> {
        self.0.get().map(|ruled| &**ruled)
    }
}

impl Stood {
    fn subject(&self) -> Subject<'_> {
        Subject {
            principal: self.principal.as_ref(),
            peer: self.peer.as_ref(),
            client: self.client,
            port: self.port,
            listener: &self.listener,
            route: &self.route,
            pool: &self.pool,
            sni: self.sni.as_deref(),
            http: self.http.as_ref().map(|asked| Head {
                method: &asked.method,
                host: &asked.host,
                path: &asked.path,
                query: asked.query.as_deref(),
                headers: &asked.headers,
            }),
        }
    }

    /// The policies for its place in a configuration; `None` where there are none, or where its place is gone, which ends it in
    /// another way.
    fn policies(&self, snapshot: &Snapshot) -> Option<Arc<PolicySet>> {
        let listener = snapshot.listener(&self.listener)?;
        let found = match self.http {
            Some(_) => listener.policies_of_requests(&self.route),
            None => listener.policies_of_bytes(&self.route),
        };
        found?.cloned()
    }
}

impl Standing for Stood {
    fn falls(&self, snapshot: &Snapshot) -> bool {
        let Some(policies) = self.policies(snapshot) else {
            return false;
        };
        let ruling = authorize(&policies, &self.subject(), &mut Deaf);
        let Some(ruled) = ruling.told().filter(|ruled| ruled.cause.is_some()) else {
            return false;
        };
        ruling.cut();
        let _ = self.refusal.0.set(ruled);
        true
    }
}
