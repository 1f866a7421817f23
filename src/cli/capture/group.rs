//! Control groups of version 2 as rules name them: by a path for people, and by where the kernel keeps them.
//! It must not know what is done with their connections.
//! Called by `wish` and `record`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::rules::Group;

/// The group of a path, whether or not there is one.
///
/// # Errors
/// That no such path can be named, or groups are not where nft looks for them.
pub(super) fn find(path: &str) -> Result<Group, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    find_in(path, &mounts)
}

/// The number of a group, which the kernel knows it by; another one of the same path has another.
pub(super) fn inode(group: &Group) -> Option<u64> {
    let folder = fs::metadata(format!("{GROUPS}/{}", group.folder)).ok()?;
    folder.is_dir().then(|| folder.ino())
}

/// What to know about a group that is not kept: systemd makes one for each start of a service, and removes it at its end.
pub(super) fn warning(group: &Group) -> String {
    let name = group.path.rsplit('/').next().unwrap_or_default();
    match name.ends_with(".slice") {
        true => format!("the rules hold the control group /{} as it is now: if it is ever made anew, `apply` again", group.path),
        false => format!(
            "CAPTURE ENDS when {name} stops: its next start is in a new control group, and the rules hold the one of now; capture a slice instead, which outlives its services (`Slice=` in the unit), or `apply` after each start"
        ),
    }
}

fn find_in(path: &str, mounts: &str) -> Result<Group, String> {
    let is_version_2 = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    let mounted = mounts.lines().filter(is_version_2);
    let mut folders = mounted.filter_map(|line| line.split(' ').nth(1)?.strip_prefix(GROUPS));
    let Some(below) = folders.next() else {
        return Err(format!(
            "control groups of version 2 are not mounted below {GROUPS}, where nft looks for them: mount them (type cgroup2), capture by --user, or if this runs inside `ip netns exec`, which hides them, name the namespace with --netns instead"
        ));
    };
    let below = below.trim_matches('/');
    let path = path.trim_matches('/');
    let is_strange = |c: char| c == '"' || c == '*' || c.is_control();
    let mut parts = path.split('/');
    if path.contains(is_strange) || parts.any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!(
            "\"{}\" names no control group: `cat /proc/PID/cgroup` shows the one of a process, after `0::`",
            path.escape_debug()
        ));
    }
    let folder = format!("{below}/{path}");
    Ok(Group {
        path: path.to_owned(),
        folder: folder.trim_start_matches('/').to_owned(),
    })
}

const GROUPS: &str = "/sys/fs/cgroup";

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";

    #[test]
    fn control_groups_are_named_as_nft_sees_them() {
        let both = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let folder = |mounts| find_in("/a/b", mounts).map(|group| group.folder);

        assert_eq!(folder(both).as_deref(), Ok("unified/a/b"));
        assert_eq!(folder(ONE).as_deref(), Ok("a/b"));
        assert!(folder("tmpfs /sys/fs/cgroup tmpfs rw 0 0\n").is_err());
    }

    #[test]
    fn paths_that_rules_cannot_name_are_refused() {
        for path in ["", "/", "a//b", "a/../b", "a\nb", "a\"b", "a*"] {
            assert!(find_in(path, ONE).is_err(), "{path}");
        }
        let path = r"/user slice/a\x2db.service/";
        let group = find_in(path, ONE);
        assert_eq!(group.unwrap().path, r"user slice/a\x2db.service");
    }

    #[test]
    fn groups_that_end_with_a_service_are_warned_of() {
        let told = |path| warning(&find_in(path, ONE).unwrap());

        assert!(told("system.slice/web.service").contains("CAPTURE ENDS when web.service stops"));
        assert!(told("docker.scope").contains("CAPTURE ENDS"));
        assert!(!told("apps.slice").contains("ENDS"));
    }
}
