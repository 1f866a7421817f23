//! Text in, `Boot` and `Snapshot` out: the only home of YAML.
//! It must not know the proxy or the slow path that call it.
//! Called by the command line and by `control::reload`.

mod check;
mod decode;
mod lint;
mod load;
pub mod print;
pub mod report;
mod rules;
pub mod schema;
pub mod source;

pub use load::{load, load_text, Loaded};
