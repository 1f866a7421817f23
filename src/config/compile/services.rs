//! Where services stand in the tables of listeners besides their hosts: under the addresses they are called at.
//! It must not know their pools.
//! Called by `compile::routes`.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::schema::OfService;
use crate::snapshot::route::{Candidate, Conditions, DestinationPattern};

/// The candidate under each of a service's addresses. What it stands under is a condition as well, for whoever reads the table.
pub(super) fn at(
    service: &OfService,
    candidate: Candidate,
) -> impl Iterator<Item = (SocketAddr, Candidate)> + '_ {
    service.addresses.iter().map(move |address| {
        let pattern = DestinationPattern {
            net: Some(IpNet::from(*address)),
            ports: Box::new([service.port]),
        };
        let conditions = Conditions {
            destinations: Box::new([pattern]),
            // The destination has the port.
            port: None,
            ..(*candidate.conditions).clone()
        };
        let candidate = Candidate {
            conditions: Arc::new(conditions),
            ..candidate.clone()
        };
        (SocketAddr::new(*address, service.port), candidate)
    })
}
