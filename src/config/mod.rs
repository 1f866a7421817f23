//! Text in, `Boot` and `Snapshot` out: the only home of YAML.
//! It must not know the proxy or the slow path that call it.
//! Called by the command line and by `control::reload`.

pub mod boot;
mod build;
mod cases;

mod check;
pub mod compile;
mod decode;
mod disk;
pub mod lint;
mod load;
pub mod manual;
pub mod plan;
pub mod print;
mod quarantine;
pub mod report;
mod rest;
pub mod rules;
pub mod schema;
mod services;
pub mod source;

pub use build::{build, build_document, build_loaded, Built, Resources};
pub use disk::Disk;
pub use load::{load, load_section, load_text, Loaded};
pub use rest::AtRest;
