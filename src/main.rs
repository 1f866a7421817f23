//! The `windrose` binary: the built-in plugins and nothing else.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    windrose::main(&[windrose_plugins::BUILTIN])
}
