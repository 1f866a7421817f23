//! The kernel's rules that bring connections to capturing listeners: as a script of nftables, and as one of iptables-restore.
//! It must not run anything, nor read configurations; it is told everything.
//! Called by `windrose capture`.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

/// Whose connections are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    /// Those of a user, by number.
    User(u32),
    /// Those of a control group and the groups below it, by its path in version 2.
    Cgroup(String),
    /// All of a network namespace.
    Everybody,
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

/// Takers by family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Takers {
    /// For IPv4.
    pub(super) v4: Option<Taker>,
    /// For IPv6.
    pub(super) v6: Option<Taker>,
}

impl Takers {
    fn all(self) -> impl Iterator<Item = (&'static str, Taker)> {
        let v4 = self.v4.map(|taker| ("ipv4", taker));
        let v6 = self.v6.map(|taker| ("ipv6", taker));
        v4.into_iter().chain(v6)
    }

    /// Whether anything is taken this way.
    pub(super) fn has(self, is_tproxy: bool) -> bool {
        self.all().any(|(_, taker)| taker.is_tproxy == is_tproxy)
    }
}

/// Everything the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Tells the rules of several proxies apart.
    pub(super) name: String,
    /// Whose connections.
    pub(super) whom: Whom,
    /// The user the proxy runs as, whose connections are never captured.
    pub(super) proxy: Option<u32>,
    /// The mark of the proxy's connections, which are never captured.
    pub(super) mark: Option<u32>,
    /// Who takes what goes out.
    pub(super) outbound: Takers,
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
    /// The table of nftables, which is all that has to be removed.
    pub(super) fn table(&self) -> String {
        table(&self.name)
    }

    /// The script for `nft -f`: one transaction that replaces whatever was there before.
    pub(super) fn nft(&self) -> String {
        let mut text = undo_nft(&self.name);
        let _ = writeln!(text, "table inet {} {{", self.table());
        self.nft_out(&mut text);
        self.nft_in(&mut text);
        text.push_str("}\n");
        text
    }

    fn nft_out(&self, text: &mut String) {
        if self.outbound.has(false) {
            self.nft_chain(text, "outbound", "nat hook output priority -100", |text| {
                self.nft_outbound(text);
                nft_redirect(text, self.outbound);
            });
        }
        if self.outbound.has(true) {
            self.nft_chain(
                text,
                "mark_outbound",
                "route hook output priority -150",
                |text| {
                    self.nft_outbound(text);
                    line(
                        text,
                        &format!("meta mark set {:#x}", route_mark(&self.name)),
                    );
                },
            );
            self.nft_chain(
                text,
                "take_outbound",
                "filter hook prerouting priority -150",
                |text| {
                    line(text, "iifname != \"lo\" return");
                    line(
                        text,
                        &format!("meta mark != {:#x} return", route_mark(&self.name)),
                    );
                    nft_tproxy(text, self.outbound);
                },
            );
        }
    }

    fn nft_in(&self, text: &mut String) {
        if self.inbound.has(false) {
            self.nft_chain(
                text,
                "inbound",
                "nat hook prerouting priority -100",
                |text| {
                    self.nft_inbound(text);
                    nft_redirect(text, self.inbound);
                },
            );
        }
        if self.inbound.has(true) {
            self.nft_chain(
                text,
                "take_inbound",
                "filter hook prerouting priority -149",
                |text| {
                    self.nft_inbound(text);
                    line(
                        text,
                        &format!("meta mark set {:#x}", route_mark(&self.name)),
                    );
                    nft_tproxy(text, self.inbound);
                },
            );
        }
    }

    fn nft_chain(&self, text: &mut String, name: &str, hook: &str, rules: impl Fn(&mut String)) {
        let _ = writeln!(text, "\tchain {name} {{");
        line(text, &format!("type {hook}; policy accept;"));
        // Everything that is not TCP goes its own way: DNS, QUIC, ICMP.
        line(text, "meta l4proto != tcp return");
        rules(text);
        text.push_str("\t}\n");
    }

    fn nft_outbound(&self, text: &mut String) {
        if let Some(mark) = self.mark {
            line(text, &format!("meta mark {mark:#x} return"));
        }
        if let Some(proxy) = self.proxy {
            line(text, &format!("meta skuid {proxy} return"));
        }
        match &self.whom {
            Whom::User(user) => line(text, &format!("meta skuid != {user} return")),
            Whom::Cgroup(path) => {
                let level = path.split('/').count();
                line(
                    text,
                    &format!("socket cgroupv2 level {level} != \"{path}\" return"),
                );
            }
            Whom::Everybody => {}
        }
        // What a machine says to itself is nobody else's.
        line(text, "oifname \"lo\" return");
        self.nft_skipped(text);
    }

    fn nft_inbound(&self, text: &mut String) {
        line(text, "iifname \"lo\" return");
        line(text, "fib daddr type != local return");
        if !self.own_ports.is_empty() {
            line(text, &format!("tcp dport {} return", set(&self.own_ports)));
        }
        if !self.inbound_ports.is_empty() {
            line(
                text,
                &format!("tcp dport != {} return", set(&self.inbound_ports)),
            );
        }
        self.nft_skipped(text);
    }

    fn nft_skipped(&self, text: &mut String) {
        if !self.skip_ports.is_empty() {
            line(text, &format!("tcp dport {} return", set(&self.skip_ports)));
        }
        for (family, is_v4) in [("ip", true), ("ip6", false)] {
            let of_family = self.skip_nets.iter();
            let of_family: Vec<&IpNet> = of_family
                .filter(|net| matches!(net, IpNet::V4(_)) == is_v4)
                .collect();
            if !of_family.is_empty() {
                line(text, &format!("{family} daddr {} return", set(&of_family)));
            }
        }
    }

    /// The script for `iptables-restore --noflush` (or `ip6tables-restore`); the jumps into its chains are made apart, as only
    /// those are not idempotent. REDIRECT only.
    pub(super) fn iptables(&self, is_v4: bool) -> String {
        let [out, inn] = chains(&self.name);
        let of = |takers: Takers| if is_v4 { takers.v4 } else { takers.v6 };
        let mut text = format!("*nat\n:{out} - [0:0]\n:{inn} - [0:0]\n");
        if let Some(taker) = of(self.outbound) {
            let mut rule = |condition: &str| {
                let _ = writeln!(text, "-A {out} {condition} -j RETURN");
            };
            if let Some(mark) = self.mark {
                rule(&format!("-m mark --mark {mark:#x}"));
            }
            if let Some(proxy) = self.proxy {
                rule(&format!("-m owner --uid-owner {proxy}"));
            }
            match &self.whom {
                Whom::User(user) => rule(&format!("-m owner ! --uid-owner {user}")),
                Whom::Cgroup(path) => rule(&format!("-m cgroup ! --path {path}")),
                Whom::Everybody => {}
            }
            rule("-o lo");
            self.iptables_skipped(&mut text, &out, is_v4);
            let _ = writeln!(
                text,
                "-A {out} -p tcp -j REDIRECT --to-ports {}",
                taker.port
            );
        }
        if let Some(taker) = of(self.inbound) {
            let mut rule = |condition: &str| {
                let _ = writeln!(text, "-A {inn} {condition} -j RETURN");
            };
            rule("-i lo");
            rule("-m addrtype ! --dst-type LOCAL");
            for port in &self.own_ports {
                rule(&format!("-p tcp --dport {port}"));
            }
            self.iptables_skipped(&mut text, &inn, is_v4);
            let to = format!("-j REDIRECT --to-ports {}", taker.port);
            for port in &self.inbound_ports {
                let _ = writeln!(text, "-A {inn} -p tcp --dport {port} {to}");
            }
            if self.inbound_ports.is_empty() {
                let _ = writeln!(text, "-A {inn} -p tcp {to}");
            }
        }
        text.push_str("COMMIT\n");
        text
    }

    fn iptables_skipped(&self, text: &mut String, chain: &str, is_v4: bool) {
        for port in &self.skip_ports {
            let _ = writeln!(text, "-A {chain} -p tcp --dport {port} -j RETURN");
        }
        let nets = self.skip_nets.iter();
        for net in nets.filter(|net| matches!(net, IpNet::V4(_)) == is_v4) {
            let _ = writeln!(text, "-A {chain} -d {net} -j RETURN");
        }
    }
}

/// The table of nftables by the name of a capture.
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

/// What routes TPROXY's packets to this machine: a mark, and the routing table it leads to. Two captures have two.
pub(super) fn route_mark(name: &str) -> u32 {
    let folded = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    0x5744_0000 | (name.bytes().fold(2_166_136_261, folded) & 0xffff)
}

fn nft_redirect(text: &mut String, takers: Takers) {
    for (family, taker) in takers.all().filter(|(_, taker)| !taker.is_tproxy) {
        line(
            text,
            &format!(
                "meta nfproto {family} meta l4proto tcp redirect to :{}",
                taker.port
            ),
        );
    }
}

fn nft_tproxy(text: &mut String, takers: Takers) {
    for (family, taker) in takers.all().filter(|(_, taker)| taker.is_tproxy) {
        let kind = if family == "ipv4" { "ip" } else { "ip6" };
        let to = match taker.address {
            address if address.is_unspecified() => format!(":{}", taker.port),
            IpAddr::V4(address) => format!("{address}:{}", taker.port),
            IpAddr::V6(address) => format!("[{address}]:{}", taker.port),
        };
        let rule = format!("meta nfproto {family} meta l4proto tcp tproxy {kind} to {to} accept");
        line(text, &rule);
    }
}

fn line(text: &mut String, rule: &str) {
    let _ = writeln!(text, "\t\t{rule}");
}

fn set<T: ToString>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taker(address: &str, port: u16, is_tproxy: bool) -> Option<Taker> {
        Some(Taker {
            address: address.parse().unwrap(),
            port,
            is_tproxy,
        })
    }

    fn wanted() -> Wanted {
        Wanted {
            name: "web".into(),
            whom: Whom::User(1001),
            proxy: Some(900),
            mark: Some(0x77),
            outbound: Takers {
                v4: taker("127.0.0.1", 15001, false),
                v6: taker("::1", 15001, false),
            },
            inbound: Takers::default(),
            inbound_ports: Vec::new(),
            own_ports: vec![15006, 9901],
            skip_ports: vec![22],
            skip_nets: vec!["10.9.0.0/16".parse().unwrap()],
        }
    }

    #[test]
    fn what_goes_out_is_redirected_but_for_the_proxy_and_what_is_skipped() {
        assert_eq!(
            wanted().nft(),
            "table inet windrose_web
delete table inet windrose_web
table inet windrose_web {
\tchain outbound {
\t\ttype nat hook output priority -100; policy accept;
\t\tmeta l4proto != tcp return
\t\tmeta mark 0x77 return
\t\tmeta skuid 900 return
\t\tmeta skuid != 1001 return
\t\toifname \"lo\" return
\t\ttcp dport { 22 } return
\t\tip daddr { 10.9.0.0/16 } return
\t\tmeta nfproto ipv4 meta l4proto tcp redirect to :15001
\t\tmeta nfproto ipv6 meta l4proto tcp redirect to :15001
\t}
}
"
        );
    }

    #[test]
    fn transparent_listeners_get_marks_and_sockets_of_their_own_family() {
        let text = Wanted {
            whom: Whom::Cgroup("system.slice/web.service".into()),
            outbound: Takers {
                v4: taker("0.0.0.0", 15001, true),
                v6: taker("::1", 15002, true),
            },
            ..wanted()
        }
        .nft();

        assert!(text.contains("socket cgroupv2 level 2 != \"system.slice/web.service\" return"));
        assert!(text.contains("type route hook output"));
        assert!(text.contains("meta nfproto ipv4 meta l4proto tcp tproxy ip to :15001 accept"));
        assert!(text.contains("tproxy ip6 to [::1]:15002 accept"));
        assert!(!text.contains("redirect"), "{text}");
    }

    #[test]
    fn what_comes_in_leaves_the_proxys_own_ports_alone() {
        let text = Wanted {
            outbound: Takers::default(),
            inbound: Takers {
                v4: taker("0.0.0.0", 15006, false),
                v6: None,
            },
            inbound_ports: vec![8080],
            ..wanted()
        }
        .nft();

        assert!(text.contains("fib daddr type != local return"));
        assert!(text.contains("tcp dport { 15006, 9901 } return"));
        assert!(text.contains("tcp dport != { 8080 } return"));
        assert!(text.contains("meta nfproto ipv4 meta l4proto tcp redirect to :15006"));
        assert!(!text.contains("chain outbound"), "{text}");
    }

    #[test]
    fn iptables_is_told_the_same_for_each_family() {
        let (v4, v6) = (wanted().iptables(true), wanted().iptables(false));

        assert!(v4.starts_with("*nat\n:WINDROSE_WEB_O - [0:0]\n:WINDROSE_WEB_I - [0:0]\n"));
        assert!(v4.contains("-A WINDROSE_WEB_O -m owner --uid-owner 900 -j RETURN"));
        assert!(v4.contains("-A WINDROSE_WEB_O -d 10.9.0.0/16 -j RETURN"));
        assert!(v4.ends_with("-A WINDROSE_WEB_O -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n"));
        assert!(!v6.contains("10.9.0.0"), "{v6}");
    }

    #[test]
    fn names_lead_to_marks_and_chains_of_their_own() {
        assert_ne!(route_mark("web"), route_mark("api"));
        assert!(chains("a_name_that_is_far_too_long")[0].len() <= 28);
    }
}
