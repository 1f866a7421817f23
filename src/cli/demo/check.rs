//! Tries what every command of the page shows and says what passed.
//! It must not know the page's wording; an act there has its check here.
//! Called by `demo --check`.

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::chat::{self, Frame};
use super::client::{Ask, Reply};
use super::tour::Act;
use super::{grpc, Stage};

/// What was seen, or what was missing.
type Seen = Result<String, String>;

/// Runs every check, prints a line for each, and fails if one did.
pub(super) async fn run(stage: &Stage<'_>) -> ExitCode {
    let mut failed = 0;
    for act in Act::ALL {
        let (word, fact) = match stage.check(act).await {
            Ok(fact) => ("PASS", fact),
            Err(fact) => {
                failed += 1;
                ("FAIL", fact)
            }
        };
        println!("{word}  {}: {fact}", act.title());
    }
    println!("{} of {} passed", Act::ALL.len() - failed, Act::ALL.len());
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

impl Stage<'_> {
    async fn check(&self, act: Act) -> Seen {
        match act {
            Act::Hosts => self.hosts().await,
            Act::Canary => self.canary().await,
            Act::Testers => self.testers().await,
            Act::Redirect => self.redirect().await,
            Act::Why => self.why().await,
            Act::Password => self.password().await,
            Act::Limit => self.limit().await,
            Act::Mesh => self.mesh().await,
            Act::Ejection => self.ejection().await,
            Act::Reload => self.reload().await,
            Act::Metrics => self.metrics().await,
            Act::Grpc => self.grpc().await,
            Act::WebSocket => self.websocket().await,
            Act::Tcp => self.tcp().await,
        }
    }

    async fn shop(&self, path: &str) -> Result<Reply, String> {
        Ask::new(self.ports.web, "shop.localhost", path)
            .send()
            .await
    }

    async fn api(&self, fields: &[(&str, &str)]) -> Result<Reply, String> {
        let ask = Ask {
            fields,
            ..Ask::new(self.ports.web, "api.localhost", "/orders/7")
        };
        ask.send().await
    }

    async fn hosts(&self) -> Seen {
        let reply = self.shop("/").await?;
        is("the status", reply.status, 200)?;
        is("the service", says(&reply, "/service"), "shop".into())
    }

    async fn version_2(&self, requests: usize) -> Result<usize, String> {
        let mut seen = 0;
        for _ in 0..requests {
            let reply = self.shop("/").await?;
            is("the status", reply.status, 200)?;
            seen += usize::from(says(&reply, "/version") == "v2");
        }
        Ok(seen)
    }

    async fn canary(&self) -> Seen {
        // The odds against missing this are above a million to one.
        match self.version_2(200).await? {
            seen @ 2..=50 => Ok(format!("{seen} of 200 saw version 2")),
            seen => Err(format!("{seen} of 200 saw version 2")),
        }
    }

    async fn testers(&self) -> Seen {
        for _ in 0..10 {
            let ask = Ask {
                fields: &[("x-canary", "always")],
                ..Ask::new(self.ports.web, "shop.localhost", "/")
            };
            is(
                "the version",
                says(&ask.send().await?, "/version"),
                "v2".into(),
            )?;
        }
        Ok("10 of 10 saw version 2".into())
    }

    async fn redirect(&self) -> Seen {
        let reply = self.shop("/old/shoes?size=42").await?;
        is("the status", reply.status, 308)?;
        let place = format!("http://shop.localhost:{}/new/shoes?size=42", self.ports.web);
        is("the place", reply.head.field("location"), Some(&*place))
    }

    async fn why(&self) -> Seen {
        let ask = Ask::new(self.ports.web, "nobody.localhost", "/");
        let reply = ask.send().await?;
        is("the status", reply.status, 404)?;
        let kind = reply.head.field("content-type");
        is("the kind", kind, Some("application/problem+json"))?;
        is("why in the body", says(&reply, "/why"), "no_route".into())?;
        is(
            "x-windrose-why",
            reply.head.field("x-windrose-why"),
            Some("no_route"),
        )
    }

    async fn password(&self) -> Seen {
        let stranger = self.api(&[]).await?;
        is("the status without", stranger.status, 401)?;
        let known = self.api(&[("authorization", &ann())]).await?;
        is("the status with", known.status, 200)?;
        is("the service", says(&known, "/service"), "orders".into())
    }

    async fn limit(&self) -> Seen {
        let mut statuses = Vec::new();
        for _ in 0..8 {
            let reply = self.api(&[("authorization", &ann())]).await?;
            if reply.status == 429 {
                let wait = reply.head.field("retry-after");
                wait.ok_or("429 without retry-after")?;
            }
            statuses.push(reply.status);
        }
        match statuses.contains(&200) && statuses.contains(&429) {
            true => Ok(format!("{statuses:?}")),
            false => Err(format!("{statuses:?}")),
        }
    }

    async fn mesh(&self) -> Seen {
        let through = self.shop("/orders/7").await?;
        is("the service", says(&through, "/service"), "orders".into())?;
        let hops = says(&through, "/headers/x-forwarded-for");
        is("its hops", hops.split(',').count(), 3)?;
        let by_host = Ask::new(self.ports.a_out, "orders.mesh", "/7")
            .send()
            .await?;
        is("by host", says(&by_host, "/service"), "orders".into())?;
        let own_ports = [
            (self.ports.a_orders, "orders"),
            (self.ports.a_billing, "billing"),
        ];
        for (port, service) in own_ports {
            let reply = Ask::new(port, "127.0.0.1", "/7").send().await?;
            is("by port", says(&reply, "/service"), service.into())?;
        }
        Ok(format!("x-forwarded-for: {hops}"))
    }

    async fn ejection(&self) -> Seen {
        let mut failures = 0;
        for _ in 0..20 {
            failures += usize::from(self.shop("/flaky").await?.status == 503);
        }
        is("the failures before", failures, 3)?;
        for _ in 0..6 {
            is("the status after", self.shop("/flaky").await?.status, 200)?;
        }
        let pools = Ask::new(self.ports.edge_admin, "localhost", "/pools")
            .send()
            .await?;
        let shown = pools.body.contains("ejected after failed requests");
        match shown {
            true => Ok("3 failures, then none; /pools shows it".into()),
            false => Err("/pools does not show it".into()),
        }
    }

    /// By command to version 2 alone, and by signal back to version 1 alone.
    async fn reload(&self) -> Seen {
        let edge = self.proxies.named("edge").ok_or("there is no edge")?;
        let config = fs::read_to_string(&edge.config).map_err(|error| error.to_string())?;
        let write = |text: String| fs::write(&edge.config, text).map_err(|error| error.to_string());
        write(config.replace("weight: 90", "weight: 0"))?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("reload").arg("-c").arg(&edge.config);
        command.stdin(Stdio::null());
        // On a thread of its own: the services run on this one.
        let done = tokio::task::spawn_blocking(move || command.output()).await;
        let done = done.map_err(|error| error.to_string())?;
        let done = done.map_err(|error| error.to_string())?;
        if !done.status.success() {
            let words = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(format!("reload: {}: {words}", done.status));
        }
        is(
            "with version 2 after the command",
            self.version_2(20).await?,
            20,
        )?;
        write(config.replace("weight: 10", "weight: 0"))?;
        edge.signal(Signal::HUP);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.version_2(20).await? != 0 {
            if Instant::now() > deadline {
                return Err("10 s after SIGHUP version 2 is still seen".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok("by command and by SIGHUP".into())
    }

    async fn metrics(&self) -> Seen {
        let ask = Ask::new(self.ports.edge_admin, "localhost", "/metrics");
        let reply = ask.send().await?;
        let lines = reply.body.lines();
        match lines.filter(|line| line.contains("route=\"shop\"")).count() {
            0 => Err("no line names the route".into()),
            some => Ok(format!("{some} lines about the route")),
        }
    }

    async fn grpc(&self) -> Seen {
        let (echo, status) = patiently(grpc::call(self.ports.web, "hello")).await?;
        is("the echo", &*echo, "hello")?;
        is("grpc-status", &*status, "0")
    }

    async fn websocket(&self) -> Seen {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let lines = format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        let talk = async {
            let ask = Ask::new(self.ports.web, "chat.localhost", "/");
            let (head, mut stream) = ask.open(&lines).await?;
            let hello = Frame::text("hello").bytes(Some([7, 1, 9, 3]));
            if head.second() == "101" {
                stream.write_all(&hello).await?;
                let echo = Frame::read(&mut stream).await?;
                return Ok((head, echo.as_text()));
            }
            std::io::Result::Ok((head, String::new()))
        };
        let (head, echo) = patiently(talk).await?;
        is("the status", head.second(), "101")?;
        let accept = head.field("sec-websocket-accept");
        is("the handshake", accept, Some(&*chat::accept(key)))?;
        is("the echo", &*echo, "hello")
    }

    async fn tcp(&self) -> Seen {
        let talk = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports.tcp)).await?;
            stream.write_all(b"hello\n").await?;
            stream.shutdown().await?;
            let mut echo = String::new();
            stream.read_to_string(&mut echo).await?;
            std::io::Result::Ok(echo)
        };
        is("the echo", &*patiently(talk).await?, "hello\n")
    }
}

async fn patiently<T>(
    talk: impl std::future::Future<Output = std::io::Result<T>>,
) -> Result<T, String> {
    match timeout(Duration::from_secs(10), talk).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("nothing came in 10 s".into()),
    }
}

/// What a service said about the request.
fn says(reply: &Reply, pointer: &str) -> String {
    let json = reply.json();
    let text = json.pointer(pointer).and_then(|value| value.as_str());
    text.unwrap_or_default().to_owned()
}

fn is<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Seen {
    match found == expected {
        true => Ok(format!("{what} is {expected:?}")),
        false => Err(format!("{what} is {found:?}, not {expected:?}")),
    }
}

fn ann() -> String {
    format!("Basic {}", STANDARD.encode("ann:windrose"))
}
