//! Question: how many instructions does one decision cost with 10,000 hosts and routes, next to 10?
//! It must not measure parsing a request or building tables: one compiled table, heads made beforehand.
//! Run by hand, counting the same run at two lengths, so that building the table and the harness' start cancel out:
//!
//! ```text
//! cargo bench --bench route --no-run         # prints the executable
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null EXECUTABLE hosts 10000 100000
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null EXECUTABLE hosts 10000 200000
//! ```
//!
//! The answer is the difference of the two `Collected` numbers divided by 100,000. `perf stat -e instructions:u` in
//! place of valgrind answers the same. Without arguments every shape runs with 10 and 10,000 rules and prints nanoseconds,
//! which say less: they depend on the machine and on what else it does.
//!
//! Shapes: `hosts` has one rule for each host, `paths` all rules under one host with a path of their own.

use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use http::{HeaderMap, Method};
use windrose::config::{self, Resources};
use windrose::decide::{decide, Caller, Head, Silent};
use windrose::observe::metrics::Metrics;
use windrose::snapshot::endpoint::Endpoints;
use windrose::snapshot::Snapshot;
use windrose_plugins::contract::StateRegistry;
use windrose_plugins::BUILTIN;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let count = arguments.get(1).map(|count| count.parse()).transpose()?;
    let turns = arguments.get(2).map(|turns| turns.parse()).transpose()?;
    for shape in [Shape::Hosts, Shape::Paths] {
        for rules in RULES {
            let wanted = arguments.first().is_none_or(|name| name == shape.name());
            if wanted && count.is_none_or(|count: usize| count == rules) {
                run(shape, rules, turns.unwrap_or(TURNS))?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Shape {
    Hosts,
    Paths,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::Hosts => "hosts",
            Shape::Paths => "paths",
        }
    }

    /// Host and path that only the rule of this number serves.
    fn place(self, rule: usize) -> (String, String) {
        match self {
            Shape::Hosts => (format!("h{rule}.example.com"), "/api".to_owned()),
            Shape::Paths => ("example.com".to_owned(), format!("/api/v{rule}")),
        }
    }
}

fn run(shape: Shape, rules: usize, turns: usize) -> Result<(), Box<dyn Error>> {
    let snapshot = snapshot(shape, rules)?;
    let table = &snapshot.listener("web").ok_or("no listener")?.routes;
    // A thousand places spread over all rules, so that the heads themselves stay in the cache.
    let places = (0..1_000).map(|at| shape.place(at * 7_919 % rules));
    let places: Vec<_> = places
        .map(|(host, path)| (host, path + "/items/7"))
        .collect();
    let (method, headers) = (Method::GET, HeaderMap::new());
    let caller = Caller {
        destination: None,
        port: None,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        sni: None,
        principal: None,
    };
    let began = Instant::now();
    let mut found = 0_usize;
    for turn in 0..turns {
        let (host, path) = &places[turn % places.len()];
        let head = Head {
            method: &method,
            host,
            path,
            query: None,
            headers: &headers,
        };
        let candidate = decide(table, black_box(&head), &caller, &mut Silent);
        found += usize::from(black_box(candidate).is_some());
    }
    let each = began.elapsed().as_nanos() as f64 / turns as f64;
    println!(
        "{:>6} {rules:>6} rules: {each:7.1} ns, {found} of {turns} decided",
        shape.name()
    );
    Ok(())
}

fn snapshot(shape: Shape, rules: usize) -> Result<Snapshot, Box<dyn Error>> {
    let mut text = String::from(
        "listeners: [{name: web, role: ingress, bind: \"127.0.0.1:0\"}]\npools: [{name: pool, endpoints: [\"127.0.0.1:1\"]}]\nroutes:\n",
    );
    for rule in 0..rules {
        let (host, path) = shape.place(rule);
        writeln!(text, "  - {{name: r{rule}, hosts: [{host}], rules: [{{match: [{{path: {{prefix: {path}}}}}], pool: pool}}]}}")?;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("windrose.yaml");
    std::fs::write(&path, text)?;
    let resources = Resources {
        plugins: BUILTIN,
        metrics: Metrics::new(1_000),
        endpoints: &Endpoints::default(),
        identities: &Default::default(),
        states: &StateRegistry::default(),
        exchange: std::sync::Arc::new(windrose::snapshot::call::OutOfReach),
        previous: None,
    };
    let built = config::build(&path, &resources).map_err(|report| report.to_string())?;
    Ok(built.snapshot)
}

const RULES: [usize; 2] = [10, 10_000];

const TURNS: usize = 1_000_000;
