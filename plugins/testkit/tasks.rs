//! Background tasks, driven by hand: nothing happens between two turns, and time is the kit's.
//! It must not know what tasks do.
//! Part of the kit.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use super::{Instance, Kit};
use crate::contract::{End, Life, TaskFuture};

/// A task that was begun.
pub struct Task {
    future: Option<TaskFuture>,
    end: End,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Kit {
    /// Begins a task of an instance and lets it go as far as it can.
    ///
    /// # Panics
    /// When the instance has no such task.
    pub fn task(&self, instance: &Instance, name: &str) -> Task {
        let mut tasks = instance.hooks.background.iter();
        let task = tasks.find(|task| task.name == name);
        let task = task.expect("the plugin attached the task");
        let (life, end) = Life::new(self.clock());
        let mut task = Task {
            future: Some((task.begin)(life)),
            end,
        };
        task.go_on();
        task
    }
}

impl Task {
    /// Lets it go as far as it can, such as after the clock moved. Whether it is still there.
    pub fn go_on(&mut self) -> bool {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        // A task that wakes itself without end is a mistake of the plugin; the test then fails for another reason.
        for _ in 0..MOST_TURNS {
            let Some(future) = self
                .future
                .as_mut()
                .filter(|_| woken.0.swap(false, Relaxed))
            else {
                break;
            };
            if future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                self.future = None;
            }
        }
        self.future.is_some()
    }

    /// Asks it to end and lets it go as far as it can. Whether it is still there.
    pub fn end(&mut self) -> bool {
        self.end.ask();
        self.go_on()
    }
}

const MOST_TURNS: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use crate::contract::Hooks;

    #[test]
    fn a_task_rests_by_the_kits_clock_and_ends_when_asked() {
        let kit = Kit::new();
        let rounds = Arc::new(AtomicUsize::new(0));
        let counted = rounds.clone();
        let hooks = Hooks::new().background("round", move |life| {
            let rounds = counted.clone();
            async move {
                while life.rest(Duration::from_secs(10)).await {
                    rounds.fetch_add(1, Relaxed);
                }
            }
        });
        let mut task = kit.task(&Instance { hooks }, "round");

        kit.advance(Duration::from_secs(9));
        assert!(task.go_on());
        assert_eq!(rounds.load(Relaxed), 0);
        kit.advance(Duration::from_secs(1));
        assert!(task.go_on());
        assert_eq!(rounds.load(Relaxed), 1);

        assert!(!task.end(), "it is over at once");
        assert_eq!(rounds.load(Relaxed), 1);
    }
}
