//! Lines on their way to the writer: each thread that logs has a buffer of its own, which the writer takes whole.
//! It must not know what a line says or where it goes.
//! `AccessLog` adds lines and orders; the writer takes both.

use std::cell::Cell;
use std::mem;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::writer::Order;

/// Lines and orders that wait. A buffer that a thread fills and hands over whole costs it less than a queue of lines: none of
/// them is allocated here and freed by another thread, nor wakes one.
pub(super) struct Queue {
    buffers: Box<[Buffer]>,
    /// Orders that wait. Whoever takes lines holds it, so that lines logged after an order are never carried out before it.
    orders: Mutex<Vec<Order>>,
    /// Weight of the lines that wait.
    waiting: AtomicUsize,
    /// Whether the writer sleeps until it is woken.
    asleep: AtomicBool,
    ended: AtomicBool,
}

/// Alone in its cache lines: threads would else slow each other down.
#[repr(align(128))]
#[derive(Default)]
struct Buffer(Mutex<Lines>);

/// Whole lines.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    weight: usize,
}

/// What became of a line.
pub(super) enum Added {
    /// It waits, and nothing needs to be done.
    Quietly,
    /// It waits, and the writer should be woken.
    Wake,
    /// There was no room.
    Dropped,
}

thread_local! {
    /// Which buffer is this thread's: one more than its number, 0 before it is chosen.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// Threads that have chosen a buffer.
static THREADS: AtomicUsize = AtomicUsize::new(0);

impl Queue {
    pub(super) fn new() -> Queue {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let buffers = threads.clamp(2, MOST_BUFFERS);
        Queue {
            buffers: (0..buffers).map(|_| Buffer::default()).collect(),
            orders: Mutex::default(),
            waiting: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Adds a line, unless more than `limit` would wait then.
    pub(super) fn add(&self, limit: usize, line: impl FnOnce(&mut Vec<u8>)) -> Added {
        if self.waiting.load(Ordering::Relaxed) >= limit {
            // Looked at before formatting: in a stall, requests should not pay for lines nobody will read.
            return Added::Dropped;
        }
        let mut lines = self.own();
        let begin = lines.text.len();
        line(&mut lines.text);
        let weight = weight(lines.text.len() - begin);
        let before = self.waiting.fetch_add(weight, Ordering::Relaxed);
        // A single line heavier than a small queue may still have an empty one.
        if before > 0 && before + weight > limit {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
            lines.text.truncate(begin);
            return Added::Dropped;
        }
        lines.weight += weight;
        drop(lines);
        // Under traffic the writer naps between batches; half a queue ends the nap. One that sleeps looked at every buffer
        // after it said so: it has seen this line, or its sleep is seen here, by the buffer's lock.
        let half = limit / 2;
        let is_half = before <= half && before + weight > half;
        match is_half || self.ends_sleep() {
            true => Added::Wake,
            false => Added::Quietly,
        }
    }

    /// Adds an order, to be carried out after the lines logged before it and before those logged after it. The writer has
    /// to be woken.
    pub(super) fn order(&self, order: Order) {
        let mut orders = self.orders();
        let mut before = Lines::default();
        self.take_lines(&mut before);
        orders.extend([Order::Write(before), order]);
    }

    /// Takes all orders, and the lines logged after them. Memory of `lines` is used again for what is logged next.
    pub(super) fn take(&self, lines: &mut Lines) -> Vec<Order> {
        let mut orders = self.orders();
        self.take_lines(lines);
        mem::take(&mut *orders)
    }

    /// These lines do not wait any more.
    pub(super) fn taken(&self, lines: &mut Lines) {
        self.waiting
            .fetch_sub(mem::take(&mut lines.weight), Ordering::Relaxed);
    }

    /// The writer is going to sleep; it has to look once more before it does.
    pub(super) fn sleeps(&self) {
        self.asleep.store(true, Ordering::Relaxed);
    }

    /// Whether the writer slept, which it does no longer.
    fn ends_sleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Nothing is added any more. The writer has to be woken.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether everything there will ever be was added.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn take_lines(&self, into: &mut Lines) {
        for buffer in &self.buffers {
            let mut lines = buffer.lock();
            if lines.text.is_empty() {
                continue;
            }
            into.weight += mem::take(&mut lines.weight);
            if into.text.is_empty() {
                mem::swap(&mut into.text, &mut lines.text);
            } else {
                into.text.append(&mut lines.text);
            }
        }
    }

    fn own(&self) -> MutexGuard<'_, Lines> {
        let mut own = OWN.get();
        if own == 0 {
            own = 1 + THREADS.fetch_add(1, Ordering::Relaxed);
            OWN.set(own);
        }
        self.buffers[(own - 1) % self.buffers.len()].lock()
    }

    fn orders(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of the queue a line takes: one for each KiB begun.
fn weight(bytes: usize) -> usize {
    bytes.div_ceil(1024).max(1)
}

/// More threads than this share buffers.
const MOST_BUFFERS: usize = 64;
