//! The admin address: health, metrics, views of what is running, and reloading it.
//! It must not know how anything it shows comes about; it reads the snapshot in force and the status.
//! Run as a service of its own by `app`.

mod answer;
mod balance;
mod budget;
mod caches;
mod identity;
mod limits;
mod mesh;
mod mirrors;
mod outlier;
mod overview;
mod page;
mod places;
mod plugins;
mod policies;
mod pools;
mod recorder;
mod routes;
mod state;
mod stores;

use std::fs::Permissions;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession;
use pingora::services::listening::Service;
use windrose_plugins::contract::{Percent, Time};

use super::certs::CertKeeper;
use super::peers;
use super::pools::PoolKeeper;
use super::probation::Terms;
use super::reload::Order;
use super::status::{Reload, Status};
use super::tasks::TaskKeeper;
use crate::explain::{explain, Question};
use crate::observe::metrics::Metrics;
use crate::observe::recorder::Recorder;
use crate::snapshot::listener::Bind;
use crate::snapshot::Current;
use places::{Place, PLACES};

/// A reload under way.
pub type Reloading = Pin<Box<dyn Future<Output = Reload> + Send>>;

/// What the admin address shows and does.
pub struct Admin {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Records of some requests.
    pub recorder: Arc<Recorder>,
    /// What the process says about itself.
    pub status: Arc<Status>,
    /// Knows why endpoints are out.
    pub pools: Arc<PoolKeeper>,
    /// Knows the background tasks of plugins.
    pub tasks: Arc<TaskKeeper>,
    /// Knows what is wrong with certificate files.
    pub certs: Arc<CertKeeper>,
    /// Does what is asked about the configuration. Runs on the thread of the admin address, so it should hand over to the supervisor.
    pub reload: Arc<dyn Fn(Order) -> Reloading + Send + Sync>,
}

/// The admin address as a service with one thread. A socket file can be used by its owner only.
pub fn service(bind: &Bind, admin: Admin) -> Service<HttpServer<Desk>> {
    let reach = match bind {
        Bind::Tcp(_) => Reach::Network,
        Bind::Unix(_) => Reach::File,
    };
    let desk = Desk {
        admin,
        reach,
        explaining: Default::default(),
        proving: Default::default(),
    };
    let mut service = Service::new("admin".into(), HttpServer::new_app(desk));
    service.threads = Some(1);
    match bind {
        Bind::Tcp(address) => service.add_tcp(&address.to_string()),
        Bind::Unix(path) => service.add_uds(
            &path.to_string_lossy(),
            Some(Permissions::from_mode(OWNER_ONLY)),
        ),
    }
    service
}

/// Answers requests to the admin address.
pub struct Desk {
    admin: Admin,
    reach: Reach,
    explaining: tokio::sync::Mutex<()>,
    proving: tokio::sync::Mutex<()>,
}

/// How a client gets here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Through a port, so also from a browser.
    Network,
    /// Through a socket file.
    File,
}

#[async_trait]
impl ServeHttp for Desk {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let body = read_body(session).await;
        let request = session.req_header();
        let field = |name: &str| {
            let value = request.headers.get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let asked = Asked {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            query: request.uri.query().unwrap_or("").to_owned(),
            host: field("host"),
            intent: field("x-windrose-admin"),
            body,
        };
        let answer = self.answer(&asked).await;
        match asked.method {
            // The length of what a GET would get stays.
            Method::HEAD => answer.map(|_| Vec::new()),
            _ => answer,
        }
    }
}

/// What matters of a request.
struct Asked {
    method: Method,
    path: String,
    query: String,
    host: Option<String>,
    intent: Option<String>,
    /// Empty for one that is too long.
    body: Vec<u8>,
}

impl Desk {
    async fn answer(&self, asked: &Asked) -> Response<Vec<u8>> {
        let is_foreign = asked.host.as_deref().is_some_and(|host| !is_local(host));
        if self.reach == Reach::Network && is_foreign {
            return answer::refusal(
                StatusCode::FORBIDDEN,
                "the Host field must be an IP address or localhost, so that no web page can read this through a name of its own",
            );
        }
        let is_read = matches!(asked.method, Method::GET | Method::HEAD);
        let Some(entry) = PLACES.iter().find(|entry| entry.path == asked.path) else {
            return match asked.path.strip_prefix("/recorder/") {
                Some(id) if is_read => recorder::one(&self.admin.recorder, id),
                Some(_) => answer::not_allowed("GET, HEAD"),
                None => answer::unknown(PLACES.iter().map(|entry| entry.path)),
            };
        };
        match (entry.place, is_read) {
            (Place::Reload | Place::Confirm | Place::RollBack, _) => match asked.method {
                Method::POST => self.act(entry.place, asked).await,
                _ => answer::not_allowed("POST"),
            },
            (Place::CachePurge, _) if asked.method == Method::POST => self.purge(asked),
            (Place::Explain, _) if asked.method == Method::POST => self.explain(asked).await,
            (Place::MeshProbe, _) if asked.method == Method::POST => self.prove(asked).await,
            (Place::CachePurge | Place::Explain | Place::MeshProbe, _) => {
                answer::not_allowed("POST")
            }
            (_, false) => answer::not_allowed("GET, HEAD"),
            (place, true) => self.view(place, asked),
        }
    }

    fn view(&self, place: Place, asked: &Asked) -> Response<Vec<u8>> {
        let Admin {
            current,
            metrics,
            status,
            pools,
            certs,
            recorder,
            tasks,
            ..
        } = &self.admin;
        let snapshot = current.load();
        match place {
            Place::Index => answer::html(page::index(&snapshot, status, PLACES)),
            Place::Live => answer::text("ok".into()),
            Place::Ready => {
                let ready = state::Ready::new(&snapshot, status);
                answer::json(ready.http_status(), &ready)
            }
            Place::Metrics => answer::of(StatusCode::OK, METRICS_TYPE, metrics.render()),
            Place::Config if asked.query.split('&').any(|part| part == "format=json") => {
                answer::json(StatusCode::OK, &state::Config::new(&snapshot, status))
            }
            Place::Config => answer::config(&snapshot),
            Place::Routes => answer::without_secrets(&snapshot, &routes::view(&snapshot)),
            Place::Pools => answer::without_secrets(&snapshot, &pools::view(&snapshot, pools)),
            Place::Plugins => {
                answer::json(StatusCode::OK, &plugins::view(&snapshot, &tasks.view()))
            }
            Place::Cache => answer::json(StatusCode::OK, &caches::view(&snapshot)),
            Place::Mirrors => answer::without_secrets(&snapshot, &mirrors::view(&snapshot)),
            Place::Policies => answer::without_secrets(&snapshot, &policies::view(&snapshot)),
            Place::Mesh => {
                let mesh = mesh::view(&snapshot, metrics);
                match asked.query == "format=html" {
                    true => answer::html(mesh::html(&mesh)),
                    false => answer::json(StatusCode::OK, &mesh),
                }
            }
            Place::Listeners => {
                answer::json(StatusCode::OK, &state::listeners(&snapshot, status, certs))
            }
            Place::Certs => answer::json(StatusCode::OK, &identity::Clocks::new(&snapshot)),
            Place::Causes => answer::json(StatusCode::OK, &state::causes()),
            Place::Records => recorder::list(recorder, &asked.query),
            Place::Bundle => recorder::bundle(recorder, &snapshot),
            Place::Status => {
                let overview = overview::Overview::new(&snapshot, &self.admin);
                answer::json(StatusCode::OK, &overview)
            }
            Place::Probation => answer::json(StatusCode::OK, &state::probation(status)),
            Place::CachePurge
            | Place::Explain
            | Place::MeshProbe
            | Place::Reload
            | Place::Confirm
            | Place::RollBack => answer::not_allowed("POST"),
        }
    }

    /// What would become of a request, with the health and limits of this moment. Changes nothing. Checking a password takes its
    /// time, and the thread here also answers health checks: so elsewhere, one at a time.
    async fn explain(&self, asked: &Asked) -> Response<Vec<u8>> {
        let question = match serde_json::from_slice::<Question>(&asked.body) {
            Ok(question) => question,
            Err(error) => {
                let problem = format!("the body is not a request: {error}");
                return answer::refusal(StatusCode::BAD_REQUEST, &problem);
            }
        };
        let _turn = self.explaining.lock().await;
        let snapshot = self.admin.current.load();
        let work = move || {
            let explanation = explain(&snapshot, &question, true)?;
            snapshot.secrets.hidden_in(explanation)
        };
        let explained = tokio::task::spawn_blocking(work).await;
        let explained = explained.unwrap_or_else(|error| Err(error.to_string()));
        match explained {
            Ok(explanation) => answer::json(StatusCode::OK, &explanation),
            Err(problem) => answer::refusal(StatusCode::BAD_REQUEST, &problem),
        }
    }

    /// Takes stored responses out.
    fn purge(&self, asked: &Asked) -> Response<Vec<u8>> {
        let refusal = unmeant(asked);
        refusal.unwrap_or_else(|| caches::purge(&self.admin.current.load(), &asked.query))
    }

    /// Who the endpoints of mesh pools prove to be, one question at a time: each is many handshakes.
    async fn prove(&self, asked: &Asked) -> Response<Vec<u8>> {
        if let Some(refusal) = unmeant(asked) {
            return refusal;
        }
        let _turn = self.proving.lock().await;
        let snapshot = self.admin.current.load();
        let proofs = Box::pin(peers::prove(&snapshot)).await;
        answer::without_secrets(&snapshot, &proofs)
    }

    /// A page of another site can make a browser post here, but cannot make it add this field without asking first.
    async fn act(&self, place: Place, asked: &Asked) -> Response<Vec<u8>> {
        if let Some(refusal) = unmeant(asked) {
            return refusal;
        }
        let order = match place {
            Place::Confirm => meant(&asked.query).map(Order::Confirm),
            Place::RollBack => Ok(Order::RollBack),
            _ => order(&asked.query),
        };
        let order = match order {
            Ok(order) => order,
            Err(problem) => return answer::refusal(StatusCode::BAD_REQUEST, &problem),
        };
        let reload = (self.admin.reload)(order).await;
        let status = match reload.result {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::CONFLICT,
        };
        let on_probation = self.admin.status.probation.load();
        let outcome = state::Outcome::new(&reload);
        let outcome = outcome.with_quarantined(&self.admin.current.load());
        answer::json(status, &outcome.with(on_probation.as_ref().as_ref()))
    }
}

/// The refusal of a request that does not say it is meant.
fn unmeant(asked: &Asked) -> Option<Response<Vec<u8>>> {
    let problem = "the field x-windrose-admin: reload is missing";
    let is_meant = asked.intent.as_deref() == Some("reload");
    (!is_meant).then(|| answer::refusal(StatusCode::FORBIDDEN, problem))
}

/// Which generation is to be confirmed, if it is said.
fn meant(query: &str) -> Result<Option<u64>, String> {
    if query.is_empty() {
        return Ok(None);
    }
    let number = query.strip_prefix("generation=").map(str::parse);
    match number {
        Some(Ok(generation)) => Ok(Some(generation)),
        Some(Err(_)) => Err("generation: not a number".to_owned()),
        None => Err(format!("\"{query}\" is not known; there is generation")),
    }
}

/// What a reload is asked to be: for good, or on probation.
fn order(query: &str) -> Result<Order, String> {
    let mut terms = None;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let terms = terms.get_or_insert_with(Terms::default);
        match name {
            "confirm" => terms.time = value.parse::<Time>()?.0,
            "max_5xx_rise" => {
                let value = value.replace("%25", "%");
                terms.max_rise = Percent::try_from(value)?.fraction();
            }
            _ => {
                let known = "there are confirm and max_5xx_rise";
                return Err(format!("\"{name}\" is not known; {known}"));
            }
        }
    }
    let Some(terms) = terms else {
        return Ok(Order::Reload);
    };
    match TIMES.contains(&terms.time) {
        true => Ok(Order::Probation(terms)),
        false => Err("confirm: a probation takes from 1s to 24h".to_owned()),
    }
}

/// The body, bounded. What is left unread would be taken for the next request, so a long one ends the connection.
async fn read_body(session: &mut ServerSession) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() <= MAX_BODY {
        match session.read_request_body().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return body,
            Err(_) => break,
        }
    }
    session.set_keepalive(None);
    Vec::new()
}

/// Whether a Host field names this machine or an address, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let opened = name.strip_prefix('[');
    let in_brackets = opened.and_then(|name| name.strip_suffix(']'));
    let is_address = match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok(),
    };
    is_address || name.eq_ignore_ascii_case("localhost")
}

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const OWNER_ONLY: u32 = 0o600;
const MAX_BODY: usize = 64 << 10;
/// How long a probation may take.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
