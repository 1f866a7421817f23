//! Load from outside: `wrk` and `h2load`, told what to send, asked how much got through.
//! It must not know which proxy it loads.
//! Used by the cases; scripts are written into the bench's folder.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::peers::Proxy;

/// One kind of traffic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    SmallGet,
    NewConnection,
    Post,
    Large,
    Tls,
    H2,
}

impl Case {
    pub(crate) const ALL: [Case; 6] = [
        Case::SmallGet,
        Case::NewConnection,
        Case::Post,
        Case::Large,
        Case::Tls,
        Case::H2,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::SmallGet => "small GET",
            Case::NewConnection => "new connection each",
            Case::Post => "POST 64 KiB",
            Case::Large => "GET 1 MiB",
            Case::Tls => "TLS small GET",
            Case::H2 => "h2 over TLS",
        }
    }

    /// Loads a proxy for some seconds; the requests that were answered.
    pub(crate) fn run(
        self,
        proxy: &Proxy,
        folder: &Path,
        seconds: u64,
    ) -> Result<u64, Box<dyn Error>> {
        let plain = |path: &str| format!("http://127.0.0.1:{}{path}", proxy.plain);
        let secure = format!("https://127.0.0.1:{}/", proxy.tls);
        match self {
            Case::SmallGet => wrk(&["-c64"], &plain("/"), seconds),
            Case::NewConnection => wrk(&["-c64", "-HConnection: close"], &plain("/"), seconds),
            Case::Post => {
                let script = folder.join("post.lua");
                fs::write(&script, POST)?;
                wrk(&["-c32", "-s", text(&script)?], &plain("/post"), seconds)
            }
            Case::Large => wrk(&["-c16"], &plain("/large"), seconds),
            Case::Tls => wrk(&["-c64"], &secure, seconds),
            Case::H2 => h2load(&secure, seconds),
        }
    }
}

/// Small GETs over this many hosts in turn.
pub(crate) fn hosts(
    proxy: &Proxy,
    folder: &Path,
    hosts: usize,
    seconds: u64,
) -> Result<u64, Box<dyn Error>> {
    let script = folder.join(format!("hosts-{hosts}.lua"));
    fs::write(&script, HOSTS.replace("COUNT", &hosts.to_string()))?;
    let url = format!("http://127.0.0.1:{}/", proxy.plain);
    wrk(&["-c64", "-s", text(&script)?], &url, seconds)
}

/// Small GETs at a port.
pub(crate) fn small(port: u16, seconds: u64) -> Result<u64, Box<dyn Error>> {
    wrk(&["-c64"], &format!("http://127.0.0.1:{port}/"), seconds)
}

/// Small GETs as a script has them.
pub(crate) fn scripted(proxy: &Proxy, script: &Path, seconds: u64) -> Result<u64, Box<dyn Error>> {
    let url = format!("http://127.0.0.1:{}/", proxy.plain);
    wrk(&["-c64", "-s", text(script)?], &url, seconds)
}

/// One request, whatever the answer.
pub(crate) fn asked_once(port: u16) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("curl");
    command.args([
        "-s",
        "-o",
        "/dev/null",
        &format!("http://127.0.0.1:{port}/"),
    ]);
    say(command).map(drop)
}

fn text(path: &Path) -> Result<&str, Box<dyn Error>> {
    path.to_str()
        .ok_or_else(|| "a temporary folder outside UTF-8".into())
}

fn wrk(options: &[&str], url: &str, seconds: u64) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new("wrk");
    command
        .args(["-t1", &format!("-d{seconds}s")])
        .args(options)
        .arg(url);
    let said = say(command)?;
    if said.contains("Non-2xx") {
        return Err(format!("{url} answers with failures:\n{said}").into());
    }
    if let Some(errors) = said.lines().find(|line| line.contains("Socket errors")) {
        eprintln!("{url}: {}", errors.trim());
    }
    number_before(&said, " requests in ")
}

fn h2load(url: &str, seconds: u64) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new("h2load");
    command.args(["-t1", "-c8", "-m8", &format!("-D{seconds}"), url]);
    let said = say(command)?;
    let spoken = said.contains("Application protocol: h2");
    if !spoken {
        return Err(format!("{url} does not speak HTTP/2:\n{said}").into());
    }
    number_before(&said, " 2xx,")
}

fn say(mut command: Command) -> Result<String, Box<dyn Error>> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?} cannot be started: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn number_before(said: &str, mark: &str) -> Result<u64, Box<dyn Error>> {
    let before = said.split_once(mark).map(|(before, _)| before);
    let number = before.and_then(|before| before.split_whitespace().last()?.parse().ok());
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("no requests were answered:\n{said}").into())
}

const POST: &str = r#"
wrk.method = "POST"
wrk.body = string.rep("x", 65536)
wrk.headers["Content-Type"] = "application/octet-stream"
"#;

/// Requests are made before the load starts, so that the script costs little of a core that others need.
const HOSTS: &str = r#"
local requests, at = {}, 0
function init(args)
  for i = 0, COUNT - 1 do
    requests[i] = wrk.format("GET", "/", { Host = "h" .. i .. ".example.com" })
  end
end
function request()
  at = (at + 1) % COUNT
  return requests[at]
end
"#;
