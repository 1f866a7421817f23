//! Question: how many instructions does one choice of an endpoint cost, by algorithm and size of the pool?
//! It must not measure building tables, nor contention: one thread, all members available, a few requests in flight.
//! Run by hand, counting the same run at two lengths, so that set-up and the harness' start cancel out:
//!
//! ```text
//! cargo bench --bench balance --no-run       # prints the executable
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null EXECUTABLE ewma 1000 100000
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null EXECUTABLE ewma 1000 200000
//! ```
//!
//! The answer is the difference of the two `Collected` numbers divided by 100,000. `perf stat -e instructions:u` in
//! place of valgrind answers the same. Without arguments every algorithm runs with 2, 10 and 1,000 members, which only
//! shows that they run.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use windrose::observe::metrics::Metrics;
use windrose::snapshot::balance::{hash_bytes, observe, Choice, Table};
use windrose::snapshot::endpoint::{Address, Endpoints};
use windrose::snapshot::pool::{Algorithm, Member};

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let name = arguments.first();
    let size = arguments.get(1).and_then(|size| size.parse().ok());
    let picks = arguments.get(2).and_then(|picks| picks.parse().ok());
    for (known, algorithm) in ALGORITHMS {
        for count in SIZES {
            let wanted = name.is_none_or(|name| name == known);
            if wanted && size.is_none_or(|size: usize| size == count) {
                run(known, algorithm, count, picks.unwrap_or(PICKS));
            }
        }
    }
}

fn run(name: &str, algorithm: Algorithm, count: usize, picks: u64) {
    let members = members(count);
    let table = Table::new(algorithm, &members);
    let mut random = hash_bytes(b"seed");
    let mut done = 0_u64;
    for _ in 0..picks {
        // xorshift64: cheap, so that the count is the choice's.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let choice = Choice {
            hash: Some(random),
            tried: &[],
            now: NOW,
            random,
            subset: None,
        };
        done += u64::from(black_box(table.pick(&members, black_box(&choice))).is_some());
    }
    println!("{name:>13} {count:>5} members: {done} picks");
}

fn members(count: usize) -> Vec<Member> {
    let endpoints = Endpoints::default();
    let metrics = Metrics::new(100);
    let member = |at: usize| {
        let address = std::net::SocketAddr::from(([10, 0, (at / 256) as u8, at as u8], 8080));
        let endpoint = endpoints.endpoint("pool", &Address::Tcp(address), &metrics);
        endpoint.state.in_flight.store(at as u32 % 7, Relaxed);
        observe(
            &endpoint.state,
            NOW - 1_000,
            Duration::from_micros(500 + at as u64),
        );
        Member {
            endpoint,
            weight: 1 + at as u32 % 3,
            labels: BTreeMap::new(),
            priority: 0,
        }
    };
    (0..count).map(member).collect()
}

const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("ewma", Algorithm::Ewma),
    ("round_robin", Algorithm::RoundRobin),
    ("least_request", Algorithm::LeastRequest),
    ("random", Algorithm::Random),
    ("maglev", Algorithm::Maglev),
    ("ketama", Algorithm::Ketama),
];

const SIZES: [usize; 3] = [2, 10, 1_000];

const PICKS: u64 = 100_000;

const NOW: u64 = 1_000_000_000;
