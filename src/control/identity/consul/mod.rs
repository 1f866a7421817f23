//! Certificates from Consul's agent on this machine: its roots, and a leaf for each service, each a query that blocks until a change.
//! It must not know connections of the proxy; what it hears goes to the desk.
//! Run by the keeper. Consul renews leaves by itself; a query that returns brings the new one.

mod http;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use openssl::x509::X509;
use serde::Deserialize;
use tokio::time::{Duration, Instant};
use zeroize::Zeroize;

use super::pace::Backoff;
use super::{Desk, Source};
use crate::snapshot::identity::{Bundle, ConsulSettings, Svid, TrustDomain, Workload};
use http::{Agent, Answer};

/// An agent.
pub(super) struct Consul {
    agent: Agent,
}

impl Consul {
    pub(super) fn new(settings: &ConsulSettings) -> Consul {
        Consul {
            agent: Agent::new(settings),
        }
    }
}

#[async_trait]
impl Source for Consul {
    async fn run(&self, desk: &Desk) {
        let leaves = desk
            .identity()
            .workloads
            .iter()
            .map(|workload| self.leaf(desk, workload));
        tokio::join!(self.roots(desk), join_all(leaves));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Roots {
    trust_domain: String,
    roots: Vec<Root>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Root {
    root_cert: String,
}

#[derive(Deserialize)]
struct Leaf {
    #[serde(rename = "CertPEM")]
    cert: String,
    #[serde(rename = "PrivateKeyPEM")]
    key: String,
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Where a query that blocks goes on from.
#[derive(Default)]
struct Position {
    index: u64,
    backoff: Backoff,
    asked: Option<Instant>,
}

impl Position {
    /// Until the next question may be asked. An agent that answers at once, again and again, is not asked in a circle.
    async fn turn(&mut self) {
        if let Some(asked) = self.asked {
            tokio::time::sleep_until(asked + EACH).await;
        }
        self.asked = Some(Instant::now());
    }

    /// An index that goes back means that the agent began anew; 0 would not block.
    fn heard(&mut self, index: u64) {
        self.index = if index < self.index { 0 } else { index.max(1) };
        self.backoff.reset();
    }
}

impl Consul {
    async fn roots(&self, desk: &Desk) {
        let mut position = Position::default();
        loop {
            position.turn().await;
            let problem = match self
                .agent
                .get("/v1/agent/connect/ca/roots", position.index)
                .await
            {
                Ok(answer) => match trust(&answer, desk) {
                    Ok(()) => {
                        desk.answered();
                        position.heard(answer.index);
                        continue;
                    }
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            desk.unreachable(format!("{}: roots: {problem}", self.agent));
            position.index = 0;
            tokio::time::sleep(position.backoff.next(None)).await;
        }
    }

    async fn leaf(&self, desk: &Desk, workload: &Workload) {
        let service = workload.service.as_deref().unwrap_or(&workload.name);
        let path = format!("/v1/agent/connect/ca/leaf/{service}");
        let mut position = Position::default();
        loop {
            position.turn().await;
            let problem = match self.agent.get(&path, position.index).await {
                Ok(answer) => match svid(&answer) {
                    // One that does not fit is noted by the desk; the next change may bring another.
                    Ok(svid) => {
                        let _ = desk.put(workload, svid, None);
                        position.heard(answer.index);
                        continue;
                    }
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            desk.failed(
                workload,
                format!("{}: service {service}: {problem}", self.agent),
            );
            position.index = 0;
            tokio::time::sleep(position.backoff.next(None)).await;
        }
    }
}

/// Puts the roots into force: those of the trust domain that Consul says it has.
fn trust(answer: &Answer, desk: &Desk) -> Result<(), String> {
    let roots: Roots =
        serde_json::from_slice(&answer.body).map_err(|_| "its roots are not understood")?;
    let domain = TrustDomain::parse(&roots.trust_domain)
        .map_err(|fact| format!("its trust domain: {fact}"))?;
    let own = &desk.identity().trust_domain;
    if domain != *own {
        return Err(format!(
            "its trust domain is \"{domain}\", and `identity.trust_domain` is \"{own}\""
        ));
    }
    let pem: String = roots
        .roots
        .iter()
        .flat_map(|root| [root.root_cert.as_str(), "\n"])
        .collect();
    let roots = X509::stack_from_pem(pem.as_bytes()).map_err(|_| "its roots are not PEM")?;
    desk.bundles(HashMap::from([(domain, Arc::new(Bundle::new(roots)?))]));
    Ok(())
}

fn svid(answer: &Answer) -> Result<Svid, String> {
    // Not the parser's words: they may quote the key.
    let leaf: Leaf =
        serde_json::from_slice(&answer.body).map_err(|_| "its leaf is not understood")?;
    let svid = Svid::from_pem(leaf.cert.as_bytes(), leaf.key.as_bytes())?;
    // An agent that lost its servers has been seen to answer with one that had ended.
    match u64::try_from(svid.not_after).is_ok_and(|ends| ends > crate::ca::unix_now()) {
        true => Ok(svid),
        false => Err("its leaf has ended; the agent has not renewed it".into()),
    }
}

/// The least time between two questions of one kind.
const EACH: Duration = Duration::from_secs(1);
