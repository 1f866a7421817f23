//! Sends an id of the request to the service and back to the client, in a field of the operator's choice.
//! It must not know how the proxy makes and logs its own id; the default passes that one on.
//! Called by the chain of a listener or route that names it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::{NoContext, Timestamp, Uuid};

use crate::contract::{
    field_name, field_value, Build, Cause, ClientFacts, Clock, Effects, Hooks, Plugin, PluginDef,
    Problem, Request, Response, Safety, Side, Slot, Verdict,
};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `request_id`. The proxy sends `X-Request-Id` without this plugin; use it for another field or form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The field that carries the id. Default: `X-Request-Id`, whose value from the proxy is then replaced.
    #[serde(default = "x_request_id")]
    pub header: String,
    /// The id: `proxy` is the one the access log shows; `uuid4`, `uuid7` and `short` (12 characters) make another
    /// one, which the access log does not show. Default: `proxy`. In dry runs made ids are all zeros.
    #[serde(default)]
    pub format: Format,
    /// Text before the id, such as `edge-eu-`. Ids kept from a trusted peer do not get it. Default: none.
    #[serde(default)]
    pub prefix: String,
    /// Keeps the value of the field that a trusted peer sent, if it is at most 128 visible ASCII characters. Peers
    /// that the listener does not trust are never believed. Default: `true`.
    #[serde(default = "yes")]
    pub keep_trusted: bool,
    /// Sends the id back in the response too, replacing what the service sent. Default: `true`.
    #[serde(default = "yes")]
    pub echo: bool,
}

/// The form of an id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The proxy's own id of the request.
    #[default]
    Proxy,
    /// A random UUID.
    Uuid4,
    /// A UUID that begins with the time, so ids sort by it.
    Uuid7,
    /// Twelve random characters of digits and lower-case letters (60 bits): fine for logs, not a secret.
    Short,
}

impl Plugin for Config {
    const KIND: &'static str = "request_id";
    const ABOUT: &'static str = "send a request id to the service and the client";
    const EXAMPLE: &'static str = "header: X-Correlation-Id\nformat: uuid7\nprefix: edge-";
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let header = field_name(Side::Request, "header", &self.header);
        let prefix = field_value("prefix", &self.prefix);
        let (Ok(header), Ok(_)) = (&header, &prefix) else {
            return Err(header.err().into_iter().chain(prefix.err()).collect());
        };
        let ids = Arc::new(Ids {
            header: header.clone(),
            slot: build.slot(),
            clock: build.clock.clone(),
            settings: self,
        });
        let (chosen, sent) = (ids.clone(), ids.clone());
        let hooks = Hooks::new()
            .on_request(move |request| chosen.choose(request))
            .on_upstream_request(move |request| sent.send(request));
        Ok(match ids.settings.echo {
            true => hooks.on_response(move |response| ids.echo(response)),
            false => hooks,
        })
    }
}

fn x_request_id() -> String {
    "X-Request-Id".to_owned()
}

fn yes() -> bool {
    true
}

struct Ids {
    header: HeaderName,
    slot: Slot<HeaderValue>,
    clock: Clock,
    settings: Config,
}

impl Ids {
    fn choose(&self, request: &mut Request<'_>) -> Verdict {
        let inbound = request.head.headers.get(&self.header);
        let kept = inbound.filter(|value| {
            self.settings.keep_trusted && request.client.trusted_peer && is_plausible(value)
        });
        let id = kept
            .cloned()
            .unwrap_or_else(|| self.make(request.client, request.effects));
        request.slots.put(self.slot, id);
        Verdict::Continue
    }

    fn send(&self, request: &mut Request<'_>) -> Verdict {
        let chosen = request.slots.value(self.slot).cloned();
        let id = chosen.unwrap_or_else(|| self.make(request.client, request.effects));
        request.change(|fields| fields.insert(&self.header, id));
        Verdict::Continue
    }

    fn echo(&self, response: &mut Response<'_>) -> Verdict {
        // An earlier plugin may have answered before this one chose an id.
        let chosen = response.slots.value(self.slot).cloned();
        let id = chosen.unwrap_or_else(|| self.make(response.client, response.effects));
        response.change(|fields| fields.insert(&self.header, id));
        Verdict::Continue
    }

    fn make(&self, client: &ClientFacts<'_>, effects: Effects) -> HeaderValue {
        let id = match (self.settings.format, effects) {
            (Format::Proxy, _) => client.request_id.to_owned(),
            (Format::Uuid4 | Format::Uuid7, Effects::Dry | Effects::Peek) => {
                Uuid::nil().to_string()
            }
            (Format::Short, Effects::Dry | Effects::Peek) => short(0),
            (Format::Uuid4, Effects::Live) => Uuid::new_v4().to_string(),
            (Format::Uuid7, Effects::Live) => {
                let now = self.clock.unix();
                let now = Timestamp::from_unix(NoContext, now.as_secs(), now.subsec_nanos());
                Uuid::new_v7(now).to_string()
            }
            (Format::Short, Effects::Live) => short(Uuid::new_v4().as_u64_pair().1),
        };
        let text = format!("{}{id}", self.settings.prefix);
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unprintable"))
    }
}

fn is_plausible(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

/// The lower 60 bits in Crockford's base 32, whose letters are not mistaken for digits.
fn short(bits: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digit = |place: u32| char::from(DIGITS[(bits >> (place * 5)) as usize % 32]);
    (0..12).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{fields, Exchange, Instance, Kit};

    fn through(plugin: &Instance, mut exchange: Exchange) -> (String, String) {
        plugin.request(&mut exchange);
        plugin.upstream_request(&mut exchange);
        plugin.response(&mut exchange);
        let upstream = fields(&exchange.upstream.headers, "x-request-id").join(",");
        let downstream = fields(&exchange.response.headers, "x-request-id").join(",");
        (upstream, downstream)
    }

    fn get() -> Exchange {
        Exchange::get("http://shop.test/").with_id("abc")
    }

    #[test]
    fn the_proxys_id_is_sent_both_ways_with_its_prefix() {
        let plugin = Kit::new().instance(&PLUGIN, "prefix: edge-");

        let seen = through(&plugin, get().with_response("x-request-id", "upstream's"));

        assert_eq!(seen, ("edge-abc".to_owned(), "edge-abc".to_owned()));
    }

    #[test]
    fn another_header_leaves_x_request_id_alone() {
        let plugin = Kit::new().instance(&PLUGIN, "header: X-Correlation-Id");
        let mut exchange = get();

        plugin.request(&mut exchange);
        plugin.upstream_request(&mut exchange);

        assert_eq!(
            fields(&exchange.upstream.headers, "x-correlation-id"),
            ["abc"]
        );
        assert!(fields(&exchange.upstream.headers, "x-request-id").is_empty());
    }

    #[test]
    fn made_ids_have_their_form_and_stay_the_same_for_one_request() {
        let kit = Kit::new();
        let lengths = [("uuid4", 36), ("uuid7", 36), ("short", 12)];
        for (format, length) in lengths {
            let plugin = kit.instance(&PLUGIN, &format!("format: {format}"));

            let (upstream, downstream) = through(&plugin, get());
            let (another, _) = through(&plugin, get());

            assert_eq!(upstream.len(), length, "{upstream}");
            assert_eq!(upstream, downstream);
            assert_ne!(upstream, another);
        }
    }

    #[test]
    fn uuid7_begins_with_the_time() {
        let kit = Kit::new();
        kit.advance(std::time::Duration::from_millis(0x0123_4567_89ab));
        let plugin = kit.instance(&PLUGIN, "format: uuid7");

        let (upstream, _) = through(&plugin, get());

        assert!(upstream.starts_with("01234567-89ab-7"), "{upstream}");
    }

    #[test]
    fn only_a_trusted_peers_plausible_id_is_kept() {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, "{}");
        let strict = kit.instance(&PLUGIN, "keep_trusted: false");
        let inbound = |value: &str| get().with("x-request-id", value);

        assert_eq!(through(&plugin, inbound("theirs").trusted()).0, "theirs");
        assert_eq!(through(&plugin, inbound("theirs")).0, "abc");
        assert_eq!(through(&plugin, inbound("has space").trusted()).0, "abc");
        assert_eq!(
            through(&plugin, inbound(&"x".repeat(129)).trusted()).0,
            "abc"
        );
        assert_eq!(through(&strict, inbound("theirs").trusted()).0, "abc");
    }

    #[test]
    fn without_echo_the_response_is_left_alone() {
        let plugin = Kit::new().instance(&PLUGIN, "echo: false");

        let (_, downstream) = through(&plugin, get().with_response("x-request-id", "theirs"));

        assert_eq!(downstream, "theirs");
    }

    #[test]
    fn an_answer_made_before_the_plugin_ran_still_carries_an_id() {
        let plugin = Kit::new().instance(&PLUGIN, "{}");
        let mut exchange = get();

        plugin.response(&mut exchange);

        assert_eq!(fields(&exchange.response.headers, "x-request-id"), ["abc"]);
    }

    #[test]
    fn a_dry_run_uses_no_randomness() {
        let kit = Kit::new();
        let uuid = kit.instance(&PLUGIN, "format: uuid4");
        let brief = kit.instance(&PLUGIN, "format: short");

        assert_eq!(through(&uuid, get().dry()).0, Uuid::nil().to_string());
        assert_eq!(through(&brief, get().dry()).0, "000000000000");
    }

    #[test]
    fn wrong_settings_are_located() {
        let kit = Kit::new();
        let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

        assert_eq!(paths("header: Connection"), ["header"]);
        assert_eq!(
            paths("header: a b\nprefix: \"a\\nb\""),
            ["header", "prefix"]
        );
        assert_eq!(paths("format: uuid1"), ["format"]);
    }
}
