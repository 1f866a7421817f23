//! How a login ends: what came back from the provider becomes a session, or a refusal that says why.
//! It must not know how requests in a session go on.
//! Called for requests to `callback.path`.

use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderValue, Method};

use super::cookies::is_mark;
use super::identity::Identity;
use super::login::{mark, Login};
use super::provider::Described;
use super::sealed::{random_text, same};
use super::session::{Session, Tokens};
use super::tokens::{self, Given, NotGiven};
use super::{causes, sent_on, Gate, Place, SESSION};
use crate::contract::{Answer, Caller, Cause, Claims, Effects, Request, Verdict};
use crate::json;
use crate::query::{decoded, encoded, pairs};

/// What the provider sent the browser back with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) state: String,
    pub(super) code: Option<String>,
    pub(super) error: Option<String>,
    pub(super) issuer: Option<String>,
}

impl Back {
    /// # Errors
    /// That it is not what providers send. Other parameters may be there.
    pub(super) fn read(query: &str) -> Result<Back, &'static Cause> {
        let mut back = Back::default();
        let mut state = None;
        if query.len() > LONGEST_QUERY {
            return Err(&causes::CALLBACK);
        }
        for (name, value) in pairs(query) {
            let place = match &*decoded(name) {
                b"state" => &mut state,
                b"code" => &mut back.code,
                b"error" => &mut back.error,
                b"iss" => &mut back.issuer,
                _ => continue,
            };
            let value = String::from_utf8(decoded(value).into_owned());
            let value = value.map_err(|_| &causes::CALLBACK)?;
            // Of two, the provider and a stranger may have written one each.
            if place.is_some() || value.is_empty() || value.contains(char::is_control) {
                return Err(&causes::CALLBACK);
            }
            *place = Some(value);
        }
        back.state = state.ok_or(&causes::CALLBACK)?;
        match back.code.is_some() != back.error.is_some() {
            true => Ok(back),
            false => Err(&causes::CALLBACK),
        }
    }
}

/// What ends a step early.
pub(super) enum Stop {
    Refused(&'static Cause),
    Verdict(Verdict),
}

impl From<&'static Cause> for Stop {
    fn from(cause: &'static Cause) -> Stop {
        Stop::Refused(cause)
    }
}

impl Gate {
    /// Completes a login.
    pub(super) async fn come_back(&self, request: &Request<'_>, place: &Place<'_>) -> Verdict {
        let query = request.head.uri.query().unwrap_or_default();
        let (back, login) = match self.kept(request, place, query) {
            Ok(both) => both,
            Err(cause) => return self.refuse(cause, request.effects).into(),
        };
        // The login is over, whatever becomes of it: a state is good for once.
        let over = self.cookies.end_login(place.scheme, &mark(&login.state));
        let outcome = self.complete(request, place, &back, &login).await;
        let answer = match outcome {
            Ok(answer) => answer,
            Err(Stop::Refused(cause)) => self.refuse(cause, request.effects),
            Err(Stop::Verdict(verdict)) => return verdict,
        };
        match over {
            Some(over) => answer.with(SET_COOKIE, over).into(),
            None => answer.into(),
        }
    }

    /// What came back, and the login that this browser began it with.
    fn kept(
        &self,
        request: &Request<'_>,
        place: &Place<'_>,
        query: &str,
    ) -> Result<(Back, Login), &'static Cause> {
        if request.head.method != Method::GET {
            return Err(&causes::CALLBACK);
        }
        let back = Back::read(query)?;
        let mark = mark(&back.state);
        debug_assert!(is_mark(&mark));
        let headers = &request.head.headers;
        let sealed = self.cookies.login(headers, place.scheme, &mark);
        let login = self.login_of(sealed.ok_or(&causes::STATE)?, place.now)?;
        match same(&login.state, &back.state) {
            true => Ok((back, login)),
            false => Err(&causes::STATE),
        }
    }

    async fn complete(
        &self,
        request: &Request<'_>,
        place: &Place<'_>,
        back: &Back,
        login: &Login,
    ) -> Result<Answer, Stop> {
        let effects = request.effects;
        let described = self.provider.described(effects).await;
        let described = described.map_err(Stop::Verdict)?.value;
        self.is_from(back, &described)?;
        let code = match (&back.code, &back.error) {
            (Some(code), None) => code,
            (_, error) => return Err(denial(error.as_deref().unwrap_or_default()).into()),
        };
        let form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
            encoded(code),
            encoded(&self.redirect_uri(place)),
            login.verifier,
        );
        let given = self.exchange(&described, form, effects).await;
        let given = given.map_err(|why| self.not_given(why, &causes::CODE))?;
        let text = given.identity.as_deref().ok_or(&causes::TOKEN)?;
        let identity = self.identity(text, &described, effects).await?;
        identity.is_of_login(&login.nonce)?;
        identity.is_with(&given.access)?;
        let userinfo = match self.provider.wants_userinfo() {
            true => Some(
                self.userinfo(&described, &given, &identity, effects)
                    .await?,
            ),
            false => None,
        };
        let session = Session {
            name: random_text(16).ok_or(&causes::RANDOM)?,
            began: place.now,
            written: place.now,
            tokens: self.kept_of(given, None, place.now),
            userinfo,
        };
        let location = format!("{}{}", place.origin, login.target);
        let location = HeaderValue::from_str(&location).map_err(|_| &causes::CALLBACK)?;
        let mut answer = sent_on(&causes::LOGGED_IN, location);
        for field in self.written(&session, request, place)? {
            answer = answer.with(SET_COOKIE, field);
        }
        (self.logged_in)(1);
        Ok(answer)
    }

    /// Whether this provider sent the browser back, as far as it says (RFC 9207 section 2.4).
    fn is_from(&self, back: &Back, described: &Described) -> Result<(), &'static Cause> {
        match &back.issuer {
            Some(issuer) if *issuer == self.provider.issuer => Ok(()),
            None if !described.names_itself => Ok(()),
            Some(_) | None => Err(&causes::ISSUER),
        }
    }

    /// Asks for tokens. `form` says by what.
    pub(super) async fn exchange(
        &self,
        described: &Described,
        form: String,
        effects: Effects,
    ) -> Result<Given, Failed> {
        let now = self.clock.unix();
        let mut no_random = false;
        let reply = self
            .provider
            .ask_token(described, effects, |caller: &Caller| {
                let call = self.client.dress(caller, form, &described.token, now);
                no_random = call.is_none();
                call.unwrap_or_else(|| caller.get())
            });
        let reply = reply.await.map_err(Failed::Call)?;
        if no_random {
            return Err(Failed::Random);
        }
        tokens::read(&reply).map_err(Failed::Answer)
    }

    /// What a request gets when there are no tokens; `grant` is what it means that the code or refresh token is none.
    pub(super) fn not_given(&self, failed: Failed, grant: &'static Cause) -> Stop {
        match failed {
            Failed::Call(verdict) => Stop::Verdict(verdict),
            Failed::Random => Stop::Refused(&causes::RANDOM),
            Failed::Answer(NotGiven::Grant) => Stop::Refused(grant),
            Failed::Answer(NotGiven::Client) => Stop::Verdict(Verdict::Failed {
                cause: &causes::CLIENT,
                reason: "the token endpoint refuses the proxy itself".to_owned(),
            }),
            Failed::Answer(NotGiven::Unusable(why)) => {
                Stop::Verdict(self.provider.unavailable(why))
            }
        }
    }

    /// An identity that is right; for one whose key is not known, the provider's keys are got again.
    pub(super) async fn identity(
        &self,
        text: &str,
        described: &Described,
        effects: Effects,
    ) -> Result<Identity, &'static Cause> {
        let outcome = self.judge.verify(text, &described.keys);
        let is_unknown = matches!(&outcome, Err(cause) if **cause == causes::TOKEN_KEY);
        match is_unknown {
            true => match self.provider.newer(effects).await {
                Some(newer) => self.judge.verify(text, &newer.value.keys),
                None => outcome,
            },
            false => outcome,
        }
    }

    /// What the provider says of the user, without what the identity says as well.
    async fn userinfo(
        &self,
        described: &Described,
        given: &Given,
        identity: &Identity,
        effects: Effects,
    ) -> Result<Claims, Stop> {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", given.access));
        let mut bearer = bearer.map_err(|_| &causes::TOKEN)?;
        bearer.set_sensitive(true);
        let dress = |call: crate::contract::Call| call.with(AUTHORIZATION, bearer);
        let reply = self.provider.ask_userinfo(described, effects, dress).await;
        let reply = reply.map_err(Stop::Verdict)?;
        let said = match reply.status {
            200 => json::strict_object(&reply.body).ok(),
            _ => None,
        };
        let why = || {
            format!(
                "the userinfo endpoint answered {} without claims",
                reply.status
            )
        };
        let said = said.ok_or_else(|| Stop::Verdict(self.provider.unavailable(why())))?;
        if !identity.is_of(&said) {
            return Err(Stop::Refused(&causes::SUBJECT));
        }
        let is_new = |name: &String| !identity.claims.contains_key(name);
        Ok(said.into_iter().filter(|(name, _)| is_new(name)).collect())
    }

    /// What a session keeps of tokens; what did not come anew stays.
    pub(super) fn kept_of(&self, given: Given, before: Option<&Tokens>, now: u64) -> Tokens {
        let old = |part: fn(&Tokens) -> Option<String>| before.and_then(part);
        let refresh = given.refresh.or_else(|| old(|it| it.refresh.clone()));
        Tokens {
            identity: given
                .identity
                .or_else(|| old(|it| Some(it.identity.clone())))
                .unwrap_or_default(),
            access: self.forwards_access().then_some(given.access),
            ends: given.lasts.map(|seconds| now.saturating_add(seconds)),
            refresh: refresh.filter(|_| self.refreshes),
            scope: given.scope.or_else(|| old(|it| it.scope.clone())),
        }
    }

    /// The fields that keep a session.
    ///
    /// # Errors
    /// That it does not fit, or cannot be sealed.
    pub(super) fn written(
        &self,
        session: &Session,
        request: &Request<'_>,
        place: &Place<'_>,
    ) -> Result<Vec<HeaderValue>, &'static Cause> {
        let sealed = self.seal.seal(SESSION, &session.text());
        let sealed = sealed.ok_or(&causes::RANDOM)?;
        let seconds = session.left(self.times, place.now);
        let headers = &request.head.headers;
        let fields = self
            .cookies
            .keep_session(headers, place.scheme, &sealed, seconds);
        fields.ok_or(&causes::SIZE)
    }
}

/// Why there are no tokens.
pub(super) enum Failed {
    Call(Verdict),
    Answer(NotGiven),
    Random,
}

/// What an error of the provider's means (RFC 6749 section 4.1.2.1, OpenID Connect Core section 3.1.2.6).
fn denial(error: &str) -> &'static Cause {
    match error {
        "access_denied"
        | "login_required"
        | "consent_required"
        | "interaction_required"
        | "account_selection_required" => &causes::DENIED,
        _ => &causes::PROVIDER,
    }
}

/// Bytes of what a browser brings back.
const LONGEST_QUERY: usize = 8 * 1024;
