//! Tells browsers to be careful with a response: transport, sniffing, framing, referrers, features, isolation, content.
//! It must not know what a page needs; presets are a start, and what the service says itself stays unless told otherwise.
//! Called by the chain of a listener or route that names it.

mod csp;
mod preset;
#[cfg(test)]
mod tests;

use http::header::{
    Entry, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{
    field_value, Build, Cause, Hooks, Plugin, PluginDef, Problem, Response, Safety, Time, Verdict,
};

use preset::Values;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `security_headers`. A preset gives each field a value; a setting of its own replaces that, and the word `off` takes the
/// field out. A field that the service sent stays as it is, unless `overwrite` says otherwise. Answers of the proxy get the fields too.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to begin. `basic`: HSTS for a year, no sniffing, frames of the same origin, the referrer's origin for others. `strict`:
    /// for sites that load only their own content. `api`: for services that no browser renders. `none`: only what is written here.
    /// Default: `basic`.
    #[serde(default)]
    pub preset: Preset,
    /// `Strict-Transport-Security`, sent over TLS only (RFC 6797 section 7.2), or `off`. Browsers remember it: begin with a short
    /// `max_age`. Default: the preset's.
    #[serde(default)]
    pub hsts: Option<HstsSetting>,
    /// `X-Content-Type-Options: nosniff`: media types are taken as they are declared. Default: the preset's.
    #[serde(default)]
    pub nosniff: Option<bool>,
    /// Who may show the response in a frame: `deny`, `same_origin`, `{allow: [https://partner.test]}` or `off`. Sends `X-Frame-Options`
    /// where that can say it, and adds `frame-ancestors` to the content security policy sent from here. Default: the preset's.
    #[serde(default)]
    pub frame: Option<Frame>,
    /// `Referrer-Policy`, such as `no-referrer`, or `off`. Default: the preset's.
    #[serde(default)]
    pub referrer_policy: Option<String>,
    /// `Permissions-Policy`, such as `camera=(), geolocation=(self)`, or `off`. Default: the preset's.
    #[serde(default)]
    pub permissions_policy: Option<String>,
    /// `Cross-Origin-Opener-Policy`: `same-origin`, `same-origin-allow-popups`, `noopener-allow-popups`, `unsafe-none` or `off`.
    /// Default: the preset's.
    #[serde(default)]
    pub opener_policy: Option<String>,
    /// `Cross-Origin-Embedder-Policy`: `require-corp`, `credentialless`, `unsafe-none` or `off`. With the first, everything a page loads
    /// from elsewhere must consent. Default: the preset's.
    #[serde(default)]
    pub embedder_policy: Option<String>,
    /// `Cross-Origin-Resource-Policy`: `same-origin`, `same-site`, `cross-origin` or `off`. Default: the preset's.
    #[serde(default)]
    pub resource_policy: Option<String>,
    /// `Content-Security-Policy`, or `off`. Default: the preset's.
    #[serde(default)]
    pub content_security_policy: Option<String>,
    /// `Content-Security-Policy-Report-Only`: a policy to try out beside the one in force; browsers only report what it would stop, so
    /// it needs a `report-to` or `report-uri`. Default: none.
    #[serde(default)]
    pub content_security_policy_report_only: Option<String>,
    /// Replaces fields that the service sent with those from here. Default: `false`.
    #[serde(default)]
    pub overwrite: bool,
    /// Removes what names the service's software: `Server`, `X-Powered-By`, `X-AspNet-Version`, `X-AspNetMvc-Version`, `X-Generator` and
    /// `X-Runtime`. Default: `true` in the presets `strict` and `api`.
    #[serde(default)]
    pub hide_software: Option<bool>,
}

/// Where settings begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// What hardly any site breaks with.
    #[default]
    Basic,
    /// For sites that load only their own content.
    Strict,
    /// For services that no browser renders.
    Api,
    /// Nothing.
    None,
}

/// `Strict-Transport-Security`, or not.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HstsSetting {
    /// With these directives.
    On(Hsts),
    /// The word `off`.
    Off(Off),
}

/// The word `off`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Off {
    /// Not sent.
    Off,
}

/// Directives of `Strict-Transport-Security`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// How long browsers use only TLS for the host; `0s` makes them forget. Default: `365d`.
    #[serde(default = "year")]
    pub max_age: Time,
    /// Whether it holds for every host below this one. Default: `false`.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Consent to be built into browsers. Wants `include_subdomains` and a `max_age` of at least `365d`, and is hard to take back.
    /// Default: `false`.
    #[serde(default)]
    pub preload: bool,
}

/// Who may show a response in a frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// Nobody.
    Deny,
    /// Pages of the same origin.
    SameOrigin,
    /// Not said.
    Off,
    /// Pages of these origins.
    Allow(Vec<String>),
}

fn year() -> Time {
    Time::secs(365 * 86_400)
}

impl Plugin for Config {
    const KIND: &'static str = "security_headers";
    const ABOUT: &'static str = "tell browsers to be careful: HSTS, CSP, frames, referrers";
    const EXAMPLE: &'static str = r#"preset: strict
hsts: {max_age: 365d, include_subdomains: true}
frame: {allow: ["https://partner.test"]}
content_security_policy: "default-src 'self'; img-src *"
embedder_policy: off"#;
    const SAFETY: Safety = Safety::Convenience;
    const CAUSES: &'static [&'static Cause] = &[];

    fn build(self, _: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let fields = Fields::of(self)?;
        Ok(Hooks::new().on_response(move |response| {
            fields.put(response);
            Verdict::Continue
        }))
    }
}

/// What is put on a response.
struct Fields {
    always: Vec<(HeaderName, HeaderValue)>,
    hsts: Option<HeaderValue>,
    overwrite: bool,
    removed: &'static [HeaderName],
}

impl Fields {
    fn of(config: Config) -> Result<Fields, Vec<Problem>> {
        let mut problems = Vec::new();
        let values = Values::of(&config, &mut problems);
        let mut always = Vec::new();
        for (path, name, value) in values.fields {
            match field_value(path, &value) {
                Ok(value) => always.push((name, value)),
                Err(problem) => problems.push(problem),
            }
        }
        let hsts = values.hsts.and_then(|text| text.parse().ok());
        let removed: &[HeaderName] = if values.hides_software {
            &SOFTWARE
        } else {
            &[]
        };
        if problems.is_empty() && always.is_empty() && hsts.is_none() && removed.is_empty() {
            problems.push(
                Problem::at("", "sends and removes nothing")
                    .help("choose a `preset` or write the fields to send"),
            );
        }
        match problems.is_empty() {
            true => Ok(Fields {
                always,
                hsts,
                overwrite: config.overwrite,
                removed,
            }),
            false => Err(problems),
        }
    }

    fn put(&self, response: &mut Response<'_>) {
        if response.head.status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        // Over plain HTTP anybody on the way could have written it, so browsers ignore it there.
        let hsts = self.hsts.as_ref().filter(|_| response.client.secure);
        let hsts = hsts.map(|value| (&STRICT_TRANSPORT_SECURITY, value));
        let always = self.always.iter().map(|(name, value)| (name, value));
        response.change(|fields| {
            for name in self.removed {
                fields.remove(name);
            }
            for (name, value) in always.chain(hsts) {
                match fields.entry(name) {
                    Entry::Vacant(place) => {
                        place.insert(value.clone());
                    }
                    Entry::Occupied(mut place) if self.overwrite => {
                        place.insert(value.clone());
                    }
                    Entry::Occupied(_) => {}
                }
            }
        });
    }
}

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const EMBEDDER: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What names the service's software.
static SOFTWARE: [HeaderName; 6] = [
    http::header::SERVER,
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-aspnet-version"),
    HeaderName::from_static("x-aspnetmvc-version"),
    HeaderName::from_static("x-generator"),
    HeaderName::from_static("x-runtime"),
];
