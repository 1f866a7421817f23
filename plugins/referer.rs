//! Lets requests in by the page that they come from (`Referer`), against hotlinks.
//! It must not be taken for authentication: whoever is no browser writes what it likes.
//! Called by the chain of a listener or route that names it.

use http::header::REFERER;
use http::{HeaderMap, Uri};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety,
    Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// It comes from a page of somebody else.
pub static DENIED: Cause = Cause {
    name: "policy_denied.referer",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The page that the request comes from (`Referer`) is of a host that a `referer` plugin does not allow, or the request does not say which page that is.",
    next_step: "Add the host to `allow`. Browsers leave the field out by a page's policy (`Referrer-Policy`) and for addresses that were typed: `missing: allow` lets those in.",
};

/// Settings of `referer`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Hosts of pages that requests may come from: `shop.example.com`, or `*.example.com` for all below it. The host that is
    /// asked is always one of them. Ports do not matter. At most 256.
    pub allow: Vec<String>,
    /// What becomes of requests that do not say where they come from: `allow` or `deny`. Default: `allow`, as browsers often
    /// leave the field out.
    #[serde(default)]
    pub missing: Missing,
}

/// What becomes of requests without the field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// They go on.
    #[default]
    Allow,
    /// They are refused.
    Deny,
}

impl Plugin for Config {
    const KIND: &'static str = "referer";
    const ABOUT: &'static str = "let requests in by the page they come from";
    const EXAMPLE: &'static str = "allow: [shop.example.com, '*.example.org']\nmissing: deny";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.allow.len() > MOST {
            let fact = format!("has {} hosts; {MOST} are the most", self.allow.len());
            problems.push(Problem::at("allow", fact));
        }
        let mut hosts = Vec::new();
        for (at, pattern) in self.allow.iter().enumerate() {
            match Hosts::of(pattern) {
                Some(one) => hosts.push(one),
                None => problems.push(
                    Problem::at(format!("allow[{at}]"), format!("{pattern:?} is no host")).help(
                        "write `shop.example.com` or `*.example.com`: no scheme, no port, no path",
                    ),
                ),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let gate = Gate {
            hosts,
            missing: self.missing,
            refused: build.counter("refused"),
        };
        Ok(Hooks::new().on_request(move |request| gate.check(request)))
    }
}

/// A host, or all below one.
enum Hosts {
    One(String),
    /// With the dot before it.
    Below(String),
}

impl Hosts {
    fn of(pattern: &str) -> Option<Hosts> {
        let host = pattern.strip_prefix("*.").unwrap_or(pattern);
        let lower = host.to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_host = !lower.is_empty() && lower.bytes().all(plain) && !lower.starts_with('.');
        is_host.then(|| match pattern.starts_with("*.") {
            true => Hosts::Below(format!(".{lower}")),
            false => Hosts::One(lower),
        })
    }

    fn has(&self, host: &str) -> bool {
        match self {
            Hosts::One(one) => one == host,
            Hosts::Below(end) => host.len() > end.len() && host.ends_with(end.as_str()),
        }
    }
}

struct Gate {
    hosts: Vec<Hosts>,
    missing: Missing,
    refused: Counter,
}

impl Gate {
    fn check(&self, request: &Request<'_>) -> Verdict {
        if self.lets_in(&request.head.headers, request.client.host) {
            return Verdict::Continue;
        }
        if request.effects.is_live() {
            (self.refused)(1);
        }
        Answer::of(&DENIED).into()
    }

    fn lets_in(&self, headers: &HeaderMap, own: &str) -> bool {
        let mut fields = headers.get_all(REFERER).iter();
        let (Some(field), other) = (fields.next(), fields.next()) else {
            return self.missing == Missing::Allow;
        };
        if other.is_some() || field.len() > LONGEST {
            return false;
        }
        let page = field
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Uri>().ok());
        let page = page.filter(|page| matches!(page.scheme_str(), Some("http" | "https")));
        let host = page.as_ref().and_then(|page| page.host());
        host.is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            let host = host.strip_suffix('.').unwrap_or(&host);
            host == own || self.hosts.iter().any(|one| one.has(host))
        })
    }
}

const MOST: usize = 256;
const LONGEST: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{went_on, Exchange, Kit};

    fn lets_in(config: &str, referers: &[&str]) -> bool {
        let plugin = Kit::new().instance(&PLUGIN, config);
        let mut exchange = Exchange::get("https://img.test/a.png");
        for referer in referers {
            exchange = exchange.with("referer", referer);
        }
        went_on(&plugin.request(&mut exchange))
    }

    #[test]
    fn pages_of_hosts_that_are_allowed_may_ask() {
        let config = "allow: [shop.test, '*.Mall.test']";
        for page in [
            "https://shop.test/a?b",
            "http://SHOP.test:8080/",
            "https://shop.test./",
            "https://a.b.mall.test/",
            "https://img.test/own",
        ] {
            assert!(lets_in(config, &[page]), "{page}");
        }
        for page in [
            "https://mall.test/",
            "https://evilshop.test/",
            "https://shop.test.evil.test/",
            "https://shop.test@evil.test/",
            "https://evil.test/?https://shop.test/",
            "//shop.test/",
            "shop.test",
            "javascript:shop.test",
            "about:blank",
            "",
            " ",
        ] {
            assert!(!lets_in(config, &[page]), "{page}");
        }
        assert!(!lets_in(
            config,
            &["https://shop.test/", "https://shop.test/"]
        ));
        assert!(!lets_in(
            config,
            &[&format!("https://shop.test/{}", "a".repeat(LONGEST))]
        ));
    }

    #[test]
    fn who_does_not_say_is_let_in_unless_that_is_denied() {
        assert!(lets_in("allow: []", &[]));
        assert!(!lets_in("allow: []\nmissing: deny", &[]));
    }

    #[test]
    fn wrong_settings_are_located() {
        let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

        for host in [
            "https://a.test",
            "a.test/b",
            "a.test:80",
            "",
            "*",
            "*.",
            "a*.test",
        ] {
            assert_eq!(paths(&format!("allow: ['{host}']")), ["allow[0]"], "{host}");
        }
        let many = vec!["a.test"; 257].join(", ");
        assert_eq!(paths(&format!("allow: [{many}]")), ["allow"]);
    }

    proptest::proptest! {
        #[test]
        fn no_page_makes_a_panic_and_none_gets_through(page in "[ -~]{0,60}") {
            let page = format!("x{page}");
            proptest::prop_assert!(!lets_in("allow: [shop.nowhere]", &[&page]));
        }
    }
}
