//! Which addresses the proxy's own connections may lead to, where names and callers say where: a guard against being sent to
//! what only the proxy can reach (server-side request forgery).
//! It must not know who connects. It judges addresses, never names: what is judged is what is connected to, so that a name
//! that means something else a moment later (DNS rebinding) gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::net::NetSet;

/// A guard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guard {
    allow: NetSet,
    deny: NetSet,
}

impl Guard {
    /// One that lets `allow` through, and `deny` not even then.
    pub fn new(allow: NetSet, deny: NetSet) -> Guard {
        Guard { allow, deny }
    }

    /// Why nothing is to connect to this address; `None` where it may.
    ///
    /// An IPv6 address that stands for one of IPv4 is judged as that as well: somewhere on the way it becomes it.
    pub fn forbids(&self, address: IpAddr) -> Option<&'static str> {
        let address = address.to_canonical();
        let inner = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
        };
        let forms = || [Some(address), inner].into_iter().flatten();
        if forms().any(|one| self.deny.contains(one)) {
            return Some("is denied");
        }
        if self.allow.contains(address) {
            return None;
        }
        let of_inner = match inner {
            Some(inner) if self.allow.contains(inner) => None,
            Some(IpAddr::V4(inner)) => special_v4(inner),
            _ => None,
        };
        let own = match address {
            IpAddr::V4(address) => special_v4(address),
            // What it stands for says what it is.
            IpAddr::V6(address) if is_only_a_way(address) => None,
            IpAddr::V6(address) => special_v6(address),
        };
        of_inner.or(own)
    }
}

/// What an IPv4 address is besides a public one (IANA's registry of special-purpose addresses).
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (0, ..) => "is unspecified",
        (127, ..) => "is of the loopback",
        (169, 254, _) => "is of the link, where clouds hand out credentials",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "is private",
        (100, 64..=127, _) => "is of a provider's network",
        (192, 0, 0) | (192, 88, 99) => "is of a protocol",
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => "is for documentation",
        (198, 18..=19, _) => "is for benchmarks",
        (224..=239, ..) => "is of a group",
        (240..=255, ..) => "is reserved",
        _ if address == WIRE_SERVER => "is of a cloud's host",
        _ => return None,
    })
}

/// The same of IPv6, where only 2000::/3 is given out.
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [a, b, ..] = address.segments();
    Some(match (a, b) {
        _ if address.is_unspecified() => "is unspecified",
        _ if address.is_loopback() => "is of the loopback",
        (0xfe80..=0xfebf, _) => "is of the link",
        (0xfec0..=0xfeff, _) | (0xfc00..=0xfdff, _) => "is private",
        (0xff00..=0xffff, _) => "is of a group",
        (0x2001, 0x0db8) | (0x3fff, 0x0000..=0x0fff) => "is for documentation",
        (0x2001, 0x0000..=0x01ff) => "is of a protocol",
        (0x2000..=0x3fff, _) => return None,
        _ => "is reserved",
    })
}

/// The IPv4 address that one of IPv6 stands for: of NAT64 (RFC 6052, and RFC 8215's own prefix), 6to4 (RFC 3056), Teredo's server
/// and client (the latter is the one that matters; RFC 4380), ISATAP (RFC 5214), and the compatible form that nobody uses any more.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    Some(match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            of(high, low)
        }
        [0x2002, high, low, ..] => of(high, low),
        [0x2001, 0, _, _, _, _, high, low] => of(!high, !low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => of(high, low),
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, high, low] => of(high, low),
        _ => return None,
    })
}

/// Whether nothing has an IPv6 address of this sort but what is translated or carried to the IPv4 address in it. The others lead to hosts
/// of their own networks as well: of ISATAP, whose form any host may give itself, and of the prefix for translation within a network.
fn is_only_a_way(address: Ipv6Addr) -> bool {
    matches!(
        address.segments(),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x2002, ..] | [0x2001, 0, ..]
    )
}

/// Azure's host, which answers for its virtual machines from a public address.
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str], deny: &[&str]) -> Guard {
        let set = |nets: &[&str]| NetSet::new(nets.iter().map(|net| net.parse().unwrap()));
        Guard::new(set(allow), set(deny))
    }

    fn forbids(guard: &Guard, address: &str) -> bool {
        guard.forbids(address.parse().unwrap()).is_some()
    }

    #[test]
    fn what_is_not_public_is_forbidden_in_every_form() {
        let guard = Guard::default();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "2001:10::1",
            "2001:20::1",
            "100::1",
            "4000::1",
            "5f00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "2002:c0a8:1::1",
            "2001:0:1:2:3:4:80ff:fffe",
            "2600::5efe:10.0.0.1",
            "2600::200:5efe:127.0.0.1",
            "fd00::5efe:1.1.1.1",
            "fe80::200:5efe:1.1.1.1",
            "64:ff9b:1::1.1.1.1",
            "64:ff9b:1:7f00:0:100:101:101",
            "::1.1.1.1",
        ] {
            assert!(forbids(&guard, address), "{address}");
        }
    }

    #[test]
    fn what_is_public_is_not() {
        let guard = Guard::default();
        for address in [
            "1.1.1.1",
            "9.9.9.9",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "168.63.129.17",
            "2600::1",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
            "2001:200::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "2600::5efe:1.1.1.1",
        ] {
            assert!(!forbids(&guard, address), "{address}");
        }
    }

    #[test]
    fn networks_are_allowed_and_denied_also_by_what_an_address_stands_for() {
        let guard = guard(
            &["10.1.0.0/16", "fd00:1::/32", "127.0.0.0/8"],
            &["10.1.9.0/24", "1.1.1.0/24"],
        );

        for address in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "2002:a01:203::1",
            "fd00:1::5",
            "127.0.0.1",
        ] {
            assert!(!forbids(&guard, address), "{address}");
        }
        for address in [
            "10.2.0.1",
            "10.1.9.1",
            "64:ff9b::10.1.9.1",
            "::ffff:1.1.1.1",
            "2002:101:101::1",
            "fd00:2::1",
            "::1",
        ] {
            assert!(forbids(&guard, address), "{address}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_address_of_ipv4_is_judged_the_same_in_each_form(bits: u32) {
            let guard = guard(&["10.0.0.0/8"], &["8.0.0.0/8"]);
            let plain = Ipv4Addr::from(bits);
            let [a, b, c, d] = plain.octets();
            let expected = guard.forbids(plain.into());
            let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
            for form in [
                plain.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 1, 1, 0, 0, !high, !low),
            ] {
                proptest::prop_assert_eq!(guard.forbids(form.into()), expected, "{}", form);
            }
        }
    }
}
