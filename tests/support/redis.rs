//! A Redis server of the test's own, on a port of its own, that can be stopped, frozen and started again.
//! It must not know the proxy.
//! Used by tests of stores.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::wait::{until, DEADLINE};

/// The server. It ends with the test.
pub(crate) struct Redis {
    child: Option<Child>,
    folder: TempDir,
    pub(crate) port: u16,
    arguments: Vec<String>,
    password: Option<String>,
}

impl Redis {
    pub(crate) fn start() -> Redis {
        Redis::with(&[])
    }

    /// With further arguments; `FOLDER` stands for its folder.
    pub(crate) fn with(arguments: &[&str]) -> Redis {
        let folder = TempDir::new().unwrap();
        let own = folder.path().display().to_string();
        let arguments: Vec<String> = arguments
            .iter()
            .map(|one| one.replace("FOLDER", &own))
            .collect();
        let password = arguments.iter().position(|one| one == "--requirepass");
        let mut redis = Redis {
            child: None,
            folder,
            port: 0,
            password: password.map(|at| arguments[at + 1].clone()),
            arguments,
        };
        // A port that was free a moment ago may be another's by now; then another one is tried.
        while redis.child.is_none() {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            redis.port = free.local_addr().unwrap().port();
            drop(free);
            redis.launch();
        }
        redis
    }

    fn launch(&mut self) {
        let mut child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.folder.path().join("redis.sock"))
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed: ./dev test does it");
        let answers = until("redis answers or ends", || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let pong = self.try_ask(&["PING"]).is_some();
            pong.then_some(true)
        });
        self.child = answers.then_some(child);
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again on the same port, empty.
    pub(crate) fn start_again(&mut self) {
        self.launch();
        assert!(self.child.is_some(), "the port was taken meanwhile");
    }

    /// Freezes it: the kernel takes connections and bytes on, and nobody answers.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id();
        let kill = format!("kill -{name} {pid}");
        let done = Command::new("sh").args(["-c", &kill]).status();
        assert!(done.unwrap().success(), "{kill}");
    }

    /// A command's answer as it stands on the wire, with lists and texts on lines of their own.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).expect("redis answers")
    }

    fn try_ask(&self, command: &[&str]) -> Option<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let mut reader = BufReader::new(stream);
        if let Some(password) = &self.password {
            send(&mut reader, &["AUTH", password])?;
        }
        send(&mut reader, command)
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.path().join("redis.sock").display().to_string()
    }
}

fn send(reader: &mut BufReader<TcpStream>, command: &[&str]) -> Option<String> {
    let mut text = format!("*{}\r\n", command.len());
    for part in command {
        text += &format!("${}\r\n{part}\r\n", part.len());
    }
    reader.get_mut().write_all(text.as_bytes()).ok()?;
    let mut answer = String::new();
    read(reader, &mut answer)?;
    Some(answer)
}

fn read(reader: &mut BufReader<TcpStream>, answer: &mut String) -> Option<()> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (kind, rest) = line.trim_end().split_at_checked(1)?;
    match (kind, rest.parse::<usize>()) {
        ("$", Ok(length)) => {
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes).ok()?;
            answer.push_str(&String::from_utf8_lossy(&bytes[..length]));
            answer.push('\n');
        }
        ("*", Ok(items)) => {
            for _ in 0..items {
                read(reader, answer)?;
            }
        }
        _ => {
            answer.push_str(line.trim_end());
            answer.push('\n');
        }
    }
    Some(())
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
