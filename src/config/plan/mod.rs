//! What a change of the configuration means: objects that differ, rules that moved, requests that would fare otherwise.
//! It must not know what runs, nor decide: differences of decisions are differences of explanations.
//! Printed by `windrose plan`; `windrose reload` prints the first part.

mod changes;
mod order;
mod policies;
mod replay;

pub use changes::{changes, note_quarantine, Change, Detail, Side, What};
pub use order::{order, Moved};
pub use policies::counted;
pub use replay::{replay, Group, Replayed, Ruled};
