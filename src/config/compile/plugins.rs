//! Plugin instances: built once for each use, or once for a name that several lists use.
//! It must not know what plugins do.
//! Called by the other parts of `compile`.

use std::collections::BTreeMap;
use std::sync::Arc;

use windrose_plugins::contract::{
    causes, Answer, Build, Consumers, Hooks, Problem, Safety, Verdict,
};

use super::calls::{Lines, LinesAt};
use super::stores::Known;
use super::{consumers, Means};
use crate::config::report::Report;
use crate::config::schema::{Config, Listener, OnError, PluginInstance, PluginMode, PluginUse};
use crate::observe::redact;
use crate::snapshot::chain::{Chain, Instance, Mode};
use crate::snapshot::store::Stores;

/// What plugins are built with, and those that have a name.
pub(super) struct Named<'a> {
    pub(super) with: With<'a>,
    /// `None` for those that are off or could not be built.
    instances: BTreeMap<String, Option<Arc<Instance>>>,
}

/// What plugins get besides the means of the compilation.
pub(super) struct With<'a> {
    consumers: Arc<Consumers>,
    stores: Known<'a>,
    /// What carries their calls.
    pub(super) lines: Lines<'a>,
}

/// Builds the instances under `plugins`.
pub(super) fn named<'a>(
    config: &'a Config,
    (stores, lines): (&'a Stores, Lines<'a>),
    means: &Means<'_>,
    report: &mut Report,
) -> Named<'a> {
    let with = With {
        consumers: consumers::compile(config),
        stores: Known::new(stores, config, means),
        lines,
    };
    let build = |(name, settings): (&String, &PluginInstance)| {
        let path = format!("plugins.{name}");
        let built = build(name, &path, settings, &with, means, report);
        (name.clone(), built)
    };
    let instances = config.plugins.iter().map(build).collect();
    Named { instances, with }
}

/// Where a chain stands; hooks that could never run there are errors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// A listener that serves requests.
    Listener(Certificates),
    /// A listener that passes bytes through.
    ByteListener,
    /// A route for requests.
    Route(Certificates),
    /// A listener or route that could not be decoded.
    Unknown,
}

/// Whether clients are asked for certificates, by the listener or by any that serves the route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificates {
    Asked,
    NotAsked,
}

impl Certificates {
    /// Whether one of these listeners asks.
    pub(super) fn of<'c>(listeners: impl IntoIterator<Item = &'c Listener>) -> Certificates {
        let asks = |listener: &Listener| {
            let tls = listener.tls.as_ref();
            listener.mtls.is_some() || tls.is_some_and(|tls| tls.client_certificates.is_some())
        };
        match listeners.into_iter().any(asks) {
            true => Certificates::Asked,
            false => Certificates::NotAsked,
        }
    }
}

/// Builds the chain of a `plugins` list; `owner` keys the state of instances written in place.
pub(super) fn chain(
    lists: &[(&str, &[PluginUse])],
    owner: &str,
    stand: Stand,
    named: &Named<'_>,
    means: &Means<'_>,
    report: &mut Report,
) -> Chain {
    let mut all = Vec::new();
    for (list, uses) in lists {
        for (at, one) in uses.iter().enumerate() {
            let path = format!("{list}[{at}]");
            let instance = match one {
                PluginUse::Named(name) => named.instances.get(name).cloned().flatten(),
                PluginUse::Inline(settings) => {
                    let name = format!("{owner}.{}.{}", all.len(), settings.kind);
                    build(&name, &path, settings, &named.with, means, report)
                }
            };
            let Some(instance) = instance else { continue };
            reachable(&instance, &path, stand, report);
            alone(&instance, &all, &path, report);
            all.push(instance);
        }
    }
    Chain::new(all)
}

/// The chain of a listener with a plugin that is broken: everything is refused.
pub(super) fn closed(listener: &Listener, path: &str, stand: Stand, means: &Means<'_>) -> Chain {
    let refusal = || Verdict::Answer(Box::new(Answer::of(&causes::QUARANTINED)));
    let hooks = match stand {
        Stand::ByteListener => Hooks::new().on_connection(move |_| refusal()),
        Stand::Listener(_) | Stand::Route(_) | Stand::Unknown => {
            Hooks::new().on_request(move |_| refusal())
        }
    };
    let name = format!("{}.quarantined", listener.name);
    Chain::new(vec![Arc::new(Instance {
        kind: "quarantined",
        place: (means.place)(&format!("{path}.plugins")).into(),
        mode: Mode::Enforce,
        fails_open: false,
        hooks,
        answered: means.metrics.plugin_event(&name, "answered"),
        would_answer: means.metrics.plugin_event(&name, "would_answer"),
        failed: means.metrics.plugin_event(&name, "failed"),
        examples: Default::default(),
        name: name.into(),
    })])
}

/// A request is answered from one cache: another one behind it would be silently without effect.
fn alone(instance: &Arc<Instance>, before: &[Arc<Instance>], path: &str, report: &mut Report) {
    let first = before.iter().find(|one| one.hooks.cache.is_some());
    if let (true, Some(first)) = (instance.hooks.cache.is_some(), first) {
        let fact = format!(
            "a second cache: requests are answered from \"{}\"",
            first.name
        );
        once(
            report,
            path,
            fact,
            "remove one of them, or give a rule its own",
        );
    }
}

/// Adds an error of a chain. What a route has for all of its rules is built for each, and judged the same.
fn once(report: &mut Report, path: &str, fact: String, remedy: &str) {
    let mut known = report.findings().iter();
    if !known.any(|one| one.path == path && one.remedy == remedy) {
        report.error(path, fact, remedy);
    }
}

/// A plugin none of whose hooks can run where it stands would be silently without effect.
fn reachable(instance: &Instance, path: &str, stand: Stand, report: &mut Report) {
    let hooks = &instance.hooks;
    let only_connection = hooks.connection.is_some()
        && hooks.request.is_none()
        && hooks.response.is_none()
        && hooks.upstream_request.is_none()
        && hooks.request_body.is_none()
        && hooks.response_body.is_none()
        && hooks.held_response.is_none()
        && hooks.cache.is_none();
    if matches!(stand, Stand::Route(_)) && only_connection {
        let remedy = "move it to the listener's `plugins`, or let it act on requests";
        once(
            report,
            path,
            format!(
                "plugin \"{}\" acts on connections, which a route never sees",
                instance.name
            ),
            remedy,
        );
    }
    let misses = match stand {
        Stand::Listener(Certificates::NotAsked) => Some("the listener does not ask"),
        Stand::Route(Certificates::NotAsked) => Some("no listener of the route asks"),
        Stand::Listener(_) | Stand::Route(_) | Stand::ByteListener | Stand::Unknown => None,
    };
    if let (true, Some(who)) = (hooks.client_certificates, misses) {
        once(
            report,
            path,
            format!(
                "plugin \"{}\" reads client certificates, and {who} for any",
                instance.name
            ),
            "set `tls.client_certificates` on the listener, or remove the plugin",
        );
    }
    if stand == Stand::ByteListener && !only_connection {
        let remedy = "only plugins that act on connections work here, such as `ip_filter` with `at: connection`";
        once(
            report,
            path,
            format!(
                "plugin \"{}\" acts on requests, and this listener passes bytes through",
                instance.name
            ),
            remedy,
        );
    }
}

/// Hides what carries credentials, also of a configuration that is only looked at: one name too many does no harm.
fn conceal(hooks: &Hooks) {
    redact::hide(hooks.credentials.iter().map(String::as_str));
}

fn build(
    name: &str,
    path: &str,
    settings: &PluginInstance,
    with: &With<'_>,
    means: &Means<'_>,
    report: &mut Report,
) -> Option<Arc<Instance>> {
    if settings.is_broken {
        return None;
    }
    let Some(def) = means.plugins.iter().find(|def| def.kind == settings.kind) else {
        report.error(
            format!("{path}.kind"),
            format!("no plugin is of kind \"{}\"", settings.kind),
            "`windrose plugins` lists them",
        );
        return None;
    };
    let context = Build {
        instance: name,
        folder: means.folder,
        clock: super::clock(),
        states: means.states,
        consumers: &with.consumers,
        stores: &with.stores,
        counters: &*means.metrics,
        plugins: means.plugins,
        carriers: &LinesAt {
            lines: &with.lines,
            path,
        },
    };
    let config = match &settings.config {
        serde_yaml::Value::Null => serde_yaml::Value::Mapping(Default::default()),
        config => config.clone(),
    };
    match (def.build)(config, &context).inspect(conceal) {
        Ok(hooks) => Some(Arc::new(Instance {
            name: name.into(),
            kind: def.kind,
            place: (means.place)(path).into(),
            mode: match settings.mode {
                PluginMode::Enforce => Mode::Enforce,
                PluginMode::Shadow => Mode::Shadow,
                PluginMode::Off => return None,
            },
            fails_open: match settings.on_error {
                Some(on_error) => on_error == OnError::Open,
                None => def.safety == Safety::Convenience,
            },
            hooks,
            answered: means.metrics.plugin_event(name, "answered"),
            would_answer: means.metrics.plugin_event(name, "would_answer"),
            failed: means.metrics.plugin_event(name, "failed"),
            examples: Default::default(),
        })),
        Err(problems) => {
            placed(problems, path, report);
            None
        }
    }
}

/// Adds what is wrong with the settings of the plugin at a path.
fn placed(problems: Vec<Problem>, path: &str, report: &mut Report) {
    for problem in problems {
        let at = match problem.path.as_str() {
            "" => format!("{path}.config"),
            below if below.starts_with('[') => format!("{path}.config{below}"),
            below => format!("{path}.config.{below}"),
        };
        report.error(at, problem.fact, problem.remedy);
    }
}
