//! Broken objects that a marked answer stands in for, each with what is wrong.
//! It must not know how they were found, nor what they were to do.
//! Filled by `config::quarantine`; shown and counted by `control`.

use std::fmt;

/// What sort of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A listener.
    Listener,
    /// A route.
    Route,
    /// A pool.
    Pool,
    /// A plugin that has a name.
    Plugin,
    /// A service.
    Service,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [
        Kind::Listener,
        Kind::Route,
        Kind::Pool,
        Kind::Plugin,
        Kind::Service,
    ];

    /// The word in metrics, logs and views.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Listener => "listener",
            Kind::Route => "route",
            Kind::Pool => "pool",
            Kind::Plugin => "plugin",
            Kind::Service => "service",
        }
    }
}

/// An object that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// What sort of object.
    pub kind: Kind,
    /// Its name; a made one where none is given.
    pub name: Box<str>,
    /// What stands in for it, in words.
    pub effect: &'static str,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Trouble>,
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// `file:line:column`.
    pub place: Box<str>,
    /// Path in the configuration.
    pub path: Box<str>,
    /// What is wrong.
    pub fact: Box<str>,
    /// What to do; empty when the fact says it.
    pub remedy: Box<str>,
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quarantined { name, effect, .. } = self;
        write!(
            f,
            "{} \"{name}\" is quarantined: {effect}",
            self.kind.as_str()
        )?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.path, self.fact)?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => write!(f, "\n    help: {}", self.remedy),
        }
    }
}
