//! The `windrose` binary.
fn main() {}
