//! The provider: how it describes itself, its keys, and what carries calls to it.
//! It must not know logins or sessions.
//! Its description and keys are got beside the traffic, as `fetched` says; everything else of `oidc` asks here.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::settings::Config;
use crate::contract::{
    Build, Call, Caller, Effects, Life, Origin, Problem, Reply, Target, Unknown, Verdict,
};
use crate::fetched::{Current, Fetched, Pace};
use crate::json;
use crate::keys::KeySet;

use super::causes;

/// What a provider says of itself, and its keys.
#[derive(Debug)]
pub(super) struct Described {
    /// Where browsers log in.
    pub(super) authorization: String,
    /// Where they log out, if anywhere.
    pub(super) end_session: Option<String>,
    /// Whether it names itself whenever it sends browsers back (RFC 9207).
    pub(super) names_itself: bool,
    /// The token endpoint as it calls it.
    pub(super) token: String,
    token_path: String,
    userinfo_path: String,
    pub(super) keys: KeySet,
}

/// The provider of an instance.
pub(super) struct Provider {
    pub(super) issuer: String,
    fetched: Fetched<Described>,
    discovery: Line,
    jwks: Option<Caller>,
    token: Option<Caller>,
    userinfo: Option<Caller>,
    wants_userinfo: bool,
    timeout: Duration,
}

/// What carries calls to one origin.
struct Line {
    caller: Caller,
    origin: Origin,
}

impl Provider {
    pub(super) fn of(
        config: &Config,
        build: &Build<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Provider> {
        let written = config.discovery.clone();
        let discovery = written.unwrap_or_else(|| Target {
            url: format!("{}{WELL_KNOWN}", config.issuer.trim_end_matches('/')),
            pool: None,
        });
        let path = match config.discovery {
            Some(_) => "discovery",
            None => "issuer",
        };
        let mut caller = |path: &str, target: &Target| {
            let caller = build.caller(path, target);
            caller.map_err(|problem| problems.push(problem)).ok()
        };
        let optional =
            |path: &str,
             target: &Option<Target>,
             caller: &mut dyn FnMut(&str, &Target) -> Option<Caller>| {
                target.as_ref().and_then(|target| caller(path, target))
            };
        let jwks = optional("jwks", &config.jwks, &mut caller);
        let token = optional("token_endpoint", &config.token_endpoint, &mut caller);
        let userinfo = optional("userinfo_endpoint", &config.userinfo_endpoint, &mut caller);
        let line = Line {
            caller: caller(path, &discovery)?,
            origin: discovery.origin(path).ok()?,
        };
        let pace = Pace {
            refresh: config.refresh.0,
            keep: config.keep.0,
            timeout: config.timeout.0,
        };
        // Other endpoints make another description.
        let places = [&jwks, &token, &userinfo].map(|one| one.as_ref().map_or("", Caller::about));
        let url = format!(
            "{} {} {}",
            line.caller.about(),
            config.issuer,
            places.join(" ")
        );
        let what = ("the provider's description", &*url);
        let events = ("provider_got", "provider_failed");
        Some(Provider {
            issuer: config.issuer.clone(),
            fetched: Fetched::of(what, line.caller.about(), pace, events, build)?,
            discovery: line,
            jwks,
            token,
            userinfo,
            wants_userinfo: config.userinfo,
            timeout: config.timeout.0,
        })
    }

    /// What it says of itself, waited for where nothing came yet.
    ///
    /// # Errors
    /// That it says nothing, which is no denial.
    pub(super) async fn described(&self, effects: Effects) -> Result<Current<Described>, Verdict> {
        match self.fetched.wanted(effects).await {
            Ok(Some(current)) => Ok(current),
            Ok(None) => Err(self.unavailable(self.fetched.reason())),
            Err(Unknown(what)) => Err(Verdict::Unknown(Unknown(what))),
        }
    }

    /// What it says after another attempt, for an identity whose key is not known; nothing where there was none.
    pub(super) async fn newer(&self, effects: Effects) -> Option<Current<Described>> {
        match effects.is_live() && self.fetched.again().await {
            true => self.fetched.current(effects).ok()?,
            false => None,
        }
    }

    /// What a hook says that needs the provider and does not have it.
    pub(super) fn unavailable(&self, reason: String) -> Verdict {
        Verdict::Failed {
            cause: &causes::UNAVAILABLE,
            reason,
        }
    }

    /// Asks the token endpoint.
    ///
    /// # Errors
    /// That it did not answer.
    pub(super) async fn ask_token(
        &self,
        described: &Described,
        effects: Effects,
        dress: impl FnOnce(&Caller) -> Call,
    ) -> Result<Reply, Verdict> {
        let caller = self.token.as_ref().unwrap_or(&self.discovery.caller);
        let call = dress(caller).at(described.token_path.clone());
        self.ask(caller, call, effects).await
    }

    /// Asks about the user whose access token this is.
    ///
    /// # Errors
    /// That it did not answer.
    pub(super) async fn ask_userinfo(
        &self,
        described: &Described,
        effects: Effects,
        dress: impl FnOnce(Call) -> Call,
    ) -> Result<Reply, Verdict> {
        let caller = self.userinfo.as_ref().unwrap_or(&self.discovery.caller);
        let call = dress(caller.get()).at(described.userinfo_path.clone());
        self.ask(caller, call, effects).await
    }

    async fn ask(&self, caller: &Caller, call: Call, effects: Effects) -> Result<Reply, Verdict> {
        let call = call.within(self.timeout).at_most(MOST_ANSWER);
        let reply = caller.call(effects, call).await;
        reply.map_err(|failure| caller.failed(failure, &causes::UNAVAILABLE))
    }

    /// Whether it is asked about users.
    pub(super) fn wants_userinfo(&self) -> bool {
        self.wants_userinfo
    }

    /// The task: has it describe itself now and then.
    pub(super) async fn run(self: Arc<Provider>, life: Life) {
        self.fetched.run(life, || self.get()).await;
    }

    async fn get(&self) -> Result<(Vec<u8>, Described), String> {
        let line = &self.discovery.caller;
        let mut text = self.text(line, line.path()).await?;
        let said = json::strict_object(&text)
            .map_err(|error| format!("did not describe itself: {error}"))?;
        let mut described = self.read(&said)?;
        let published = match &self.jwks {
            Some(caller) => self.text(caller, caller.path()).await?,
            None => {
                let path = self.at_home(&said, "jwks_uri", "jwks")?;
                self.text(line, &path).await?
            }
        };
        let keys = KeySet::jwks(&published);
        let keys = keys.map_err(|why| format!("gave keys that cannot be used: {why}"))?;
        if keys.holds_secrets() {
            return Err("gave secrets, which nobody publishes".to_owned());
        }
        described.keys = keys;
        text.push(b'\n');
        text.extend(published);
        Ok((text, described))
    }

    /// What a description says, without keys.
    fn read(&self, said: &Map<String, Value>) -> Result<Described, String> {
        if said.get("issuer").and_then(Value::as_str) != Some(&self.issuer) {
            return Err("describes another issuer".to_owned());
        }
        let token_path = match &self.token {
            Some(caller) => caller.path().to_owned(),
            None => self.at_home(said, "token_endpoint", "token_endpoint")?,
        };
        let userinfo_path = match (&self.userinfo, self.wants_userinfo) {
            (_, false) => String::new(),
            (Some(caller), true) => caller.path().to_owned(),
            (None, true) => self.at_home(said, "userinfo_endpoint", "userinfo_endpoint")?,
        };
        let page = |name: &str| {
            let url = said.get(name).and_then(Value::as_str)?;
            is_page(url).then(|| url.to_owned())
        };
        let names_itself = said.get("authorization_response_iss_parameter_supported");
        let token = said.get("token_endpoint").and_then(Value::as_str);
        Ok(Described {
            authorization: page("authorization_endpoint")
                .ok_or("does not say where browsers log in")?,
            end_session: page("end_session_endpoint"),
            names_itself: names_itself == Some(&Value::Bool(true)),
            token: token.unwrap_or(&self.issuer).to_owned(),
            token_path,
            userinfo_path,
            keys: KeySet::default(),
        })
    }

    /// The path of an endpoint that is where the description is.
    fn at_home(
        &self,
        said: &Map<String, Value>,
        name: &str,
        setting: &str,
    ) -> Result<String, String> {
        let url = said.get(name).and_then(Value::as_str);
        let target = url.map(|url| Target {
            url: url.to_owned(),
            pool: None,
        });
        let origin = target.and_then(|target| target.origin("").ok());
        let origin = origin.ok_or_else(|| format!("does not say its `{name}`"))?;
        match origin.name() == self.discovery.origin.name() {
            true => Ok(origin.path),
            false => Err(format!(
                "has its `{name}` at another origin: name it by `{setting}`"
            )),
        }
    }

    async fn text(&self, caller: &Caller, path: &str) -> Result<Vec<u8>, String> {
        let call = caller.get().at(path).within(self.timeout);
        let reply = caller.call(Effects::Live, call.at_most(MOST_BYTES)).await;
        let reply = reply.map_err(|failure| failure.to_string())?;
        match reply.status {
            200 => Ok(reply.body.to_vec()),
            status => Err(format!("answered {status}")),
        }
    }
}

/// Whether a browser can be sent there.
fn is_page(url: &str) -> bool {
    let target = Target {
        url: url.to_owned(),
        pool: None,
    };
    let is_http = url.starts_with("https://") || url.starts_with("http://");
    is_http && target.origin("").is_ok()
}

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const MOST_BYTES: usize = 512 * 1024;
/// Bytes of an answer with tokens, or about a user.
const MOST_ANSWER: usize = 64 * 1024;
