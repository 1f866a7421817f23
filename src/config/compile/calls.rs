//! What carries calls of plugins: a pool of the configuration, or one that a URL makes.
//! It must not know plugins; it is asked while one is built.
//! Made once for each compilation; the pools that URLs made join the others of the snapshot.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use windrose_plugins::contract::{
    did_you_mean, Carrier, Carriers, Origin, Problem, Target, Time, WireSettings, Wires,
};

use super::{pools, Means};
use crate::config::report::Report;
use crate::config::schema::{self, Config, Guarded};
use crate::snapshot::call::Line;
use crate::snapshot::pool::{Pool, PoolProtocol};
use crate::snapshot::wire;

/// Finds pools for calls.
pub(super) struct Lines<'a> {
    config: &'a Config,
    means: &'a Means<'a>,
    pools: HashMap<&'a str, &'a Arc<Pool>>,
    /// Pools that URLs made, by origin.
    made: RefCell<BTreeMap<String, Arc<Pool>>>,
}

/// Finds them for the plugin that stands at a path.
pub(super) struct LinesAt<'a> {
    pub(super) lines: &'a Lines<'a>,
    pub(super) path: &'a str,
}

impl<'a> Lines<'a> {
    pub(super) fn new(
        config: &'a Config,
        means: &'a Means<'a>,
        pools: &'a [Arc<Pool>],
    ) -> Lines<'a> {
        let by_name = pools.iter().map(|pool| (&*pool.name, pool));
        Lines {
            config,
            means,
            pools: by_name.collect(),
            made: RefCell::default(),
        }
    }

    /// The pools that URLs made, in the order of their names.
    pub(super) fn made(&self) -> Vec<Arc<Pool>> {
        self.made.borrow().values().cloned().collect()
    }

    /// A pool of the configuration; `None` for one that is set aside.
    fn named(&self, name: &str, origin: &Origin) -> Result<Option<Arc<Pool>>, Problem> {
        let Some(written) = self.config.pools.iter().find(|pool| pool.name == name) else {
            if self.config.may_have_pool(name) {
                return Ok(None);
            }
            let names = || {
                let all = self.config.pools.iter().map(|pool| pool.name.as_str());
                all.filter(|name| !name.contains('['))
            };
            let known = names().collect::<Vec<_>>().join(", ");
            let guess = did_you_mean(name, names());
            let guess = guess.map_or(String::new(), |guess| format!("did you mean \"{guess}\"? "));
            return Err(Problem::at("pool", format!("no pool is named \"{name}\""))
                .help(format!("{guess}pools defined: {known}")));
        };
        let pool = self.pools.get(name).map(|pool| (*pool).clone());
        match pool.filter(|_| !written.is_quarantined) {
            Some(pool) => fits(&pool, origin).map(|()| Some(pool)),
            None => Ok(None),
        }
    }

    /// The pool of an origin, made if this is the first who asks.
    fn of(&self, origin: &Origin, path: &str) -> Result<Arc<Pool>, Problem> {
        let name = origin.name();
        if let Some(made) = self.made.borrow().get(&name) {
            return Ok(made.clone());
        }
        if origin.secure && origin.address().is_some() {
            let fact = format!("\"{name}\" has an address where certificates have names");
            let remedy =
                "write the service's name, or a `pool` whose `tls` has the `sni` to expect";
            return Err(Problem::at("url", fact).help(remedy));
        }
        if self.made.borrow().len() >= MOST {
            let fact = format!("plugins call more than {MOST} different origins");
            let remedy = "write the services as pools, and name them by `pool`";
            return Err(Problem::at("url", fact).help(remedy));
        }
        let guard = self.means.guard.of_kind(Guarded::Calls);
        let literal = guard.as_ref().zip(origin.address());
        if let Some(why) = literal.and_then(|(guard, address)| guard.forbids(address)) {
            let fact = format!("\"{name}\" {why}, and `ssrf_guard` forbids it");
            let remedy = "put its network into `ssrf_guard.allow` if it is meant";
            return Err(Problem::at("url", fact).help(remedy));
        }
        // Nothing here reads a file, so that nothing can be wrong with it.
        let mut report = Report::new();
        let mut pool = schema_of(origin);
        pool.ssrf_guard = Some(guard.is_some());
        let pool = pools::prototype(&pool, path, self.means, &mut report);
        let pool = Arc::new(pool);
        self.made.borrow_mut().insert(name, pool.clone());
        Ok(pool)
    }
}

impl Carriers for LinesAt<'_> {
    fn carrier(&self, target: &Target, origin: &Origin) -> Result<Arc<dyn Carrier>, Problem> {
        let pool = match &target.pool {
            Some(name) => self.lines.named(name, origin)?,
            None => Some(self.lines.of(origin, self.path)?),
        };
        Ok(Arc::new(Line {
            pool,
            exchange: self.lines.means.exchange.clone(),
        }))
    }

    fn wires(&self, settings: &WireSettings) -> Result<Arc<dyn Wires>, Problem> {
        let guard = self.lines.means.guard.of_kind(Guarded::Calls);
        wire::wires(settings, guard)
            .map_err(|error| Problem::at("", format!("cannot be used: {error}")))
    }
}

/// Whether calls can go through a pool.
fn fits(pool: &Pool, origin: &Origin) -> Result<(), Problem> {
    let (name, settings) = (&pool.name, &pool.settings);
    let wrong = |fact: String, remedy: &str| Err(Problem::at("pool", fact).help(remedy));
    if settings.protocol == PoolProtocol::Tcp {
        return wrong(
            format!("the pool \"{name}\" has protocol \"tcp\", and calls are requests"),
            "use a pool with protocol `http1`, `http2` or `auto`",
        );
    }
    if settings.proxy_protocol.is_some() {
        return wrong(
            format!(
                "the pool \"{name}\" has `proxy_protocol`, and a call has no client's connection"
            ),
            "use a pool of its own for calls, without `proxy_protocol`",
        );
    }
    if settings
        .mtls
        .as_ref()
        .is_some_and(|mtls| mtls.hbone.is_some())
    {
        return wrong(
            format!("the pool \"{name}\" has `mtls.hbone`, and calls do not go through tunnels"),
            "use a pool of its own for calls, without `mtls.hbone`",
        );
    }
    if origin.http2 && settings.protocol != PoolProtocol::Http2 {
        return wrong(
            format!("the URL says h2c, and the pool \"{name}\" does not speak HTTP/2"),
            "use a pool with `protocol: http2`",
        );
    }
    let is_secure = settings.tls.is_some() || settings.mtls.is_some();
    match (origin.secure, is_secure) {
        (true, false) => wrong(
            format!("the URL says https, and the pool \"{name}\" speaks in the clear"),
            "give the pool `tls`, or write http:// if that is meant",
        ),
        (false, true) => wrong(
            format!("the URL says that it is in the clear, and the pool \"{name}\" speaks TLS"),
            "write https://",
        ),
        (true, true) | (false, false) => Ok(()),
    }
}

/// What an operator would have written for an origin.
fn schema_of(origin: &Origin) -> schema::Pool {
    let address = origin.address();
    let discovery = || {
        schema::Discovery::Dns(schema::DnsDiscovery {
            name: origin.host.clone(),
            record: schema::DnsRecord::Both,
            port: Some(origin.port),
            min_ttl: Time::secs(1),
            max_ttl: Time::secs(300),
            servers: Vec::new(),
        })
    };
    let literal = |address| std::net::SocketAddr::new(address, origin.port).to_string();
    let tls = || schema::PoolTls {
        sni: origin.host.clone(),
        ca: None,
        client_certificate: None,
        verify: schema::Verify::Full,
    };
    schema::Pool {
        name: origin.name(),
        discovery: address.is_none().then(discovery),
        endpoints: address
            .map(|address| schema::Endpoint::Address(literal(address)))
            .into_iter()
            .collect(),
        protocol: match (origin.secure, origin.http2) {
            (true, _) => schema::PoolProtocol::Auto,
            (false, true) => schema::PoolProtocol::Http2,
            (false, false) => schema::PoolProtocol::Http1,
        },
        tls: origin.secure.then(tls),
        ..Default::default()
    }
}

/// Origins that URLs make pools of. Each has a task that follows its name.
const MOST: usize = 64;
