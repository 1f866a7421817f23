//! Windrose: one binary for both directions of traffic.
//!
//! # The map
//! Modules in layer order; a module imports only from lines below its own, and `tests/house.rs` holds it to that.
//!
//! | Line | Module | What it is |
//! |---|---|---|
//! | 5 | [`cli`] | arguments become a command, a command becomes an exit code |
//! | 4 | [`app`] | the only file that knows everything: a configuration becomes a Pingora server |
//! | 3 | [`proxy`] | fast path: connections in, requests through, answers out; knows no configuration |
//! | 3 | [`control`] | slow path: listeners, reload, probation, discovery, health, certificates, admin; knows no proxy |
//! | 2 | [`ca`] | the built-in authority of a mesh, and how nodes call it; knows no configuration |
//! | 2 | [`config`] | text in, snapshot out: the only home of YAML |
//! | 2 | [`explain`] | a decision told step by step, for people, tools and the configuration's tests |
//! | 2 | [`decide`] | the one decision: what a request is about, which rule it meets, how it goes on |
//! | 1 | [`snapshot`] | what a request reads: one immutable picture, with state that outlives it behind stable keys |
//! | 0 | [`observe`], crate `windrose_plugins` | metrics, logs, traces, records, answers; the plugin contract and built-ins |
//!
//! Fast path and slow path never import each other: they meet in the snapshot.
//!
//! # The path of a request
//! `control::listeners` accepts and hands an `Incoming` to `proxy::Frontend` through a closure made by `app`. `proxy::accept`
//! applies bounds, asks where a captured connection was going (`capture`), reads the PROXY header, looks at the first bytes (`sniff`; `way` says what `mtls`
//! makes of them), and makes TLS; `proxy::serve` hands each request to
//! Pingora's engine, whose hooks are the methods of `proxy::Gateway`: `admit` (strictness), then `decide::Walk`, the way that dry
//! runs go as well: trust, canonical host and path, listener plugins, the decision, the request's class (where `snapshot::limits`
//! may shed it), route plugins, who may call it (`policy`), the rule's action with its share, its deadline (`due`) and what is
//! injected on purpose (`inject`). A connection of bytes is decided by `decide::opaque`, which explains it as well.
//! Where a plugin has a cache (`decide::caching` asks for its wish), `cache` lends its store to Pingora's cache engine, and only what is
//! not answered from there goes on. `upstream` takes a place in the pool (`admission`), chooses an endpoint and hears from it (`outcome`, `snapshot::outlier`);
//! `dial` connects where Pingora's connector cannot, `forward` hands messages on (`Walk::send` makes the request that an endpoint
//! gets), `mirror` sends copies elsewhere and `call` what plugins ask (both by `exchange`), `retry` judges failures (`decide::again`, `snapshot::budget`), `fault` writes the
//! proxy's own answers, `finish` accounts and records.
//!
//! # What plugins share and see
//! `snapshot::store` holds the stores (Redis) in which plugins of several proxies count together, `control::stores` keeps their
//! connections; a request never waits for one to be made. `control::tasks` runs what plugins do beside requests, one task of an
//! instance at a time, from one configuration to the next. Where a plugin wants the whole body of a request, `proxy::whole` reads it
//! when it is that plugin's turn (`chain::BodySource`), and lends Pingora a session that hands it on as often as there are attempts.
//! Where one wants a whole response, `proxy::hold` keeps it back with its head, through the same lent session, so that status and
//! fields may still change (`chain::held`). `snapshot::wire` opens what plugins speak other than HTTP. Pools, plugins and
//! passthrough connect to no address that `ssrf_guard` forbids (`snapshot::ssrf`): it is judged where names have become addresses.
//!
//! # Identities
//! `control::identity` runs the one source of certificates and puts what it brings into `snapshot::identity`, which outlives reloads.
//! `proxy::handshake` shows them to callers and `snapshot::mtls` to endpoints; `identity::verify` judges the other side of both, and
//! again while the connection is open (`identity::proof`; `control::identity` says when).
//! `proxy::caller` finds the local workload that calls, so that connections are made, and kept apart, as that workload; `fair` bounds
//! what it uses. `proxy::tunnel` carries connections between nodes (HBONE): what comes out of a tunnel goes the way of any accepted
//! connection. Whatever connects does so by `snapshot::own`, which marks it and knows it again when it is captured. `ca` is the built-in authority, a process of its own that knows no proxy.
//!
//! # The path of a configuration
//! `config::source` reads, `services` makes pools and routes of services, `check` and `decode` refuse what is unknown, `rules` and `lint` judge, `compile` builds the snapshot,
//! `cases` runs the tests. What cannot be decoded leaves a gap (`schema::Gaps`) from which nobody concludes anything, so that the later steps
//! run all the same and everything wrong is told at once; with `on_invalid: quarantine` what is broken is masked and all of it runs again. `control::reload` has
//! the one way into force, which a probation takes again to go back.
//!
//! # Decisions that differ from the first design
//! - A policy that is broken is never set apart: with part of the policies missing, more might be allowed than was meant.
//! - Causes are `&'static Cause` values, not one enum, so that plugins out of the tree declare their own.
//! - Decoding goes through JSON values: `serde_yaml` wants tags where users write maps of one key.
//! - The downstream socket is ours ([`proxy`]'s transport) instead of Pingora's buffered stream: an idle connection then holds
//!   little more than its socket, and header bounds, answers to malformed requests and pipelining are possible.
//! - `unsafe_code` is denied, not forbidden: taking over inherited sockets has no safe function (`control::inherit`).
//! - The case of field names goes when a request is admitted: Pingora keeps a second map for it, which costs a tenth of the
//!   instructions of a small request, and HTTP/2 clients send none.
//! - A quarantined object is refused with a cause of its own instead of running on as it was: an old policy kept in silence is
//!   harder to find than a clear refusal.
//! - A request's first endpoint is chosen in `request_filter`, not in `upstream_peer`, where its pool has limits: a refusal in the
//!   latter makes Pingora close the client's connection.
//! - An ejected endpoint comes back through one request that tries it (Linkerd's probation), not all at once: a dead one then costs
//!   one request for each time out.
//! - There is no hedging: Pingora makes one attempt after another, and a second way for requests past its hooks would have other
//!   rules for bodies, trailers and plugins.
//! - Session tickets live as long as OpenSSL says; the binding has no safe function for their lifetime.

pub mod app;
pub mod ca;
pub mod cli;
pub mod config;
pub mod control;
pub mod decide;
pub mod explain;
pub mod observe;
pub mod proxy;
pub mod snapshot;

pub use cli::main;
