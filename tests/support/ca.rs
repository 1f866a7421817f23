//! The built-in authority as a process, killed and started again as a test wants.
//! It must not know what is asked of it.
//! Used by tests of certificates and of what waits for them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::proxy::{run, Proxy, ALL_TO_APP, BINARY, WEB};
use super::wait::until;

/// An authority in a folder of its own, served by a process.
pub(crate) struct Ca {
    pub(crate) folder: TempDir,
    child: Child,
    pub(crate) address: String,
    pub(crate) root_hash: String,
}

impl Ca {
    /// Leaves live this long; nodes look for new roots every second.
    pub(crate) fn start(life: &str) -> Ca {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap();
        let told = run(&[
            "ca",
            "init",
            "-f",
            path,
            "--trust-domain",
            "td",
            "--life",
            life,
            "--clock-skew",
            "0s",
            "--refresh",
            "1s",
        ]);
        let told = String::from_utf8(told.stdout).unwrap();
        let root_hash = told
            .lines()
            .find_map(|line| line.strip_prefix("root_hash: "));
        let root_hash = root_hash.expect("a hash").to_owned();
        let (child, address) = serve(folder.path(), "127.0.0.1:0");
        Ca {
            folder,
            child,
            address,
            root_hash,
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// On the same port.
    pub(crate) fn restart(&mut self) {
        (self.child, self.address) = serve(self.folder.path(), &self.address);
    }

    /// Runs a command of the authority; what it printed if it succeeded, else what it complained about.
    pub(crate) fn act(&self, arguments: &[&str]) -> Result<String, String> {
        let mut all = vec!["ca"];
        all.extend(arguments);
        all.extend(["-f", self.folder.path().to_str().unwrap()]);
        let done = run(&all);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        match done.status.success() {
            true => Ok(text(done.stdout)),
            false => Err(text(done.stderr)),
        }
    }

    pub(crate) fn token(&self, ids: &[&str]) -> String {
        let mut arguments = vec!["token"];
        arguments.extend(ids);
        self.act(&arguments).unwrap()
    }

    /// A folder with a token in it.
    pub(crate) fn prepared(&self, token: &str) -> TempDir {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("join.token"), token).unwrap();
        folder
    }

    pub(crate) fn node(&self, token: &str, workloads: &[&str]) -> Proxy {
        Proxy::start_in(self.prepared(token), &self.yaml(workloads))
    }

    pub(crate) fn yaml(&self, workloads: &[&str]) -> String {
        let (address, hash) = (&self.address, &self.root_hash);
        let mut text = format!("{WEB}pools:\n- name: app\n  endpoints: ['127.0.0.1:9']\n{ALL_TO_APP}identity:\n  trust_domain: td\n  source:\n    ca: {{address: '{address}', root_hash: '{hash}', token_file: join.token, state: FOLDER/state}}\n  workloads:\n");
        for name in workloads {
            text.push_str(&format!("  - {{name: {name}, id: 'spiffe://td/{name}'}}\n"));
        }
        text
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(folder: &Path, bind: &str) -> (Child, String) {
    until("the authority serves", || {
        let mut command = Command::new(BINARY);
        command
            .args(["ca", "serve", "--bind", bind, "-f"])
            .arg(folder);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("stderr"))
            .unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        match line.trim().rsplit(' ').next() {
            Some(address) if !address.is_empty() => Some((child, address.to_owned())),
            // The port of one that was killed may take a moment.
            _ => {
                child.wait().unwrap();
                None
            }
        }
    })
}
