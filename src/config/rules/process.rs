//! Rules of `server`, `admin` and `observe`: bounds of the process and who may look at it.
//! It must not know routes or pools.
//! Called by `config::rules::check`.

use std::ops::RangeInclusive;

use windrose_plugins::contract::{Size, Time};

use super::values::{accept, address, given, positive, url, within, Address};
use crate::config::report::Report;
use crate::config::schema::{Admin, Config, Observe, ProcessLimits, Recorder, Server};

/// Checks what belongs to the process.
pub(super) fn check(config: &Config, report: &mut Report) {
    server(&config.server, report);
    admin(&config.admin, report);
    observe(&config.observe, report);
    limits(&config.limits, report);
}

fn server(server: &Server, report: &mut Report) {
    within(report, "server.threads", server.threads, 0, 1024);
    if server.mark == Some(0) {
        report.error(
            "server.mark",
            "must not be 0, which is what connections without a mark have",
            "choose a number of its own, or leave it out",
        );
    }
    let files = [
        ("server.upgrade_socket", &server.upgrade_socket),
        ("server.pid_file", &server.pid_file),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            given(report, key, path);
        }
    }
    let times = [
        ("server.drain_timeout", server.drain_timeout),
        ("server.stream_drain_timeout", server.stream_drain_timeout),
    ];
    for (path, time) in times {
        if time > LONGEST_DRAIN {
            report.error(
                path,
                format!("must be at most 1h, found \"{time}\""),
                "shorten it; an old process that drains longer outlives several releases",
            );
        }
    }
}

fn limits(limits: &ProcessLimits, report: &mut Report) {
    if !HELD_BODIES.contains(&limits.held_bodies) {
        report.error(
            "limits.held_bodies",
            format!(
                "must be from 1MiB to 1024GiB, found \"{}\"",
                limits.held_bodies
            ),
            "write a size such as \"64MiB\"",
        );
    }
    if !HELD_BODY_TIME.contains(&limits.held_body_time) {
        report.error(
            "limits.held_body_time",
            format!("must be from 1s to 1h, found \"{}\"", limits.held_body_time),
            "write a time such as \"30s\"",
        );
    }
}

fn admin(admin: &Admin, report: &mut Report) {
    let reachable = match admin.bind.as_str() {
        "off" => false,
        text => match accept(report, "admin.bind", address(text)) {
            Some(Address::Ip(ip)) => !ip.ip().is_loopback(),
            Some(Address::Unix(_)) => false,
            None => return,
        },
    };
    match (reachable, admin.allow_remote) {
        (true, false) => report.error(
            "admin.bind",
            format!(
                "\"{}\" can be reached by others, who could read everything without a password",
                admin.bind
            ),
            "bind to 127.0.0.1 or [::1], or write `allow_remote: true` if this is meant",
        ),
        (false, true) => report.error(
            "admin.allow_remote",
            format!(
                "is not used: \"{}\" cannot be reached by others",
                admin.bind
            ),
            "remove it, or bind to an address that is not loopback",
        ),
        (true, true) | (false, false) => {}
    }
}

fn observe(observe: &Observe, report: &mut Report) {
    given(report, "observe.access_log.to", &observe.access_log.to);
    within(
        report,
        "observe.access_log.queue",
        observe.access_log.queue,
        1,
        1_000_000,
    );
    within(
        report,
        "observe.metrics.series",
        observe.metrics.series,
        100,
        1_000_000,
    );
    if let Some(otlp) = &observe.traces.otlp {
        accept(report, "observe.traces.otlp", url(otlp, &["http"]));
    }
    given(
        report,
        "observe.traces.service_name",
        &observe.traces.service_name,
    );
    positive(report, "observe.traces.interval", observe.traces.interval);
    recorder(&observe.recorder, report);
}

fn recorder(recorder: &Recorder, report: &mut Report) {
    let path = "observe.recorder.records";
    within(report, path, recorder.records, 100, 100_000);
    if !RECORDER_MEMORY.contains(&recorder.bytes) {
        report.error(
            "observe.recorder.bytes",
            format!("must be from 256KiB to 64MiB, found \"{}\"", recorder.bytes),
            "write a size such as \"8MiB\"; `enabled: false` turns the recorder off",
        );
    }
}

/// Below, a part of it would not hold a single long record; above, a bundle of all of it is too much to ask for at once.
const RECORDER_MEMORY: RangeInclusive<Size> = Size(256 << 10)..=Size(64 << 20);
const HELD_BODIES: RangeInclusive<Size> = Size(1 << 20)..=Size(1 << 40);
const HELD_BODY_TIME: RangeInclusive<Time> = Time::secs(1)..=Time::secs(3600);
const LONGEST_DRAIN: Time = Time::secs(3600);
