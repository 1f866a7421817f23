//! The value of each field: a preset's, unless a setting says otherwise.
//! It must not know messages; every refusal is a located `Problem`.
//! Called by `security_headers` while it is built.

use http::HeaderName;

use super::{
    csp, Config, Frame, Hsts, HstsSetting, Preset, CONTENT_SECURITY_POLICY,
    CONTENT_SECURITY_POLICY_REPORT_ONLY, EMBEDDER, OPENER, PERMISSIONS_POLICY, REFERRER_POLICY,
    RESOURCE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use crate::contract::{did_you_mean, Problem, Time};

/// What is sent, as text, each field with the setting that it comes from.
pub(super) struct Values {
    pub(super) fields: Vec<(&'static str, HeaderName, String)>,
    pub(super) hsts: Option<String>,
    pub(super) hides_software: bool,
}

/// The values of a preset; `None` where it sends nothing.
struct Defaults {
    hsts: Option<Hsts>,
    nosniff: bool,
    frame: Frame,
    referrer: Option<&'static str>,
    permissions: Option<&'static str>,
    opener: Option<&'static str>,
    resource: Option<&'static str>,
    policy: Option<&'static str>,
    hides_software: bool,
}

const DAY: u64 = 86_400;

impl Defaults {
    fn of(preset: Preset) -> Defaults {
        let hsts = |days: u64, include_subdomains: bool| Hsts {
            max_age: Time::secs(days * DAY),
            include_subdomains,
            preload: false,
        };
        let none = Defaults {
            hsts: None,
            nosniff: false,
            frame: Frame::Off,
            referrer: None,
            permissions: None,
            opener: None,
            resource: None,
            policy: None,
            hides_software: false,
        };
        match preset {
            Preset::None => none,
            Preset::Basic => Defaults {
                hsts: Some(hsts(365, false)),
                nosniff: true,
                frame: Frame::SameOrigin,
                referrer: Some("strict-origin-when-cross-origin"),
                ..none
            },
            Preset::Strict => Defaults {
                hsts: Some(hsts(730, true)),
                nosniff: true,
                frame: Frame::Deny,
                referrer: Some("no-referrer"),
                permissions: Some(FEATURES),
                opener: Some("same-origin"),
                resource: Some("same-origin"),
                policy: Some(
                    "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'",
                ),
                hides_software: true,
            },
            Preset::Api => Defaults {
                hsts: Some(hsts(730, false)),
                nosniff: true,
                frame: Frame::Deny,
                referrer: Some("no-referrer"),
                resource: Some("same-origin"),
                policy: Some("default-src 'none'"),
                hides_software: true,
                ..none
            },
        }
    }
}

impl Values {
    pub(super) fn of(config: &Config, problems: &mut Vec<Problem>) -> Values {
        let defaults = Defaults::of(config.preset);
        let mut values = Values {
            fields: Vec::new(),
            hsts: hsts(config, defaults.hsts, problems),
            hides_software: config.hide_software.unwrap_or(defaults.hides_software),
        };
        if config.nosniff.unwrap_or(defaults.nosniff) {
            values.push("nosniff", X_CONTENT_TYPE_OPTIONS, "nosniff");
        }
        let frame = config.frame.clone();
        let frame = frame.unwrap_or_else(|| defaults.frame.clone());
        let ancestors = ancestors(&frame, problems);
        match frame {
            Frame::Deny => values.push("frame", X_FRAME_OPTIONS, "DENY"),
            Frame::SameOrigin => values.push("frame", X_FRAME_OPTIONS, "SAMEORIGIN"),
            Frame::Off | Frame::Allow(_) => {}
        }
        values.words(config, &defaults, problems);
        let policy = chosen(&config.content_security_policy, defaults.policy);
        values.content(config, policy, ancestors, problems);
        values
    }

    /// The fields that take known words.
    fn words(&mut self, config: &Config, defaults: &Defaults, problems: &mut Vec<Problem>) {
        if let Some(policy) = chosen(&config.permissions_policy, defaults.permissions) {
            self.push("permissions_policy", PERMISSIONS_POLICY, &policy);
        }
        let words = [
            (
                "referrer_policy",
                REFERRER_POLICY,
                &config.referrer_policy,
                defaults.referrer,
                REFERRERS,
            ),
            (
                "opener_policy",
                OPENER,
                &config.opener_policy,
                defaults.opener,
                OPENERS,
            ),
            (
                "embedder_policy",
                EMBEDDER,
                &config.embedder_policy,
                None,
                EMBEDDERS,
            ),
            (
                "resource_policy",
                RESOURCE,
                &config.resource_policy,
                defaults.resource,
                RESOURCES,
            ),
        ];
        for (path, name, given, default, known) in words {
            if let Some(value) = chosen(given, default) {
                one_of(path, &value, known, problems);
                self.push(path, name, &value);
            }
        }
    }

    /// The policies of content: the one in force, with who may frame the response, and the one to try out.
    fn content(
        &mut self,
        config: &Config,
        policy: Option<String>,
        ancestors: Option<String>,
        problems: &mut Vec<Problem>,
    ) {
        if let Some(policy) = policy.as_deref() {
            csp::check("content_security_policy", policy, problems);
        }
        if let Some(policy) = csp::with_ancestors(policy, ancestors) {
            self.push("content_security_policy", CONTENT_SECURITY_POLICY, &policy);
        }
        if let Some(policy) = &config.content_security_policy_report_only {
            let path = "content_security_policy_report_only";
            csp::check_reported(path, policy, problems);
            self.push(path, CONTENT_SECURITY_POLICY_REPORT_ONLY, policy);
        }
    }

    fn push(&mut self, path: &'static str, name: HeaderName, value: &str) {
        self.fields.push((path, name, value.to_owned()));
    }
}

/// A setting, else the preset's value, unless it is taken out.
fn chosen(given: &Option<String>, default: Option<&str>) -> Option<String> {
    let text = given.clone().or(default.map(str::to_owned));
    text.filter(|text| text != "off")
}

fn hsts(config: &Config, default: Option<Hsts>, problems: &mut Vec<Problem>) -> Option<String> {
    let hsts = match &config.hsts {
        None => default?,
        Some(HstsSetting::Off(_)) => return None,
        Some(HstsSetting::On(hsts)) => *hsts,
    };
    let seconds = hsts.max_age.0.as_secs();
    if hsts.preload && !(hsts.include_subdomains && seconds >= 365 * DAY) {
        problems.push(
            Problem::at("hsts.preload", "browsers take no such host into their lists")
                .help("set `include_subdomains: true` and a `max_age` of at least 365d, or remove `preload`"),
        );
    }
    let mut text = format!("max-age={seconds}");
    if hsts.include_subdomains {
        text.push_str("; includeSubDomains");
    }
    if hsts.preload {
        text.push_str("; preload");
    }
    Some(text)
}

/// The sources of `frame-ancestors`.
fn ancestors(frame: &Frame, problems: &mut Vec<Problem>) -> Option<String> {
    let origins = match frame {
        Frame::Off => return None,
        Frame::Deny => return Some("'none'".to_owned()),
        Frame::SameOrigin => return Some("'self'".to_owned()),
        Frame::Allow(origins) => origins,
    };
    if origins.is_empty() {
        problems.push(Problem::at("frame.allow", "names no origin").help("write `frame: deny`"));
    }
    for (index, origin) in origins.iter().enumerate() {
        if !is_origin(origin) {
            problems.push(
                Problem::at(format!("frame.allow[{index}]"), format!("\"{origin}\" is not an origin"))
                    .help("write scheme and host, such as \"https://partner.test\" or \"https://*.partner.test\", or 'self'"),
            );
        }
    }
    Some(origins.join(" "))
}

fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or(text.strip_prefix("http://"));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-*:[]_".contains(&byte);
    text == "'self'" || host.is_some_and(|host| !host.is_empty() && host.bytes().all(fits))
}

/// One known word; `Referrer-Policy` takes several, of which browsers use the last they know.
fn one_of(path: &'static str, value: &str, known: &[&'static str], problems: &mut Vec<Problem>) {
    for word in value.split(',').map(str::trim) {
        let is_single = path == "referrer_policy" || word.len() == value.len();
        if known.contains(&word) && is_single {
            continue;
        }
        let guess = did_you_mean(word, known.iter().copied());
        let guess = guess.map(|guess| format!("did you mean \"{guess}\"? "));
        problems.push(
            Problem::at(path, format!("\"{value}\" is not known here")).help(format!(
                "{}known: {}, off",
                guess.unwrap_or_default(),
                known.join(", ")
            )),
        );
        return;
    }
}

const FEATURES: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), usb=()";

const REFERRERS: &[&str] = &[
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];
const OPENERS: &[&str] = &[
    "noopener-allow-popups",
    "same-origin",
    "same-origin-allow-popups",
    "unsafe-none",
];
const EMBEDDERS: &[&str] = &["credentialless", "require-corp", "unsafe-none"];
const RESOURCES: &[&str] = &["cross-origin", "same-origin", "same-site"];
