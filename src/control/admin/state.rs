//! Views of the process: readiness, reloads, listeners, the configuration and the vocabulary of causes.
//! It must not know HTTP beyond the status of readiness.
//! Called by `admin`.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde::Serialize;
use windrose_plugins::contract::builtin_causes;

use crate::control::certs::{days_left, CertKeeper};
use crate::control::status::{self, BindState, ListenerState, Reload, Status};
use crate::explain::mutual::{self, InboundSeen};
use crate::snapshot::certs::Cert;
use crate::snapshot::quarantine::{Kind, Trouble};
use crate::snapshot::Snapshot;

/// Whether new traffic should be sent here.
#[derive(Serialize)]
pub(super) struct Ready {
    ready: bool,
    reason: Option<&'static str>,
    generation: u64,
    config_differs_from_disk: bool,
    /// Why, if somebody tried to put it in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    config_differs_because: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probation: Option<Probation>,
    /// How many objects are broken and answered for with 503: ready, but not for everything.
    quarantined: usize,
    /// Certificates that are late, gone or missing, and a source that fails: ready, but perhaps not for long.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identity_alarms: Vec<String>,
    last_reload: Option<Outcome>,
}

impl Ready {
    pub(super) fn new(snapshot: &Snapshot, status: &Status) -> Ready {
        let reason = status.readiness().err();
        Ready {
            ready: reason.is_none(),
            reason,
            generation: snapshot.generation,
            quarantined: snapshot.quarantined.len(),
            identity_alarms: super::identity::Clocks::new(snapshot).alarms(),
            config_differs_from_disk: status.disk_differs.load(Relaxed),
            config_differs_because: status.disk_reason.load().as_ref().clone(),
            probation: probation(status).on_probation,
            last_reload: status
                .last_reload
                .load()
                .as_ref()
                .as_ref()
                .map(Outcome::new),
        }
    }

    pub(super) fn http_status(&self) -> StatusCode {
        match self.ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What became of a reload.
#[derive(Serialize)]
pub(super) struct Outcome {
    ok: bool,
    at: String,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<String>,
    took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    probation: Option<Probation>,
}

impl Outcome {
    /// With what of the configuration in force is broken, in words.
    pub(super) fn with_quarantined(self, snapshot: &Snapshot) -> Outcome {
        let all = snapshot.quarantined.iter();
        Outcome {
            quarantined: all.map(ToString::to_string).collect(),
            ..self
        }
    }

    pub(super) fn new(reload: &Reload) -> Outcome {
        Outcome {
            ok: reload.result.is_ok(),
            at: rfc3339(reload.at),
            generation: reload.generation,
            changes: reload.result.as_ref().ok().cloned(),
            problems: reload.result.as_ref().err().cloned(),
            quarantined: Vec::new(),
            took_ms: millis(reload.took),
            probation: None,
        }
    }

    /// The same with the probation that is under way.
    pub(super) fn with(self, probation: Option<&status::Probation>) -> Outcome {
        Outcome {
            probation: probation.map(Probation::new),
            ..self
        }
    }
}

/// Probations: the one under way, and the last that ended.
#[derive(Serialize)]
pub(super) struct Probations {
    pub(super) on_probation: Option<Probation>,
    last: Option<Ended>,
}

/// A configuration that goes back to the one before unless it is confirmed.
#[derive(Serialize)]
pub(super) struct Probation {
    pub(super) generation: u64,
    fallback_generation: u64,
    pub(super) seconds_left: u64,
    max_5xx_rise: f64,
}

#[derive(Serialize)]
struct Ended {
    generation: u64,
    confirmed: bool,
    outcome: String,
}

impl Probation {
    pub(super) fn new(probation: &status::Probation) -> Probation {
        Probation {
            generation: probation.generation,
            fallback_generation: probation.fallback,
            seconds_left: probation.left().as_secs_f64().ceil() as u64,
            max_5xx_rise: probation.max_rise,
        }
    }
}

pub(super) fn probation(status: &Status) -> Probations {
    // In this order: how one ended is said before it is over.
    let on_probation = status.probation.load();
    let last = status.last_probation.load();
    Probations {
        on_probation: on_probation.as_ref().as_ref().map(Probation::new),
        last: last.as_ref().as_ref().map(|ended| Ended {
            generation: ended.generation,
            confirmed: ended.confirmed,
            outcome: ended.words.clone(),
        }),
    }
}

/// The configuration in force with what is known about it.
#[derive(Serialize)]
pub(super) struct Config<'s> {
    generation: u64,
    digest: &'s str,
    built: String,
    warnings: &'s [String],
    probation: Option<Probation>,
    quarantined: Vec<QuarantinedView>,
    config: serde_json::Value,
}

impl<'s> Config<'s> {
    pub(super) fn new(snapshot: &'s Snapshot, status: &Status) -> Config<'s> {
        Config {
            generation: snapshot.generation,
            digest: &snapshot.digest,
            built: rfc3339(snapshot.built),
            warnings: &snapshot.warnings,
            probation: probation(status).on_probation,
            quarantined: quarantined(snapshot, &Kind::ALL),
            // Written by us from plain data; should it ever not be JSON's kind of YAML, the text is better than nothing.
            config: serde_yaml::from_str(&snapshot.effective)
                .unwrap_or_else(|_| snapshot.effective.clone().into()),
        }
    }
}

/// A broken object, with what is wrong.
#[derive(Serialize)]
pub(super) struct QuarantinedView {
    kind: &'static str,
    name: String,
    state: &'static str,
    effect: &'static str,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    /// `file:line:column`.
    place: String,
    path: String,
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

/// The broken objects of these kinds.
pub(super) fn quarantined(snapshot: &Snapshot, kinds: &[Kind]) -> Vec<QuarantinedView> {
    let problem = |trouble: &Trouble| Problem {
        place: trouble.place.to_string(),
        path: trouble.path.to_string(),
        text: trouble.fact.to_string(),
        remedy: trouble.remedy.to_string(),
    };
    let of_kinds = snapshot.quarantined.iter();
    let of_kinds = of_kinds.filter(|one| kinds.contains(&one.kind));
    of_kinds
        .map(|one| QuarantinedView {
            kind: one.kind.as_str(),
            name: one.name.to_string(),
            state: "quarantined",
            effect: one.effect,
            problems: one.problems.iter().map(problem).collect(),
        })
        .collect()
}

#[derive(Serialize)]
pub(super) struct Listeners {
    pub(super) listeners: Vec<Listener>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<QuarantinedView>,
}

#[derive(Serialize)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) role: &'static str,
    pub(super) protocol: &'static str,
    pub(super) bind: String,
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
    pub(super) open_connections: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtls: Option<InboundSeen>,
    pub(super) certificates: Vec<Certificate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) certificate_problems: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Certificate {
    pub(super) subject: String,
    hosts: Vec<String>,
    default: bool,
    pub(super) not_after: String,
    pub(super) expires_in_days: i64,
}

/// Listeners as they are bound, with the certificates of those that still belong to the snapshot.
pub(super) fn listeners(snapshot: &Snapshot, status: &Status, certs: &CertKeeper) -> Listeners {
    let states = status.listeners.load();
    let view = |state: &ListenerState| {
        let listener = snapshot.listener(&state.name);
        let termination = listener.and_then(|listener| listener.protocol.termination());
        let mtls = listener.and_then(|listener| listener.mtls.as_ref());
        let (word, problem) = match &state.state {
            BindState::Listening => ("listening", None),
            BindState::Draining => ("draining", None),
            BindState::Kept => ("kept for a roll-back", None),
            BindState::Failed(problem) => ("failed", Some(problem.clone())),
        };
        Listener {
            name: state.name.to_string(),
            role: state.role,
            protocol: state.protocol,
            bind: state.bind.clone(),
            state: word,
            problem,
            open_connections: state.open.load(Relaxed),
            mtls: mtls.map(|mtls| mutual::inbound(mtls)),
            certificates: termination.map_or(Vec::new(), |termination| {
                let certs = termination.certs.load();
                certs.all.iter().map(|cert| certificate(cert)).collect()
            }),
            certificate_problems: certs.problems(&state.name),
        }
    };
    Listeners {
        listeners: states.iter().map(view).collect(),
        quarantined: quarantined(snapshot, &[Kind::Listener]),
    }
}

fn certificate(cert: &Cert) -> Certificate {
    let since = Duration::from_secs(cert.not_after.try_into().unwrap_or(0));
    Certificate {
        subject: cert.subject.clone(),
        hosts: cert.hosts.clone(),
        default: cert.default,
        not_after: rfc3339(SystemTime::UNIX_EPOCH + since),
        expires_in_days: days_left(cert.not_after, SystemTime::now()),
    }
}

#[derive(Serialize)]
pub(super) struct Causes {
    causes: Vec<Cause>,
}

#[derive(Serialize)]
struct Cause {
    name: &'static str,
    blame: &'static str,
    status: u16,
    title: &'static str,
    explanation: &'static str,
    next_step: &'static str,
}

pub(super) fn causes() -> Causes {
    let view = |cause: &&'static windrose_plugins::contract::Cause| Cause {
        name: cause.name,
        blame: cause.blame.as_str(),
        status: cause.status,
        title: cause.title,
        explanation: cause.explanation,
        next_step: cause.next_step,
    };
    Causes {
        causes: builtin_causes().iter().map(view).collect(),
    }
}

/// A time in milliseconds, for views.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A moment as RFC 3339 in UTC, to the second. The calendar is Howard Hinnant's `civil_from_days`.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    let since = moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_calendar_days_in_utc() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));

        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59Z");
    }
}
