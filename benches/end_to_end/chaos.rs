//! Ten endpoints, three of which are killed and started again at random while requests flow: what clients see of it.
//! It must not count a request twice: each is asked once by a client that hears one answer or none.
//! Called by the bench; the endpoints are processes of the same binary that answer by themselves.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::peers::BINARY;
use super::process::{free_port, Process};

/// What clients saw in a time.
pub(crate) struct Seen {
    pub(crate) failures: usize,
    latencies: Vec<Duration>,
}

impl Seen {
    pub(crate) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Milliseconds that this part of the answers took at most.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let at = (self.latencies.len() as f64 * part) as usize;
        let found = self
            .latencies
            .get(at.min(self.latencies.len().saturating_sub(1)));
        found.map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}

/// A quiet time, one in which processes beside the pool die, and one in which endpoints do, of this length each.
pub(crate) fn quiet_and_wild(folder: &Path, time: Duration) -> Result<[Seen; 3], Box<dyn Error>> {
    let mut services = Vec::new();
    for _ in 0..ENDPOINTS {
        services.push(Service::start(folder, free_port()?)?);
    }
    let port = free_port()?;
    let ports: Vec<u16> = services.iter().map(|service| service.port).collect();
    let _proxy = start(folder, port, &proxy(port, free_port()?, &ports))?;
    load(port, "/", Duration::from_secs(2), |_| Ok(()))?;
    let quiet = load(port, "/", time, |_| Ok(()))?;
    // Processes that start take the machine's time from everybody, whoever they are.
    let mut strangers = Vec::new();
    for _ in 0..ENDPOINTS {
        strangers.push(Service::start(folder, free_port()?)?);
    }
    let beside = load(port, "/", time, |is_over| {
        deaths(folder, &mut strangers, is_over)
    })?;
    drop(strangers);
    let wild = load(port, "/", time, |is_over| {
        deaths(folder, &mut services, is_over)
    })?;
    Ok([quiet, beside, wild])
}

/// Kills three at a time and starts them again, until it is over.
fn deaths(
    folder: &Path,
    services: &mut [Service],
    is_over: &dyn Fn() -> bool,
) -> Result<(), Box<dyn Error>> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while !is_over() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let dying: [usize; 3] = std::array::from_fn(|n| (random as usize + n * 3) % ENDPOINTS);
        for at in dying {
            if let Some(process) = services[at].process.take() {
                process.kill();
            }
        }
        std::thread::sleep(Duration::from_millis(200 + random % 500));
        for at in dying {
            services[at] = Service::start(folder, services[at].port)?;
        }
        std::thread::sleep(Duration::from_millis(200 + random % 300));
    }
    Ok(())
}

/// An endpoint.
struct Service {
    port: u16,
    process: Option<Process>,
}

impl Service {
    fn start(folder: &Path, port: u16) -> Result<Service, Box<dyn Error>> {
        let text = format!(
            "{}routes: [{{name: r, rules: [{{respond: {{status: 200, body: ok}}}}]}}]\n",
            head(port, free_port()?)
        );
        let process = Some(start(folder, port, &text)?);
        Ok(Service { port, process })
    }
}

fn proxy(port: u16, admin: u16, endpoints: &[u16]) -> String {
    let addresses: Vec<String> = endpoints
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    format!(
        "{}pools: [{{name: p, endpoints: [{}], ejection: {{base_time: 1s}}}}]\n\
         routes: [{{name: r, rules: [{{pool: p, retry: {{attempts: 3}}}}]}}]\n",
        head(port, admin),
        addresses.join(", ")
    )
}

fn head(port: u16, admin: u16) -> String {
    format!(
        "server: {{threads: 1}}\nadmin: {{bind: 127.0.0.1:{admin}}}\n\
         listeners: [{{name: l, bind: 127.0.0.1:{port}}}]\n"
    )
}

fn start(folder: &Path, port: u16, config: &str) -> Result<Process, Box<dyn Error>> {
    let file = folder.join(format!("chaos-{port}.yaml"));
    fs::write(&file, config)?;
    let mut command = Command::new(BINARY);
    command.arg("run").arg("-c").arg(&file);
    Process::start(command, &file.with_extension("log"), port)
}

/// Asks from several clients, each at its own steady pace, while something else happens.
pub(crate) fn load(
    port: u16,
    path: &str,
    time: Duration,
    meanwhile: impl FnOnce(&dyn Fn() -> bool) -> Result<(), Box<dyn Error>>,
) -> Result<Seen, Box<dyn Error>> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| client(port, path, &over)))
            .collect();
        let end = Instant::now() + time;
        let happened = meanwhile(&|| Instant::now() >= end);
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        over.store(true, Relaxed);
        let mut seen = Seen {
            failures: 0,
            latencies: Vec::new(),
        };
        for client in clients {
            let (failures, latencies) = client.join().map_err(|_| "a client died")?;
            seen.failures += failures;
            seen.latencies.extend(latencies);
        }
        seen.latencies.sort_unstable();
        happened.map(|()| seen)
    })
}

fn client(port: u16, path: &str, over: &AtomicBool) -> (usize, Vec<Duration>) {
    let (mut failures, mut latencies) = (0, Vec::new());
    let mut stream = None;
    let mut due = Instant::now();
    while !over.load(Relaxed) {
        due += PACE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        let is_good = ask(&mut stream, port, path).unwrap_or_else(|error| {
            eprintln!("failed: {error}");
            false
        });
        latencies.push(began.elapsed());
        if !is_good {
            failures += 1;
            stream = None;
        }
    }
    (failures, latencies)
}

fn ask(stream: &mut Option<TcpStream>, port: u16, path: &str) -> std::io::Result<bool> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(TcpStream::connect(("127.0.0.1", port))?),
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut piece = [0; 2048];
        match stream.read(&mut piece)? {
            0 => return Ok(false),
            read => answer.extend_from_slice(&piece[..read]),
        }
        let is_other = answer.len() > 12 && !answer.starts_with(b"HTTP/1.1 200");
        if is_other {
            eprintln!("failed: {}", String::from_utf8_lossy(&answer));
            return Ok(false);
        }
    }
    Ok(true)
}

const ENDPOINTS: usize = 10;
const CLIENTS: usize = 8;
const PACE: Duration = Duration::from_millis(10);
