//! What the command line and the configuration say about capture, made into what the rules depend on.
//! It must not know how rules read.
//! Called by `windrose capture`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use clap::Args;
use ipnet::IpNet;
use windrose_plugins::PluginDef;

use super::rules::{Taker, Takers, Wanted, Whom};
use super::Place;
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
    /// Capture connections of this control group (version 2), such as `/system.slice/web.service`.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// The user the proxy runs as, whose connections are not captured. Default: that of the process in `server.pid_file`.
    #[arg(long, value_name = "USER")]
    proxy_user: Option<String>,
    /// Ports captured when they come in, to the `mesh-inbound` listener. Default: all with --netns, else none.
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
        let proxy = self.proxy(config)?;
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
        let is_itself = matches!(whom, Whom::User(user) if Some(user) == proxy);
        let mark = config.server.mark;
        if mark.is_none() && (is_itself || proxy.is_none() && !matches!(whom, Whom::User(_))) {
            return Err("the proxy's own connections would be captured as well: name its user with --proxy-user, another than the one that is captured, or set `server.mark`".into());
        }
        Ok(Wanted {
            name: self.place.name.clone(),
            whom,
            proxy: proxy.filter(|_| !is_itself),
            mark,
            outbound,
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
                let path = path.trim_matches('/');
                match path.is_empty() || path.contains(['"', '\n']) {
                    true => Err("--cgroup names no control group".into()),
                    false => Ok(Whom::Cgroup(path.to_owned())),
                }
            }
            (None, None, Some(_)) => Ok(Whom::Everybody),
            (None, None, None) => Err("say whose connections: --user, --cgroup or --netns".into()),
        }
    }

    fn proxy(&self, config: &Config) -> Result<Option<u32>, String> {
        if let Some(user) = &self.proxy_user {
            return user_id(user).map(Some);
        }
        let pid = config.server.pid_file.as_ref();
        let pid = pid.and_then(|path| fs::read_to_string(path).ok());
        let status = pid.map(|pid| format!("/proc/{}/status", pid.trim()));
        let status = status.and_then(|path| fs::read_to_string(path).ok());
        Ok(status.as_deref().and_then(effective_user))
    }
}

fn effective_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A user's number.
fn user_id(user: &str) -> Result<u32, String> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number = (fields.next()? == user).then(|| fields.nth(1))??;
        number.parse().ok()
    });
    found.ok_or_else(|| format!("no user is named \"{user}\""))
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
