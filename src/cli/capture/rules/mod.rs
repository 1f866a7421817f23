//! What is captured and by whom, and the names that the kernel's rules of one capture go by.
//! It must not run anything, nor read configurations; it is told everything.
//! Called by `windrose capture`; `nft` and `iptables` write the rules.

mod iptables;
mod nft;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

/// Whose connections are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    /// Those of a user, by number.
    User(u32),
    /// Those of a control group and the groups below it.
    Cgroup(Group),
    /// All of a network namespace.
    Everybody,
}

/// A control group of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Its path among those of version 2, as `/proc/PID/cgroup` has it, without the slash it begins with.
    pub(super) path: String,
    /// Its path below `/sys/fs/cgroup`, which is what nft takes; another one where version 1 is mounted there as well.
    pub(super) folder: String,
}

/// A listener that takes what is captured, of one family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taker {
    /// Where it is bound.
    pub(super) address: IpAddr,
    /// Its port.
    pub(super) port: u16,
    /// Whether it takes connections as they are.
    pub(super) is_tproxy: bool,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// Both.
    pub(super) const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// Whether a network is of it.
    fn has(self, net: &IpNet) -> bool {
        matches!(net, IpNet::V4(_)) == (self == Family::V4)
    }
}

/// Takers by family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Takers {
    /// For IPv4.
    pub(super) v4: Option<Taker>,
    /// For IPv6.
    pub(super) v6: Option<Taker>,
}

impl Takers {
    /// Who takes what is of a family.
    pub(super) fn of(self, family: Family) -> Option<Taker> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Whether anything is taken this way.
    pub(super) fn has(self, is_tproxy: bool) -> bool {
        self.all(is_tproxy).next().is_some()
    }

    /// Those that take this way.
    fn all(self, is_tproxy: bool) -> impl Iterator<Item = (Family, Taker)> {
        let of = move |family| Some((family, self.of(family)?));
        let all = Family::ALL.into_iter().filter_map(of);
        all.filter(move |(_, taker)| taker.is_tproxy == is_tproxy)
    }
}

/// Everything the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Tells the rules of several proxies apart.
    pub(super) name: String,
    /// Whose connections.
    pub(super) whom: Whom,
    /// A user none of whose connections are captured, as the proxy runs as it; none where something else tells the proxy's.
    pub(super) proxy: Option<u32>,
    /// The mark of the proxy's connections, which are never captured.
    pub(super) mark: Option<u32>,
    /// Who takes what goes out.
    pub(super) outbound: Takers,
    /// Whether what comes in was asked for.
    pub(super) takes_in: bool,
    /// Who takes what comes in.
    pub(super) inbound: Takers,
    /// Ports that are captured when they come in; empty for all.
    pub(super) inbound_ports: Vec<u16>,
    /// Ports of the proxy itself, which are reached as they are.
    pub(super) own_ports: Vec<u16>,
    /// Destination ports that are never captured.
    pub(super) skip_ports: Vec<u16>,
    /// Destination networks that are never captured.
    pub(super) skip_nets: Vec<IpNet>,
}

impl Wanted {
    /// Whether anything of a family is captured.
    pub(super) fn takes(&self, family: Family) -> bool {
        self.outbound.of(family).is_some() || self.inbound.of(family).is_some()
    }

    /// Whether packets of a family have to be led back to this machine: those that go out, for TPROXY.
    pub(super) fn routes(&self, family: Family) -> bool {
        let taker = self.outbound.of(family);
        taker.is_some_and(|taker| taker.is_tproxy)
    }

    fn nets(&self, family: Family) -> impl Iterator<Item = &IpNet> {
        self.skip_nets.iter().filter(move |net| family.has(net))
    }
}

/// The table of nftables by the name of a capture, which is all that has to be removed.
pub(super) fn table(name: &str) -> String {
    format!("windrose_{name}")
}

/// The script that removes a table, whether or not it is there.
pub(super) fn undo_nft(name: &str) -> String {
    let table = table(name);
    format!("table inet {table}\ndelete table inet {table}\n")
}

/// The chains of iptables by the name of a capture: for what goes out and what comes in. At most 28 characters.
pub(super) fn chains(name: &str) -> [String; 2] {
    let name: String = name.to_ascii_uppercase().chars().take(15).collect();
    [format!("WINDROSE_{name}_O"), format!("WINDROSE_{name}_I")]
}

/// The mark that leads TPROXY's packets back to this machine, within `MARK_MASK`. Two captures have two.
pub(super) fn route_mark(name: &str) -> u32 {
    let folded = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    match name.bytes().fold(2_166_136_261, folded) << 16 {
        0 => 0x5744_0000,
        mark => mark,
    }
}

/// The part of marks that is ours; the rest stays what others made it.
pub(super) const MARK_MASK: u32 = 0xffff_0000;

/// Long answers of name servers come over TCP: they are left alone like those over UDP.
const DNS: u16 = 53;
