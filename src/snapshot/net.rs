//! A set of networks, for trust and client conditions.
//! It must not know what being in the set means.
//! Built by `config::compile`, asked for every connection and request that has such a condition.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks. IPv4 addresses mapped into IPv6 are treated as IPv4.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NetSet(Box<[IpNet]>);

impl NetSet {
    /// A set of these networks.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> NetSet {
        NetSet(nets.into_iter().map(|net| net.trunc()).collect())
    }

    /// Only this machine: 127.0.0.0/8 and ::1.
    pub fn loopback() -> NetSet {
        let nets = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a literal network"));
        NetSet::new(nets)
    }

    /// Whether no network is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks, for views.
    pub fn nets(&self) -> &[IpNet] {
        &self.0
    }

    /// Whether the address is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_count_as_ipv4() {
        let set = NetSet::new(["10.0.0.0/8".parse().unwrap()]);

        assert!(set.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!set.contains("11.0.0.1".parse().unwrap()));
        assert!(NetSet::loopback().contains("::1".parse().unwrap()));
    }
}
