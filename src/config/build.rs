//! All the way from a file to a snapshot: load, compile, run the configuration's own tests.
//! It must not publish anything.
//! Called at start, by `control::reload`, and by `windrose check`.

use std::path::Path;
use std::sync::Arc;

use windrose_plugins::contract::StateRegistry;
use windrose_plugins::PluginDef;

use super::compile::{compile, Guards, Means, Origin};
use super::quarantine::{self, Ward};
use super::report::{Report, Severity};
use super::schema::Config;
use super::source::Document;
use super::{cases, load, print, Loaded};
use crate::observe::metrics::Metrics;
use crate::snapshot::call::Exchange;
use crate::snapshot::endpoint::Endpoints;
use crate::snapshot::identity::Identities;
use crate::snapshot::quarantine::Quarantined;
use crate::snapshot::secrets::Secrets;
use crate::snapshot::Snapshot;

/// What a snapshot is built with besides text.
pub struct Resources<'a> {
    /// The plugins compiled in.
    pub plugins: &'a [PluginDef],
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Endpoints of the process.
    pub endpoints: &'a Endpoints,
    /// Identities of the process.
    pub identities: &'a Arc<Identities>,
    /// State of plugins.
    pub states: &'a StateRegistry,
    /// Carries calls of plugins.
    pub exchange: Arc<dyn Exchange>,
    /// The snapshot in force.
    pub previous: Option<&'a Snapshot>,
}

/// A configuration and what it became.
pub struct Built {
    /// As written, with defaults; of objects that are quarantined only their place.
    pub config: Config,
    /// Ready to publish.
    pub snapshot: Snapshot,
    /// What someone should look at.
    pub warnings: Report,
    /// What is wrong with objects that are quarantined; empty unless the configuration asks for that.
    pub quarantined: Report,
}

/// Builds a file: all of it, or with `on_invalid: quarantine` as much as is sound.
///
/// # Errors
/// Everything that is wrong and no object's own, and tests of the configuration that fail.
pub fn build(path: &Path, resources: &Resources<'_>) -> Result<Built, Report> {
    build_document(&Document::read(path)?, path, resources)
}

/// Builds what was read. What is found late may lie in what earlier rounds could not see; each round sets something more apart, or is the last.
pub fn build_document(
    document: &Document,
    path: &Path,
    resources: &Resources<'_>,
) -> Result<Built, Report> {
    let mut ward = Ward::default();
    let mut rounds = 0..MOST_ROUNDS;
    loop {
        let outcome = build_round(document, &ward, path, resources);
        match (outcome, rounds.next()) {
            (Err(report), Some(_)) if quarantine::is_wanted(document) => {
                ward.admit(document, report)?;
            }
            (outcome, _) => return outcome,
        }
    }
}

/// Far more than places, stages and cascades need; without a bound a mistake of ours would never end.
const MOST_ROUNDS: u32 = 32;

fn build_round(
    document: &Document,
    ward: &Ward,
    path: &Path,
    resources: &Resources<'_>,
) -> Result<Built, Report> {
    let loaded = load::judge(
        document.clone(),
        load::folder(path),
        resources.plugins,
        ward,
    )?;
    let quarantined = ward.quarantined(document, resources.previous);
    let built = compiled(loaded, path, resources, quarantined)?;
    Ok(Built {
        quarantined: ward.findings(document),
        ..built
    })
}

/// Builds what was loaded; it has no errors, so nothing is quarantined.
///
/// # Errors
/// As [`build`].
pub fn build_loaded(
    loaded: Loaded,
    path: &Path,
    resources: &Resources<'_>,
) -> Result<Built, Report> {
    compiled(loaded, path, resources, Vec::new())
}

fn compiled(
    loaded: Loaded,
    path: &Path,
    resources: &Resources<'_>,
    quarantined: Vec<Quarantined>,
) -> Result<Built, Report> {
    let means = Means {
        plugins: resources.plugins,
        metrics: resources.metrics.clone(),
        endpoints: resources.endpoints,
        identities: resources.identities,
        states: resources.states,
        exchange: resources.exchange.clone(),
        previous: resources.previous,
        folder: load::folder(path),
        place: &place_of(loaded.document.clone()),
        guard: Guards::of(&loaded.config),
    };
    // Shorter by what the text had reserved: it stays as long as the snapshot.
    let effective = print::show(&loaded).into_boxed_str();
    let warnings = loaded.warnings.findings().iter();
    let origin = Origin {
        digest: loaded.document.digest().to_owned(),
        effective: effective.into(),
        secrets: Secrets::new(loaded.document.secrets()),
        warnings: warnings
            .filter(|finding| finding.severity == Severity::Warning)
            .map(ToString::to_string)
            .collect(),
        quarantined,
    };
    let snapshot = match compile(&loaded.config, origin, &means) {
        Ok(snapshot) => snapshot,
        Err(report) => return Err(loaded.beside(report)),
    };
    let mut report = Report::new();
    cases::run(&loaded.config, &snapshot, &mut report);
    match report.has_errors() {
        true => Err(loaded.beside(report)),
        false => Ok(Built {
            config: loaded.config,
            snapshot,
            warnings: loaded.warnings,
            quarantined: Report::new(),
        }),
    }
}

fn place_of(document: Document) -> impl Fn(&str) -> String {
    move |path| {
        document.place(path).map_or(String::new(), |place| {
            format!("{}:{}", place.file, place.line)
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::snapshot::call::OutOfReach;
    use crate::snapshot::route::HostPattern;

    /// What a text makes with the built-in plugins and nothing running, or with this.
    pub(in crate::config) fn built(
        text: &str,
        previous: Option<&Snapshot>,
    ) -> Result<Built, Report> {
        let resources = Resources {
            plugins: windrose_plugins::BUILTIN,
            metrics: Metrics::new(1000),
            endpoints: &Endpoints::default(),
            identities: &Default::default(),
            states: &StateRegistry::default(),
            exchange: Arc::new(OutOfReach),
            previous,
        };
        let document = Document::read_text("gw.yaml", text)?;
        build_document(&document, Path::new("gw.yaml"), &resources)
    }

    #[test]
    fn every_name_of_a_byte_route_stands_at_its_own_rank() {
        let text = "
listeners: [{name: tls, bind: '127.0.0.1:0', protocol: tls_passthrough}]
pools: [{name: p, protocol: tcp, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}]
routes:
- {name: wide, protocol: tcp, hosts: ['*.test', exact.b.test], rules: [{pool: p}]}
- {name: narrow, protocol: tcp, hosts: ['*.b.test'], rules: [{pool: p}]}
";
        let snapshot = built(text, None)
            .map(|built| built.snapshot)
            .map_err(|report| report.to_string())
            .unwrap();

        let order: Vec<_> = snapshot.listeners[0]
            .tcp
            .rules
            .iter()
            .map(|rule| (&*rule.rule.route, rule.sni.clone()))
            .collect();

        assert_eq!(
            order,
            [
                ("wide", Some(HostPattern::new("exact.b.test"))),
                ("narrow", Some(HostPattern::new("*.b.test"))),
                ("wide", Some(HostPattern::new("*.test"))),
            ]
        );
    }

    #[test]
    fn explanations_are_shown_without_secrets_and_tests_see_them() {
        let text = "
listeners: [{name: web, bind: '127.0.0.1:0'}]
pools: [{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}]
routes:
- name: r
  rules:
  - match: [{path: {prefix: /}, headers: {x-key: '${env:WINDROSE_UNSET_KEY:-first-hidden}'}}]
    pool: p
    request_headers: {set: {authorization: 'Bearer ${env:WINDROSE_UNSET_TOKEN:-second-hidden}'}}
tests:
- request: {url: 'http://a/', headers: {x-key: first-hidden}}
  expect: {headers: {authorization: Bearer second-hidden}}
";
        let snapshot = built(text, None)
            .map(|built| built.snapshot)
            .map_err(|report| report.to_string())
            .unwrap();
        let question = crate::explain::Question {
            method: "GET".into(),
            url: "http://a/".into(),
            headers: vec![("x-key".into(), "first-hidden".into())],
            ..Default::default()
        };

        let explanation = crate::explain::explain(&snapshot, &question, false).unwrap();
        let shown = snapshot.secrets.hidden_in(explanation).unwrap();

        let shown = serde_json::to_string(&shown).unwrap();
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("Bearer ***"), "{shown}");
    }

    #[test]
    fn tests_see_the_fields_that_rules_and_plugins_send_upstream() {
        let text = |expected: &str| {
            format!(
                "
listeners: [{{name: web, bind: '127.0.0.1:0'}}]
pools: [{{name: p, endpoints: ['10.0.0.1:1', '10.0.0.2:1']}}]
routes:
- name: r
  rules:
  - pool: p
    request_headers: {{set: {{x-rule: '1'}}}}
    plugins: [{{kind: headers, config: {{request: {{set: {{x-plugin: '2'}}}}}}}}]
tests:
- request: {{url: 'http://a/'}}
  expect: {{headers: {{x-rule: '1', x-plugin: '{expected}'}}}}
"
            )
        };

        assert!(built(&text("2"), None).is_ok());
        let refused = built(&text("3"), None)
            .err()
            .map(|report| report.to_string())
            .unwrap_or_default();
        assert!(
            refused.contains("tests[0].expect.headers.x-plugin: ")
                && refused.contains("found \"2\""),
            "{refused}"
        );
    }
}
