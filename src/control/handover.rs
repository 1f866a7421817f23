//! To whom the listening sockets are handed, and through which socket file: whoever listens on that file gets them all.
//! It must not know listeners; Pingora sends them once this file says that it is safe.
//! Made by `app`; USR2 starts an heir here, QUIT asks whether one waits.

use std::ffi::OsString;
use std::fs::{DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The way from this process to the next.
pub struct Handover {
    config: PathBuf,
    socket: PathBuf,
    /// A folder of ours under `/tmp`, made when it is needed.
    own_folder: Option<PathBuf>,
}

impl Handover {
    /// For a process with this configuration file; `named` is the socket file it names, if any.
    pub fn new(config: PathBuf, named: Option<&str>) -> Handover {
        let variable = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty());
        match named.map(PathBuf::from).or_else(|| given_folder(&variable)) {
            Some(socket) => Handover {
                config,
                socket,
                own_folder: None,
            },
            None => {
                let folder = PathBuf::from(format!("/tmp/windrose-{}", own_user()));
                Handover {
                    config,
                    socket: folder.join("upgrade.sock"),
                    own_folder: Some(folder),
                }
            }
        }
    }

    /// The socket file, through which Pingora sends and receives.
    pub fn socket(&self) -> String {
        self.socket.to_string_lossy().into_owned()
    }

    /// Sees to it that nobody else can put a socket where this one will be.
    ///
    /// # Errors
    /// Who else could, in words.
    pub fn prepare(&self) -> Result<(), String> {
        // `sun_path` has 108 bytes with its end; Pingora does not look.
        if self.socket.as_os_str().len() > 107 {
            return Err(format!(
                "server.upgrade_socket: \"{}\" is longer than 107 bytes",
                self.socket.display()
            ));
        }
        match &self.own_folder {
            Some(folder) => make_own(folder),
            None => check_shared(folder_of(&self.socket)),
        }
    }

    /// Whether a process of our own user waits for the sockets.
    ///
    /// # Errors
    /// Why nothing should be handed over.
    pub fn check_heir(&self) -> Result<(), String> {
        self.prepare()?;
        match std::fs::symlink_metadata(&self.socket) {
            Ok(about) if is_our_socket(&about) && !is_listening(&self.socket) => {
                Err(format!("nobody listens at \"{}\"", self.socket.display()))
            }
            Ok(about) if is_our_socket(&about) => Ok(()),
            Ok(_) => Err(format!(
                "\"{}\" is not a socket of our own user",
                self.socket.display()
            )),
            Err(error) => Err(format!(
                "no process waits at \"{}\": {error}",
                self.socket.display()
            )),
        }
    }

    /// Starts the binary on disk and returns once it waits for the sockets.
    ///
    /// # Errors
    /// Why it does not; then everything is as before.
    pub fn start_heir(&self) -> Result<u32, String> {
        self.prepare()?;
        let binary = binary()?;
        self.ask_whether_it_would_start(&binary)?;
        self.clear_the_way()?;
        let started = Command::new(&binary)
            .args(["run", "--upgrade", "-c"])
            .arg(&self.config)
            .spawn();
        let mut heir =
            started.map_err(|error| format!("{} cannot be started: {error}", binary.display()))?;
        self.wait_for(&mut heir)?;
        Ok(heir.id())
    }

    fn ask_whether_it_would_start(&self, binary: &Path) -> Result<(), String> {
        let check = Command::new(binary)
            .args(["check", "--as-run", "-c"])
            .arg(&self.config)
            .output()
            .map_err(|error| error.to_string())?;
        if check.status.success() {
            return Ok(());
        }
        let said = [check.stdout, check.stderr].concat();
        Err(format!(
            "the new binary refuses the configuration:\n{}",
            String::from_utf8_lossy(&said)
        ))
    }

    fn clear_the_way(&self) -> Result<(), String> {
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(format!(
                "\"{}\" is in the way and cannot be removed: {error}",
                self.socket.display()
            )),
            _ => Ok(()),
        }
    }

    fn wait_for(&self, heir: &mut Child) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.check_heir().is_err() {
            if let Ok(Some(status)) = heir.try_wait() {
                return Err(format!("the new process ended: {status}"));
            }
            if Instant::now() > deadline {
                let _ = heir.kill();
                return Err("the new process did not ask for the sockets within 10 s".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// The socket file in the folder that a service manager or a login session made for us.
fn given_folder(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let of_service = variable("RUNTIME_DIRECTORY")
        .and_then(|folders| std::env::split_paths(&folders).next())
        .map(|folder| folder.join("upgrade.sock"));
    let of_session = || {
        let folder = PathBuf::from(variable("XDG_RUNTIME_DIR")?);
        // After `sudo -E` it is still that of the user before.
        let ours = std::fs::metadata(&folder).is_ok_and(|about| about.uid() == own_user());
        ours.then(|| folder.join("windrose-upgrade.sock"))
    };
    of_service.or_else(of_session)
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A replaced binary is reported as `name (deleted)`; the new one stands under the name itself.
fn binary() -> Result<PathBuf, String> {
    let binary = std::env::current_exe().map_err(|error| error.to_string())?;
    let name = binary.to_string_lossy();
    Ok(PathBuf::from(name.trim_end_matches(" (deleted)")))
}

fn folder_of(socket: &Path) -> &Path {
    match socket.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn is_our_socket(about: &Metadata) -> bool {
    about.file_type().is_socket() && about.uid() == own_user()
}

/// Whether someone listens on a socket file, which outlives its process. To connect would be to take the heir's only turn.
fn is_listening(socket: &Path) -> bool {
    let end = format!(" {}", socket.display());
    let listens = |line: &str| {
        // Num RefCount Protocol Flags Type St Inode Path (proc(5)).
        let flags = line.split_whitespace().nth(3);
        let flags = flags.and_then(|flags| u32::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & ACCEPTS != 0) && line.ends_with(&end)
    };
    // Where the list cannot be read, the file has to do.
    std::fs::read_to_string("/proc/self/net/unix").map_or(true, |list| list.lines().any(listens))
}

/// `__SO_ACCEPTCON` of Linux.
const ACCEPTS: u32 = 1 << 16;

/// Makes a folder that only we can look into. One that is there already may be anybody's.
fn make_own(folder: &Path) -> Result<(), String> {
    let about = |fact: &str| format!("the folder \"{}\" {fact}", folder.display());
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(about(&format!("cannot be made: {error}")))
        }
        _ => {}
    }
    let found = std::fs::symlink_metadata(folder).map_err(|error| about(&error.to_string()))?;
    if !found.is_dir() || found.uid() != own_user() {
        return Err(about("is not a folder of our own user"));
    }
    match found.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(about("is open to others; its mode must be 0700")),
    }
}

/// Checks the folder of a socket file that was named to us: others may not replace what we put there.
fn check_shared(folder: &Path) -> Result<(), String> {
    let about = |fact: &str| format!("the folder \"{}\" {fact}", folder.display());
    let found = std::fs::metadata(folder).map_err(|error| about(&error.to_string()))?;
    if found.uid() != 0 && found.uid() != own_user() {
        return Err(about("belongs to another user"));
    }
    let (by_others, sticky) = (found.mode() & 0o022 != 0, found.mode() & 0o1000 != 0);
    match by_others && !sticky {
        true => Err(about("can be written to by others")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{set_permissions, Permissions};
    use std::os::unix::fs::{symlink, PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_folder_of_the_service_comes_before_that_of_the_session() {
        let folder = TempDir::new().unwrap();
        let session = folder.path().as_os_str().to_owned();
        let both = |name: &str| match name {
            "RUNTIME_DIRECTORY" => Some(OsString::from("/run/windrose:/run/other")),
            _ => Some(session.clone()),
        };
        let one = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| session.clone());

        assert_eq!(
            given_folder(&both),
            Some("/run/windrose/upgrade.sock".into())
        );
        assert_eq!(
            given_folder(&one),
            Some(folder.path().join("windrose-upgrade.sock"))
        );
        assert_eq!(given_folder(&|_| None), None);
    }

    #[test]
    fn our_own_folder_is_made_for_us_alone() {
        let parent = TempDir::new().unwrap();
        let folder = parent.path().join("own");

        assert_eq!(make_own(&folder), Ok(()));
        assert_eq!(make_own(&folder), Ok(()), "it is there already");
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);

        set_mode(&folder, 0o770);
        assert!(make_own(&folder).unwrap_err().contains("open to others"));
    }

    #[test]
    fn a_link_is_not_our_own_folder() {
        let parent = TempDir::new().unwrap();
        let folder = parent.path().join("own");
        symlink(parent.path(), &folder).unwrap();

        assert!(make_own(&folder).unwrap_err().contains("not a folder"));
    }

    #[test]
    fn a_named_folder_may_be_shared_only_if_files_in_it_are_safe() {
        let folder = TempDir::new().unwrap();

        for (mode, is_safe) in [
            (0o700, true),
            (0o755, true),
            (0o1777, true),
            (0o777, false),
            (0o775, false),
        ] {
            set_mode(folder.path(), mode);
            assert_eq!(check_shared(folder.path()).is_ok(), is_safe, "{mode:o}");
        }
    }

    #[test]
    fn a_socket_file_whose_process_is_gone_is_no_heir() {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("upgrade.sock");
        let waiting = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let handover = Handover::new("windrose.yaml".into(), socket.to_str());
        assert_eq!(handover.check_heir(), Ok(()));

        drop(waiting);

        let refusal = handover.check_heir().unwrap_err();
        assert!(refusal.contains("nobody listens"), "{refusal}");
    }

    #[test]
    fn a_socket_of_another_user_is_no_heir() {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("upgrade.sock");
        let _waiting = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let handover = Handover::new("windrose.yaml".into(), socket.to_str());
        assert_eq!(handover.check_heir(), Ok(()));
        // Only root can give a file away.
        if std::os::unix::fs::chown(&socket, Some(65534), None).is_err() {
            return;
        }

        let refusal = handover.check_heir().unwrap_err();

        assert!(
            refusal.contains("not a socket of our own user"),
            "{refusal}"
        );
    }
}
