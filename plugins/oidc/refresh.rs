//! Other tokens for a session whose access token ends: asked for once, however many requests want them.
//! It must not know cookies.
//! Called for requests in a session; what came is remembered for a while, since browsers send the old cookie for a moment.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::callback::Stop;
use super::session::{payload, Session, Tokens};
use super::{causes, Gate};
use crate::cached::{Cached, Given, Key, Kind};
use crate::contract::{Cause, Effects, Verdict};
use crate::query::encoded;

/// What came of asking, by the hash of the refresh token.
pub(super) type Renewals = Arc<Cached<Result<Arc<Tokens>, &'static Cause>, NotRenewed>>;

/// That nothing is known.
#[derive(Debug, Clone)]
pub(super) struct NotRenewed {
    cause: &'static Cause,
    reason: String,
}

impl Gate {
    /// Tokens for a session whose access token ends.
    pub(super) async fn renewed(
        self: &Arc<Self>,
        session: &Session,
        refresh: &str,
        effects: Effects,
    ) -> Result<Arc<Tokens>, Stop> {
        let renewals = self.renewals.with(effects, Renewals::clone);
        let renewals = renewals.map_err(|unknown| Stop::Verdict(Verdict::Unknown(unknown)))?;
        let key: Key = Sha256::digest(refresh).into();
        let (gate, session, refresh) = (self.clone(), session.clone(), refresh.to_owned());
        // A task of its own: a client that leaves must not lose what can be asked for only once.
        let asking = tokio::spawn(async move {
            let clock = gate.clock.clone();
            let ask = || async { gate.ask_again(&session, &refresh).await };
            renewals.get(key, &clock, MOST_RENEWALS, ask).await
        });
        match asking.await {
            Ok(Ok(Ok(tokens))) => Ok(tokens),
            Ok(Ok(Err(cause))) => Err(Stop::Refused(cause)),
            Ok(Err(NotRenewed { cause, reason })) => {
                Err(Stop::Verdict(Verdict::Failed { cause, reason }))
            }
            Err(_) => {
                let reason = "a refresh was given up".to_owned();
                Err(Stop::Verdict(self.provider.unavailable(reason)))
            }
        }
    }

    async fn ask_again(
        &self,
        session: &Session,
        refresh: &str,
    ) -> Result<Given<Result<Arc<Tokens>, &'static Cause>>, NotRenewed> {
        let (value, kind) = match self.renew(session, refresh).await {
            Ok(tokens) => (Ok(Arc::new(tokens)), Kind::Good),
            Err(Stop::Refused(cause)) => (Err(cause), Kind::Bad),
            Err(Stop::Verdict(Verdict::Failed { cause, reason })) => {
                (self.failed)(1);
                return Err(NotRenewed { cause, reason });
            }
            Err(Stop::Verdict(_)) => {
                let (cause, reason) = (&causes::UNAVAILABLE, "was not asked".to_owned());
                return Err(NotRenewed { cause, reason });
            }
        };
        match kind {
            Kind::Good => (self.renewed)(1),
            Kind::Bad => (self.refused)(1),
        }
        Ok(Given {
            value,
            kind,
            holds: REMEMBERED,
        })
    }

    async fn renew(&self, session: &Session, refresh: &str) -> Result<Tokens, Stop> {
        let effects = Effects::Live;
        let described = self.provider.described(effects).await;
        let described = described.map_err(Stop::Verdict)?.value;
        let form = format!(
            "grant_type=refresh_token&refresh_token={}",
            encoded(refresh)
        );
        let given = self.exchange(&described, form, effects).await;
        let given = given.map_err(|why| self.not_given(why, &causes::REFRESH))?;
        if let Some(text) = &given.identity {
            let identity = self.identity(text, &described, effects).await?;
            identity.is_with(&given.access)?;
            // The same user, or somebody else's session has begun in between (OpenID Connect Core section 12.2).
            let before = payload(&session.tokens.identity);
            if !before.is_some_and(|before| identity.is_of(&before)) {
                return Err(Stop::Refused(&causes::SUBJECT));
            }
        }
        let now = self.clock.unix().as_secs();
        Ok(self.kept_of(given, Some(&session.tokens), now))
    }
}

/// How long browsers may still send the cookie from before.
const REMEMBERED: Duration = Duration::from_secs(60);
const MOST_RENEWALS: usize = 10_000;
