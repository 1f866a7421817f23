//! A large configuration: what a request costs with it, how long a reload takes, and whether traffic feels it.
//! It must not count requests of the load that only asks how traffic feels; their number is fixed.
//! Called by the bench after the cases.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::peers::{Windrose, BINARY, SMALL};

/// What reloads took and what traffic felt.
pub(crate) struct Reloads {
    /// Wall time of `windrose reload`, each.
    pub(crate) wall: Vec<Duration>,
    /// Latencies while nothing was reloaded, ascending.
    pub(crate) calm: Vec<Duration>,
    /// Latencies of the same load while reloads went on, ascending.
    pub(crate) during: Vec<Duration>,
}

/// Reloads so many times, each time with one route changed, under a steady load.
pub(crate) fn reloads(windrose: &Windrose, times: u32) -> Result<Reloads, Box<dyn Error>> {
    let span = SPACING * times;
    let calm = steady(windrose.proxy.plain);
    std::thread::sleep(span);
    let calm = calm.end()?;
    let during = steady(windrose.proxy.plain);
    let mut wall = Vec::new();
    for time in 0..times {
        change(windrose, time)?;
        let began = Instant::now();
        let done = Command::new(BINARY)
            .arg("reload")
            .arg("-c")
            .arg(&windrose.config)
            .output()?;
        wall.push(began.elapsed());
        if !done.status.success() {
            return Err(
                format!("reload refused: {}", String::from_utf8_lossy(&done.stderr)).into(),
            );
        }
        std::thread::sleep(SPACING.saturating_sub(began.elapsed()));
    }
    Ok(Reloads {
        wall,
        calm,
        during: during.end()?,
    })
}

fn change(windrose: &Windrose, time: u32) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(&windrose.config)?;
    let (old, new) = (
        format!("prefix: /{}", name(time)),
        format!("prefix: /{}", name(time + 1)),
    );
    Ok(fs::write(&windrose.config, text.replacen(&old, &new, 1))?)
}

fn name(time: u32) -> String {
    match time {
        0 => String::new(),
        time => format!("changed-{time}"),
    }
}

struct Steady {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<std::io::Result<Vec<Duration>>>>,
}

/// Clients that each ask at fixed moments; latency counts from the moment, so that waiting is not left out.
fn steady(port: u16) -> Steady {
    let stop = Arc::new(AtomicBool::new(false));
    let client = |_| {
        let stop = stop.clone();
        std::thread::spawn(move || ask(port, &stop))
    };
    let clients = (0..CLIENTS).map(client).collect();
    Steady { stop, clients }
}

impl Steady {
    fn end(self) -> Result<Vec<Duration>, Box<dyn Error>> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.join().map_err(|_| "a client panicked")??);
        }
        all.sort_unstable();
        Ok(all)
    }
}

fn ask(port: u16, stop: &AtomicBool) -> std::io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    let mut piece = [0; 2048];
    while !stop.load(Relaxed) {
        due += PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(b"GET / HTTP/1.1\r\nhost: h9999.example.com\r\n\r\n")?;
        let mut answer = Vec::new();
        while !answer.ends_with(SMALL.as_bytes()) {
            match stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => answer.extend_from_slice(&piece[..read]),
            }
        }
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

const CLIENTS: usize = 4;

/// 250 requests a second for each client.
const PERIOD: Duration = Duration::from_millis(4);

const SPACING: Duration = Duration::from_millis(1500);
