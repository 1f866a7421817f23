//! Question: when some of 100 endpoints are slow, failing or silent, what do clients feel with each algorithm; and what do retries
//! do to a service that was overloaded for a moment, with and without a budget?
//! It must not touch a network or a clock: time is virtual and chance has a seed, so two runs print the same.
//! Run by hand: `cargo bench --bench resilience`; the profile does not matter.
//!
//! The model, in `world`: open arrivals (Poisson), endpoints with four workers each and a queue without bound, service times
//! exponential around 10 ms. Choosing, latency estimates, ejection and budgets are the proxy's own code.
//!
//! To compare with: Envoy's documentation says of its Peak EWMA that it behaves as least request while endpoints are alike,
//! and moves traffic away from a slow one. Linkerd's developers say of Tower's Peak EWMA that an endpoint that fails fast
//! looks fast, and attracts traffic (linkerd2-proxy pull request 4537).

mod world;

use windrose::snapshot::pool::Algorithm;
use world::{Kind, Outcome, Plan, Retries, Storm};

fn main() {
    println!("100 endpoints, 60 % busy; from 5 s to 15 s five of them are troubled; requests of those 10 s\n");
    println!(
        "| Trouble | Algorithm | p50 ms | p99 ms | p99.9 ms | failed % | sent to the five % |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (trouble, kind, ejection) in TROUBLES {
        for (name, algorithm) in ALGORITHMS {
            let plan = Plan {
                algorithm,
                kind,
                ejection,
                ..Plan::default()
            };
            told(trouble, name, &world::run(&plan));
        }
    }
    storms();
}

fn storms() {
    println!("\n100 endpoints, 70 % busy; from 5 s to 7 s all take three times as long; attempts end after 250 ms\n");
    println!("| Retries | attempts a request at worst | good before % | during % | 7 s to 40 s % | well again after s |");
    println!("|---|---|---|---|---|---|");
    for (name, retries, ejection) in RETRIES {
        let storm = world::storm(&Plan {
            kind: Kind::Storm,
            retries,
            busy: 0.7,
            timeout: 0.25,
            length: 40.0,
            ejection,
            ..Plan::default()
        });
        stormed(name, &storm);
    }
}

fn told(trouble: &str, name: &str, outcome: &Outcome) {
    let [median, high, highest] = [0.5, 0.99, 0.999].map(|part| outcome.quantile(part) * 1e3);
    let (failed, troubled) = (outcome.failed() * 100.0, outcome.troubled() * 100.0);
    println!("| {trouble} | {name} | {median:.0} | {high:.0} | {highest:.0} | {failed:.2} | {troubled:.2} |");
}

fn stormed(name: &str, storm: &Storm) {
    let part = |from, until| storm.good(from, until) * 100.0;
    let (before, during, after) = (part(0, 5), part(5, 7), part(7, 40));
    let again = match storm.well_again() {
        Some(second) => format!("{second}"),
        None => "never".into(),
    };
    let worst = storm.most_attempts();
    println!("| {name} | {worst:.2} | {before:.1} | {during:.1} | {after:.1} | {again} |");
}

const TROUBLES: [(&str, Kind, bool); 5] = [
    ("none", Kind::None, true),
    ("10 times slower", Kind::Slow, true),
    ("fail at once, no ejection", Kind::Failing, false),
    ("fail at once", Kind::Failing, true),
    ("silent, clients wait 1 s", Kind::Silent, true),
];

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("ewma", Algorithm::Ewma),
    ("least_request", Algorithm::LeastRequest),
    ("round_robin", Algorithm::RoundRobin),
    ("random", Algorithm::Random),
];

const RETRIES: [(&str, Retries, bool); 4] = [
    ("none", Retries::None, false),
    ("3, without a budget", Retries::Unbounded, false),
    ("3, budget of 20 %", Retries::Budget, false),
    ("3, budget of 20 %, ejection", Retries::Budget, true),
];
