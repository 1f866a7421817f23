//! A configuration on probation: it goes back to the one before by itself unless somebody confirms it, or when requests go
//! worse. It must not know how a configuration comes into force; what comes back takes the way of a reload.
//! Begun and ended by `reload`; watched by a task of its own.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use windrose_plugins::contract::builtin_causes;
use windrose_plugins::PluginDef;

use super::judge::{self, Bound, Counts};
use super::reload::{Outcome, Reloader};
use super::status::{Ended, Probation, Status};
use super::traffic::{Look, MINUTES};
use crate::config::report::Report;
use crate::config::{AtRest, Built};
use crate::observe::metrics::ProbationEnd;
use crate::snapshot::Snapshot;

/// What a probation is under.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// How long it can be confirmed.
    pub time: Duration,
    /// By how much the share of 5xx, or of any one cause, may rise, 0 to 1.
    pub max_rise: f64,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            time: Duration::from_secs(60),
            max_rise: Bound::default().rise,
        }
    }
}

/// The probation under way, if there is one, and what is remembered of the one before.
#[derive(Default)]
pub struct Trial {
    candidate: Mutex<Option<Candidate>>,
    mark: Mutex<Option<Mark>>,
}

/// What a probation that went back was measured against. The minutes after it contain its failures, which would let the
/// next one fail as much.
struct Mark {
    before: Counts,
    ended: Instant,
}

/// A configuration on probation, with everything to judge it by and to go back to.
struct Candidate {
    generation: u64,
    terms: Terms,
    until: Instant,
    /// The last configuration that was in force for good.
    fallback: Arc<Fallback>,
    /// What came in the minutes before the first probation since then, also before one that went back lately.
    before: Counts,
    /// What had been counted when this one began.
    begun: Look,
}

/// A configuration that comes back whole, without a look at the disk.
struct Fallback {
    snapshot: Arc<Snapshot>,
    config: AtRest,
}

impl Candidate {
    fn view(&self) -> Probation {
        Probation {
            generation: self.generation,
            fallback: self.fallback.snapshot.generation,
            until: self.until,
            max_rise: self.terms.max_rise,
        }
    }
}

impl Trial {
    /// Why nothing else may happen to the configuration right now, if that is so. A reload that nobody is watching, such
    /// as a signal from a script, should neither confirm what is on probation nor end it.
    pub fn refusal(&self) -> Option<String> {
        let held = self.held();
        let candidate = held.as_ref()?;
        let left = candidate.view().left().as_secs();
        Some(format!(
            "generation {} is on probation for {left} s more\n  help: `windrose confirm` keeps it, `windrose rollback` ends it, `windrose reload --confirm` tries another one",
            candidate.generation
        ))
    }

    /// Begins the time anew for the same configuration: somebody asked again, or it went live just now.
    pub(super) fn prolong(&self, terms: Option<Terms>, status: &Status) {
        if let (Some(candidate), Some(terms)) = (self.held().as_mut(), terms) {
            candidate.terms = terms;
            candidate.until = Instant::now() + terms.time;
            let view = candidate.view();
            status.probation.store(Arc::new(Some(view)));
        }
    }

    /// What is on probation, and what comes back.
    fn way_back(&self) -> Option<(u64, Arc<Fallback>)> {
        let held = self.held();
        let candidate = held.as_ref()?;
        Some((candidate.generation, candidate.fallback.clone()))
    }

    /// Takes what is on probation, if it is the generation that is meant.
    fn take(&self, meant: Option<u64>) -> Result<Candidate, String> {
        let mut held = self.held();
        let generation = held.as_ref().ok_or(NOTHING)?.generation;
        match meant.filter(|meant| *meant != generation) {
            Some(meant) => Err(format!(
                "generation {generation} is on probation, not generation {meant}"
            )),
            None => held.take().ok_or_else(|| NOTHING.to_owned()),
        }
    }

    /// Keeps the mark of a probation that went back, and lets go of it once one was confirmed.
    fn remember(&self, before: &Counts, end: ProbationEnd, ended: Instant) {
        let mark = match end {
            ProbationEnd::Replaced => return,
            ProbationEnd::Confirmed => None,
            _ => Some(Mark {
                before: before.clone(),
                ended,
            }),
        };
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// The mark of the last probation, while its failures are in the minutes that would be looked at.
    fn mark(&self, now: Instant) -> Option<Counts> {
        let mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = mark.as_ref();
        let recent = mark.filter(|mark| now.duration_since(mark.ended) < MINUTES);
        recent.map(|mark| mark.before.clone())
    }

    fn held(&self) -> MutexGuard<'_, Option<Candidate>> {
        self.candidate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at a probation comes to.
enum Verdict {
    /// Look again after this time.
    Wait(Duration),
    /// It goes back for this reason.
    Back(ProbationEnd, String),
    /// It is over.
    Over,
}

impl Reloader {
    /// What will be on probation as the next generation. One that takes the place of another goes back to the same
    /// configuration and is measured against the same minutes, so that trying again and again cannot lower the mark.
    fn candidate(&self, terms: Terms) -> Candidate {
        let begun = self.status.traffic.now(&self.metrics);
        let known = self.trial.held();
        let (fallback, before) = match known.as_ref() {
            Some(known) => (known.fallback.clone(), known.before.clone()),
            None => {
                let minutes = || self.status.traffic.before(&begun, MINUTES).counts;
                let before = self.trial.mark(begun.at).unwrap_or_else(minutes);
                (Arc::new(self.fallback()), before)
            }
        };
        Candidate {
            generation: self.current.peek().generation + 1,
            terms,
            until: Instant::now() + terms.time,
            fallback,
            before,
            begun,
        }
    }

    fn fallback(&self) -> Fallback {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        Fallback {
            snapshot: self.current.load(),
            config: running.clone(),
        }
    }

    /// Begins the probation of what comes into force next, and returns what may come back. The caller has the turn, and
    /// lets it be watched once it is live.
    pub(super) fn begin(&self, terms: Terms) -> Arc<Snapshot> {
        let candidate = self.candidate(terms);
        let (view, fallback) = (candidate.view(), candidate.fallback.snapshot.clone());
        log::warn!(
            "configuration on probation: generation={} fallback={} time={:?}",
            view.generation,
            view.fallback,
            terms.time
        );
        let replaced = self.trial.held().replace(candidate);
        if let Some(replaced) = replaced {
            let words = format!(
                "replaced by generation {}, also on probation",
                view.generation
            );
            self.ended(&replaced, ProbationEnd::Replaced, words);
        }
        self.metrics.reload().probation_began();
        self.status.probation.store(Arc::new(Some(view)));
        fallback
    }

    /// Keeps what is on probation, if it is the generation that is meant. The caller has the turn.
    pub(super) async fn confirm(self: &Arc<Reloader>, meant: Option<u64>) -> Outcome {
        let candidate = self.trial.take(meant).map_err(|problem| vec![problem])?;
        let snapshot = self.current.load();
        self.listeners.release(&snapshot);
        let words = format!("generation {} confirmed", candidate.generation);
        log::info!(
            "configuration confirmed: generation={}",
            candidate.generation
        );
        self.status.note(snapshot.generation, true, words.clone());
        self.ended(&candidate, ProbationEnd::Confirmed, words.clone());
        let me = self.clone();
        // What only the one before had was kept for it.
        let forgotten = tokio::task::spawn_blocking(move || {
            drop(candidate);
            me.forget(&snapshot, None);
        });
        forgotten.await.map_err(|error| vec![error.to_string()])?;
        Ok(vec![words])
    }

    /// Goes back because somebody asked. The caller has the turn.
    pub(super) async fn go_back(self: &Arc<Reloader>) -> Outcome {
        let asked = "somebody asked for it".to_owned();
        self.roll_back(ProbationEnd::Asked, asked).await
    }

    /// Publishes the configuration before once more. The caller has the turn.
    async fn roll_back(self: &Arc<Reloader>, end: ProbationEnd, reason: String) -> Outcome {
        let Some((generation, fallback)) = self.trial.way_back() else {
            return Err(vec![NOTHING.to_owned()]);
        };
        // The sockets drain, and coming back would bind them again.
        if self.status.draining.load(Relaxed) {
            return Err(vec!["the process is stopping".to_owned()]);
        }
        let built = Built {
            config: fallback.config.whole(),
            snapshot: fallback.snapshot.again(self.current.peek().generation + 1),
            warnings: Report::new(),
            quarantined: Report::new(),
        };
        let now = built.snapshot.generation;
        let prepared = self.prepare(&built.snapshot).await?;
        // A log that cannot be opened any more is no reason to stay with what is worse.
        if let Err(problems) = self.write_log(&built.config) {
            log::error!("{}", problems.concat());
        }
        self.enter(prepared, built, None).await?;
        let words = format!(
            "generation {generation} rolled back to the configuration of generation {}: {reason}",
            fallback.snapshot.generation
        );
        log::error!(
            "configuration rolled back: generation={generation} reason=\"{reason}\" now={now}"
        );
        self.metrics.reload().generation(now);
        self.differs(Some(words.clone()));
        self.status
            .note(now, end == ProbationEnd::Asked, words.clone());
        // Last: whoever waits for the end then finds everything else said.
        let candidate = self.trial.held().take();
        if let Some(candidate) = candidate {
            self.ended(&candidate, end, words.clone());
        }
        Ok(vec![words])
    }

    fn ended(&self, candidate: &Candidate, end: ProbationEnd, words: String) {
        self.trial.remember(&candidate.before, end, Instant::now());
        self.metrics.reload().probation_ended(end);
        self.status.probation.store(Arc::new(None));
        let ended = Ended {
            generation: candidate.generation,
            confirmed: end == ProbationEnd::Confirmed,
            words,
        };
        self.status.last_probation.store(Arc::new(Some(ended)));
    }

    /// Says at the end of the process what becomes of a probation.
    pub(super) fn leave_probation(&self) {
        if let Some(candidate) = &*self.trial.held() {
            log::warn!(
                "stopping on probation: generation {} was never confirmed, and the next start reads it from disk: path={}",
                candidate.generation,
                self.path().display()
            );
        }
    }

    /// Looks whether the probation of a generation can go on.
    fn verdict(&self, generation: u64) -> Verdict {
        if self.status.draining.load(Relaxed) {
            return Verdict::Over;
        }
        let now = self.status.traffic.now(&self.metrics);
        let held = self.trial.held();
        let Some(candidate) = held.as_ref().filter(|one| one.generation == generation) else {
            return Verdict::Over;
        };
        let worse = self.worse(candidate, &now);
        let left = candidate.until.saturating_duration_since(now.at);
        match worse {
            Some(worse) => Verdict::Back(ProbationEnd::Worse, worse.to_string()),
            None if left.is_zero() => Verdict::Back(
                ProbationEnd::Unconfirmed,
                format!(
                    "not confirmed within {} s",
                    candidate.terms.time.as_secs_f64()
                ),
            ),
            None => Verdict::Wait(left.min(TICK)),
        }
    }

    /// Whether requests went worse since the probation began, or lately: what begins late would drown in the sum.
    fn worse(&self, candidate: &Candidate, now: &Look) -> Option<judge::Worse> {
        let bound = Bound {
            rise: candidate.terms.max_rise,
            ..Bound::default()
        };
        let all = &now.counts - &candidate.begun.counts;
        let since = now.at.duration_since(candidate.begun.at);
        let lately = self.status.traffic.before(now, since.min(LATELY)).counts;
        let before = &candidate.before;
        let worse = |after: Counts| judge::worse(before, &failures(after, self.plugins), &bound);
        worse(all).or_else(|| worse(lately))
    }

    /// Looks in a moment that nobody waits for.
    async fn look(self: &Arc<Reloader>, generation: u64) -> Verdict {
        let me = self.clone();
        let looked = tokio::task::spawn_blocking(move || me.verdict(generation)).await;
        looked.unwrap_or(Verdict::Wait(TICK))
    }

    /// Rolls a generation back if that is still right when it is our turn: a confirmation may have come before.
    async fn withdraw(self: &Arc<Reloader>, generation: u64) {
        let _turn = self.turn.lock().await;
        let Verdict::Back(end, reason) = self.look(generation).await else {
            return;
        };
        match self.roll_back(end, reason).await {
            Ok(words) => self.notices.ready(&words.concat()),
            Err(problems) => log::error!(
                "generation {generation} cannot be rolled back yet:\n{}",
                problems.join("\n")
            ),
        }
    }
}

/// Counts without the causes of answers that are meant: a new redirect, a preflight, a stream that a reload ended.
fn failures(mut counts: Counts, plugins: &[PluginDef]) -> Counts {
    let of_plugins = plugins.iter().flat_map(|plugin| plugin.causes);
    let known = builtin_causes().iter().chain(of_plugins);
    for cause in known.filter(|cause| cause.status < 400) {
        counts.causes.remove(cause.name);
    }
    counts
}

/// Watches a probation to its end. A roll-back that does not work is tried again.
pub(super) async fn watch(reloader: Arc<Reloader>, generation: u64) {
    loop {
        let pause = match reloader.look(generation).await {
            Verdict::Wait(pause) => pause,
            Verdict::Back(..) => {
                reloader.withdraw(generation).await;
                TICK
            }
            Verdict::Over => return,
        };
        tokio::time::sleep(pause).await;
    }
}

const NOTHING: &str = "no configuration is on probation";
/// How often a probation is looked at.
const TICK: Duration = Duration::from_secs(1);
/// What counts as lately.
const LATELY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_meant_are_no_failures() {
        let names = ["route.redirect", "drained", "no_route", "shop.closed"];
        let causes = names.map(|name| (Arc::from(name), 7));
        let counts = Counts {
            requests: 28,
            errors: 7,
            causes: causes.into(),
        };

        let judged = failures(counts, windrose_plugins::BUILTIN);

        let left: Vec<&str> = judged.causes.keys().map(|name| &**name).collect();
        assert_eq!(left, ["no_route", "shop.closed"]);
    }

    #[test]
    fn the_mark_of_a_probation_that_went_back_holds_while_its_minutes_would_count() {
        let (trial, ended) = (Trial::default(), Instant::now());
        let before = Counts {
            requests: 100,
            ..Counts::default()
        };

        trial.remember(&before, ProbationEnd::Worse, ended);
        trial.remember(&Counts::default(), ProbationEnd::Replaced, ended);

        let just_in_time = ended + MINUTES - Duration::from_secs(1);
        assert_eq!(trial.mark(just_in_time), Some(before));
        assert_eq!(trial.mark(ended + MINUTES), None, "the minutes are clean");
        trial.remember(&Counts::default(), ProbationEnd::Confirmed, ended);
        assert_eq!(trial.mark(ended), None, "what is confirmed is the measure");
    }
}
