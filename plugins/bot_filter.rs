//! Lets programs in or keeps them out by what they call themselves (`User-Agent`).
//! It must not be taken for a defence against those who lie: it keeps out the honest and the careless.
//! Called by the chain of a listener or route that names it.

use http::header::USER_AGENT;
use http::HeaderMap;
use regex::bytes::{RegexSet, RegexSetBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    Answer, Blame, Build, Cause, Counter, Hooks, Plugin, PluginDef, Problem, Request, Safety,
    Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// It is one that is kept out.
pub static DENIED: Cause = Cause {
    name: "policy_denied.bot",
    blame: Blame::Policy,
    status: 403,
    title: "Forbidden",
    explanation: "The client calls itself (`User-Agent`) what a `bot_filter` plugin keeps out, or does not say what it is.",
    next_step: "Compare the user agent in the access log with `deny`, `allow` and `known` of the plugin.",
};

/// Settings of `bot_filter`. Who is allowed goes on, whatever is denied.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Regular expressions, of any case, that are looked for anywhere in the user agent: who matches goes on. At most 64.
    /// Default: none.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Those who match are refused. At most 64. Default: none.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Kinds of programs that are refused as well: `crawlers` (search engines and the like), `ai` (those that collect for
    /// models), `tools` (such as curl and libraries), `scanners` (that look for holes). The lists are in the plugin's source.
    /// Default: none.
    #[serde(default)]
    pub known: Vec<Known>,
    /// What becomes of those that say nothing of themselves: `allow` or `deny`. Default: `allow`.
    #[serde(default)]
    pub missing: Missing,
}

/// What becomes of those that say nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// They go on.
    #[default]
    Allow,
    /// They are refused.
    Deny,
}

/// Kinds of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Search engines and the like.
    Crawlers,
    /// Those that collect for models.
    Ai,
    /// Command line tools and libraries.
    Tools,
    /// Those that look for holes.
    Scanners,
}

impl Known {
    fn words(self) -> &'static str {
        match self {
            Known::Crawlers => CRAWLERS,
            Known::Ai => AI,
            Known::Tools => TOOLS,
            Known::Scanners => SCANNERS,
        }
    }
}

impl Plugin for Config {
    const KIND: &'static str = "bot_filter";
    const ABOUT: &'static str = "keep programs out by what they call themselves";
    const EXAMPLE: &'static str = "known: [scanners, ai]\ndeny: ['^evil/']\nallow: [uptime-check]";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&DENIED];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let mut problems = Vec::new();
        let says_nothing = self.deny.is_empty() && self.known.is_empty();
        if says_nothing && self.missing == Missing::Allow {
            let problem = Problem::at("", "nobody is kept out");
            problems.push(
                problem.help("give `deny`, `known` or `missing: deny`, or remove the plugin"),
            );
        }
        let allow = compiled("allow", &self.allow, &[], &mut problems);
        let known = self.known.iter();
        let known = known.flat_map(|one| one.words().split_ascii_whitespace());
        let known: Vec<&str> = known.collect();
        let deny = compiled("deny", &self.deny, &known, &mut problems);
        match (allow, deny) {
            (Some(allow), Some(deny)) if problems.is_empty() => {
                let gate = Gate {
                    allow,
                    deny,
                    missing: self.missing,
                    refused: build.counter("refused"),
                };
                Ok(Hooks::new().on_request(move |request| gate.check(request)))
            }
            _ => Err(problems),
        }
    }
}

/// The patterns and the words, as one set: a user agent is looked through once.
fn compiled(
    list: &str,
    patterns: &[String],
    words: &[&str],
    problems: &mut Vec<Problem>,
) -> Option<RegexSet> {
    if patterns.len() > MOST {
        let fact = format!("has {} patterns; {MOST} are the most", patterns.len());
        problems.push(Problem::at(list, fact));
        return None;
    }
    for (at, pattern) in patterns.iter().enumerate() {
        let one = set(&[pattern.as_str()]);
        if pattern.is_empty() || one.is_none() {
            let fact = format!("{pattern:?} is no regular expression that can be used");
            let problem = Problem::at(format!("{list}[{at}]"), fact);
            problems.push(problem.help("see the syntax of the `regex` crate; at most 256 bytes"));
            return None;
        }
    }
    let all: Vec<&str> = patterns
        .iter()
        .map(String::as_str)
        .chain(words.iter().copied())
        .collect();
    let compiled = set(&all);
    if compiled.is_none() {
        let problem = Problem::at(list, "the patterns are too large together");
        problems.push(problem.help("remove some, or let them repeat less"));
    }
    compiled
}

fn set(patterns: &[&str]) -> Option<RegexSet> {
    if patterns
        .iter()
        .any(|pattern| pattern.len() > LONGEST_PATTERN)
    {
        return None;
    }
    let mut builder = RegexSetBuilder::new(patterns);
    builder.case_insensitive(true).unicode(false);
    builder.size_limit(SIZE_BYTES).build().ok()
}

const MOST: usize = 64;
const LONGEST_PATTERN: usize = 256;
const SIZE_BYTES: usize = 4 << 20;
const CRAWLERS: &str = r"
    \w*bot\b \w*crawler\b \w*spider\b \bslurp\b \bfacebookexternalhit\b \barchive\.org \bbingpreview\b
    \bmediapartners-google\b";
const AI: &str = r"
    \bgptbot\b \bchatgpt-user\b \boai-searchbot\b \bclaudebot\b \bclaude-web\b \banthropic-ai\b
    \bccbot\b \bgoogle-extended\b \bperplexitybot\b \bbytespider\b \bmeta-externalagent\b \bamazonbot\b
    \bapplebot-extended\b \bcohere-ai\b \bdiffbot\b";
const TOOLS: &str = r"
    ^curl/ ^wget/ ^python-requests/ ^python-urllib ^aiohttp ^go-http-client/ ^java/ ^okhttp/ ^axios/
    ^libwww-perl/ ^ruby ^node-fetch ^httpie/ ^php/ ^scrapy/ \bheadlesschrome\b \bphantomjs\b
    \bselenium\b";
const SCANNERS: &str = r"
    \bsqlmap\b \bnikto\b \bnmap\b \bmasscan\b \bzgrab\b \bnuclei\b \bwpscan\b \bgobuster\b \bdirbuster\b
    \bferoxbuster\b \bacunetix\b \bnessus\b \bopenvas\b \bhydra\b \bcensys\b \bburp";
/// Bytes of a user agent that are looked at; the rest of a longer one says nothing new.
const LOOKED_AT: usize = 1024;

struct Gate {
    allow: RegexSet,
    deny: RegexSet,
    missing: Missing,
    refused: Counter,
}

impl Gate {
    fn check(&self, request: &Request<'_>) -> Verdict {
        if self.lets_in(&request.head.headers) {
            return Verdict::Continue;
        }
        if request.effects.is_live() {
            (self.refused)(1);
        }
        Answer::of(&DENIED).into()
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let says = headers
            .get_all(USER_AGENT)
            .iter()
            .map(|field| field.as_bytes());
        let mut says = says
            .filter(|field| !field.trim_ascii().is_empty())
            .peekable();
        if says.peek().is_none() {
            return self.missing == Missing::Allow;
        }
        says.all(|name| {
            let name = &name[..name.len().min(LOOKED_AT)];
            self.allow.is_match(name) || !self.deny.is_match(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{went_on, Exchange, Kit};

    fn lets_in(config: &str, agents: &[&str]) -> bool {
        let plugin = Kit::new().instance(&PLUGIN, config);
        let mut exchange = Exchange::get("https://shop.test/");
        for agent in agents {
            exchange = exchange.with("user-agent", agent);
        }
        went_on(&plugin.request(&mut exchange))
    }

    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    #[test]
    fn kinds_that_are_known_are_kept_out_and_browsers_are_not() {
        for (kind, agent) in [
            (
                "crawlers",
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ),
            (
                "crawlers",
                "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
            ),
            (
                "ai",
                "Mozilla/5.0 AppleWebKit/537.36 (compatible; GPTBot/1.2)",
            ),
            ("tools", "curl/8.5.0"),
            ("tools", "python-requests/2.32"),
            ("scanners", "sqlmap/1.8#stable (https://sqlmap.org)"),
        ] {
            let config = format!("known: [{kind}]");
            assert!(!lets_in(&config, &[agent]), "{agent}");
            assert!(!lets_in(&config, &[&agent.to_uppercase()]), "{agent}");
        }
        assert!(lets_in(
            "known: [crawlers, ai, tools, scanners]",
            &[FIREFOX]
        ));
        assert!(lets_in("known: [tools]", &["my-app (not curl/8)"]));
    }

    #[test]
    fn who_is_allowed_goes_on_whatever_is_denied() {
        let config = "known: [crawlers]\nallow: [googlebot]\ndeny: ['^evil/']";

        assert!(lets_in(config, &["Googlebot/2.1"]));
        assert!(!lets_in(config, &["bingbot/2.0"]));
        assert!(!lets_in(config, &["Evil/1"]));
        assert!(lets_in(config, &["not evil/1"]));
        assert!(
            !lets_in(config, &["Googlebot/2.1", "evil/1"]),
            "each of them counts"
        );
    }

    #[test]
    fn who_says_nothing_is_let_in_unless_that_is_denied() {
        for agents in [&[][..], &[""], &["  "]] {
            assert!(lets_in("known: [ai]", agents));
            assert!(!lets_in("missing: deny", agents));
        }
        let long = format!("{}curl", "a".repeat(4000));
        assert!(
            lets_in("deny: [curl]", &[&long]),
            "what is far behind is not looked at"
        );
    }

    #[test]
    fn wrong_settings_are_located() {
        let paths = |config: &str| Kit::new().problem_paths(&PLUGIN, config);

        assert_eq!(paths("{}"), [""]);
        assert_eq!(paths("deny: ['(']"), ["deny[0]"]);
        assert_eq!(paths("deny: [a, '']"), ["deny[1]"]);
        assert_eq!(
            paths(&format!("deny: ['{}']", "a".repeat(257))),
            ["deny[0]"]
        );
        assert_eq!(paths("deny: ['(a{1000}){1000}']"), ["deny[0]"]);
        assert_eq!(
            paths(&format!("deny: [{}]", vec!["a"; 65].join(", "))),
            ["deny"]
        );
    }
}
