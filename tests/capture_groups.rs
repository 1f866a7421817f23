//! Captures of control groups, which end with the group they were made for.
//! It must not touch groups of others. Without root and groups of version 2 the test skips, and says so.
//! Part of the test binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::captured::{OUT, SERVERS};
use crate::support::netns::{Netns, World};
use crate::support::{run, Proxy};

/// A control group of the test's own, gone with it.
struct Group(PathBuf);

impl Group {
    /// `None` where none can be made.
    fn new(path: &Path) -> Option<Group> {
        let made = fs::create_dir(path);
        if let Err(error) = &made {
            eprintln!("SKIPPED: no control group can be made here: {error}");
        }
        made.ok().map(|()| Group(path.to_owned()))
    }

    /// What curl prints when it runs in the group.
    fn curl(&self, node: &Netns, url: &str) -> String {
        let script = "echo $$ > \"$0/cgroup.procs\" && exec ip netns exec \"$1\" curl -s --max-time 10 -w '%{http_code}' \"$2\"";
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(&self.0);
        let output = command.args([node.name(), url]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Where groups of version 2 are.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let line = mounts.lines().find(|line| line.contains(" cgroup2 "))?;
    let at = line.split(' ').nth(1)?;
    at.starts_with("/sys/fs/cgroup").then(|| at.into())
}

fn told(proxy: &Proxy, act: &str, flags: &[&str]) -> String {
    let (config, state) = (proxy.config(), proxy.file("state"));
    let mut line = vec!["capture", act, "-c", config.to_str().unwrap()];
    line.extend(["--state", state.to_str().unwrap()]);
    line.extend(flags);
    let done = run(&line);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn a_slice_outlives_its_services_and_a_service_takes_its_capture_along() {
    let Some(world) = World::new() else { return };
    let Some(mount) = mount() else {
        return eprintln!("SKIPPED: control groups of version 2 are not mounted");
    };
    let _servers = world.outside.server(SERVERS);
    let node = &world.node;
    let proxy = node.proxy(&format!("server: {{mark: 119}}\n{OUT}"));
    let top = format!("{}.slice", node.name());
    let Some(_slice) = Group::new(&mount.join(&top)) else {
        return;
    };
    let service = format!("{top}/a b\\x2dc.service");
    let folder = mount.join(&service);
    for backend in [None, Some("--iptables")] {
        let with = |path| {
            [
                vec!["--netns", node.name(), "--cgroup", path],
                backend.into_iter().collect(),
            ]
            .concat()
        };
        for (path, outlives) in [(&top, true), (&service, false)] {
            let is_taken = |group: &Group| {
                let before = connections(&proxy);
                let answer = group.curl(node, "http://10.77.0.2:8080/");
                assert_eq!(answer, "served\n200");
                connections(&proxy) > before
            };
            let group = Group::new(&folder).unwrap();
            let said = told(&proxy, "apply", &with(path));
            assert_eq!(said.contains("CAPTURE ENDS when"), !outlives, "{said}");
            assert!(is_taken(&group), "{said}");
            assert!(!told(&proxy, "plan", &with(path)).contains("was made anew"));

            drop(group);
            let group = Group::new(&folder).unwrap();

            assert_eq!(is_taken(&group), outlives);
            let plan = told(&proxy, "plan", &with(path));
            assert_eq!(plan.contains("was made anew"), !outlives, "{plan}");
        }
    }
    told(&proxy, "remove", &["--netns", node.name()]);
}

/// Connections that came in so far, counted before they are answered.
fn connections(proxy: &Proxy) -> f64 {
    proxy.metric("windrose_connections_total", &["listener=\"out\""])
}
