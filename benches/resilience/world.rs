//! A world of endpoints, clients and virtual time.
//! It must not decide anything the proxy decides: choosing, estimating, ejecting and paying are the library's.
//! Run by `main` with one plan after another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use windrose::observe::metrics::Metrics;
use windrose::snapshot::balance::{hash_bytes, observe, Choice, Table};
use windrose::snapshot::budget::{Allowance, Budget};
use windrose::snapshot::endpoint::{Address, Endpoints, InFlight};
use windrose::snapshot::outlier::{self, Probe, Told, Verdict};
use windrose::snapshot::pool::{Algorithm, Ejection, EndpointSet, Member};

const ENDPOINTS: usize = 100;
const TROUBLED: usize = 5;
const WORKERS: usize = 4;
const SERVICE: f64 = 0.010;
const TROUBLE: std::ops::Range<f64> = 5.0..15.0;
const STORM: std::ops::Range<f64> = 5.0..7.0;

/// What happens to the troubled endpoints, or in a storm to all.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    None,
    Slow,
    Failing,
    Silent,
    Storm,
}

/// How often a failed attempt is made again.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Retries {
    None,
    Unbounded,
    Budget,
}

/// A run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: Kind,
    pub(crate) ejection: bool,
    pub(crate) retries: Retries,
    /// Part of all workers' time that requests need.
    pub(crate) busy: f64,
    /// Seconds after which a client gives an attempt up.
    pub(crate) timeout: f64,
    /// Seconds.
    pub(crate) length: f64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            algorithm: Algorithm::Ewma,
            kind: Kind::None,
            ejection: true,
            retries: Retries::None,
            busy: 0.6,
            timeout: 1.0,
            length: 16.0,
        }
    }
}

/// What clients felt while there was trouble.
#[derive(Default)]
pub(crate) struct Outcome {
    seconds: Vec<f64>,
    failures: usize,
    to_troubled: usize,
}

impl Outcome {
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * part) as usize;
        sorted
            .get(at.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    }

    pub(crate) fn failed(&self) -> f64 {
        self.failures as f64 / self.seconds.len().max(1) as f64
    }

    pub(crate) fn troubled(&self) -> f64 {
        self.to_troubled as f64 / self.seconds.len().max(1) as f64
    }
}

/// Requests, good ones and attempts of each second, by the second in which the request began.
#[derive(Default)]
pub(crate) struct Storm(BTreeMap<u64, [u64; 3]>);

impl Storm {
    pub(crate) fn good(&self, from: u64, until: u64) -> f64 {
        let seconds = self.0.range(from..until).map(|(_, counts)| counts);
        let [all, good] = seconds.fold([0, 0], |[all, good], counts| {
            [all + counts[0], good + counts[1]]
        });
        good as f64 / all.max(1) as f64
    }

    pub(crate) fn most_attempts(&self) -> f64 {
        let of = self
            .0
            .values()
            .map(|[all, _, made]| *made as f64 / (*all).max(1) as f64);
        of.fold(0.0, f64::max)
    }

    /// Seconds after the trouble's end from which on 99 % of requests were good.
    pub(crate) fn well_again(&self) -> Option<u64> {
        let end = STORM.end as u64;
        let last = *self.0.keys().next_back()?;
        let bad = (end..last)
            .rev()
            .find(|second| self.good(*second, second + 1) < 0.99);
        match bad {
            None => Some(0),
            Some(bad) if bad + 1 < last => Some(bad + 1 - end),
            Some(_) => None,
        }
    }
}

/// Runs a plan and tells what requests of the time of trouble felt.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    world.run();
    let mut outcome = Outcome::default();
    let felt = world
        .done
        .iter()
        .filter(|done| TROUBLE.contains(&done.began));
    for done in felt {
        outcome.seconds.push(done.took);
        outcome.failures += usize::from(!done.good);
        outcome.to_troubled += usize::from(done.at < TROUBLED);
    }
    outcome
}

/// Runs a plan and tells how the service fared second by second.
pub(crate) fn storm(plan: &Plan) -> Storm {
    let mut world = World::new(plan);
    world.run();
    let mut storm = Storm::default();
    for done in &world.done {
        let counts = storm.0.entry(done.began as u64).or_default();
        counts[0] += 1;
        counts[1] += u64::from(done.good);
        counts[2] += u64::from(done.attempts);
    }
    storm
}

/// A request that is over.
struct Done {
    began: f64,
    took: f64,
    good: bool,
    attempts: u8,
    at: usize,
}

/// An attempt on its way, as the client sees it.
struct Attempt {
    began: f64,
    made: u8,
    started: u64,
    at: usize,
    _in_flight: InFlight,
    probe: Option<Box<Probe>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Served { at: usize, attempt: u64 },
    Given { attempt: u64 },
    Again { began: u64, made: u8 },
}

#[derive(Default)]
struct Server {
    busy: usize,
    queue: VecDeque<u64>,
}

struct World<'p> {
    plan: &'p Plan,
    set: EndpointSet,
    rules: Ejection,
    budget: Budget,
    servers: Vec<Server>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    attempts: HashMap<u64, Attempt>,
    done: Vec<Done>,
    now: u64,
    last: u64,
    random: u64,
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan) -> World<'p> {
        let (endpoints, metrics) = (Endpoints::default(), Metrics::new(ENDPOINTS));
        let member = |at: usize| Member {
            endpoint: endpoints.endpoint("pool", &address(at), &metrics),
            weight: 1,
            labels: BTreeMap::new(),
            priority: 0,
        };
        let members: Box<[Member]> = (0..ENDPOINTS).map(member).collect();
        World {
            plan,
            set: EndpointSet {
                table: Table::new(plan.algorithm, &members),
                members,
                sessions: None,
                birth: None,
                forbidden: Default::default(),
                template: Default::default(),
                local: None,
            },
            rules: Ejection {
                consecutive_failures: if plan.ejection { 5 } else { 0 },
                consecutive_5xx: 0,
                success_rate: None,
                failure_percentage: None,
                success_below: None,
                interval: Duration::from_secs(10),
                base_time: Duration::from_secs(10),
                max_time: Duration::from_secs(300),
                jitter: 0.1,
                max_ejected: 0.5,
                probation: true,
                ended_by_health: true,
            },
            budget: Budget::new(Allowance::default(), None),
            servers: (0..ENDPOINTS).map(|_| Server::default()).collect(),
            events: BinaryHeap::new(),
            attempts: HashMap::new(),
            done: Vec::new(),
            now: START,
            last: 0,
            random: hash_bytes(b"a seed"),
        }
    }

    fn run(&mut self) {
        self.after(0.0, Event::Arrival);
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrival => self.arrive(),
                Event::Served { at, attempt } => self.served(at, attempt),
                Event::Given { attempt } => self.end(attempt, Verdict::Silent),
                Event::Again { began, made } => self.attempt(f64::from_bits(began), made),
            }
        }
    }

    fn arrive(&mut self) {
        let seconds = self.seconds();
        if seconds >= self.plan.length {
            return;
        }
        let rate = self.plan.busy * (ENDPOINTS * WORKERS) as f64 / SERVICE;
        let next = self.around(1.0 / rate);
        self.after(next, Event::Arrival);
        self.budget.deposit(self.now);
        self.attempt(seconds, 1);
    }

    fn attempt(&mut self, began: f64, made: u8) {
        let choice = Choice {
            now: self.now,
            random: self.bits(),
            ..Choice::default()
        };
        let pick = || self.set.table.pick(&self.set.members, &choice);
        let Some((at, probe)) = self.set.choose(self.now, pick) else {
            return self.over(began, made, ENDPOINTS, false);
        };
        let id = self.bits();
        let attempt = Attempt {
            began,
            made,
            started: self.now,
            at,
            _in_flight: InFlight::start(&self.set.members[at].endpoint),
            probe,
        };
        self.attempts.insert(id, attempt);
        self.after(self.plan.timeout, Event::Given { attempt: id });
        match self.servers[at].busy < WORKERS {
            true => self.serve(at, id),
            false => self.servers[at].queue.push_back(id),
        }
    }

    fn serve(&mut self, at: usize, attempt: u64) {
        self.servers[at].busy += 1;
        let usual = self.around(SERVICE);
        let seconds = self.seconds();
        let time = match self.trouble(at) {
            Kind::None => usual,
            Kind::Slow => usual * 10.0,
            Kind::Storm => usual * 3.0,
            Kind::Failing => 0.001,
            Kind::Silent => TROUBLE.end - seconds + usual,
        };
        self.after(time, Event::Served { at, attempt });
    }

    /// A worker is done, also with what nobody waits for any more: a service does not hear that its client left.
    fn served(&mut self, at: usize, attempt: u64) {
        self.servers[at].busy -= 1;
        if let Some(next) = self.servers[at].queue.pop_front() {
            self.serve(at, next);
        }
        let failing = self.trouble(at) == Kind::Failing;
        self.end(
            attempt,
            if failing {
                Verdict::Gateway
            } else {
                Verdict::Ok
            },
        );
    }

    /// The client hears of its attempt, or gives it up.
    fn end(&mut self, id: u64, verdict: Verdict) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        let endpoint = self.set.members[attempt.at].endpoint.clone();
        let told = Told {
            rules: &self.rules,
            members: &self.set.members,
            now: self.now,
            random: hash_bytes(&id.to_le_bytes()),
        };
        outlier::tell(&endpoint, verdict, attempt.probe, &told);
        if verdict == Verdict::Ok {
            let took = Duration::from_nanos(self.now - attempt.started);
            observe(&endpoint.state, self.now, took);
            return self.over(attempt.began, attempt.made, attempt.at, true);
        }
        let again = match self.plan.retries {
            Retries::None => false,
            Retries::Unbounded => attempt.made <= 3,
            Retries::Budget => attempt.made <= 3 && self.budget.withdraw(self.now),
        };
        match again {
            false => self.over(attempt.began, attempt.made, attempt.at, false),
            true => {
                let wait = 0.025 * f64::from((1 << attempt.made) - 1) * self.fraction();
                let (began, made) = (attempt.began.to_bits(), attempt.made + 1);
                self.after(wait.min(0.25), Event::Again { began, made });
            }
        }
    }

    fn over(&mut self, began: f64, attempts: u8, at: usize, good: bool) {
        let took = self.seconds() - began;
        self.done.push(Done {
            began,
            took,
            good,
            attempts,
            at,
        });
    }

    fn trouble(&self, at: usize) -> Kind {
        let seconds = self.seconds();
        match self.plan.kind {
            Kind::Storm if STORM.contains(&seconds) => Kind::Storm,
            Kind::Storm => Kind::None,
            kind if at < TROUBLED && TROUBLE.contains(&seconds) => kind,
            _ => Kind::None,
        }
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.last += 1;
        let at = self.now + (seconds * 1e9) as u64;
        self.events.push(Reverse((at, self.last, event)));
    }

    fn seconds(&self) -> f64 {
        (self.now - START) as f64 / 1e9
    }

    /// Exponential around a mean.
    fn around(&mut self, mean: f64) -> f64 {
        -(1.0 - self.fraction()).ln() * mean
    }

    fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn bits(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash_bytes(&self.random.to_le_bytes())
    }
}

fn address(at: usize) -> Address {
    Address::Tcp(std::net::SocketAddr::from(([10, 0, 0, at as u8], 80)))
}

/// Not zero, which means never in some places.
const START: u64 = 1_000_000_000_000;
