//! Settings of `quota` and what is wrong with them.
//! It must not count anything.
//! Decoded by the contract; the field docs are the manual.

use schemars::JsonSchema;
use serde::Deserialize;

use super::calendar::Period;
use crate::contract::{Build, Problem, Texts};
use crate::keyed::cost::CostSetting;
use crate::keyed::fields::Fields;
use crate::keyed::key::{Key, Settings};
use crate::keyed::settings::{many, v4_bits, v6_bits, Common};
use crate::keyed::OnStoreFailure;

/// Settings of `quota`. What was used in the current period survives a reload; with a `store` also a restart.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Requests in each period; 1 to 1 000 000 000 000. Every request that is let on counts, whatever is answered. There
    /// is no default.
    pub limit: u64,
    /// The period on the calendar in UTC: `hour`, `day` or `month`. All quotas begin anew at the same moment. There is no
    /// default.
    pub per: Period,
    /// An entry of the `metadata` of `consumers` with a limit of their own; those without it have `limit`. What is written
    /// there has to be a number as for `limit`. Default: none.
    #[serde(default)]
    pub limit_from: Option<String>,
    /// Whose requests are counted together: `principal`, `client_ip`, `listener`, `route`, `host`, `header:NAME`,
    /// `cel:EXPRESSION`, or a list of these for every combination, as with `rate_limit`. A request without the header or
    /// principal is counted by its address; an expression without outcome is a failure with the cause `quota.no_outcome`,
    /// and `on_error` decides. Default: `principal`.
    #[serde(default = "principal")]
    pub key: Texts,
    /// What a request costs: a whole number, an expression, or `{response_header: X-Cost, default: 1}`, as with
    /// `rate_limit`. More than the limit waits for a whole period. What a response costs beyond what is left is owed in
    /// the same period: at most what the responses cost that were under way when the last use was taken. In a store it is
    /// settled beside the response. Default: 1.
    #[serde(default)]
    pub cost: Option<CostSetting>,
    /// How many leading bits of an IPv4 address count as one client, 0 to 32. Default: 32.
    #[serde(default = "v4_bits")]
    pub ipv4_prefix: u8,
    /// How many leading bits of an IPv6 address count as one client, 0 to 128. Default: 64.
    #[serde(default = "v6_bits")]
    pub ipv6_prefix: u8,
    /// Largest number of keys that are known in this process, rounded up to a multiple of 64; one takes about 150 bytes.
    /// Beyond it a new caller replaces one that was not seen for long; without a `store` that one begins anew.
    /// Default: 100 000.
    #[serde(default = "many")]
    pub max_keys: usize,
    /// Which fields tell clients about the quota: `draft` (`RateLimit-Policy` and `RateLimit`), `legacy`
    /// (`X-RateLimit-Limit`, `-Remaining`, `-Reset`), `both` or `none`. `Retry-After` is always sent when a request is
    /// refused: the seconds until the next period. Default: `both`.
    #[serde(default)]
    pub fields: Fields,
    /// What the quota is called in `RateLimit-Policy` and in the store; up to 64 letters, digits and `._-`. Proxies that
    /// give the same name, key and store count together. Default: `quota` in fields; in the store the name of the plugin
    /// instance.
    #[serde(default)]
    pub name: Option<String>,
    /// The store, under `redis`, in which several proxies count together. Each request asks it once, for its
    /// `command_timeout` at most; those of a caller whose quota is used up once a second. Default: none; this process
    /// counts for itself and forgets when it ends, which `windrose check` warns about.
    #[serde(default)]
    pub store: Option<String>,
    /// What becomes of requests while the store does not answer: `local` counts in this process, from zero; `open` lets
    /// them through uncounted; `closed` refuses them with the cause `quota.store_unavailable`, unless the plugin's
    /// `on_error` is `open`. Only with `store`. Default: `local`.
    #[serde(default)]
    pub on_store_failure: Option<OnStoreFailure>,
}

fn principal() -> Texts {
    Texts(vec!["principal".to_owned()])
}

pub(super) const MOST: u64 = 1_000_000_000_000;

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

    pub(super) fn judge(&self, problems: &mut Vec<Problem>) {
        if !(1..=MOST).contains(&self.limit) {
            let fact = format!("must be from 1 to {MOST}, found {}", self.limit);
            problems.push(
                Problem::at("limit", fact)
                    .help("to refuse every request use the `respond` plugin with status 429"),
            );
        }
        let common = Common {
            max_keys: self.max_keys,
            name: self.name.as_deref(),
            has_store: self.store.is_some(),
            for_store: &[("on_store_failure", self.on_store_failure.is_some())],
        };
        common.judge(problems);
    }
}
