//! Question: how many instructions does each built-in plugin cost a request that it lets go on?
//! It must not measure the proxy around it: the test kit calls the hooks, on one request made beforehand and made again for each turn.
//! Run by hand; it runs itself under valgrind, twice for each plugin at two lengths, so that building and the start cancel out:
//!
//! ```text
//! cargo bench -p windrose-plugins --bench plugins               # every plugin
//! cargo bench -p windrose-plugins --bench plugins -- jwt cors   # these
//! ```
//!
//! The number is that of a turn with the plugin less that of a turn without any: its hooks on the request, on its way upstream, on
//! the response and at the end. Bodies are not in it. Each plugin has the settings of its own example, but where a request could
//! not satisfy those. What it answered with is printed, where it did: such a number is that of a refusal.

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use windrose_plugins::contract::{PluginDef, Verdict};
use windrose_plugins::testkit::{Exchange, Instance, Kit};
use windrose_plugins::BUILTIN;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, kind, turns] = &arguments[..] {
        if mode == "turns" {
            run(kind, turns.parse()?);
            return Ok(());
        }
    }
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let base = cost(NOTHING)?;
    println!("{base:>9} instructions make and drop a request and run no plugin");
    for plugin in BUILTIN {
        let kind = plugin.kind;
        if wanted.is_empty() || wanted.iter().any(|one| *one == kind) {
            let more = cost(kind)?.saturating_sub(base);
            println!("{more:>9} {kind}{}", says(plugin));
        }
    }
    Ok(())
}

/// Instructions of a turn.
fn cost(kind: &str) -> Result<u64, Box<dyn Error>> {
    let (few, many) = (collected(kind, FEW)?, collected(kind, MANY)?);
    Ok(many.saturating_sub(few) / (MANY - FEW))
}

/// Instructions of a whole run, as valgrind counts them.
fn collected(kind: &str, turns: u64) -> Result<u64, Box<dyn Error>> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["turns", kind, &turns.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = line.ok_or_else(|| format!("valgrind counted nothing: {said}"))?;
    Ok(number.trim().parse()?)
}

fn run(kind: &str, turns: u64) {
    let kit = Kit::for_examples();
    let plugin = BUILTIN.iter().find(|plugin| plugin.kind == kind);
    let instance = plugin.map(|plugin| kit.instance(plugin, settings(plugin)));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    runtime.block_on(async {
        for _ in 0..turns {
            let mut exchange = request(kind);
            black_box(turn(instance.as_ref(), &mut exchange).await);
        }
    });
}

/// What a plugin without an answer does in the course of a request.
async fn turn(instance: Option<&Instance>, exchange: &mut Exchange) -> Option<Verdict> {
    let instance = instance?;
    let verdict = instance.request_async(exchange).await;
    if !matches!(verdict, Verdict::Continue) {
        return Some(verdict);
    }
    if instance.hooks.upstream_request.is_some() {
        instance.upstream_request(exchange);
    }
    instance.response(exchange);
    instance.finish(exchange, Duration::from_millis(3));
    None
}

/// What a plugin answers the request of this bench with.
fn says(plugin: &PluginDef) -> String {
    let instance = Kit::for_examples().instance(plugin, settings(plugin));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    let said = runtime.block_on(turn(Some(&instance), &mut request(plugin.kind)));
    match said {
        None => String::new(),
        Some(Verdict::Answer(answer)) => format!(" (answers: {})", answer.cause),
        Some(other) => format!(" ({other:?})"),
    }
}

/// The example's, but where it wants of requests what this bench has not.
fn settings(plugin: &PluginDef) -> &'static str {
    match plugin.kind {
        "ip_filter" => "allow: [192.0.2.0/24, '2001:db8::/32']\ndeny: [192.0.2.77/32]",
        // RFC 7515, appendix A.1.
        "jwt" => "issuer: joe\naudience: any\nconsumer: {claim: iss}\nkeys: [{jwk: {kty: oct, k: AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow}}]",
        "rate_limit" => "key: [route, client_ip]\nrate: 100000000\nper: 1s\nburst: 100000000",
        _ => plugin.example,
    }
}

/// A request as browsers and clients of APIs send them, with what some plugin asks for.
fn request(kind: &str) -> Exchange {
    let request = Exchange::get("https://api.example.com/api/orders/4711?limit=20&sort=date")
        .with("accept", "application/json")
        .with("accept-encoding", "gzip, br")
        .with("user-agent", "bench/1.0")
        .with("origin", "https://app.example.com")
        .with_response("content-type", "application/json")
        .with_response("server", "origin");
    match kind {
        "acl" => request.as_consumer("ann"),
        "key_auth" => request.with("x-api-key", "an example"),
        "jwt" => request.with("authorization", TOKEN),
        _ => request,
    }
}

const TOKEN: &str = "Bearer eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const NOTHING: &str = "";
const FEW: u64 = 500;
const MANY: u64 = 2500;
