//! The rules as a script of iptables-restore, for one family of addresses.
//! It must not run anything.
//! Called by `kernel`, and to print a plan.

use std::fmt::Write as _;

use super::{chains, Family, Taker, Wanted, Whom, DNS};

impl Wanted {
    /// The script for `iptables-restore --noflush` (or `ip6tables-restore`); the jumps into its chains are made apart, as only
    /// those are not idempotent. REDIRECT only.
    pub(in crate::cli::capture) fn iptables(&self, family: Family) -> String {
        let [out, inn] = chains(&self.name);
        let mut text = format!("*nat\n:{out} - [0:0]\n:{inn} - [0:0]\n");
        if let Some(taker) = self.outbound.of(family) {
            self.chain_out(&mut text, &out, family, taker);
        }
        if let Some(taker) = self.inbound.of(family) {
            self.chain_in(&mut text, &inn, family, taker);
        }
        text.push_str("COMMIT\n");
        text
    }

    fn chain_out(&self, text: &mut String, chain: &str, family: Family, taker: Taker) {
        let mut returns = |condition: &str| {
            let _ = writeln!(text, "-A {chain} {condition} -j RETURN");
        };
        returns(NOT_OPENING);
        if let Some(mark) = self.mark {
            returns(&format!("-m mark --mark {mark:#x}"));
        }
        if let Some(proxy) = self.proxy {
            returns(&format!("-m owner --uid-owner {proxy}"));
        }
        match &self.whom {
            Whom::User(user) => returns(&format!("-m owner ! --uid-owner {user}")),
            Whom::Cgroup(group) => {
                returns(&format!("-m cgroup ! --path {}", quoted(&group.path)));
            }
            Whom::Everybody => {}
        }
        returns("-o lo");
        returns(&format!("-p tcp --dport {DNS}"));
        self.chain_skipped(text, chain, family);
        let port = taker.port;
        let _ = writeln!(text, "-A {chain} -p tcp -j REDIRECT --to-ports {port}");
    }

    fn chain_in(&self, text: &mut String, chain: &str, family: Family, taker: Taker) {
        let mut returns = |condition: &str| {
            let _ = writeln!(text, "-A {chain} {condition} -j RETURN");
        };
        returns(NOT_OPENING);
        returns("-i lo");
        returns("-m addrtype ! --dst-type LOCAL");
        for port in &self.own_ports {
            returns(&format!("-p tcp --dport {port}"));
        }
        self.chain_skipped(text, chain, family);
        let to = format!("-j REDIRECT --to-ports {}", taker.port);
        for port in &self.inbound_ports {
            let _ = writeln!(text, "-A {chain} -p tcp --dport {port} {to}");
        }
        if self.inbound_ports.is_empty() {
            let _ = writeln!(text, "-A {chain} -p tcp {to}");
        }
    }

    fn chain_skipped(&self, text: &mut String, chain: &str, family: Family) {
        for port in &self.skip_ports {
            let _ = writeln!(text, "-A {chain} -p tcp --dport {port} -j RETURN");
        }
        for net in self.nets(family) {
            let _ = writeln!(text, "-A {chain} -d {net} -j RETURN");
        }
    }
}

/// Connections that were open before the rules stay as they are.
const NOT_OPENING: &str = "-p tcp ! --syn";

/// A word of iptables-restore, which reads `\` before a character as that character; systemd writes `\x2d` into names of groups.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{word}\"")
}
