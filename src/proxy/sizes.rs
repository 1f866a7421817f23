//! How much memory a connection and a request hold, bounded so that growth is a decision.
//! It must not run anything: sizes are known from types.
//! Part of the unit tests.
//!
//! Each bound is a little above what was measured: 736 bytes for `Ctx`, 784 for `route`, less for the request upstream,
//! 1800 and 1848 for the proxy's own answers (boxed where they are rare), 4384 for a connection. A request's state and futures are allocated for every request and
//! moved by copying; a connection's future lives as long as the connection, also while it is idle, and ten thousand idle
//! ones hold ten thousand of it. A variable kept over an `.await`, a large enum or an array on the stack shows here
//! first. Before raising a bound, try to box what is rare.

use std::future::Future;
use std::mem::size_of;

use super::request::{self, Ctx};
use super::{fault, forward, Frontend};

/// The size of the future that a function of two arguments returns.
fn of_two<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
    size_of::<F>()
}

/// The size of the future that a function of three arguments returns.
fn of_three<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

/// Fails with the size, so that whoever changes it sees by how much.
fn fits(what: &str, size: usize, bound: usize) {
    assert!(size <= bound, "{what}: {size} bytes, bound {bound}");
}

#[test]
fn the_state_of_a_request_is_small() {
    fits("Ctx", size_of::<Ctx>(), 744);
}

#[test]
fn what_a_request_awaits_is_small() {
    fits("request::route", of_three(request::route), 792);
    fits("forward::request", of_two(forward::request), 688);
    fits("fault::answer", of_three(fault::answer), 1920);
    fits("fault::failed", of_three(fault::failed), 1920);
}

#[test]
fn what_a_connection_awaits_is_small() {
    fits("Frontend::serve", of_two(Frontend::serve), 4416);
}
