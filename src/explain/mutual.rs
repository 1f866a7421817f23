//! Mutual TLS as people and programs are told of it: what a listener asks, who a pool's endpoints may be, who is shown.
//! It must not make handshakes, nor look at certificates.
//! Explanations and the admin pages show the same.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::snapshot::identity::{IdPattern, Workload};
use crate::snapshot::mtls::{Inbound, Outbound};

/// A workload and who it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSeen {
    /// Its name.
    pub name: String,
    /// Its SPIFFE ID.
    pub id: String,
}

/// Mutual TLS of a listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboundSeen {
    /// `strict` or `permissive`.
    pub mode: String,
    /// Ports that have another mode.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<u16, String>,
    /// The workload that callers meet; none where the port or the name they ask for decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadSeen>,
}

/// Mutual TLS of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboundSeen {
    /// Who endpoints may be.
    pub peers: Vec<String>,
    /// The workload that endpoints meet; none where it is the one that calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadSeen>,
}

/// What a listener asks of callers.
pub fn inbound(mtls: &Inbound) -> InboundSeen {
    let ports = mtls.ports.iter();
    // With several workloads the port, or the name asked for, goes before the listener they belong to.
    let workload = mtls.workload.as_ref().or_else(|| mtls.identity.only());
    InboundSeen {
        mode: mtls.mode.as_str().to_owned(),
        ports: ports
            .map(|(port, mode)| (*port, mode.as_str().to_owned()))
            .collect(),
        workload: workload.map(|one| seen(one)),
    }
}

/// Who endpoints of a pool may be, and who calls them.
pub fn outbound(mtls: &Outbound) -> OutboundSeen {
    let workload = mtls.workload.as_ref().or_else(|| mtls.identity.only());
    OutboundSeen {
        peers: mtls
            .peers
            .iter()
            .map(|peer| IdPattern::as_str(peer).to_owned())
            .collect(),
        workload: workload.map(|one| seen(one)),
    }
}

fn seen(workload: &Workload) -> WorkloadSeen {
    WorkloadSeen {
        name: workload.name.to_string(),
        id: workload.id.to_string(),
    }
}

impl fmt::Display for InboundSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mutual TLS, {}", self.mode)?;
        for (port, mode) in &self.ports {
            write!(f, ", {mode} at port {port}")?;
        }
        match &self.workload {
            Some(one) => write!(f, "; callers meet {}, {}", one.name, one.id),
            None => f.write_str("; the port or the name asked for says whom callers meet"),
        }
    }
}

impl fmt::Display for OutboundSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.peers.join(" or ");
        write!(f, "mutual TLS; endpoints have to be {peers}; ")?;
        match &self.workload {
            Some(one) => write!(f, "they meet {}, {}", one.name, one.id),
            None => f.write_str("they meet the workload that calls"),
        }
    }
}
