//! Operational events, told without flooding: the same failure repeated is told a few times, then counted.
//! It must not know what fails; callers name a kind and a key.
//! Listeners, health checks and plugins' hosts call it on their failure paths; the supervisor sweeps.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use windrose_plugins::contract::Cause;

/// Tells events to the log, at most a few of a kind and key in an interval.
pub struct Events {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    most: u32,
    interval: Duration,
    sink: Box<Sink>,
}

type Sink = dyn Fn(Level, &'static str, &str) + Send + Sync;

/// Windows by kind and key, so that a look-up needs no allocation.
#[derive(Default)]
struct Shard(HashMap<&'static str, HashMap<Box<str>, Window>>);

/// What was told since an event began an interval.
struct Window {
    begun: Instant,
    level: Level,
    told: u32,
    untold: u64,
}

/// What to do about an event.
enum Verdict {
    Tell,
    /// An interval ended in which so many were not told.
    TellAfter(Summary),
    Count,
}

struct Summary {
    untold: u64,
    level: Level,
    over: Duration,
}

/// Tells a failure through the events of the process.
pub fn warn(kind: &'static str, key: &str, message: impl FnOnce() -> String) {
    process().warn(kind, key, message);
}

/// The events of the process; `sweep` them every few seconds.
pub fn process() -> &'static Events {
    static EVENTS: std::sync::OnceLock<Events> = std::sync::OnceLock::new();
    EVENTS.get_or_init(Events::default)
}

impl Default for Events {
    fn default() -> Events {
        Events::new(5, Duration::from_secs(10))
    }
}

impl Events {
    /// Events that tell the same failure at most `most` times in an interval.
    pub fn new(most: u32, interval: Duration) -> Events {
        Events::with_sink(most, interval, |level, kind, message| {
            log::log!(target: kind, level, "{message}");
        })
    }

    fn with_sink(
        most: u32,
        interval: Duration,
        sink: impl Fn(Level, &'static str, &str) + Send + Sync + 'static,
    ) -> Events {
        Events {
            shards: Default::default(),
            hasher: RandomState::new(),
            most: most.max(1),
            interval,
            sink: Box::new(sink),
        }
    }

    /// Something failed and the proxy recovered. The message is made only when it is told.
    pub fn warn(&self, kind: &'static str, key: &str, message: impl FnOnce() -> String) {
        self.event(Instant::now(), Level::Warn, kind, key, message);
    }

    /// Something failed and someone must act. The message is made only when it is told.
    pub fn error(&self, kind: &'static str, key: &str, message: impl FnOnce() -> String) {
        self.event(Instant::now(), Level::Error, kind, key, message);
    }

    /// A connection was lost before a request could be read. Told per listener and cause: clients are too many for keys.
    pub fn handshake_failed(
        &self,
        listener: &str,
        client: IpAddr,
        cause: &'static Cause,
        detail: &str,
    ) {
        self.warn(cause.name, listener, || {
            format!("listener {listener}: {client}: {}: {detail}", cause.title)
        });
    }

    /// Tells what was counted for failures that stopped, and forgets them. Call it every few seconds.
    pub fn sweep(&self) {
        self.sweep_at(Instant::now());
    }

    fn event(
        &self,
        now: Instant,
        level: Level,
        kind: &'static str,
        key: &str,
        message: impl FnOnce() -> String,
    ) {
        // Outside of the lock: the sink writes.
        match self.verdict(now, level, kind, key) {
            Verdict::Count => return,
            Verdict::Tell => {}
            Verdict::TellAfter(summary) => self.tell_summary(kind, key, &summary),
        }
        (self.sink)(level, kind, &one_line(message()));
    }

    fn verdict(&self, now: Instant, level: Level, kind: &'static str, key: &str) -> Verdict {
        let shard = self.hasher.hash_one((kind, key)) as usize % SHARDS;
        let mut shard = lock(&self.shards[shard]);
        let windows = shard.0.entry(kind).or_default();
        // Keys may come from outside: beyond the bound all further ones share a window.
        let key = if windows.len() < MOST_KEYS || windows.contains_key(key) {
            key
        } else {
            OTHERS
        };
        let Some(window) = windows.get_mut(key) else {
            windows.insert(key.into(), Window::new(now, level));
            return Verdict::Tell;
        };
        window.verdict(now, level, self.most, self.interval)
    }

    fn sweep_at(&self, now: Instant) {
        for shard in &self.shards {
            // Bound to a name so that the lock is gone before the sink writes.
            let ended = lock(shard).ended(now, self.interval);
            for (kind, key, summary) in ended {
                self.tell_summary(kind, &key, &summary);
            }
        }
    }

    fn tell_summary(&self, kind: &'static str, key: &str, summary: &Summary) {
        let message = format!(
            "{key}: \u{2026} and {} more in the last {} s",
            summary.untold,
            summary.over.as_secs().max(1)
        );
        (self.sink)(summary.level, kind, &one_line(message));
    }
}

impl Shard {
    /// Takes out the windows whose interval is over.
    fn ended(
        &mut self,
        now: Instant,
        interval: Duration,
    ) -> Vec<(&'static str, Box<str>, Summary)> {
        let mut ended = Vec::new();
        for (kind, windows) in &mut self.0 {
            windows.retain(|key, window| {
                if now.duration_since(window.begun) < interval {
                    return true;
                }
                if window.untold > 0 {
                    ended.push((*kind, key.clone(), window.summary(now)));
                }
                false
            });
        }
        ended
    }
}

impl Window {
    fn new(now: Instant, level: Level) -> Window {
        Window {
            begun: now,
            level,
            told: 1,
            untold: 0,
        }
    }

    fn verdict(&mut self, now: Instant, level: Level, most: u32, interval: Duration) -> Verdict {
        if now.duration_since(self.begun) >= interval {
            let summary = self.summary(now);
            *self = Window::new(now, level);
            return match summary.untold {
                0 => Verdict::Tell,
                _ => Verdict::TellAfter(summary),
            };
        }
        if self.told < most {
            self.told += 1;
            return Verdict::Tell;
        }
        self.untold += 1;
        Verdict::Count
    }

    fn summary(&self, now: Instant) -> Summary {
        Summary {
            untold: self.untold,
            level: self.level,
            over: now.duration_since(self.begun),
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> std::sync::MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Details come from outside; they may not begin a line of their own.
fn one_line(message: String) -> String {
    if !message.contains(char::is_control) {
        return message;
    }
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    message.chars().map(escaped).collect()
}

/// Contention is between failures only; a few shards are plenty.
const SHARDS: usize = 8;

/// Keys of one kind in one shard.
const MOST_KEYS: usize = 128;

/// The key of what found no room.
const OTHERS: &str = "others";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use windrose_plugins::contract::causes;

    use super::*;

    type Told = Arc<Mutex<Vec<String>>>;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn events(most: u32) -> (Events, Told) {
        let told = Told::default();
        let sink = told.clone();
        let events = Events::with_sink(most, INTERVAL, move |level, kind, message| {
            let line = format!("{level} {kind} {message}");
            sink.lock().expect("not poisoned").push(line);
        });
        (events, told)
    }

    fn take(told: &Told) -> Vec<String> {
        std::mem::take(&mut *told.lock().expect("not poisoned"))
    }

    #[test]
    fn a_repeated_failure_is_told_a_few_times_and_then_summed_up() {
        let (events, told) = events(2);
        let begun = Instant::now();

        for _ in 0..10 {
            events.event(begun, Level::Warn, "probe", "web", || "refused".into());
        }
        assert_eq!(take(&told), ["WARN probe refused", "WARN probe refused"]);
        events.event(begun + INTERVAL, Level::Warn, "probe", "web", || {
            "refused".into()
        });

        assert_eq!(
            take(&told),
            [
                "WARN probe web: \u{2026} and 8 more in the last 10 s",
                "WARN probe refused"
            ]
        );
    }

    #[test]
    fn a_message_that_is_not_told_is_not_made() {
        let (events, _) = events(1);
        let now = Instant::now();
        events.event(now, Level::Warn, "probe", "web", || "refused".into());

        events.event(now, Level::Warn, "probe", "web", || panic!("made"));
    }

    #[test]
    fn kinds_and_keys_are_counted_apart() {
        let (events, told) = events(1);
        let now = Instant::now();

        for (kind, key) in [("probe", "web"), ("probe", "api"), ("dns", "web")] {
            events.event(now, Level::Error, kind, key, || key.into());
        }

        assert_eq!(take(&told).len(), 3);
    }

    #[test]
    fn a_failure_that_stopped_is_summed_up_by_the_sweep() {
        let (events, told) = events(1);
        let begun = Instant::now();
        for _ in 0..3 {
            events.event(begun, Level::Error, "probe", "web", || "refused".into());
        }
        take(&told);

        events.sweep_at(begun + INTERVAL / 2);
        assert!(take(&told).is_empty());
        events.sweep_at(begun + INTERVAL);
        events.sweep_at(begun + INTERVAL * 2);

        let expected = "ERROR probe web: \u{2026} and 2 more in the last 10 s";
        assert_eq!(take(&told), [expected]);
    }

    #[test]
    fn endless_keys_share_windows_in_the_end() {
        let (events, told) = events(1);
        let now = Instant::now();

        for key in 0..10_000 {
            events.event(now, Level::Warn, "probe", &key.to_string(), || "x".into());
        }

        assert!(take(&told).len() <= SHARDS * (MOST_KEYS + 1));
    }

    #[test]
    fn details_of_a_client_stay_on_one_line() {
        let (events, told) = events(1);
        let client = IpAddr::from([192, 0, 2, 1]);

        events.handshake_failed("edge", client, &causes::TLS_HANDSHAKE, "sni a\nERROR b");

        let expected = "WARN connection.tls_handshake listener edge: 192.0.2.1: TLS handshake failed: sni a\\nERROR b";
        assert_eq!(take(&told), [expected]);
    }
}
