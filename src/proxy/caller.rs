//! Which workload of this machine a connection comes from: its listener's, else by the user or control group of its socket, else
//! the only one if it is known by nothing.
//! It must not know what the workload may do.
//! Called once for each connection of a listener whose callers may be workloads; one question to the kernel, never a wait.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use windrose_plugins::contract::{Principal, PrincipalKind};

use super::diag::{ask, Origin};
use crate::snapshot::identity::{Identity, Workload};
use crate::snapshot::incoming::Socket;
use crate::snapshot::listener::{Listener, Role};

/// The workload that calls.
pub(super) fn workload(
    identity: &Identity,
    listener: &Listener,
    socket: &Socket,
    addresses: (SocketAddr, SocketAddr),
) -> Option<Arc<Workload>> {
    let found = identity.at_listener(&listener.name);
    let found = found.or_else(|| by_origin(identity, socket, addresses));
    found.or_else(|| identity.only_caller()).cloned()
}

/// Who calls, as policies know callers. Only for listeners that are there for callers on this machine: at others a workload is
/// whom the connection is for.
pub(super) fn known(listener: &Listener, caller: Option<&Workload>) -> Option<Box<Principal>> {
    let caller = caller.filter(|_| listener.role == Role::MeshOutbound)?;
    Some(Box::new(Principal::new(
        PrincipalKind::Workload,
        caller.id.to_string(),
    )))
}

fn by_origin<'i>(
    identity: &'i Identity,
    socket: &Socket,
    (client, local): (SocketAddr, SocketAddr),
) -> Option<&'i Arc<Workload>> {
    if !identity.asks_origin() {
        return None;
    }
    let origin = match socket {
        Socket::Unix(socket) => peer(socket),
        Socket::Tcp(_) => ask(client, local).unwrap_or_else(|error| {
            log::debug!(
                "the kernel does not say whose socket it is: client={client} cause={error}"
            );
            Origin::default()
        }),
    };
    let by_user = || origin.user.and_then(|user| identity.of_user(user));
    let by_number = || origin.group.and_then(|group| identity.in_group(group));
    let by_name = || {
        origin
            .group_name
            .as_deref()
            .and_then(|name| identity.in_cgroup(name))
    };
    // A control group is the narrower word: several services may run as one user.
    by_name().or_else(by_number).or_else(by_user)
}

/// The peer of a socket file.
fn peer(socket: &tokio::net::UnixStream) -> Origin {
    let Ok(peer) = socket.peer_cred() else {
        return Origin::default();
    };
    Origin {
        user: Some(peer.uid()),
        group_name: peer.pid().and_then(cgroup),
        ..Origin::default()
    }
}

/// The control group (v2) of a process: the line `0::/path`.
fn cgroup(pid: i32) -> Option<String> {
    let file = std::fs::File::open(format!("/proc/{pid}/cgroup")).ok()?;
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::"));
    group.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_files_say_who_is_at_their_other_end() {
        let (one, _other) = tokio::net::UnixStream::pair().unwrap();

        let origin = peer(&one);

        assert_eq!(origin.user, Some(rustix::process::getuid().as_raw()));
        assert_eq!(origin.group_name, cgroup(std::process::id() as i32));
    }
}
