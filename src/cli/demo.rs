//! `windrose demo`: services, an edge and two mesh nodes on this machine, and commands that show what they do.
//! It must not know how a proxy works: it writes configurations and starts this program three times with them.
//! Called by `cli`; the configurations are `conf/demo*.yaml`.

mod chat;
mod check;
mod client;
mod grpc;
mod ports;
mod proxies;
mod services;
mod tour;
mod wire;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::runtime::Builder;
use tokio::signal::unix::{signal, Signal, SignalKind};

use ports::{Ports, Values};
use proxies::{Plan, Proxies};

/// A running demo, as far as a visitor is concerned.
struct Stage<'a> {
    ports: &'a Ports,
    proxies: &'a Proxies,
    folder: &'a Path,
}

/// Runs the demo until it is interrupted, or to check it until everything was tried.
pub(super) fn run(check: bool) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(play(check)),
        Err(error) => Err(format!("no runtime: {error}")),
    };
    ended.unwrap_or_else(|fact| {
        eprintln!("demo: {fact}");
        ExitCode::FAILURE
    })
}

async fn play(check: bool) -> Result<ExitCode, String> {
    let mut interrupts = Interrupts::new().map_err(|error| format!("no signals: {error}"))?;
    let folder = Folder::new()?;
    let services = services::start()
        .await
        .map_err(|error| format!("the services cannot listen: {error}"))?;
    let ports = Ports::choose().map_err(|error| format!("no free ports: {error}"))?;
    let values = Values::new(&ports, &services, &folder.0.to_string_lossy());
    let mut proxies = Proxies::new();
    let ended = tokio::select! {
        () = interrupts.next() => Ok(ExitCode::SUCCESS),
        ended = async {
            proxies.start(&folder.0, plans(&ports, &values)).await?;
            perform(check, &ports, &mut proxies, &folder.0).await
        } => ended,
    };
    println!("Ending the proxies ...");
    tokio::select! {
        () = interrupts.next() => {}
        () = proxies.stop() => {}
    }
    ended
}

async fn perform(
    check: bool,
    ports: &Ports,
    proxies: &mut Proxies,
    folder: &Path,
) -> Result<ExitCode, String> {
    let stage = Stage {
        ports,
        proxies,
        folder,
    };
    if check {
        return Ok(check::run(&stage).await);
    }
    println!("{}", tour::page(&stage));
    Err(proxies.until_one_dies().await)
}

fn plans(ports: &Ports, values: &Values) -> Vec<Plan> {
    // Nodes first: the edge finds them there.
    let proxies = [
        ("node-b", NODE_B, ports.b_admin),
        ("node-a", NODE_A, ports.a_admin),
        ("edge", EDGE, ports.edge_admin),
    ];
    let plan = |(name, template, admin)| Plan {
        name,
        config: values.fill(template),
        admin,
    };
    proxies.into_iter().map(plan).collect()
}

/// Whatever a terminal or a supervisor sends to end a program.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn new() -> io::Result<Interrupts> {
        Ok(Interrupts([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A folder for configurations, logs and sockets, gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, String> {
        let name = format!("windrose-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // An own folder with an own mode: one that is there already may be somebody else's.
        let made = DirBuilder::new().mode(0o700).create(&path);
        match made {
            Ok(()) => Ok(Folder(path)),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const EDGE: &str = include_str!("../../conf/demo.yaml");
const NODE_A: &str = include_str!("../../conf/demo-node-a.yaml");
const NODE_B: &str = include_str!("../../conf/demo-node-b.yaml");
