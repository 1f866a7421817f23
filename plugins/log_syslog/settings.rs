//! Settings of `log_syslog` and what is wrong with them.
//! It must not send anything.
//! Decoded by the contract; the field docs are the manual.

use schemars::JsonSchema;
use serde::Deserialize;

use super::server;
use crate::contract::{Build, Far, Problem, Side, Size, Time};
use crate::granted::Names;
use crate::logged::Only;

/// Settings of `log_syslog`. One message for each request that is over, as RFC 5424 writes it; what it says are the members that
/// `log_http` sends. Messages wait in a queue until they were sent, however long the server is away; a connection that cannot be made or
/// breaks is made anew after a second, then two, up to 30s. Syslog does not acknowledge: what was on its way when a connection broke may
/// be lost or come twice, and over UDP nobody knows. What waits survives a reload; at the end of the process there are five seconds to
/// send it. `windrose_plugin_events_total` counts `logged`, `dropped` (the queue was full), `cut` (longer than `message_size`), `failed`
/// (attempts to connect or send) and `lost` (datagrams longer than the way takes).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server: `udp://HOST:PORT` (RFC 5426, one message in each datagram; default port 514), `tcp://HOST:PORT` (each message with
    /// its length before it, RFC 6587 section 3.4.1; default port 601), `tls://HOST:PORT` (RFC 5425, verified; default port 6514), or
    /// `unix:///dev/log` (datagrams, relative to the configuration's folder; systemd-journald and rsyslog's `imuxsock` expect the older
    /// form of the C library there and show the header as text, rsyslog unless `useSpecialParser` is `off`). There is no default.
    pub server: String,
    /// A file of PEM with authorities to believe instead of the system's, relative to the configuration's folder. Only with `tls`.
    /// Default: the system's.
    #[serde(default)]
    pub ca: Option<String>,
    /// The name that the server's certificate has to have. Only with `tls`. Default: the host of `server`, which then has to be a name.
    #[serde(default)]
    pub server_name: Option<String>,
    /// What part of a system says it: `user`, `mail`, `daemon`, `auth`, `cron`, `authpriv`, or `local0` to `local7`. Default: `local0`.
    #[serde(default)]
    pub facility: Facility,
    /// How grave it is, by status: `{all: info, errors: notice, failures: error}`, where `errors` are statuses from 400 and `failures`
    /// from 500, and those of requests that nothing was sent to. Words: `emergency`, `alert`, `critical`, `error`, `warning`, `notice`,
    /// `info`, `debug`. Default: as written here.
    #[serde(default)]
    pub severity: Severities,
    /// Which requests are told: `all`, `errors` (status 400 and more, and those without a status), or `failures` (500 and more).
    /// Default: `all`.
    #[serde(default)]
    pub only: Only,
    /// `json`: the message is a JSON object. `structured`: members are structured data (RFC 5424 section 6.3), such as
    /// `[http@32473 status="200" path="/"]`, and the message is method, path and status. Without a byte order mark. Default: `json`.
    #[serde(default)]
    pub format: Format,
    /// What structured data is called: a name, `@`, and a private enterprise number; of at most 32 characters. Only with
    /// `format: structured`. Default: `http@32473`, of the number for examples; use your own where others read it.
    #[serde(default)]
    pub id: Option<String>,
    /// The host that says it, in at most 255 printable ASCII characters. Default: the system's name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The program that says it, in at most 48 such characters. Default: `windrose`.
    #[serde(default = "windrose")]
    pub app_name: String,
    /// The kind of message, in at most 32 such characters. Default: `access`.
    #[serde(default = "access")]
    pub message_id: String,
    /// The longest message, 1KiB to 64KiB, over UDP at most 60KiB. Of a longer one texts are cut, at last the fields left out, and it has
    /// the member `cut`. Default: 8KiB, over UDP 2KiB, as receivers must take by RFC 5426 section 3.2.
    #[serde(default)]
    pub message_size: Option<Size>,
    /// Messages that are sent at once over a stream, at most 10000. They do not wait for each other. Not with datagrams. Default: 500.
    #[serde(default = "five_hundred")]
    pub batch: usize,
    /// Messages that may wait; further ones are dropped. Default: 10000, at most 1000000.
    #[serde(default = "ten_thousand")]
    pub queue: usize,
    /// Memory for messages that wait. Default: 16MiB, at most 1GiB.
    #[serde(default = "queue_bytes")]
    pub queue_size: Size,
    /// Time for a connection, and for each sending. Default: 10s, at most 60s.
    #[serde(default = "ten_seconds")]
    pub timeout: Time,
    /// Fields of requests that are told; a name that ends in `*` stands for all that begin with it. Of `authorization`, `cookie` and
    /// others that hold credentials only that they were there. Default: none.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// Tells the query as it came. Default: `false`, since tokens and names of people end up there.
    #[serde(default)]
    pub query: bool,
}

/// What part of a system says it (RFC 5424 table 1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Facility {
    /// Programs of users.
    User = 1,
    /// Mail.
    Mail = 2,
    /// Services.
    Daemon = 3,
    /// Authorization.
    Auth = 4,
    /// Clocks.
    Cron = 9,
    /// Authorization, not for everybody.
    Authpriv = 10,
    /// Local use.
    #[default]
    Local0 = 16,
    /// Local use.
    Local1 = 17,
    /// Local use.
    Local2 = 18,
    /// Local use.
    Local3 = 19,
    /// Local use.
    Local4 = 20,
    /// Local use.
    Local5 = 21,
    /// Local use.
    Local6 = 22,
    /// Local use.
    Local7 = 23,
}

/// How grave a message is (RFC 5424 table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The system is unusable.
    Emergency = 0,
    /// Somebody has to act at once.
    Alert = 1,
    /// Critical.
    Critical = 2,
    /// An error.
    Error = 3,
    /// A warning.
    Warning = 4,
    /// Normal, and significant.
    Notice = 5,
    /// For information.
    Info = 6,
    /// For those who look for mistakes.
    Debug = 7,
}

/// Severities by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Severities {
    /// Of those below 400.
    pub all: Severity,
    /// Of those from 400.
    pub errors: Severity,
    /// Of those from 500, and without a status.
    pub failures: Severity,
}

impl Default for Severities {
    fn default() -> Severities {
        Severities {
            all: Severity::Info,
            errors: Severity::Notice,
            failures: Severity::Error,
        }
    }
}

impl Severities {
    pub(super) fn of(&self, status: u16) -> Severity {
        match status {
            0 | 500.. => self.failures,
            400.. => self.errors,
            _ => self.all,
        }
    }
}

/// How a message says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As a JSON object.
    #[default]
    Json,
    /// As structured data.
    Structured,
}

fn windrose() -> String {
    "windrose".to_owned()
}

fn access() -> String {
    "access".to_owned()
}

fn five_hundred() -> usize {
    500
}

fn ten_thousand() -> usize {
    10_000
}

fn queue_bytes() -> Size {
    Size(16 << 20)
}

fn ten_seconds() -> Time {
    Time::secs(10)
}

impl Config {
    /// Where messages go.
    pub(super) fn far(&self, build: &Build<'_>, problems: &mut Vec<Problem>) -> Option<Far> {
        let far = server::parsed(&self.server, |path| build.path(path));
        let mut far = far.map_err(|problem| problems.push(problem)).ok()?;
        let Far::Tls { host, name, ca, .. } = &mut far else {
            let unused = [("ca", &self.ca), ("server_name", &self.server_name)];
            for (path, _) in unused.iter().filter(|(_, given)| given.is_some()) {
                let fact = "is not used: `server` is not `tls://`";
                problems.push(Problem::at(*path, fact).help("remove it, or use TLS"));
            }
            return Some(far);
        };
        match &self.server_name {
            Some(given) => *name = given.clone(),
            None if host.parse::<std::net::IpAddr>().is_ok() => {
                let fact = format!(
                    "\"{}\" has an address where certificates have names",
                    self.server
                );
                let remedy =
                    "write the server's name, or what its certificate says as `server_name`";
                problems.push(Problem::at("server", fact).help(remedy));
            }
            None => {}
        }
        if let Some(path) = &self.ca {
            let path = build.path(path);
            match server::authorities(&path) {
                Ok(pem) => *ca = Some(pem),
                Err(fact) => problems.push(
                    Problem::at("ca", format!("\"{}\" {fact}", path.display()))
                        .help("write the path of a file with certificates in PEM"),
                ),
            }
        }
        Some(far)
    }

    /// Everything else; the fields that are told.
    pub(super) fn judge(&self, far: Option<&Far>, problems: &mut Vec<Problem>) -> Names {
        self.bounds(far, problems);
        let texts = [
            ("hostname", self.hostname.as_deref(), 255),
            ("app_name", Some(&*self.app_name), 48),
            ("message_id", Some(&*self.message_id), 32),
        ];
        for (path, text, most) in texts {
            if text.is_some_and(|text| !is_printable(text, most)) {
                let fact = format!("must be 1 to {most} printable ASCII characters without spaces");
                problems.push(Problem::at(path, fact).help("leave it out for the default"));
            }
        }
        if let Some(id) = &self.id {
            if self.format == Format::Json {
                let fact = "is not used: `format` is `json`, which has no structured data";
                problems
                    .push(Problem::at("id", fact).help("remove it, or use `format: structured`"));
            }
            if !is_id(id) {
                let fact = format!("{id:?} is no name of structured data");
                let remedy = "write a name, \"@\" and your private enterprise number, such as \"http@32473\"";
                problems.push(Problem::at("id", fact).help(remedy));
            }
        }
        Names::of(
            Side::Request,
            "request_headers",
            &self.request_headers,
            problems,
        )
    }

    fn bounds(&self, far: Option<&Far>, problems: &mut Vec<Problem>) {
        let mut within = |path: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                let fact = format!("must be from {least} to {most}, found {value}");
                problems.push(Problem::at(path, fact).help("leave it out for the default"));
            }
        };
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        within("batch", number(self.batch), 1, 10_000);
        within("queue", number(self.queue), 1, 1_000_000);
        within("queue_size", self.queue_size.0, 64 << 10, 1 << 30);
        if let Some(size) = self.message_size {
            let most = match far {
                Some(Far::Udp { .. }) => 60 << 10,
                _ => 64 << 10,
            };
            within("message_size", size.0, 1 << 10, most);
        }
        if self.timeout < Time::millis(10) || self.timeout > Time::secs(60) {
            let fact = format!("must be from 10ms to 60s, found {}", self.timeout);
            problems.push(Problem::at("timeout", fact).help("leave it out for the default"));
        }
    }
}

fn is_printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `SD-ID` with an enterprise number (RFC 5424 section 6.3.2).
fn is_id(id: &str) -> bool {
    let is_good = |name: &str| name.bytes().all(|byte| !b"=]\"@".contains(&byte));
    let is_number = |number: &str| {
        !number.is_empty()
            && number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    is_printable(id, 32)
        && id
            .split_once('@')
            .is_some_and(|(name, number)| !name.is_empty() && is_good(name) && is_number(number))
}
