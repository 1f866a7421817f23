//! Settings of `rate_limit` and what is wrong with them.
//! It must not count anything.
//! Decoded by the contract; the field docs are the manual.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::bucket::Law;
use crate::contract::{Build, Problem, Texts, Time};
use crate::keyed::cost::CostSetting;
use crate::keyed::fields::Fields;
use crate::keyed::key::{Key, Settings};
use crate::keyed::settings::{client_ip, many, v4_bits, v6_bits, Common};
use crate::keyed::OnStoreFailure;

/// Settings of `rate_limit`. Counts survive a reload, and a changed rate or burst applies to them at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose requests are counted together: `client_ip`, `principal`, `listener`, `route`, `host`, `header:NAME`,
    /// `cel:EXPRESSION`, or a list of these for every combination, such as `[route, client_ip]`. A request without the
    /// header or principal is counted by its address. An expression is as those of the plugin `cel` and comes to a text of
    /// at most 1024 bytes, a whole number, or true or false; one without outcome is a failure with the cause
    /// `rate_limit.no_outcome`, and `on_error` decides. Clients choose what a header says, so limit by one only if
    /// something checks it. Default: `client_ip`.
    #[serde(default = "client_ip")]
    pub key: Texts,
    /// Requests that are let through in each `per`, at a steady pace; 1 to 1 000 000 000. There is no default.
    pub rate: u64,
    /// The time that `rate` is counted over, such as `1s` or `1h`. Default: `1s`.
    #[serde(default = "second")]
    pub per: Time,
    /// How is counted: `token_bucket` lets peaks of `burst` through after a pause and then a steady pace;
    /// `sliding_window` lets `rate` through in each window of `per`, whenever in it they come, and counts the window
    /// before as far as it has not passed, so that any span as long has at most twice as many. Default: `token_bucket`.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Requests that are let through at once after a pause: the size of the bucket; 1 to 1 000 000 000. Only with
    /// `token_bucket`. Default: the same as `rate`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// What a request costs: a whole number, an expression as in `key` (such as `request.method == 'POST' ? 5 : 1`; 0 lets
    /// through what is not to count, and what is no whole number up to 1 000 000 000 is a failure as in `key`), or
    /// `{response_header: X-Cost, default: 1}`. More than `burst` (or `rate`) waits for all of it to be there. With
    /// `response_header` a request takes `default` before it goes on, and the rest with its response, which may say more
    /// than is left: that is owed, up to 1 000 000 000, and the key is refused until it has grown again. So in any span
    /// of time no more is let through than without, except for what the responses cost that were under way when the last
    /// use was taken; with `sliding_window` what is owed is forgotten after the next window. In a store it is settled
    /// beside the response, within a second of the store's answering; by up to 100 000 keys at a time, beyond which the
    /// event `owed_lost` counts. What is no number leaves `default`, and is counted as `cost_unreadable`. Default: 1.
    #[serde(default)]
    pub cost: Option<CostSetting>,
    /// How many leading bits of an IPv4 address count as one client, 0 to 32. Default: 32.
    #[serde(default = "v4_bits")]
    pub ipv4_prefix: u8,
    /// How many leading bits of an IPv6 address count as one client, 0 to 128. Default: 64, as one subscriber has at
    /// least that many addresses.
    #[serde(default = "v6_bits")]
    pub ipv6_prefix: u8,
    /// Largest number of keys that are known in this process, rounded up to a multiple of 64; one takes about 70 bytes,
    /// with a `store` about 150. Beyond it a new caller replaces one that was not seen for long (the oldest of eight),
    /// which then starts again with a full bucket, or asks the store again. Default: 100 000.
    #[serde(default = "many")]
    pub max_keys: usize,
    /// Which fields tell clients about the limit: `draft` (`RateLimit-Policy` and `RateLimit` of the IETF draft),
    /// `legacy` (`X-RateLimit-Limit`, `-Remaining`, `-Reset` with seconds until the limit is whole again), `both` or
    /// `none`. `Retry-After` is always sent when a request is refused. Default: `both`.
    #[serde(default)]
    pub fields: Fields,
    /// What the limit is called in `RateLimit-Policy` and in the store; up to 64 letters, digits and `._-`. Proxies that
    /// give the same name, key and store count together. Default: `default` in fields; in the store the name of the
    /// plugin instance, so give a shared limit a name here or under `plugins`.
    #[serde(default)]
    pub name: Option<String>,
    /// The store, under `redis`, in which several proxies count together. Uses are taken from it in batches, so that
    /// most requests do not wait: a key in steady use asks once for each batch, and one that has none left once a
    /// second. A request waits for the store at most once, for its `command_timeout`. Default: none; each proxy counts
    /// for itself.
    #[serde(default)]
    pub store: Option<String>,
    /// How many uses of a key are taken from the store at once, at most; 1 to 10 000. A key begins with one and doubles
    /// while it uses up what it took. What is not used within a second is lost, and at any moment other proxies may see
    /// this much less left than there is. Only with `store`. Default: a tenth of `burst` (or `rate`), at most 1000.
    #[serde(default)]
    pub batch: Option<u64>,
    /// What becomes of requests while the store does not answer: `local` counts in this process, from zero and with the
    /// whole rate for each proxy; `open` lets them through uncounted; `closed` refuses them with the cause
    /// `rate_limit.store_unavailable`, unless the plugin's `on_error` is `open`. Only with `store`. Default: `local`.
    #[serde(default)]
    pub on_store_failure: Option<OnStoreFailure>,
}

/// How is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket that fills at a steady pace.
    #[default]
    TokenBucket,
    /// Windows of which the last one fades.
    SlidingWindow,
}

fn second() -> Time {
    Time::secs(1)
}

impl Config {
    pub(super) fn parsed_key(&self, build: &Build<'_>, problems: &mut Vec<Problem>) -> Key {
        let settings = Settings {
            key: &self.key,
            ipv4_prefix: self.ipv4_prefix,
            ipv6_prefix: self.ipv6_prefix,
            consumers: build.consumers,
        };
        Key::of(&settings, problems)
    }

    pub(super) fn law(&self, problems: &mut Vec<Problem>) -> Law {
        let burst = self.burst.unwrap_or(self.rate);
        let mut counts = vec![("rate", self.rate)];
        counts.extend(self.burst.map(|burst| ("burst", burst)));
        for (path, count) in counts {
            if count == 0 {
                problems.push(Problem::at(path, "must be at least 1, found 0").help(
                    "to refuse every request use the `respond` plugin with status 429; to lift the limit remove this plugin",
                ));
            } else if count > Law::MOST {
                let fact = format!("must be at most {}, found {count}", Law::MOST);
                problems.push(Problem::at(path, fact).help("remove this plugin to lift the limit"));
            }
        }
        if self.per.0 < Duration::from_millis(1) {
            problems.push(
                Problem::at("per", format!("must be at least 1ms, found {}", self.per))
                    .help("`rate` is counted over this time, such as \"1s\""),
            );
        }
        Law::new(self.rate, self.per.0, burst)
    }

    /// Everything else: bounds, and settings that would have no effect.
    pub(super) fn judge(&self, problems: &mut Vec<Problem>) {
        if self.algorithm == Algorithm::SlidingWindow && self.burst.is_some() {
            problems.push(
                Problem::at("burst", "is not used: a sliding window has no bucket")
                    .help("remove it, or use `algorithm: token_bucket`"),
            );
        }
        if let Some(batch) = self.batch.filter(|batch| !(1..=10_000).contains(batch)) {
            let fact = format!("must be from 1 to 10000, found {batch}");
            problems.push(Problem::at("batch", fact).help("leave it out for a tenth of the burst"));
        }
        let common = Common {
            max_keys: self.max_keys,
            name: self.name.as_deref(),
            has_store: self.store.is_some(),
            for_store: &[
                ("batch", self.batch.is_some()),
                ("on_store_failure", self.on_store_failure.is_some()),
            ],
        };
        common.judge(problems);
    }
}
