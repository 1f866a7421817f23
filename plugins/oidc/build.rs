//! Settings of `oidc` become the plugin, or problems that say what is wrong with them, all at once.
//! It must not know requests.
//! Called while the plugin is built.

use std::time::Duration;

use http::header::HOST;
use http::{HeaderName, HeaderValue};

use super::client::Client;
use super::cookies::{Cookies, MOST_BYTES};
use super::identity::Judge;
use super::logout::Ended;
use super::provider::Provider;
use super::refresh::Renewals;
use super::sealed::Seal;
use super::session::Times;
use super::settings::Config;
use super::{Gate, Site};
use crate::contract::{
    canonical_path, field_name, field_value, Build, Problem, Side, Size, Target, Time,
};
use crate::granted::{Granted, Names};
use crate::jwt::settings::{claim_fields, is_scope};

/// What can be wrong, made and found right.
struct Parts {
    provider: Provider,
    client: Client,
    seal: Seal,
    sites: Vec<Site>,
    fields: Vec<(HeaderName, String)>,
    access_header: Option<HeaderName>,
    challenge: HeaderValue,
}

impl Parts {
    fn of(config: &Config, build: &Build<'_>) -> Result<Parts, Vec<Problem>> {
        let mut problems = Vec::new();
        issuer(config, &mut problems);
        bounds(config, &mut problems);
        words(config, &mut problems);
        names(config, &mut problems);
        paths(config, &mut problems);
        config.consumer.check(build, &mut problems);
        let provider = Provider::of(config, build, &mut problems);
        let client = Client::of(&config.client, &mut problems);
        let seal = seal(config, &mut problems);
        let sites = sites(config, &mut problems);
        let fields = claim_fields(&config.headers, &mut problems);
        let access_header = access_header(config, &fields, &mut problems);
        let escaped = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = field_value("realm", &format!("Cookie realm=\"{escaped}\""));
        let challenge = challenge.map_err(|problem| problems.push(problem));
        match (provider, client, seal, challenge) {
            (Some(provider), Some(client), Some(seal), Ok(challenge)) if problems.is_empty() => {
                Ok(Parts {
                    provider,
                    client,
                    seal,
                    sites,
                    fields,
                    access_header,
                    challenge,
                })
            }
            _ => Err(problems),
        }
    }
}

impl Gate {
    pub(super) fn of(config: &Config, build: &Build<'_>) -> Result<Gate, Vec<Problem>> {
        let parts = Parts::of(config, build)?;
        let mut names = Names::default();
        let written = parts.fields.iter().map(|(name, _)| name);
        let written = written.chain(&parts.access_header);
        written.for_each(|name| names.add(name.clone()));
        let most_bytes = usize::try_from(config.session.most_bytes.0).unwrap_or(MOST_BYTES);
        let seconds = |time: Time| time.0.as_secs();
        let required = config.require.claims.iter();
        let required = required.map(|(claim, values)| (claim.clone(), values.0.clone()));
        Ok(Gate {
            judge: Judge::new(config, build.clock.clone()),
            provider: parts.provider.into(),
            client: parts.client,
            seal: parts.seal,
            cookies: Cookies::new(&config.cookie, most_bytes),
            sites: parts.sites,
            callback_path: config.callback.path.clone(),
            logout_path: config.logout.path.clone(),
            logout_after: config.logout.after.clone(),
            logout_at_provider: config.logout.provider,
            login_timeout: seconds(config.login.timeout),
            most_logins: config.login.most,
            times: Times {
                idle: seconds(config.session.idle),
                absolute: seconds(config.session.absolute),
            },
            refreshes: config.session.refresh,
            scopes: config.scopes.join(" "),
            parameters: config.parameters.clone(),
            unauthenticated: config.unauthenticated,
            consumer: config.consumer.clone(),
            consumers: build.consumers.clone(),
            required: required.collect(),
            required_scopes: config.require.scopes.clone(),
            granted: Granted::new(names, build.slot()),
            fields: parts.fields,
            access_header: parts.access_header,
            renewals: build.shared("the provider's refreshed tokens", Renewals::default),
            ended: build.shared("the sessions that were logged out of", Ended::default),
            added: build.slot(),
            challenge: parts.challenge,
            clock: build.clock.clone(),
            refused: build.counter("refused"),
            logged_in: build.counter("logged_in"),
            logged_out: build.counter("logged_out"),
            renewed: build.counter("refreshed"),
            failed: build.counter("refresh_failed"),
        })
    }
}

fn issuer(config: &Config, problems: &mut Vec<Problem>) {
    let target = Target {
        url: config.issuer.clone(),
        pool: None,
    };
    match target.origin("issuer") {
        Err(problem) => problems.push(problem),
        Ok(origin) if origin.http2 || config.issuer.contains('?') => {
            let problem = Problem::at(
                "issuer",
                "is no issuer: a URL of http or https, without a query",
            );
            problems.push(problem.help("copy `issuer` of the provider's description"));
        }
        Ok(_) => {}
    }
}

fn bounds(config: &Config, problems: &mut Vec<Problem>) {
    let (minute, hour, day) = (Time::secs(60), Time::secs(3600), Time::secs(86_400));
    let mut within = |path: &str, time: Time, least: Time, most: Time| {
        if time < least || time > most {
            let fact = format!("must be from {least} to {most}, found {time}");
            problems.push(Problem::at(path, fact).help("leave it out for the default"));
        }
    };
    within("refresh", config.refresh, Time::secs(10), day);
    within("keep", config.keep, config.refresh, Time::secs(30 * 86_400));
    within("timeout", config.timeout, Time::millis(100), Time::secs(30));
    within(
        "clock_skew",
        config.clock_skew,
        Time(Duration::ZERO),
        Time::secs(600),
    );
    within("login.timeout", config.login.timeout, minute, hour);
    let session = &config.session;
    within(
        "session.absolute",
        session.absolute,
        minute,
        Time::secs(90 * 86_400),
    );
    within("session.idle", session.idle, minute, session.absolute);
    let mut counted = |path: &str, found: usize, least: usize, most: usize| {
        if !(least..=most).contains(&found) {
            let fact = format!("must be from {least} to {most}, found {found}");
            problems.push(Problem::at(path, fact));
        }
    };
    counted("login.most", config.login.most, 1, 16);
    counted("secrets", config.secrets.0.len(), 1, 4);
    counted("origins", config.origins.0.len(), 1, 16);
    counted("parameters", config.parameters.len(), 0, 16);
    let (least, most) = (Size(4 << 10), Size(32 << 10));
    if session.most_bytes < least || session.most_bytes > most {
        let fact = format!(
            "must be from {least} to {most}, found {}",
            session.most_bytes
        );
        problems.push(Problem::at("session.most_bytes", fact));
    }
}

fn words(config: &Config, problems: &mut Vec<Problem>) {
    if !config.scopes.iter().any(|scope| scope == "openid") {
        let problem = Problem::at(
            "scopes",
            "does not have `openid`, without which there is no identity",
        );
        problems.push(problem.help("add it"));
    }
    let asked = config.scopes.iter().enumerate();
    let asked = asked.map(|(at, scope)| (format!("scopes[{at}]"), scope));
    let required = config.require.scopes.iter().enumerate();
    let required = required.map(|(at, scope)| (format!("require.scopes[{at}]"), scope));
    for (path, scope) in asked.chain(required) {
        if scope.is_empty() || !scope.bytes().all(is_scope) {
            problems.push(Problem::at(path, format!("{scope:?} is no scope")));
        }
    }
    let claims = config.require.claims.iter();
    for (claim, _) in claims.filter(|(_, texts)| texts.0.is_empty()) {
        let problem = Problem::at(format!("require.claims.{claim}"), "there is no value");
        problems.push(problem.help("give those that the claim may have"));
    }
    for name in config.parameters.keys() {
        if RESERVED.contains(&name.as_str()) {
            let problem = Problem::at(format!("parameters.{name}"), "is what logins are made of");
            problems.push(problem.help("remove it"));
        }
    }
}

fn names(config: &Config, problems: &mut Vec<Problem>) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(1..=32).contains(&config.cookie.len()) || !config.cookie.bytes().all(is_plain) {
        let fact = format!("{:?} cannot be a cookie's name", config.cookie);
        problems.push(Problem::at("cookie", fact).help("use letters, digits, \"-\" and \"_\""));
    }
    if config.algorithms.is_empty() {
        let problem = Problem::at("algorithms", "is empty");
        problems.push(problem.help("leave it out for the default"));
    }
    for (at, one) in config.algorithms.iter().enumerate() {
        if one.name().starts_with("HS") {
            let problem = Problem::at(
                format!("algorithms[{at}]"),
                "is for secrets, and providers publish none",
            );
            problems.push(problem.help("let the provider sign with a key"));
        }
    }
    if config.userinfo_endpoint.is_some() && !config.userinfo {
        let problem = Problem::at("userinfo_endpoint", "is not asked without `userinfo`");
        problems.push(problem.help("set `userinfo: true`, or remove it"));
    }
}

fn paths(config: &Config, problems: &mut Vec<Problem>) {
    let own = [
        ("callback.path", &config.callback.path),
        ("logout.path", &config.logout.path),
    ];
    for (at, path) in own {
        let is_itself = canonical_path(path).is_ok_and(|canonical| *canonical == **path);
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_itself || !is_plain || path.len() > 256 || path.contains(['?', '#']) {
            let fact = format!("{path:?} is not a path as requests are compared with it");
            problems.push(Problem::at(at, fact).help("begin with \"/\", without \"?\" or \"%\""));
        }
    }
    if config.callback.path == config.logout.path {
        problems.push(Problem::at("logout.path", "is `callback.path` as well"));
    }
    let after = &config.logout.after;
    let is_plain = after.bytes().all(|byte| byte.is_ascii_graphic());
    let is_own = own.iter().any(|(_, path)| *path == after);
    if !after.starts_with('/') || !is_plain || after.len() > 1024 || is_own {
        let fact = format!("{after:?} is no path of the site that a browser could be sent to");
        problems.push(Problem::at("logout.after", fact).help("begin with \"/\""));
    }
}

fn seal(config: &Config, problems: &mut Vec<Problem>) -> Option<Seal> {
    // Sessions of another provider, client or name are none here, also under the same secret.
    let about = [&*config.issuer, &*config.client.id, &*config.cookie];
    let sealed = Seal::new(&config.secrets.0, &about);
    let problem = |(at, fact): (usize, String)| {
        let path = match config.secrets.0.len() {
            1 => "secrets".to_owned(),
            _ => format!("secrets[{at}]"),
        };
        Problem::at(path, fact).help("`openssl rand -base64 32` prints one")
    };
    sealed.map_err(|wrong| problems.push(problem(wrong))).ok()
}

fn sites(config: &Config, problems: &mut Vec<Problem>) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for (at, url) in config.origins.0.iter().enumerate() {
        let path = match config.origins.0.len() {
            1 => "origins".to_owned(),
            _ => format!("origins[{at}]"),
        };
        let target = Target {
            url: url.clone(),
            pool: None,
        };
        let origin = match target.origin(&path) {
            Ok(origin) => origin,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let is_bare = origin.path == "/" && !url.ends_with('/') && !origin.http2;
        if !is_bare || sites.iter().any(|site| site.host == origin.host) {
            let fact = match is_bare {
                true => format!("\"{}\" is there twice", origin.host),
                false => "is more than scheme, host and port".to_owned(),
            };
            let remedy = "write `https://HOST`, each host once";
            problems.push(Problem::at(path, fact).help(remedy));
            continue;
        }
        sites.push(Site {
            origin: origin.name(),
            is_secure: origin.secure,
            host: origin.host,
        });
    }
    sites
}

fn access_header(
    config: &Config,
    fields: &[(HeaderName, String)],
    problems: &mut Vec<Problem>,
) -> Option<HeaderName> {
    let name = config.access_token_header.as_ref()?;
    match field_name(Side::Request, "access_token_header", name) {
        Ok(name) if name == HOST || fields.iter().any(|(other, _)| *other == name) => {
            let fact = format!("\"{name}\" carries something else");
            let problem = Problem::at("access_token_header", fact);
            problems.push(problem.help("choose another name"));
            None
        }
        Ok(name) => Some(name),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

/// Parameters that logins are made of.
const RESERVED: [&str; 12] = [
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
];
