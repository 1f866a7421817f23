//! Certificates from a SPIFFE Workload API, such as SPIRE's agent: one stream whose every message is the complete state.
//! It must not know connections of the proxy; what it hears goes to the desk.
//! Run by the keeper. Who a workload is, the agent finds out by the process that calls: this proxy.

mod call;
mod message;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::pace::Backoff;
use super::{Desk, Source};
use crate::snapshot::identity::{Bundle, SpireSocket, Svid, TrustDomain};
use call::{Ended, Stream};
use message::X509SvidResponse;

/// An agent's socket.
pub(super) struct Spire {
    socket: SpireSocket,
}

impl Spire {
    pub(super) fn new(socket: SpireSocket) -> Spire {
        Spire { socket }
    }
}

#[async_trait]
impl Source for Spire {
    async fn run(&self, desk: &Desk) {
        let mut backoff = Backoff::default();
        loop {
            let ended = self.follow(desk, &mut backoff).await;
            match ended {
                Ended::Later(problem) => {
                    desk.unreachable(format!("{}: {problem}", self.socket));
                    tokio::time::sleep(backoff.next(None)).await;
                }
                // The standard forbids to ask again: it would be answered the same.
                Ended::Never(problem) => {
                    let told = "it is not asked again before the configuration changes or the proxy restarts";
                    desk.unreachable(format!("{}: {problem}; {told}", self.socket));
                    return std::future::pending().await;
                }
            }
        }
    }
}

impl Spire {
    /// Hears one stream to its end.
    async fn follow(&self, desk: &Desk, backoff: &mut Backoff) -> Ended {
        let mut stream = match Stream::open(&self.socket).await {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        loop {
            match stream.next().await {
                Ok(message) => match take(message, desk) {
                    Ok(()) => {
                        desk.answered();
                        backoff.reset();
                    }
                    Err(problem) => desk.unreachable(format!(
                        "{}: what it sent is not used: {problem}",
                        self.socket
                    )),
                },
                Err(ended) => return ended,
            }
        }
    }
}

/// Puts a message into force, all of it or nothing: roots first.
fn take(message: X509SvidResponse, desk: &Desk) -> Result<(), String> {
    let mut bundles: HashMap<TrustDomain, Arc<Bundle>> = HashMap::new();
    for (name, der) in &message.federated_bundles {
        let name = name.strip_prefix("spiffe://").unwrap_or(name);
        let domain =
            TrustDomain::parse(name).map_err(|fact| format!("a federated bundle: {fact}"))?;
        let bundle = message::certificates(der).and_then(Bundle::new);
        bundles.insert(
            domain.clone(),
            Arc::new(bundle.map_err(|fact| format!("the bundle of {domain}: {fact}"))?),
        );
    }
    let mut svids = Vec::new();
    for one in message.svids {
        let shown: String = one
            .spiffe_id
            .chars()
            .take(200)
            .flat_map(char::escape_default)
            .collect();
        let bundle = message::certificates(&one.bundle).and_then(Bundle::new);
        let svid = one
            .into_pair()
            .and_then(|(chain, key)| Svid::new(chain, key));
        let svid = svid.map_err(|fact| format!("\"{shown}\": {fact}"))?;
        let bundle = bundle.map_err(|fact| format!("the bundle of \"{shown}\": {fact}"))?;
        bundles.insert(svid.id.trust_domain(), Arc::new(bundle));
        svids.push(svid);
    }
    // Without any of its own, roots of others are left as they are: nothing could be verified to anyone.
    if !bundles.is_empty() {
        desk.bundles(bundles);
    }
    desk.complete(svids);
    Ok(())
}
