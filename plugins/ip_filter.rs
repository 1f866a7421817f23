//! Lets clients in or keeps them out by address; where several ranges match, the most specific one decides.
//! It must not know how the address was found: the proxy has already settled PROXY protocol and forwarded headers.
//! Called by the chain of a listener (connections or requests) or of a route (requests).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Counter, Effects, Hooks, Plugin, PluginDef, Problem, Safety,
    Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// The client's address is not let in.
pub static DENIED: Cause = Cause {
    name: "policy_denied.ip_filter",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The client's address is in a denied range of an `ip_filter`, or in none of its allowed ranges.",
    next_step: "Look at the client address in the access log. If it is your load balancer's, trust that balancer's forwarded headers or PROXY protocol; otherwise add the range to `allow`.",
};

/// Settings of `ip_filter`. At least one range is needed. IPv4 clients of an IPv6 socket count as IPv4.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses or CIDR ranges that are let in, such as `10.0.0.0/8` or `2001:db8::1`. If any is given, addresses
    /// that no range matches are refused. Default: none, and unmatched addresses are let in.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Addresses or CIDR ranges that are refused. Where ranges of both lists match, the one with the longer prefix
    /// decides, whatever their order: allow `10.1.0.0/16` inside deny `10.0.0.0/8`. Default: none.
    #[serde(default)]
    pub deny: Vec<String>,
    /// When to look. `connection` closes refused connections before TLS, sees the address of the socket or PROXY
    /// protocol, and works on listeners only; `request` answers 403 and sees the address that trusted forwarded
    /// headers report. Default: `request`.
    #[serde(default)]
    pub at: At,
}

/// When an `ip_filter` looks at the address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// When a connection was accepted.
    Connection,
    /// For every request.
    #[default]
    Request,
}

impl Plugin for Config {
    const KIND: &'static str = "ip_filter";
    const ABOUT: &'static str = "let clients in or keep them out by address";
    const EXAMPLE: &'static str = "allow: [10.0.0.0/8, \"2001:db8::/32\"]\ndeny: [10.66.0.0/16]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let filter = Filter::of(&self)?;
        let refused: Counter = build.counter("refused");
        Ok(match self.at {
            At::Connection => Hooks::new().on_connection(move |connection| {
                filter.verdict(connection.address, Effects::Live, &refused)
            }),
            At::Request => Hooks::new().on_request(move |request| {
                filter.verdict(request.client.address, request.effects, &refused)
            }),
        })
    }
}

/// What to do with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
}

/// One hash lookup per distinct prefix length: a list of 100 000 single addresses costs as much as one address.
struct Filter {
    ranges: HashMap<IpNet, Action>,
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
    unmatched: Action,
}

impl Filter {
    fn of(config: &Config) -> Result<Filter, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut ranges = HashMap::new();
        let lists = [
            ("allow", &config.allow, Action::Allow),
            ("deny", &config.deny, Action::Deny),
        ];
        for (list, texts, action) in lists {
            for (index, text) in texts.iter().enumerate() {
                let path = format!("{list}[{index}]");
                match parse(&path, text) {
                    Ok(range) => match ranges.insert(range, action) {
                        Some(other) if other != action => problems.push(
                            Problem::at(path, format!("\"{text}\" is also in `allow`"))
                                .help("keep it in one list; a longer prefix makes an exception"),
                        ),
                        Some(_) | None => {}
                    },
                    Err(problem) => problems.push(problem),
                }
            }
        }
        if config.allow.is_empty() && config.deny.is_empty() {
            problems.push(
                Problem::at("", "neither `allow` nor `deny` names a range")
                    .help("add a range, or remove the plugin to let everybody in"),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Filter {
            v4_lengths: lengths(ranges.keys().filter(|range| range.addr().is_ipv4())),
            v6_lengths: lengths(ranges.keys().filter(|range| range.addr().is_ipv6())),
            ranges,
            unmatched: match config.allow.is_empty() {
                true => Action::Allow,
                false => Action::Deny,
            },
        })
    }

    fn verdict(&self, address: IpAddr, effects: Effects, refused: &Counter) -> Verdict {
        match self.action(address.to_canonical()) {
            Action::Allow => Verdict::Continue,
            Action::Deny => {
                if effects.is_live() {
                    refused(1);
                }
                Answer::of(&DENIED).into()
            }
        }
    }

    fn action(&self, address: IpAddr) -> Action {
        let lengths = match address {
            IpAddr::V4(_) => &self.v4_lengths,
            IpAddr::V6(_) => &self.v6_lengths,
        };
        let mut matches = lengths.iter().filter_map(|length| {
            let range = IpNet::new(address, *length).ok()?.trunc();
            self.ranges.get(&range)
        });
        matches.next().copied().unwrap_or(self.unmatched)
    }
}

/// Distinct prefix lengths, longest first.
fn lengths<'a>(ranges: impl Iterator<Item = &'a IpNet>) -> Vec<u8> {
    let distinct: BTreeSet<u8> = ranges.map(IpNet::prefix_len).collect();
    distinct.into_iter().rev().collect()
}

fn parse(path: &str, text: &str) -> Result<IpNet, Problem> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    let range = single.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        Problem::at(path, format!("\"{text}\" is not an address or CIDR range"))
            .help("write an address such as \"192.0.2.7\" or a range such as \"10.0.0.0/8\"")
    })?;
    if range != range.trunc() {
        let fact = format!("\"{text}\" has address bits set beyond its prefix");
        return Err(Problem::at(path, fact).help(format!("write \"{}\"", range.trunc())));
    }
    match range {
        IpNet::V6(range) if range.addr().to_ipv4_mapped().is_some() => {
            let fact = format!("\"{text}\" is an IPv4 range in IPv6 form and would match nobody");
            Err(Problem::at(path, fact).help("write the IPv4 range"))
        }
        IpNet::V4(_) | IpNet::V6(_) => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{answered, went_on, Exchange, Instance, Kit};

    fn lets_in(plugin: &Instance, address: &str) -> bool {
        went_on(&plugin.request(&mut Exchange::get("http://shop.test/").from(address)))
    }

    #[test]
    fn an_allow_list_refuses_everybody_else() {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, "allow: [10.0.0.0/8, \"2001:db8::1\"]");
        let mut stranger = Exchange::get("http://shop.test/").from("192.0.2.1");

        let answer = answered(plugin.request(&mut stranger));

        assert_eq!(
            (answer.status, answer.cause.name),
            (403, "policy_denied.ip_filter")
        );
        assert!(lets_in(&plugin, "10.9.9.9") && lets_in(&plugin, "2001:db8::1"));
        assert!(!lets_in(&plugin, "2001:db8::2"));
        assert_eq!(kit.counted("refused"), 2);
    }

    #[test]
    fn a_deny_list_alone_lets_everybody_else_in() {
        let plugin = Kit::new().instance(&PLUGIN, "deny: [10.0.0.0/8]");

        assert!(!lets_in(&plugin, "10.0.0.1"));
        assert!(lets_in(&plugin, "11.0.0.1") && lets_in(&plugin, "::1"));
    }

    #[test]
    fn the_most_specific_range_decides_in_both_directions() {
        let plugin = Kit::new().instance(
            &PLUGIN,
            "allow: [10.1.0.0/16, 0.0.0.0/0]\ndeny: [10.0.0.0/8, 10.1.2.3]",
        );

        assert!(lets_in(&plugin, "10.1.9.9") && lets_in(&plugin, "192.0.2.1"));
        assert!(!lets_in(&plugin, "10.2.0.1") && !lets_in(&plugin, "10.1.2.3"));
    }

    #[test]
    fn ipv4_in_ipv6_form_counts_as_ipv4() {
        let plugin = Kit::new().instance(&PLUGIN, "deny: [10.0.0.0/8]");

        assert!(!lets_in(&plugin, "::ffff:10.0.0.1"));
    }

    #[test]
    fn at_connection_looks_at_connections_only() {
        let plugin = Kit::new().instance(&PLUGIN, "deny: [10.0.0.0/8]\nat: connection");

        assert!(plugin.hooks.request.is_none());
        assert_eq!(answered(plugin.connection("10.0.0.1")).cause, &DENIED);
        assert!(went_on(&plugin.connection("192.0.2.1")));
    }

    #[test]
    fn a_dry_run_decides_the_same_and_counts_nothing() {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, "deny: [10.0.0.0/8]");
        let mut denied = Exchange::get("http://shop.test/").from("10.0.0.1").dry();

        assert_eq!(answered(plugin.request(&mut denied)).status, 403);
        assert_eq!(kit.counted("refused"), 0);
    }

    #[test]
    fn wrong_ranges_are_located_all_at_once() {
        let config = "allow: [10.0.0.1/8, ten]\ndeny: [\"::ffff:10.0.0.0/104\"]";
        let problems = Kit::new().problems(&PLUGIN, config);
        let paths: Vec<&str> = problems
            .iter()
            .map(|problem| problem.path.as_str())
            .collect();

        assert_eq!(paths, ["allow[0]", "allow[1]", "deny[0]"]);
        assert_eq!(problems[0].remedy, "write \"10.0.0.0/8\"");
    }

    #[test]
    fn a_range_in_both_lists_or_in_none_is_refused() {
        let kit = Kit::new();

        let both = kit.problem_paths(&PLUGIN, "allow: [10.0.0.0/8]\ndeny: [10.0.0.0/8]");
        let none = kit.problem_paths(&PLUGIN, "at: request");

        assert_eq!(both, ["deny[0]"]);
        assert_eq!(none, [""]);
    }

    #[test]
    fn an_unknown_moment_is_refused_at_its_path() {
        let config = "deny: [10.0.0.0/8]\nat: tls";

        assert_eq!(Kit::new().problem_paths(&PLUGIN, config), ["at"]);
    }
}
