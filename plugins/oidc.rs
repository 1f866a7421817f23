//! Logs people in at an OpenID Connect provider (authorization code with PKCE) and knows them by an encrypted session in cookies.
//! It must not know the service behind, nor keep anything of a session but what cookies bring.
//! Called by the chain of a listener or route that names it, also for the paths where logins and sessions end.

mod build;
mod callback;
pub mod causes;
mod client;
mod cookies;
mod identity;
mod login;
mod logout;
mod provider;
mod refresh;
mod sealed;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CACHE_CONTROL, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};

use crate::contract::{
    Answer, Build, Cause, Claims, Clock, Consumers, Counter, Effects, Hooks, Plugin, PluginDef,
    Principal, Problem, Request, Safety, Shared, Slot, Verdict,
};
use crate::granted::Granted;
use crate::jwt::claims::{fields, find, holds_any, who};
use crate::jwt::{causes as of_jwt, Consumer};
use crate::place::without_cookies;

use callback::Stop;
use client::Client;
use cookies::{Came, Cookies, Scheme};
use identity::Judge;
use logout::Ended;
use provider::Provider;
use refresh::Renewals;
use sealed::Seal;
use session::{Session, Times};
pub use settings::{Callback, ClientProof, Config, Login, Logout, Require, Unauthenticated};

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

impl Plugin for Config {
    const KIND: &'static str = "oidc";
    const ABOUT: &'static str = "log people in at an OpenID Connect provider";
    const EXAMPLE: &'static str = "issuer: https://id.example.com
client: {id: shop, secret: an example}
secrets: [an example of at least thirty-two bytes]
origins: https://shop.example.com
scopes: [openid, email, offline_access]
headers: {x-user: sub, x-mail: email}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = causes::ALL;
    const ABSENT: Option<&'static Cause> = Some(&causes::MISSING);

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let gate = Arc::new(Gate::of(&self, build)?);
        let provider = gate.provider.clone();
        let (asking, sending, added) = (gate.clone(), gate.clone(), gate.added);
        Ok(gate
            .granted
            .tell(Hooks::new())
            .background("provider", move |life| provider.clone().run(life))
            .on_request_async(move |request| {
                let gate = asking.clone();
                Box::pin(async move { gate.check(request).await })
            })
            .on_upstream_request(move |request| {
                without_cookies(request.head, |name| sending.cookies.are_ours(name));
                sending.granted.apply(request);
                Verdict::Continue
            })
            .on_response(move |response| {
                for field in response.slots.value(added).into_iter().flatten() {
                    // A value that was made here.
                    let _ = response.head.append_header(SET_COOKIE, field.clone());
                }
                Verdict::Continue
            }))
    }
}

/// A site at which people log in.
struct Site {
    /// `https://HOST`, with a port that is not the usual one.
    origin: String,
    host: String,
    is_secure: bool,
}

/// Where a request is, and when.
struct Place<'a> {
    origin: &'a str,
    scheme: Scheme,
    /// Seconds since 1970.
    now: u64,
}

struct Gate {
    provider: Arc<Provider>,
    client: Client,
    judge: Judge,
    seal: Seal,
    cookies: Cookies,
    sites: Vec<Site>,
    callback_path: String,
    logout_path: String,
    logout_after: String,
    logout_at_provider: bool,
    login_timeout: u64,
    most_logins: usize,
    times: Times,
    refreshes: bool,
    /// What the provider is asked for.
    scopes: String,
    parameters: BTreeMap<String, String>,
    unauthenticated: Unauthenticated,
    consumer: Consumer,
    consumers: Arc<Consumers>,
    required: Vec<(String, Vec<String>)>,
    required_scopes: Vec<String>,
    fields: Vec<(HeaderName, String)>,
    access_header: Option<HeaderName>,
    granted: Granted,
    renewals: Shared<Renewals>,
    ended: Shared<Ended>,
    /// For the response to the client.
    added: Slot<Vec<HeaderValue>>,
    challenge: HeaderValue,
    clock: Clock,
    refused: Counter,
    logged_in: Counter,
    logged_out: Counter,
    renewed: Counter,
    failed: Counter,
}

impl Gate {
    async fn check(self: &Arc<Self>, request: &mut Request<'_>) -> Verdict {
        self.granted.strip(request);
        let Some(place) = self.place(request) else {
            return match self.unauthenticated {
                Unauthenticated::Pass => Verdict::Continue,
                Unauthenticated::Auto | Unauthenticated::Refuse => {
                    self.refuse(&causes::ORIGIN, request.effects).into()
                }
            };
        };
        let path = request.client.path;
        if path == self.callback_path {
            self.come_back(request, &place).await
        } else if path == self.logout_path {
            self.leave(request, &place).await
        } else {
            self.guard(request, &place).await
        }
    }

    /// The site that a request is for.
    fn place(&self, request: &Request<'_>) -> Option<Place<'_>> {
        let client = request.client;
        let mut sites = self.sites.iter();
        let site =
            sites.find(|site| site.host == client.host && site.is_secure == client.secure)?;
        Some(Place {
            origin: &site.origin,
            scheme: login::scheme(site.is_secure),
            now: self.clock.unix().as_secs(),
        })
    }

    /// Lets a request in a session go on.
    async fn guard(self: &Arc<Self>, request: &mut Request<'_>, place: &Place<'_>) -> Verdict {
        let (session, is_old) = match self.opened(request, place) {
            Ok(Some(opened)) => opened,
            Ok(None) => return self.without(&causes::MISSING, request, place).await,
            Err(cause) => return self.without(cause, request, place).await,
        };
        let (effects, now) = (request.effects, place.now);
        match self
            .ended
            .peek(effects, |ended| ended.has(&session.name, now))
        {
            Ok(false) => {}
            Ok(true) => return self.without(&causes::SESSION_ENDED, request, place).await,
            Err(unknown) => return Verdict::Unknown(unknown),
        }
        let (mut session, is_new) = match self.fresh(session, effects, now).await {
            Ok(fresh) => fresh,
            Err(Stop::Refused(cause)) => return self.without(cause, request, place).await,
            Err(Stop::Verdict(verdict)) => return verdict,
        };
        let is_worn = is_new || is_old || session.is_worn(self.times, now);
        if is_worn && effects.is_live() {
            session.written = now;
            match self.written(&session, request, place) {
                Ok(fields) => request.slots.put(self.added, fields),
                Err(cause) => return self.refuse(cause, effects).into(),
            }
        }
        match self.admit(&session, request) {
            Ok(()) => Verdict::Continue,
            Err(cause) => self.refuse(cause, effects).into(),
        }
    }

    /// The session of a request, and whether an older secret sealed it.
    ///
    /// # Errors
    /// Why what is there is none.
    fn opened(
        &self,
        request: &Request<'_>,
        place: &Place<'_>,
    ) -> Result<Option<(Session, bool)>, &'static Cause> {
        let text = match self.cookies.session(&request.head.headers, place.scheme) {
            Came::Nothing => return Ok(None),
            Came::Broken => return Err(&causes::SESSION),
            Came::Whole(text) => text,
        };
        let opened = self.seal.open(SESSION, &text).ok_or(&causes::SESSION)?;
        let session = Session::read(&opened.content).ok_or(&causes::SESSION)?;
        session.holds(self.times, place.now)?;
        Ok(Some((session, opened.is_old)))
    }

    /// The session with tokens that hold, and whether they are new.
    async fn fresh(
        self: &Arc<Self>,
        mut session: Session,
        effects: Effects,
        now: u64,
    ) -> Result<(Session, bool), Stop> {
        if !session.is_stale(now) {
            return Ok((session, false));
        }
        match session.tokens.refresh.clone().filter(|_| self.refreshes) {
            Some(refresh) => {
                let tokens = self.renewed(&session, &refresh, effects).await?;
                session.tokens = (*tokens).clone();
                Ok((session, true))
            }
            None if self.forwards_access() => Err(Stop::Refused(&causes::SESSION_EXPIRED)),
            None => Ok((session, false)),
        }
    }

    /// Whether the user may come in, and what the service is told.
    fn admit(&self, session: &Session, request: &mut Request<'_>) -> Result<(), &'static Cause> {
        let claims = session.claims().ok_or(&causes::SESSION)?;
        let lacks =
            |(name, values): &(String, Vec<String>)| !holds_any(find(&claims, name), values);
        if self.required.iter().any(lacks) {
            return Err(&causes::CLAIM);
        }
        let granted = session.tokens.scope.as_deref().unwrap_or(&self.scopes);
        let has = |wanted: &String| granted.split(' ').any(|scope| scope == wanted);
        if !self.required_scopes.iter().all(has) {
            return Err(&causes::SCOPE);
        }
        let name = self.named(&claims)?;
        let mut granted = fields(&claims, &self.fields);
        if let Some(header) = &self.access_header {
            granted.extend(access(header, session).map(|value| (header.clone(), value)));
        }
        *request.principal = Some(Principal {
            claims: Some(Arc::new(claims)),
            ..Principal::consumer(name)
        });
        self.granted.grant(request, granted);
        Ok(())
    }

    fn named(&self, claims: &Claims) -> Result<String, &'static Cause> {
        who(&self.consumer, &self.consumers, claims).map_err(|cause| {
            match *cause == of_jwt::CONSUMER {
                true => &causes::CONSUMER,
                false => &causes::CLAIM,
            }
        })
    }

    /// What becomes of a request without a session that holds.
    async fn without(
        &self,
        cause: &'static Cause,
        request: &Request<'_>,
        place: &Place<'_>,
    ) -> Verdict {
        let effects = request.effects;
        // What the provider did wrong does not become right by another login.
        let is_over = cause.status == 401;
        let wants_login = match self.unauthenticated {
            Unauthenticated::Pass if is_over => return Verdict::Continue,
            Unauthenticated::Auto => is_over && login::is_page(request),
            Unauthenticated::Refuse | Unauthenticated::Pass => false,
        };
        let mut answer = match wants_login {
            false => self.refuse(cause, effects),
            true => match self.provider.described(effects).await {
                Err(verdict) => return verdict,
                Ok(described) => match self.begin(request, place, &described.value) {
                    Ok(answer) => answer,
                    Err(cause) => self.refuse(cause, effects),
                },
            },
        };
        if is_over {
            for field in self
                .cookies
                .end_session(&request.head.headers, place.scheme)
            {
                answer = answer.with(SET_COOKIE, field);
            }
        }
        answer.into()
    }

    fn forwards_access(&self) -> bool {
        self.access_header.is_some()
    }

    fn refuse(&self, cause: &'static Cause, effects: Effects) -> Answer {
        if effects.is_live() {
            (self.refused)(1);
        }
        let answer = Answer::of(cause).with(CACHE_CONTROL, NO_STORE);
        match cause.status {
            401 => answer.with(WWW_AUTHENTICATE, self.challenge.clone()),
            _ => answer,
        }
    }
}

/// Sends a browser on.
fn sent_on(cause: &'static Cause, location: HeaderValue) -> Answer {
    let answer = Answer::of(cause).with(LOCATION, location);
    answer.with(CACHE_CONTROL, NO_STORE)
}

/// The access token as a field carries it.
fn access(header: &HeaderName, session: &Session) -> Option<HeaderValue> {
    let token = session.tokens.access.as_deref()?;
    let value = match *header == AUTHORIZATION {
        true => HeaderValue::from_str(&format!("Bearer {token}")),
        false => HeaderValue::from_str(token),
    };
    let mut value = value.ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What sessions are sealed for.
const SESSION: &str = "session";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
