//! The rules as a script of nftables.
//! It must not run anything.
//! Called by `kernel`, and to print a plan.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{route_mark, table, undo_nft, Family, Group, Takers, Wanted, Whom, DNS, MARK_MASK};

impl Wanted {
    /// The script for `nft -f`: one transaction that replaces whatever was there before.
    pub(in crate::cli::capture) fn nft(&self) -> String {
        let mut text = undo_nft(&self.name);
        let _ = writeln!(text, "table inet {} {{", table(&self.name));
        if self.outbound.has(false) {
            self.redirect_out(&mut text);
        }
        if self.outbound.has(true) {
            self.tproxy_out(&mut text);
        }
        if self.inbound.has(false) {
            self.redirect_in(&mut text);
        }
        if self.inbound.has(true) {
            self.tproxy_in(&mut text);
        }
        text.push_str("}\n");
        text
    }

    fn redirect_out(&self, text: &mut String) {
        begin(text, "outbound", "nat hook output priority -100");
        line(text, &format!("{OPENS} != syn return"));
        self.left_alone(text);
        redirect(text, &self.whose(), self.outbound);
        end(text);
    }

    /// Here every packet passes, not the first alone as in chains of kind `nat`, and not every packet has a socket that says whose it
    /// is. So the packet that opens a connection decides, and the connection's own mark tells those that follow: answers of servers, and
    /// connections that were open before, are never led round.
    fn tproxy_out(&self, text: &mut String) {
        let (mark, others) = (route_mark(&self.name), !MARK_MASK);
        begin(text, "mark_outbound", "route hook output priority -150");
        line(text, "ct direction reply return");
        line(text, &format!("{OPENS} == syn jump choose_outbound"));
        let is_ours = format!("ct mark & {MARK_MASK:#x} == {mark:#x}");
        line(
            text,
            &format!("{is_ours} meta mark set meta mark & {others:#010x} | {mark:#x}"),
        );
        end(text);

        text.push_str("\tchain choose_outbound {\n");
        self.left_alone(text);
        let whose = self.whose();
        for (family, _) in self.outbound.all(true) {
            let family = word(family);
            let set = format!("ct mark set ct mark & {others:#010x} | {mark:#x}");
            line(text, &format!("{whose}meta nfproto {family} {set}"));
        }
        end(text);

        begin(
            text,
            "take_outbound",
            "filter hook prerouting priority -150",
        );
        line(text, "iifname != \"lo\" return");
        let is_foreign = format!("meta mark & {MARK_MASK:#x} != {mark:#x}");
        line(text, &format!("{is_foreign} return"));
        tproxy(text, self.outbound);
        end(text);
    }

    fn redirect_in(&self, text: &mut String) {
        begin(text, "inbound", "nat hook prerouting priority -100");
        line(text, &format!("{OPENS} != syn return"));
        self.not_in(text);
        redirect(text, "", self.inbound);
        end(text);
    }

    fn tproxy_in(&self, text: &mut String) {
        begin(text, "take_inbound", "filter hook prerouting priority -149");
        line(text, "ct direction reply return");
        self.not_in(text);
        // It is for this machine anyhow: no mark has to lead it here.
        tproxy(text, self.inbound);
        end(text);
    }

    /// What goes out and is left alone, whoever it is of.
    fn left_alone(&self, text: &mut String) {
        if let Some(mark) = self.mark {
            line(text, &format!("meta mark {mark:#x} return"));
        }
        if let Some(proxy) = self.proxy {
            line(text, &format!("meta skuid {proxy} return"));
        }
        // What a machine says to itself is nobody else's.
        line(text, "oifname \"lo\" return");
        line(text, &format!("tcp dport {DNS} return"));
        self.skipped(text);
    }

    /// What packets are captured has to fit. To pass over those that do not fit is another thing: what has no user, and what is in
    /// a group less deep than the one asked for, fits neither way, and would be captured.
    fn whose(&self) -> String {
        match &self.whom {
            Whom::User(user) => format!("meta skuid {user} "),
            Whom::Cgroup(Group { path, folder }) => {
                let level = path.split('/').count();
                format!("socket cgroupv2 level {level} \"{folder}\" ")
            }
            Whom::Everybody => String::new(),
        }
    }

    fn not_in(&self, text: &mut String) {
        line(text, "iifname \"lo\" return");
        line(text, "fib daddr type != local return");
        if !self.own_ports.is_empty() {
            line(text, &format!("tcp dport {} return", set(&self.own_ports)));
        }
        if !self.inbound_ports.is_empty() {
            let ports = set(&self.inbound_ports);
            line(text, &format!("tcp dport != {ports} return"));
        }
        self.skipped(text);
    }

    fn skipped(&self, text: &mut String) {
        if !self.skip_ports.is_empty() {
            line(text, &format!("tcp dport {} return", set(&self.skip_ports)));
        }
        for family in Family::ALL {
            let nets: Vec<_> = self.nets(family).collect();
            if !nets.is_empty() {
                let rule = format!("{} daddr {} return", kind(family), set(&nets));
                line(text, &rule);
            }
        }
    }
}

/// Compared with `syn`, whether a packet opens a connection. To the kernel, a connection that was open before rules were in force can be
/// a new one at its next packet; led elsewhere it would break.
const OPENS: &str = "tcp flags & (fin | syn | rst | ack)";

fn redirect(text: &mut String, whose: &str, takers: Takers) {
    for (family, taker) in takers.all(false) {
        let (family, port) = (word(family), taker.port);
        let rule = format!("{whose}meta nfproto {family} meta l4proto tcp redirect to :{port}");
        line(text, &rule);
    }
}

fn tproxy(text: &mut String, takers: Takers) {
    for (family, taker) in takers.all(true) {
        let to = match taker.address {
            address if address.is_unspecified() => format!(":{}", taker.port),
            IpAddr::V4(address) => format!("{address}:{}", taker.port),
            IpAddr::V6(address) => format!("[{address}]:{}", taker.port),
        };
        let (family, kind) = (word(family), kind(family));
        let rule = format!("meta nfproto {family} meta l4proto tcp tproxy {kind} to {to} accept");
        line(text, &rule);
    }
}

/// A chain that sees TCP alone: everything else goes its own way, DNS over UDP, QUIC, ICMP.
fn begin(text: &mut String, name: &str, hook: &str) {
    let _ = writeln!(text, "\tchain {name} {{");
    line(text, &format!("type {hook}; policy accept;"));
    line(text, "meta l4proto != tcp return");
}

fn end(text: &mut String) {
    text.push_str("\t}\n");
}

fn line(text: &mut String, rule: &str) {
    let _ = writeln!(text, "\t\t{rule}");
}

fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn kind(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn set<T: ToString>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", values.join(", "))
}
