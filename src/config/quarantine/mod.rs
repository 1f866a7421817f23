//! Broken objects set apart: which object an error belongs to, and what is left of that object when the rest goes live.
//! It must not judge anything itself: it hears what `check`, `decode`, `rules` and `compile` found, and masks their input.
//! Driven by `config::build`, round by round, until nothing is found any more or an error belongs to no object.

mod mask;
mod object;
mod place;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use object::{name, named, uses, Broken, Object};

use super::report::{Finding, Report, Severity};
use super::source::{Document, Node};
use crate::snapshot::quarantine::{Kind, Quarantined, Trouble};
use crate::snapshot::Snapshot;

/// Whether a document asks for it. Read from the text, as what is broken cannot be decoded.
pub(super) fn is_wanted(document: &Document) -> bool {
    let setting = document.root().child("on_invalid").and_then(Node::text);
    setting == Some("quarantine")
}

/// The objects that are set apart, with what is wrong with each.
#[derive(Debug, Clone, Default)]
pub(super) struct Ward {
    objects: BTreeMap<Object, Vec<Finding>>,
}

impl Ward {
    /// Takes in the objects that the errors belong to, and those that cannot be without them.
    ///
    /// # Errors
    /// Everything found so far, when an error belongs to no object, when an object cannot be set apart, or when nothing is
    /// new: then the configuration is refused as a whole.
    pub(super) fn admit(&mut self, document: &Document, report: Report) -> Result<(), Report> {
        let before = self.count();
        let mut whole = self.sort_in(document, report);
        self.spread(document);
        whole.extend(self.out_of_place(document));
        if whole.is_empty() && self.count() == before {
            let stuck = std::mem::take(&mut self.objects).into_values().flatten();
            whole.extend(stuck.map(|finding| refusing(finding, "")));
        }
        if whole.is_empty() {
            return Ok(());
        }
        let mut all = self.findings(document);
        all.absorb(Report::of(whole));
        all.locate(|path| document.place(path));
        Err(all)
    }

    fn count(&self) -> usize {
        self.objects.values().map(Vec::len).sum()
    }

    /// Gives each error to its object; what belongs to none is handed back.
    fn sort_in(&mut self, document: &Document, report: Report) -> Vec<Finding> {
        let findings = report.into_findings().into_iter();
        let mut whole = Vec::new();
        for finding in findings.filter(|finding| finding.severity == Severity::Error) {
            match Object::of(document, &finding.path) {
                Some(object) => self.add(object, finding),
                None => whole.push(refusing(finding, "")),
            }
        }
        whole
    }

    fn add(&mut self, object: Object, finding: Finding) {
        let known = self.objects.entry(object).or_default();
        if !known.contains(&finding) {
            known.push(finding);
        }
    }

    /// Objects that share a name with a broken one, as it is unclear which is meant; and what uses a broken plugin.
    fn spread(&mut self, document: &Document) {
        let mut reached = Vec::new();
        for object in self.objects.keys() {
            reached.extend(namesakes(document, *object));
            if object.kind == Kind::Plugin {
                reached.extend(users(document, *object));
            }
        }
        for (object, mut finding) in reached {
            finding.place = document.place(&finding.path);
            // What was found at the object itself says more.
            let known = self.objects.get(&object);
            if known.is_none_or(|known| known.iter().all(|one| one.path != finding.path)) {
                self.add(object, finding);
            }
        }
    }

    /// Takes out the objects of which too little is understood, with the reason.
    fn out_of_place(&mut self, document: &Document) -> Vec<Finding> {
        let refused = |(object, findings): (&Object, &Vec<Finding>)| {
            let reason = mask::placeable(document, *object, &Broken::of(findings)).err()?;
            Some((*object, reason))
        };
        let refused: Vec<_> = self.objects.iter().filter_map(refused).collect();
        let mut whole = Vec::new();
        for (object, reason) in refused {
            let findings = self.objects.remove(&object).into_iter().flatten();
            whole.extend(findings.map(|finding| refusing(finding, reason)));
        }
        whole
    }

    /// Whether nothing is set apart.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Everything that is wrong with what is set apart, each with what running does about it.
    pub(super) fn findings(&self, document: &Document) -> Report {
        let mut all = Report::default();
        for (object, findings) in &self.objects {
            let effect = format!(
                "quarantines {} \"{}\"",
                object.kind.as_str(),
                name(document, *object)
            );
            let findings = findings.iter().cloned().map(|finding| Finding {
                effect: effect.clone(),
                ..finding
            });
            all.absorb(Report::of(findings.collect()));
        }
        all.locate(|path| document.place(path));
        all
    }

    /// What is set apart, for views; `running` is what a listener may go on with.
    pub(super) fn quarantined(
        &self,
        document: &Document,
        running: Option<&Snapshot>,
    ) -> Vec<Quarantined> {
        let view = |(object, findings): (&Object, &Vec<Finding>)| {
            let name = name(document, *object);
            Quarantined {
                kind: object.kind,
                effect: match mask::effect(*object, document, &Broken::of(findings)) {
                    mask::Effect::Out if running.is_some_and(|it| it.listener(&name).is_some()) => {
                        "it runs on with the settings it had, until a restart"
                    }
                    mask::Effect::Out => "it is left out",
                    mask::Effect::Answer(words) => words,
                },
                name: name.into(),
                problems: findings.iter().map(trouble).collect(),
            }
        };
        self.objects.iter().map(view).collect()
    }
}

fn trouble(finding: &Finding) -> Trouble {
    let place = finding.place.as_ref().map(ToString::to_string);
    Trouble {
        place: place.unwrap_or_default().into(),
        path: finding.path.as_str().into(),
        fact: finding.fact.as_str().into(),
        remedy: finding.remedy.as_str().into(),
    }
}

fn refusing(finding: Finding, reason: &str) -> Finding {
    let effect = match reason {
        "" => "refuses the whole configuration".to_owned(),
        reason => format!("refuses the whole configuration: {reason}"),
    };
    Finding { effect, ..finding }
}

fn namesakes(document: &Document, object: Object) -> Vec<(Object, Finding)> {
    let Some(name) = named(document, object) else {
        return Vec::new();
    };
    let others = Object::all(document, object.kind).into_iter();
    let others = others.filter(|other| *other != object && named(document, *other) == Some(name));
    let finding = |other: Object| {
        let (path, first) = (other.path(document), object.path(document));
        let fact = format!("the name \"{name}\" is taken by {first}, too");
        let remedy = "names are unique in their list; both are out until one is renamed";
        (other, Finding::error(format!("{path}.name"), fact, remedy))
    };
    others.map(finding).collect()
}

fn users(document: &Document, plugin: Object) -> Vec<(Object, Finding)> {
    let name = name(document, plugin);
    let mut found = Vec::new();
    for kind in [Kind::Listener, Kind::Route] {
        for object in Object::all(document, kind) {
            let paths: BTreeSet<String> = uses(document, object, &name).into_iter().collect();
            found.extend(paths.into_iter().map(|path| {
                let fact = format!("the plugin \"{name}\" is broken");
                let remedy = format!("repair {}", plugin.path(document));
                (object, Finding::error(path, fact, remedy))
            }));
        }
    }
    found
}
