//! A pool's limits and a request's class as an explanation tells them: what would happen to one more request.
//! It must not take a place; it reads how full the pool is.
//! Called for every pool a rule may send to, and for the class once for a request.

use std::time::Duration;

use crate::snapshot::limits::{Limited, Limits, Overload, Priority};

/// What a pool's limits are and, in the running process, what they would do now.
pub(super) fn told(limited: &Limited, live: bool) -> Vec<String> {
    let mut lines = vec![bounds(&limited.settings)];
    if live {
        lines.push(now(limited));
    }
    lines
}

fn bounds(limits: &Limits) -> String {
    let counted = [
        (limits.requests, "under way"),
        (limits.endpoint_requests, "at one endpoint"),
        (limits.retries, "retries"),
    ];
    let mut parts: Vec<String> = counted
        .into_iter()
        .filter_map(|(bound, what)| Some(format!("{} {what}", bound?)))
        .collect();
    if let Some(adaptive) = &limits.adaptive {
        let (least, most) = (adaptive.least, adaptive.most);
        parts.push(format!("between {least} and {most} under way by latency"));
    }
    if parts.is_empty() {
        parts.push("none".to_owned());
    }
    let waits = match limits.pending {
        0 => "nobody waits".to_owned(),
        pending => format!("{pending} may wait, each {}", time(limits.queue_timeout)),
    };
    format!("limits: at most {}; {waits}", parts.join(", "))
}

fn now(limited: &Limited) -> String {
    let load = limited.state.load();
    let is_full = load.most.is_some_and(|most| load.in_flight >= most);
    let verdict = if !is_full && load.waiting == 0 {
        "a place is free"
    } else if load.waiting < limited.settings.pending {
        "one more would wait"
    } else {
        "one more would be refused with pool_overloaded"
    };
    let most = load
        .most
        .map_or(String::new(), |most| format!(" of {most}"));
    let latency = limited.state.reading().and_then(|reading| {
        let (reference, median) = (reading.reference?, reading.median?);
        Some(format!(
            " (answers take {}, {} without queueing)",
            time(median),
            time(reference)
        ))
    });
    format!(
        "now {}{most} under way{}, {} waiting: {verdict}",
        load.in_flight,
        latency.unwrap_or_default(),
        load.waiting
    )
}

/// What the class means for this request; `None` for what is so for most of them.
pub(super) fn class(class: Priority, pressure: &Overload, live: bool) -> Option<String> {
    let share = if live { pressure.share(class) } else { 0.0 };
    let refused = (share > 0.0).then(|| {
        let percent = (share * 100.0).round();
        format!("{percent} % of its requests are refused now with overloaded")
    });
    match (class, refused) {
        (Priority::Normal, None) => None,
        (class, None) => Some(format!("priority {}", class.as_str())),
        (class, Some(refused)) => Some(format!("priority {}: {refused}", class.as_str())),
    }
}

fn time(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
    }
}
