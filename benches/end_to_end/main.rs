//! Question: how much CPU time does a request cost, as a ratio to a bare Pingora proxy and to nginx in the same run?
//! It must not compare absolute times: machines and their noise differ, the ratio of one round does not.
//! Run by hand; it needs `nginx`, `haproxy`, `wrk`, `h2load` and `openssl`, and Envoy if it can be had:
//!
//! ```text
//! cargo bench --bench end_to_end                      # everything, about eight minutes
//! cargo bench --bench end_to_end -- rounds=7 seconds=2 proxies=bare,windrose cases=small,post
//! cargo bench --bench end_to_end -- parts=idle,routes,reload,chaos,mesh,plugins
//! cargo bench --bench end_to_end -- proxies=bare,windrose parts=cases before=FILE,FILE    # older binaries beside this one
//! ```
//!
//! Each proxy has one worker thread. Windrose runs with routes, a pool of two, metrics and an access log to a file; the others
//! do less: no log. The number is user and system time from `/proc` over a load, divided by the requests answered. Rounds
//! visit the proxies in turn; a ratio is taken within a round, and its median and spread over the rounds are printed.

mod bare;
mod chain;
mod chaos;
mod idle;
mod load;
mod mesh;
mod peers;
mod process;
mod reload;

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use load::Case;
use peers::{Proxy, Site, Size};

/// As the binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    if let Some(("bare", rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return bare::run(rest);
    }
    raise_file_limit()?;
    let wish = Wish::read(&arguments)?;
    let folder = tempfile::tempdir()?;
    peers::certificate(folder.path())?;
    let (_origin, origins) = peers::origin(folder.path())?;
    let bench = Bench {
        wish,
        folder: folder.path(),
        origins,
    };
    let parts: [(&str, Part<'_>); 7] = [
        ("cases", Bench::cases),
        ("idle", Bench::idle),
        ("routes", Bench::routes),
        ("reload", Bench::reload),
        ("chaos", Bench::chaos),
        ("mesh", Bench::mesh),
        ("plugins", Bench::plugins),
    ];
    for (name, part) in parts {
        if bench.wish.wants("parts", name) {
            part(&bench)?;
        }
    }
    Ok(())
}

type Part<'a> = fn(&Bench<'a>) -> Result<(), Box<dyn Error>>;

/// What the arguments ask for.
struct Wish {
    lists: HashMap<String, String>,
    rounds: usize,
    seconds: u64,
}

impl Wish {
    fn read(arguments: &[String]) -> Result<Wish, Box<dyn Error>> {
        let pair = |argument: &String| {
            let (key, value) = argument
                .split_once('=')
                .ok_or("arguments look like rounds=3")?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let lists = arguments
            .iter()
            .map(pair)
            .collect::<Result<HashMap<_, _>, &str>>()?;
        let number =
            |key: &str, default: u64| lists.get(key).map_or(Ok(default), |text| text.parse());
        let (rounds, seconds) = (number("rounds", 5)?, number("seconds", 2)?);
        Ok(Wish {
            rounds: rounds as usize,
            seconds,
            lists,
        })
    }

    /// Whether a name holds one of the words listed under a key; without the key everything is wanted.
    fn wants(&self, key: &str, name: &str) -> bool {
        let list = self.lists.get(key);
        list.is_none_or(|list| list.split(',').any(|word| name.contains(word)))
    }

    /// Binaries to measure beside the one just built.
    fn befores(&self) -> impl Iterator<Item = &Path> {
        let list = self.lists.get("before");
        list.into_iter()
            .flat_map(|list| list.split(','))
            .map(Path::new)
    }
}

struct Bench<'a> {
    wish: Wish,
    folder: &'a Path,
    origins: [u16; 2],
}

impl Bench<'_> {
    /// All proxies that are wanted and can be had, fresh.
    fn proxies(&self) -> Result<Vec<Proxy>, Box<dyn Error>> {
        type Start = fn(&Site<'_>) -> Result<Proxy, Box<dyn Error>>;
        let starts: [(&str, Start); 4] = [
            ("nginx", peers::nginx),
            ("haproxy", peers::haproxy),
            ("envoy", peers::envoy),
            ("bare", peers::bare),
        ];
        let mut proxies = Vec::new();
        for (name, start) in starts
            .into_iter()
            .filter(|(name, _)| self.wish.wants("proxies", name))
        {
            match start(&Site::new(self.folder, self.origins[0])?) {
                Ok(proxy) => proxies.push(proxy),
                Err(problem) => println!("{name} is left out: {problem}"),
            }
        }
        if self.wish.wants("proxies", "windrose") {
            proxies.push(self.windrose(Size::SMALL)?.proxy);
        }
        for path in self.wish.befores() {
            let site = Site::new(self.folder, self.origins[0])?;
            let mut proxy = peers::windrose(path, &site, self.origins[1], Size::SMALL)?.proxy;
            proxy.name = path.file_name().unwrap_or_default().display().to_string();
            proxies.push(proxy);
        }
        Ok(proxies)
    }

    fn windrose(&self, size: Size) -> Result<peers::Windrose, Box<dyn Error>> {
        let site = Site::new(self.folder, self.origins[0])?;
        peers::windrose(Path::new(peers::BINARY), &site, self.origins[1], size)
    }

    fn cases(&self) -> Result<(), Box<dyn Error>> {
        let proxies = self.proxies()?;
        for case in Case::ALL
            .into_iter()
            .filter(|case| self.wish.wants("cases", case.name()))
        {
            for proxy in &proxies {
                case.run(proxy, self.folder, 1)?;
            }
            let rounds = self.rounds(&proxies, |proxy| {
                case.run(proxy, self.folder, self.wish.seconds)
            })?;
            println!(
                "\n{}: CPU per request, {} rounds",
                case.name(),
                self.wish.rounds
            );
            table(&proxies, &rounds);
        }
        Ok(())
    }

    /// Microseconds per request: one list for each round, in the order of the proxies.
    fn rounds(
        &self,
        proxies: &[Proxy],
        load: impl Fn(&Proxy) -> Result<u64, Box<dyn Error>>,
    ) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
        let one = |proxy: &Proxy| {
            let before = proxy.process.cpu();
            let requests = load(proxy)?;
            let spent = proxy.process.cpu().saturating_sub(before);
            Ok(spent.as_secs_f64() * 1e6 / requests as f64)
        };
        let round = |_| proxies.iter().map(one).collect();
        (0..self.wish.rounds).map(round).collect()
    }

    fn idle(&self) -> Result<(), Box<dyn Error>> {
        println!("\nmemory of an idle connection, {IDLE} of them after one request each");
        for proxy in self.proxies()? {
            let bytes = idle::bytes_per_connection(&proxy, self.folder, IDLE)?;
            println!("{:>14}  {:6.1} KiB", proxy.name, bytes / 1024.0);
        }
        Ok(())
    }

    fn chaos(&self) -> Result<(), Box<dyn Error>> {
        let time = Duration::from_secs(CHAOS_SECONDS);
        let [quiet, beside, wild] = chaos::quiet_and_wild(self.folder, time)?;
        println!("\nten endpoints, three at a time killed and started again; {CHAOS_SECONDS} s, 800 requests a second");
        for (name, seen) in [
            ("quiet", &quiet),
            ("deaths beside", &beside),
            ("deaths", &wild),
        ] {
            let [median, high, highest] = [0.5, 0.99, 0.999].map(|part| seen.quantile(part));
            println!(
                "{name:>14}  {} requests, {} failed, p50 {median:.2} ms, p99 {high:.2} ms, p99.9 {highest:.2} ms",
                seen.count(),
                seen.failures
            );
        }
        Ok(())
    }

    fn mesh(&self) -> Result<(), Box<dyn Error>> {
        let ways = mesh::ways(self.folder, self.origins[0])?;
        for way in &ways[1..] {
            way.cost(1)?;
        }
        let one = |_| {
            let nodes = ways[1..].iter().map(|way| way.cost(self.wish.seconds));
            nodes.collect::<Result<Vec<f64>, _>>()
        };
        let rounds: Vec<Vec<f64>> = (0..self.wish.rounds).map(one).collect::<Result<_, _>>()?;
        println!(
            "\nmesh: CPU of all hops per small GET, {} rounds",
            rounds.len()
        );
        for (at, way) in ways[1..].iter().enumerate() {
            let cost = median(rounds.iter().map(|round| round[at]).collect());
            let ratio = median(rounds.iter().map(|round| round[at] / round[1]).collect());
            let name = way.name;
            println!("{name:>26}  {cost:8.2} µs   {ratio:5.2} x two nodes in the clear");
        }
        println!("\nmesh: latency at 800 requests a second");
        for way in &ways {
            let seen = way.pace(Duration::from_secs(self.wish.seconds * 5))?;
            let [median, high] = [0.5, 0.99].map(|part| seen.quantile(part));
            println!(
                "{:>26}  p50 {median:.3} ms, p99 {high:.3} ms, {} of {} failed",
                way.name,
                seen.failures,
                seen.count()
            );
        }
        println!("\nmesh: resident memory of a node's proxy");
        for services in [1, 100, 1_000] {
            let seen = mesh::resident(self.folder, services)?;
            for (when, (all, own)) in ["at rest", "after a scrape"].into_iter().zip(seen) {
                let [all, own] = [all, own].map(|bytes| bytes as f64 / f64::from(1 << 20));
                println!(
                    "{services:>14} services x 10  {all:6.1} MiB, {own:.1} of it not from files, {when}"
                );
            }
        }
        Ok(())
    }

    fn plugins(&self) -> Result<(), Box<dyn Error>> {
        let start = |route| chain::proxy(self.folder, self.origins[0], route);
        let proxies = [start(chain::Route::Bare)?, start(chain::Route::Chain)?];
        let script = chain::script(self.folder)?;
        let load = |proxy: &Proxy| load::scripted(proxy, &script, self.wish.seconds);
        for proxy in &proxies {
            load(proxy)?;
        }
        let rounds = self.rounds(&proxies, load)?;
        println!("\nplugins: CPU per small GET, {} rounds", self.wish.rounds);
        table(&proxies, &rounds);
        Ok(())
    }

    fn routes(&self) -> Result<(), Box<dyn Error>> {
        let mut few = self.windrose(Size::SMALL)?.proxy;
        let mut many = self.windrose(Size::MANY_ROUTES)?.proxy;
        (few.name, many.name) = ("10 routes".to_owned(), "10,000 routes".to_owned());
        let (proxies, counts) = ([few, many], [Size::SMALL.routes, Size::MANY_ROUTES.routes]);
        let load = |proxy: &Proxy| {
            let count = if proxy.name == "10 routes" {
                counts[0]
            } else {
                counts[1]
            };
            load::hosts(proxy, self.folder, count, self.wish.seconds)
        };
        for proxy in &proxies {
            load(proxy)?;
        }
        let rounds = self.rounds(&proxies, load)?;
        println!("\nroutes: CPU per request over all their hosts in turn");
        table(&proxies, &rounds);
        Ok(())
    }

    fn reload(&self) -> Result<(), Box<dyn Error>> {
        let windrose = self.windrose(Size::LARGE)?;
        let mut found = reload::reloads(&windrose, RELOADS)?;
        found.wall.sort_unstable();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        println!("\nreload of 10,000 routes and 1,000 pools, {RELOADS} times");
        let (least, most) = (found.wall[0], found.wall[found.wall.len() - 1]);
        println!(
            "`windrose reload`: median {:.0} ms ({:.0} to {:.0})",
            milliseconds(found.wall[found.wall.len() / 2]),
            milliseconds(least),
            milliseconds(most)
        );
        for (name, latencies) in [("calm", &found.calm), ("during reloads", &found.during)] {
            let at = |share: f64| {
                let index = (latencies.len() as f64 * share) as usize;
                milliseconds(latencies[index.min(latencies.len() - 1)])
            };
            println!(
                "latency {name:>14}: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, most {:.2} ms, of {} requests",
                at(0.5),
                at(0.99),
                at(0.999),
                at(1.0),
                latencies.len()
            );
        }
        Ok(())
    }
}

/// A line for each proxy: its median, and its ratio to the floor and to nginx, round by round.
fn table(proxies: &[Proxy], rounds: &[Vec<f64>]) {
    let column = |at: usize| rounds.iter().map(move |round| round[at]);
    for (at, proxy) in proxies.iter().enumerate() {
        let mut line = format!(
            "{:>14}  {:8.2} µs",
            proxy.name,
            median(column(at).collect())
        );
        for floor in ["bare Pingora", "nginx", "10 routes", "bare route"] {
            if let Some(base) = proxies.iter().position(|proxy| proxy.name == floor) {
                let mut ratios: Vec<f64> =
                    rounds.iter().map(|round| round[at] / round[base]).collect();
                ratios.sort_by(f64::total_cmp);
                let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
                line += &format!(
                    "   {:5.2} x {floor} ({least:.2} to {most:.2})",
                    median(ratios)
                );
            }
        }
        println!("{line}");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn raise_file_limit() -> Result<(), Box<dyn Error>> {
    use rustix::process::{getrlimit, setrlimit, Resource};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

const CHAOS_SECONDS: u64 = 30;

const IDLE: usize = 4_000;

const RELOADS: u32 = 7;
