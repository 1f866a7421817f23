//! What a service manager is told: ready, reloading, stopping, and which process is the main one (sd_notify(3)).
//! It must not know how any of it comes about; where no manager asked for it, nothing is said.
//! Made by `app`; `reload` and `supervisor` tell.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{clock_gettime, ClockId};

/// The way to the service manager.
pub struct Notices {
    address: Option<SocketAddr>,
    silent: AtomicBool,
}

impl Notices {
    /// To the manager that named its socket in `NOTIFY_SOCKET`. The variable stays: the process of an upgrade needs it.
    pub fn from_env() -> Notices {
        Notices::to(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn to(name: Option<&OsStr>) -> Notices {
        let address = name.and_then(|name| {
            address(name)
                .map_err(|error| log::warn!("NOTIFY_SOCKET {name:?} cannot be used: {error}"))
                .ok()
        });
        Notices {
            address,
            silent: AtomicBool::new(false),
        }
    }

    /// Everything runs, in these words: at start, and after each reload, whatever came of it.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", status_line(status)));
    }

    /// As [`Notices::ready`], by a process that took over: the manager follows it from now on.
    pub fn ready_as_main(&self, status: &str) {
        let pid = std::process::id();
        self.tell(&format!("MAINPID={pid}\nREADY=1\n{}", status_line(status)));
    }

    /// A reload begins. The time tells the manager that a signal it sent was heard, not an earlier one.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end begins; nothing is said after this.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: connections finish what is under way");
        self.fall_silent();
    }

    /// Leaves the word to the process that took over: STOPPING from this one would stop the whole service.
    pub fn fall_silent(&self) {
        self.silent.store(true, Relaxed);
    }

    fn tell(&self, text: &str) {
        let Some(address) = &self.address else { return };
        if self.silent.load(Relaxed) {
            return;
        }
        if let Err(error) = send(text, address) {
            log::warn!("the service manager cannot be told: {error}");
        }
    }
}

/// A path, or with a leading `@` a name in the abstract namespace.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn send(text: &str, address: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A manager whose queue is full holds nobody up for long.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to_addr(text.as_bytes(), address).map(drop)
}

/// One line of a message; a line break inside would begin another assignment.
fn status_line(status: &str) -> String {
    let first = status.lines().next().unwrap_or_default();
    format!("STATUS={}", first.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn sockets_are_found_by_path_and_by_abstract_name() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let name = format!("windrose-notices-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (
                path.to_string_lossy().into_owned(),
                UnixDatagram::bind(&path),
            ),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name)),
        ];

        for (name, socket) in sockets {
            Notices::to(Some(OsStr::new(&name))).ready("generation 1 runs");

            assert_eq!(heard(&socket.unwrap()), "READY=1\nSTATUS=generation 1 runs");
        }
    }

    #[test]
    fn a_status_stays_one_line() {
        assert_eq!(status_line("a\tb\nMAINPID=1"), "STATUS=a b");
    }

    #[test]
    fn nothing_is_said_after_the_end() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notices = Notices::to(Some(path.as_os_str()));

        notices.fall_silent();
        notices.stopping();

        let nothing = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
