//! How a login begins: what the browser takes to the provider, and what it keeps until it is back.
//! It must not know what comes back.
//! Called for pages that have no session; `callback` reads what was kept.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use http::header::{ACCEPT, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cookies::{Scheme, MARK};
use super::provider::Described;
use super::sealed::random_text;
use super::{causes, sent_on, Gate, Place};
use crate::contract::{Answer, Cause, Request};
use crate::query::encoded;

/// A login under way, as the browser keeps it, sealed.
#[derive(Serialize, Deserialize)]
pub(super) struct Login {
    /// What the provider gives back.
    #[serde(rename = "s")]
    pub(super) state: String,
    /// What the identity has to repeat.
    #[serde(rename = "n")]
    pub(super) nonce: String,
    /// What proves that the code is asked for by whoever began (RFC 7636).
    #[serde(rename = "v")]
    pub(super) verifier: String,
    /// Path and query of the page where it began.
    #[serde(rename = "t")]
    pub(super) target: String,
    /// Seconds since 1970.
    #[serde(rename = "b")]
    pub(super) began: u64,
}

/// What a login's cookie is called by: of the state, without telling it.
pub(super) fn mark(state: &str) -> String {
    let mut mark = URL_SAFE_NO_PAD.encode(Sha256::digest(state));
    mark.truncate(MARK);
    mark
}

impl Gate {
    /// Sends the browser to the provider.
    pub(super) fn begin(
        &self,
        request: &Request<'_>,
        place: &Place<'_>,
        described: &Described,
    ) -> Result<Answer, &'static Cause> {
        let random = || random_text(32).ok_or(&causes::RANDOM);
        let login = Login {
            state: random()?,
            nonce: random()?,
            verifier: random()?,
            target: target(request),
            began: place.now,
        };
        let location = self.page(&login, place, described)?;
        let text = serde_json::to_vec(&login).unwrap_or_default();
        let sealed = self.seal.seal(LOGIN, &text).ok_or(&causes::RANDOM)?;
        let headers = &request.head.headers;
        let mut answer = sent_on(&causes::LOGIN, location);
        for field in self.make_room(headers, place) {
            answer = answer.with(SET_COOKIE, field);
        }
        let (mark, seconds) = (mark(&login.state), self.login_timeout);
        let kept = self
            .cookies
            .keep_login(place.scheme, &mark, &sealed, seconds);
        let kept = kept.ok_or(&causes::SIZE)?;
        Ok(answer.with(SET_COOKIE, kept))
    }

    /// Where the browser goes (OpenID Connect Core section 3.1.2.1).
    fn page(
        &self,
        login: &Login,
        place: &Place<'_>,
        described: &Described,
    ) -> Result<HeaderValue, &'static Cause> {
        let mut url = described.authorization.clone();
        url.push(if url.contains('?') { '&' } else { '?' });
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&login.verifier));
        let redirect = self.redirect_uri(place);
        let own = [
            ("response_type", "code"),
            ("client_id", &self.client.id),
            ("redirect_uri", &redirect),
            ("scope", &self.scopes),
            ("state", &login.state),
            ("nonce", &login.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let further = self.parameters.iter();
        let further = further.map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs = own.into_iter().chain(further);
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        url.push_str(&pairs.join("&"));
        HeaderValue::from_str(&url).map_err(|_| &causes::UNAVAILABLE)
    }

    pub(super) fn redirect_uri(&self, place: &Place<'_>) -> String {
        format!("{}{}", place.origin, self.callback_path)
    }

    /// Ends logins that are over or none, and the oldest where there would be too many.
    fn make_room(&self, headers: &HeaderMap, place: &Place<'_>) -> Vec<HeaderValue> {
        let mut under_way = Vec::new();
        let mut ended = Vec::new();
        for (mark, value) in self.cookies.logins(headers, place.scheme) {
            match self.login_of(value, place.now) {
                Ok(login) => under_way.push((login.began, mark)),
                Err(_) => ended.push(mark),
            }
        }
        under_way.sort_unstable();
        let over = (under_way.len() + 1).saturating_sub(self.most_logins);
        ended.extend(under_way.iter().take(over).map(|(_, mark)| *mark));
        let end = |mark: &str| self.cookies.end_login(place.scheme, mark);
        ended.into_iter().filter_map(end).collect()
    }

    /// A login as the browser kept it.
    ///
    /// # Errors
    /// That it is none, or too old.
    pub(super) fn login_of(&self, sealed: &[u8], now: u64) -> Result<Login, &'static Cause> {
        let opened = self.seal.open(LOGIN, sealed).ok_or(&causes::STATE)?;
        let login: Login = serde_json::from_slice(&opened.content).map_err(|_| &causes::STATE)?;
        match now.saturating_sub(login.began) < self.login_timeout {
            true => Ok(login),
            false => Err(&causes::LOGIN_EXPIRED),
        }
    }
}

/// Where the browser goes back to: a path and query of its own request, without any host. It is written behind the origin, so
/// that `//elsewhere` stays a path.
fn target(request: &Request<'_>) -> String {
    let uri = &request.head.uri;
    let whole = uri.path_and_query().map_or("/", |both| both.as_str());
    let fits = |text: &&str| {
        let is_plain = text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        text.starts_with('/') && text.len() <= LONGEST_TARGET && is_plain
    };
    let fitting = [whole, uri.path()].into_iter().find(fits);
    fitting.unwrap_or("/").to_owned()
}

/// Whether a person waits for a page, who can log in: not a script, nor a program that only looks ahead.
pub(super) fn is_page(request: &Request<'_>) -> bool {
    let text = |name: HeaderName| {
        let value = request.head.headers.get(name)?;
        value.to_str().ok()
    };
    let is_safe = matches!(request.head.method, Method::GET | Method::HEAD);
    let is_ahead = text(SEC_PURPOSE).is_some_and(|purpose| purpose.contains("prefetch"));
    if !is_safe || is_ahead {
        return false;
    }
    match text(SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => {
            let accept = text(ACCEPT).unwrap_or_default().to_ascii_lowercase();
            accept.contains("text/html") && text(X_REQUESTED_WITH).is_none()
        }
    }
}

/// Cookies of one scheme or the other: what is for plain HTTP is not for TLS.
pub(super) fn scheme(is_secure: bool) -> Scheme {
    match is_secure {
        true => Scheme::Https,
        false => Scheme::Http,
    }
}

/// What logins are sealed for.
const LOGIN: &str = "login";
const LONGEST_TARGET: usize = 1024;
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
