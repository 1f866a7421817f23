//! What the command line and the configuration say about capture, made into what the rules depend on.
//! It must not know how rules read.
//! Called by `windrose capture`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use clap::Args;
use ipnet::IpNet;
use windrose_plugins::PluginDef;

use super::rules::{route_mark, Taker, Takers, Wanted, Whom, MARK_MASK};
use super::{group, Place};
use crate::config::schema::{Capture, Config, Role};
use crate::config::{self};

/// Whose connections, and which not.
#[derive(Args)]
pub(in crate::cli) struct Wish {
    #[command(flatten)]
    pub(super) place: Place,
    /// Capture connections of this user, by name or number.
    #[arg(long, value_name = "USER", conflicts_with = "cgroup")]
    user: Option<String>,
    /// Capture connections of this control group (version 2) and those below it, such as `/mesh.slice`. The kernel holds the group of now: one of a service is a new one at each of its starts, and must be captured anew.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// The user the proxy runs as: none of this user's connections are captured. Default: none with `server.mark`, which tells the proxy's exactly, else that of the process in `server.pid_file`.
    #[arg(long, value_name = "USER")]
    proxy_user: Option<String>,
    /// Ports captured when they come in, to the `mesh-inbound` listener; refused where none takes them. Default: all with --netns, else none.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    inbound_ports: Vec<u16>,
    /// Destination ports that are not captured.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    skip_ports: Vec<u16>,
    /// Destination networks that are not captured.
    #[arg(long, value_name = "NETS", value_delimiter = ',')]
    skip_nets: Vec<IpNet>,
}

impl Wish {
    /// What the rules depend on.
    pub(super) fn wanted(&self, path: &Path, plugins: &[PluginDef]) -> Result<Wanted, String> {
        let loaded = config::load(path, plugins).map_err(|report| report.to_string())?;
        let config = &loaded.config;
        let whom = self.whom()?;
        let outbound = takers(config, Role::MeshOutbound);
        let takes_in = self.place.netns.is_some() || !self.inbound_ports.is_empty();
        let inbound = match takes_in {
            true => takers(config, Role::MeshInbound),
            false => Takers::default(),
        };
        if outbound == Takers::default() && inbound == Takers::default() {
            return Err(format!(
                "{}: no listener captures; set `capture: redirect` on one with role `mesh-outbound`, and a port",
                path.display()
            ));
        }
        if !self.inbound_ports.is_empty() && inbound == Takers::default() {
            return Err("--inbound-ports: no listener takes what comes in; set `capture` on one with role `mesh-inbound`, bound to 0.0.0.0 or [::], as it is led to the address of the interface".into());
        }
        let mark = config.server.mark;
        let route_mark = route_mark(&self.place.name);
        if outbound.has(true) && mark.is_some_and(|mark| mark & MARK_MASK == route_mark) {
            return Err(format!(
                "the upper half of `server.mark` is what TPROXY leads connections back to this machine by ({route_mark:#x}), so that the proxy's own would never leave it: choose another mark, such as one below 65536, or another --name"
            ));
        }
        Ok(Wanted {
            name: self.place.name.clone(),
            proxy: self.exempt(&whom, config)?,
            whom,
            mark,
            outbound,
            takes_in,
            inbound,
            inbound_ports: self.inbound_ports.clone(),
            own_ports: own_ports(config),
            skip_ports: self.skip_ports.clone(),
            skip_nets: self.skip_nets.clone(),
        })
    }

    fn whom(&self) -> Result<Whom, String> {
        match (&self.user, &self.cgroup, &self.place.netns) {
            (Some(user), _, _) => user_id(user).map(Whom::User),
            (None, Some(path), _) => {
                let group = group::find(path)?;
                match group::inode(&group) {
                    Some(_) => Ok(Whom::Cgroup(group)),
                    None => Err(format!("there is no control group \"{path}\": it has to be there before rules can hold it")),
                }
            }
            (None, None, Some(_)) => Ok(Whom::Everybody),
            (None, None, None) => Err("say whose connections: --user, --cgroup or --netns".into()),
        }
    }

    /// The user of whom nothing is captured, as the proxy runs as it. That takes in more than the proxy, so it is left out where
    /// something tells the proxy's connections exactly: its mark, or that only another user is captured.
    fn exempt(&self, whom: &Whom, config: &Config) -> Result<Option<u32>, String> {
        let told = self.proxy_user.as_deref().map(user_id).transpose()?;
        let mark = config.server.mark;
        let found = told.or_else(|| user_of_process(config));
        match (whom, mark) {
            (Whom::User(user), None) if found == Some(*user) => Err(ROUND.into()),
            (Whom::User(_), _) => Ok(None),
            (Whom::Cgroup(_) | Whom::Everybody, Some(_)) => Ok(told),
            (Whom::Cgroup(_) | Whom::Everybody, None) => {
                found.map(Some).ok_or_else(|| ROUND.into())
            }
        }
    }
}

const ROUND: &str = "the proxy's own connections would be captured as well: set `server.mark`, or name its user with --proxy-user (`server.pid_file` tells it only while the proxy runs), another than the one that is captured";

/// The user that the process in `server.pid_file` runs as, if it runs: what is left of one that ended can name any process.
pub(in crate::cli) fn user_of_process(config: &Config) -> Option<u32> {
    let pid = fs::read_to_string(config.server.pid_file.as_ref()?).ok()?;
    let pid: u32 = pid.trim().parse().ok()?;
    let program = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    if program(&pid.to_string())? != program("self")? {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    effective_user(&status)
}

fn effective_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A user's number, also of one that is not in `/etc/passwd`: systemd makes users, and directories have some.
fn user_id(user: &str) -> Result<u32, String> {
    match user.parse() {
        // What the kernel takes for "no user".
        Ok(u32::MAX) => return Err(format!("{user} is no user's number")),
        Ok(number) => return Ok(number),
        Err(_) => {}
    }
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = number_in(&known, user).or_else(|| {
        let is_name = !user.starts_with('-') && !user.is_empty();
        let asked = is_name.then(|| Command::new("getent").args(["passwd", user]).output())?;
        let answer = String::from_utf8_lossy(&asked.ok()?.stdout).into_owned();
        let name = answer.split(':').next()?.to_owned();
        number_in(&answer, &name)
    });
    number.ok_or_else(|| format!("no user is named \"{user}\""))
}

fn number_in(known: &str, user: &str) -> Option<u32> {
    known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number = (fields.next()? == user).then(|| fields.nth(1))??;
        number.parse().ok()
    })
}

/// The listeners of a role that take what is captured, by family. One bound to `[::]` takes both.
fn takers(config: &Config, role: Role) -> Takers {
    let mut takers = Takers::default();
    let listeners = config.listeners.iter().filter(|one| one.role == role);
    for listener in listeners {
        let (Some(capture), Ok(bind)) = (listener.capture, listener.bind.parse::<SocketAddr>())
        else {
            continue;
        };
        // REDIRECT leads what goes out to loopback, and what comes in to the address of the interface.
        let is_reached = match (capture, role) {
            (Capture::Tproxy, _) => true,
            (Capture::Redirect, Role::MeshOutbound) => {
                bind.ip().is_loopback() || bind.ip().is_unspecified()
            }
            (Capture::Redirect, _) => bind.ip().is_unspecified(),
        };
        if !is_reached {
            continue;
        }
        let taker = Taker {
            address: bind.ip(),
            port: bind.port(),
            is_tproxy: capture == Capture::Tproxy,
        };
        match bind.ip() {
            IpAddr::V4(_) => takers.v4 = takers.v4.or(Some(taker)),
            IpAddr::V6(ip) => {
                takers.v6 = takers.v6.or(Some(taker));
                // TPROXY finds sockets of the packet's own family only.
                if ip.is_unspecified() && !taker.is_tproxy {
                    takers.v4 = takers.v4.or(Some(taker));
                }
            }
        }
    }
    takers
}

fn own_ports(config: &Config) -> Vec<u16> {
    let binds = config.listeners.iter().map(|listener| &listener.bind);
    let binds = binds.chain([&config.admin.bind]);
    let ports = binds.filter_map(|bind| Some(bind.parse::<SocketAddr>().ok()?.port()));
    let mut ports: Vec<u16> = ports.collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
