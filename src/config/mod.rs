//! Text in, `Boot` and `Snapshot` out: the only home of YAML.
//! It must not know the proxy or the slow path that call it.
//! Called by the command line and by `control::reload`.

pub mod compile;
pub mod lint;
pub mod report;
pub mod rules;
pub mod schema;
