//! Peers for tests that speak no HTTP: what they were sent, and failures on request.
//! It must not know what is sent.
//! Part of the kit.

use std::future::{ready, Future};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Kit;
use crate::contract::{Wire, WireFailure, WireFuture, WireSettings, Wires};

/// Every peer of a kit.
#[derive(Default, Clone)]
pub(super) struct FakeWires(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    failure: Option<WireFailure>,
    opened: usize,
    sent: Vec<(String, Bytes)>,
}

impl Kit {
    /// Fails everything that wires are asked for from now on, or nothing any more.
    pub fn break_wires(&self, failure: Option<WireFailure>) {
        self.calls.wires().state().failure = failure;
    }

    /// How often a wire was opened.
    pub fn wires_opened(&self) -> usize {
        self.calls.wires().state().opened
    }

    /// What was sent, in order, with the name of the peer.
    pub fn sent(&self) -> Vec<(String, Bytes)> {
        self.calls.wires().state().sent.clone()
    }
}

impl FakeWires {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn to(&self, settings: &WireSettings) -> Arc<dyn Wires> {
        Arc::new(Line {
            wires: self.clone(),
            far: settings.far.to_string(),
        })
    }
}

#[derive(Clone)]
struct Line {
    wires: FakeWires,
    far: String,
}

impl Wires for Line {
    fn open(&self) -> WireFuture<'_, Box<dyn Wire>> {
        let mut state = self.wires.state();
        let outcome = match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => {
                state.opened += 1;
                Ok(Box::new(self.clone()) as Box<dyn Wire>)
            }
        };
        Box::pin(ready(outcome))
    }
}

impl Wire for Line {
    fn send(&mut self, bytes: Bytes) -> WireFuture<'_, ()> {
        let mut state = self.wires.state();
        let outcome = match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => {
                state.sent.push((self.far.clone(), bytes));
                Ok(())
            }
        };
        Box::pin(ready(outcome))
    }

    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}
