//! The paths of the admin address, with what its index says about each.
//! It must not answer any of them.
//! Read by `admin` and by the page at its root.

/// What is behind a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Index,
    Live,
    Ready,
    Metrics,
    Config,
    Routes,
    Pools,
    Plugins,
    Cache,
    CachePurge,
    Mirrors,
    Policies,
    Mesh,
    MeshProbe,
    Listeners,
    Certs,
    Causes,
    Status,
    Probation,
    Records,
    Bundle,
    Explain,
    Reload,
    Confirm,
    RollBack,
}

/// A path, with what the index and the 404 say about it.
pub(super) struct Entry {
    pub(super) path: &'static str,
    pub(super) place: Place,
    pub(super) about: &'static str,
}

const fn entry(path: &'static str, place: Place, about: &'static str) -> Entry {
    Entry { path, place, about }
}

pub(super) const PLACES: &[Entry] = &[
    entry("/", Place::Index, "this overview"),
    entry("/livez", Place::Live, "200 while the process runs"),
    entry(
        "/readyz",
        Place::Ready,
        "200 while traffic should be sent here, else 503, with the reason",
    ),
    entry(
        "/metrics",
        Place::Metrics,
        "metrics in the Prometheus text format",
    ),
    entry(
        "/config",
        Place::Config,
        "the configuration in force, secrets left out; ?format=json for more about it",
    ),
    entry(
        "/routes",
        Place::Routes,
        "rules of each listener in order of precedence",
    ),
    entry(
        "/pools",
        Place::Pools,
        "pools and endpoints: health, ejection, load, and why an endpoint is out",
    ),
    entry(
        "/plugins",
        Place::Plugins,
        "plugin instances: mode, answers, and what those in the shadow would have answered",
    ),
    entry("/cache", Place::Cache, "caches: what their stores hold"),
    entry(
        "/cache/purge",
        Place::CachePurge,
        "POST with the field x-windrose-admin: reload takes stored responses out: ?url= ?tag= or ?all, &plugin= for one cache",
    ),
    entry(
        "/mirrors",
        Place::Mirrors,
        "mirrors: what became of copies, and examples of responses that differ",
    ),
    entry(
        "/policies",
        Place::Policies,
        "policies: what each rule decided, when last, examples, and rules that never did",
    ),
    entry(
        "/mesh",
        Place::Mesh,
        "who calls what, and whether plaintext may be refused; ?format=html as a page",
    ),
    entry(
        "/mesh/probe",
        Place::MeshProbe,
        "POST with the field x-windrose-admin: reload makes a handshake with each endpoint of mesh pools, as each workload: who they prove to be",
    ),
    entry(
        "/listeners",
        Place::Listeners,
        "listeners, their connections and certificates",
    ),
    entry(
        "/certs",
        Place::Certs,
        "identities: when certificates and roots end, how long their source may stay away, alarms",
    ),
    entry(
        "/causes",
        Place::Causes,
        "every cause the proxy can give, with what to do about it",
    ),
    entry(
        "/status",
        Place::Status,
        "everything that `windrose status` shows, and what needs attention",
    ),
    entry(
        "/probation",
        Place::Probation,
        "the configuration on probation, and what came of the last one",
    ),
    entry(
        "/recorder",
        Place::Records,
        "records of errors, slow requests and a sample, newest first; ?cause= ?route= ?status= ?limit=; /recorder/ID for those of a request id or trace id",
    ),
    entry(
        "/recorder/bundle",
        Place::Bundle,
        "every record in one document, to be read elsewhere",
    ),
    entry(
        "/explain",
        Place::Explain,
        "POST a request as JSON (method, url, headers, from, sni, as, listener): where it would go now, and why",
    ),
    entry(
        "/reload",
        Place::Reload,
        "POST with the field x-windrose-admin: reload reads the configuration again; ?confirm=60s puts it on probation, &max_5xx_rise=5% sets its bound",
    ),
    entry(
        "/confirm",
        Place::Confirm,
        "POST with the same field keeps the configuration on probation; ?generation=N only if it is that one",
    ),
    entry(
        "/rollback",
        Place::RollBack,
        "POST with the same field goes back to the configuration before the probation",
    ),
];
