//! `windrose ca`: founds the built-in authority, serves it, and does its acts by hand.
//! It must not know certificates; `ca` does.
//! Called by `cli`. Exit code 0 done, 1 refused or failed; of `status` 1 also if something needs attention.

mod status;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::failed;
use crate::ca::{Authority, Grant, Init};
use crate::snapshot::identity::{SpiffeId, TrustDomain};

/// An act of the authority.
#[derive(Subcommand)]
pub(super) enum Act {
    /// Found an authority: a root, an issuer below it, and the folder that holds them.
    Init {
        #[command(flatten)]
        folder: Folder,
        /// The trust domain, such as `mesh.example`: what every ID begins with. It never changes.
        #[arg(long)]
        trust_domain: String,
        /// Write the root's key into this folder instead, to be moved away. It is needed again to renew the issuer (every 90
        /// days) and to change the root.
        #[arg(long, value_name = "FOLDER")]
        offline_root: Option<PathBuf>,
        /// How long the certificate of a workload lives. It is renewed at half of that; so the authority may be away for the other
        /// half.
        #[arg(long, default_value = "24h", value_parser = life)]
        life: Duration,
        /// How long the certificate of a node lives, which it asks for others with: so long may a node be off without a new token.
        #[arg(long, default_value = "7d", value_parser = life)]
        node_life: Duration,
        /// How far clocks may be behind: certificates begin that much earlier.
        #[arg(long, default_value = "60s", value_parser = span)]
        clock_skew: Duration,
        /// How often nodes ask for the roots: a change of roots reaches them within this time.
        #[arg(long, default_value = "60s", value_parser = life)]
        refresh: Duration,
    },
    /// Serve the API that nodes join and renew over: HTTPS with TLS 1.3.
    Serve {
        #[command(flatten)]
        folder: Folder,
        /// Where to listen. At most 256 connections, 64 of an address, 100 certificates and 200 syncs a second, 2 joins a second of an address.
        #[arg(long, default_value = "0.0.0.0:15012")]
        bind: SocketAddr,
    },
    /// Make a join token and print it; it is never seen again.
    Token {
        #[command(flatten)]
        folder: Folder,
        /// An ID the node may have certificates for, or a prefix of IDs that ends with `/*`.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// How long it is good. It is good once.
        #[arg(long, default_value = "1h", value_parser = life)]
        life: Duration,
    },
    /// Issue a certificate by hand: `NAME.pem` and `NAME.key`, which are not renewed.
    Issue {
        #[command(flatten)]
        folder: Folder,
        /// Whom it names.
        id: String,
        /// Where the files go, without ending.
        #[arg(short, long, value_name = "NAME")]
        output: PathBuf,
        /// How long it lives. Default: as workloads' do.
        #[arg(long, value_parser = life)]
        life: Option<Duration>,
    },
    /// Change the root in phases: begin, switch, finish.
    Rotate {
        #[command(subcommand)]
        phase: Phase,
    },
    /// Print the roots in force.
    Bundle {
        #[command(flatten)]
        folder: Folder,
        /// As a SPIFFE bundle (a JWK set) instead of PEM.
        #[arg(long)]
        jwks: bool,
    },
    /// Show roots, phase, nodes and what they trust; exit code 1 if something needs attention.
    Status {
        #[command(flatten)]
        folder: Folder,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget a node: what it holds cannot be renewed any more.
    Forget {
        #[command(flatten)]
        folder: Folder,
        /// Its name, its ID, or the first characters of what tells it from others.
        node: String,
    },
}

/// A phase of a change of roots.
#[derive(Subcommand)]
pub(super) enum Phase {
    /// Make a new root, which nodes begin to trust.
    Begin {
        #[command(flatten)]
        folder: Folder,
        /// The key of the old root, if it was moved away.
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
        /// Write the new root's key into this folder instead, to be moved away.
        #[arg(long, value_name = "FOLDER")]
        offline_root: Option<PathBuf>,
    },
    /// Issue with the new root; refused while a node does not trust it.
    Switch(Folder),
    /// Drop the old root; refused while a certificate in use chains to it.
    Finish(Folder),
    /// Go back; refused once the new root issued.
    Abort(Folder),
    /// Make a new issuer below the root in use; with the root's key here this happens by itself.
    Issuer {
        #[command(flatten)]
        folder: Folder,
        /// The root's key, if it was moved away.
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(super) struct Folder {
    /// The folder that holds the authority.
    #[arg(short, long, default_value = "/var/lib/windrose-ca")]
    folder: PathBuf,
}

/// Does it.
pub(super) fn run(act: Act) -> ExitCode {
    // What it writes and holds is worth more than its core.
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        eprintln!("warning: memory may end up in a core file: {error}");
    }
    let done = match act {
        Act::Init {
            folder,
            trust_domain,
            offline_root,
            life,
            node_life,
            clock_skew,
            refresh,
        } => TrustDomain::parse(&trust_domain)
            .map_err(|fact| format!("\"{trust_domain}\": {fact}"))
            .and_then(|trust_domain| {
                let init = Init {
                    trust_domain,
                    offline_root,
                    leaf_seconds: life.as_secs(),
                    node_seconds: node_life.as_secs(),
                    skew_seconds: clock_skew.as_secs(),
                    refresh_seconds: refresh.as_secs(),
                };
                found(&folder.folder, &init)
            }),
        Act::Serve { folder, bind } => serve(&folder.folder, bind),
        Act::Token { folder, ids, life } => token(&folder.folder, &ids, life),
        Act::Issue {
            folder,
            id,
            output,
            life,
        } => issue(&folder.folder, &id, &output, life),
        Act::Rotate { phase } => rotate(phase),
        Act::Bundle { folder, jwks } => bundle(&folder.folder, jwks),
        Act::Status { folder, json } => return status::status(&folder.folder, json),
        Act::Forget { folder, node } => Authority::open(&folder.folder)
            .and_then(|ca| ca.forget(&node))
            .map(|node| {
                println!("forgotten: {}", node.shown());
            }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => failed(&problem),
    }
}

fn found(folder: &Path, init: &Init) -> Result<(), String> {
    let root = Authority::init(folder, init)?;
    println!("founded: {} in {}", init.trust_domain, folder.display());
    println!("root_hash: sha256:{}", root.hash);
    match &init.offline_root {
        Some(away) => println!("move {} to a safe place", away.join("root-1.key").display()),
        None => println!(
            "the root's key is {}; `--offline-root` would keep it elsewhere",
            folder.join("roots/1.key").display()
        ),
    }
    Ok(())
}

fn serve(folder: &Path, bind: SocketAddr) -> Result<(), String> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let signal = |kind| tokio::signal::unix::signal(kind).map_err(|error| error.to_string());
        let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
        let serving = crate::ca::serve(folder, bind).await?;
        let address = serving.address().map_err(|error| error.to_string())?;
        println!("serving {} on {address}", folder.display());
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serving.until(stop).await;
        Ok(())
    })
}

fn token(folder: &Path, ids: &[String], life: Duration) -> Result<(), String> {
    let ca = Authority::open(folder)?;
    let state = ca.state()?;
    let domain = TrustDomain::parse(&state.trust_domain)?;
    let token = ca.make_token(Grant::new(ids, &domain)?, life.as_secs())?;
    println!("{}", *token);
    let root = state
        .root(state.issuing)
        .map(|root| root.hash.as_str())
        .unwrap_or_default();
    // Beside the token, not in its way: the first line of the output is the file a node reads.
    eprintln!("root_hash: sha256:{root}");
    Ok(())
}

fn issue(folder: &Path, id: &str, output: &Path, life: Option<Duration>) -> Result<(), String> {
    let ca = Authority::open(folder)?;
    let id = SpiffeId::parse(id).map_err(|fact| format!("\"{id}\": {fact}"))?;
    let (chain, key) = ca.issue(&id, life.map(|life| life.as_secs()))?;
    for (ending, content) in [("key", key.as_slice()), ("pem", chain.as_bytes())] {
        let mut name = output.as_os_str().to_owned();
        name.push(".");
        name.push(ending);
        crate::ca::write_private(Path::new(&name), content)
            .map_err(|error| format!("{}: {error}", Path::new(&name).display()))?;
        println!("{}", Path::new(&name).display());
    }
    Ok(())
}

fn rotate(phase: Phase) -> Result<(), String> {
    match phase {
        Phase::Begin {
            folder,
            root_key,
            offline_root,
        } => {
            let ca = Authority::open(&folder.folder)?;
            let root = ca.begin_rotation(root_key.as_deref(), offline_root.as_deref())?;
            println!(
                "root {} is trusted from now on: sha256:{}",
                root.number, root.hash
            );
            let stragglers = ca.stragglers(&ca.state()?)?.len();
            println!("{stragglers} nodes have to hear of it; `windrose ca status` names them; then `windrose ca rotate switch`");
        }
        Phase::Switch(folder) => {
            Authority::open(&folder.folder)?.switch_rotation()?;
            println!("the new root issues; nodes renew early; then `windrose ca rotate finish`");
        }
        Phase::Finish(folder) => {
            let ca = Authority::open(&folder.folder)?;
            ca.finish_rotation()?;
            let state = ca.state()?;
            let root = state
                .root(state.issuing)
                .map(|root| root.hash.as_str())
                .unwrap_or_default();
            println!("the old root is dropped; new nodes pin root_hash: sha256:{root}");
        }
        Phase::Abort(folder) => {
            Authority::open(&folder.folder)?.abort_rotation()?;
            println!("the new root is dropped; nothing was issued with it");
        }
        Phase::Issuer { folder, root_key } => {
            let ends = Authority::open(&folder.folder)?.renew_issuer_with(root_key.as_deref())?;
            println!("a new issuer signs; it ends in {}", status::shown(ends));
        }
    }
    Ok(())
}

fn bundle(folder: &Path, jwks: bool) -> Result<(), String> {
    let ca = Authority::open(folder)?;
    if jwks {
        println!("{}", ca.jwks()?);
        return Ok(());
    }
    for root in ca.roots(&ca.state()?)? {
        let pem = root.to_pem().map_err(|error| error.to_string())?;
        print!("{}", String::from_utf8_lossy(&pem));
    }
    Ok(())
}

/// `90s`, `24h`, `7d`: at least a second, at most 90 days.
fn life(text: &str) -> Result<Duration, String> {
    match span(text)? {
        life if life.is_zero() => Err("must be at least 1s".into()),
        life if life > LONGEST => Err("must be at most 90d".into()),
        life => Ok(life),
    }
}

/// A count and its unit.
fn span(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (count, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("is a count and a unit: s, m, h or d, such as 24h".into()),
    };
    let count: u32 = count
        .parse()
        .map_err(|_| "is a count and a unit, such as 24h".to_owned())?;
    Ok(Duration::from_secs(u64::from(count) * seconds))
}

const LONGEST: Duration = Duration::from_secs(crate::ca::LONGEST_LIFE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_a_count_and_a_unit() {
        assert_eq!(life("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(life("90d"), Ok(LONGEST));
        assert_eq!(span("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "24",
            "h",
            "-1h",
            "1w",
            "91d",
            "0s",
            "1.5h",
            "99999999999s",
        ] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
