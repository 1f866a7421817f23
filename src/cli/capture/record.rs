//! What is written down of rules in force, so that they can be checked and removed later.
//! It must not change rules.
//! Called by `windrose capture`, and read by `windrose mesh check`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::group;
use super::kernel::{Backend, Kernel};
use super::rules::{Wanted, Whom};

/// What was put in force.
#[derive(Serialize, Deserialize)]
pub(in crate::cli) struct Record {
    /// The capture's name.
    pub(in crate::cli) name: String,
    /// The network namespace, if it is not that of the command.
    pub(in crate::cli) netns: Option<String>,
    pub(super) backend: Backend,
    tproxy: bool,
    /// The user whose connections are captured, if it is for one.
    pub(in crate::cli) user: Option<u32>,
    /// The control group whose connections are captured, if it is for one.
    #[serde(default)]
    pub(in crate::cli) cgroup: Option<String>,
    /// The number of that group, which is all the kernel keeps of it.
    #[serde(default)]
    cgroup_inode: Option<u64>,
    /// A user none of whose connections are captured, as the proxy runs as it.
    #[serde(default)]
    pub(in crate::cli) proxy: Option<u32>,
    /// The mark of connections that are not captured.
    #[serde(default)]
    pub(in crate::cli) mark: Option<u32>,
    rules: String,
}

impl Record {
    /// Of what is put in force in a namespace.
    pub(super) fn new(kernel: &Kernel, wanted: &Wanted, rules: String) -> Record {
        let (user, group) = match &wanted.whom {
            Whom::User(user) => (Some(*user), None),
            Whom::Cgroup(group) => (None, Some(group)),
            Whom::Everybody => (None, None),
        };
        Record {
            name: wanted.name.clone(),
            netns: kernel.netns.clone(),
            backend: kernel.backend,
            tproxy: wanted.outbound.has(true) || wanted.inbound.has(true),
            user,
            cgroup: group.map(|group| group.path.clone()),
            cgroup_inode: group.and_then(group::inode),
            proxy: wanted.proxy,
            mark: wanted.mark,
            rules,
        }
    }

    /// Whether the kernel still has the rules.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub(in crate::cli) fn is_in_force(&self) -> Result<bool, String> {
        let iptables = self.backend == Backend::Iptables;
        Kernel::new(self.netns.clone(), iptables)?.has(&self.name)
    }

    /// Why the rules capture nothing although they are in force: the control group that they hold is no more, and one of the same
    /// path, which a service that starts again is in, is another to the kernel. `None` where it is still the same, and where the rules
    /// are for no group.
    pub(in crate::cli) fn lost_group(&self) -> Option<String> {
        let (path, inode) = (self.cgroup.as_ref()?, self.cgroup_inode?);
        let now = group::find(path).ok().as_ref().and_then(group::inode);
        let what = match now {
            Some(now) if now == inode => return None,
            Some(_) => "was made anew",
            None => "is gone",
        };
        Some(format!(
            "the control group /{path} {what} since the rules \"{}\" were put in force: nothing of it is captured",
            self.name
        ))
    }
}

/// The record in a file.
pub(super) fn read(path: &Path) -> Option<Record> {
    let text = fs::read_to_string(path).ok()?;
    serde_json::from_str(&text).ok()
}

/// What is recorded in a folder.
pub(in crate::cli) fn records(state: &Path) -> Vec<Record> {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let is_record = |name: &str| name.starts_with("capture-") && name.ends_with(".json");
    entries
        .filter(|entry| is_record(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| read(&entry.path()))
        .collect()
}
