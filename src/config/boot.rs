//! What only a restart or an upgrade changes, and settings of `observe` in the form the writers take.
//! It must not know Pingora.
//! Read by `app` at start and by `control::reload`.

use std::path::PathBuf;

use super::schema::{Config, LogFormat};
use crate::observe::access_log::{AccessLogSettings, Format, LogTarget};
use crate::observe::recorder::RecorderSettings;
use crate::observe::trace::TracerSettings;
use crate::snapshot::listener::Bind;

/// Where the admin address is bound; `None` when it is off.
pub fn admin_bind(config: &Config) -> Option<Bind> {
    match config.admin.bind.as_str() {
        "off" => None,
        text => super::compile::bind(text),
    }
}

/// Worker threads: as set, else one for each core.
pub fn threads(config: &Config) -> usize {
    match config.server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Settings of the access log.
pub fn access_log(config: &Config) -> AccessLogSettings {
    let log = &config.observe.access_log;
    AccessLogSettings {
        to: match log.to.as_str() {
            "stdout" => LogTarget::Stdout,
            "off" => LogTarget::Off,
            path => LogTarget::File(PathBuf::from(path)),
        },
        format: match log.format {
            LogFormat::Json => Format::Json,
            LogFormat::Combined => Format::Combined,
        },
        queue: log.queue,
    }
}

/// Settings of the flight recorder.
pub fn recorder(config: &Config) -> RecorderSettings {
    let recorder = &config.observe.recorder;
    RecorderSettings {
        enabled: recorder.enabled,
        records: recorder.records,
        bytes: usize::try_from(recorder.bytes.0).unwrap_or(usize::MAX),
        sample: recorder.sample.fraction(),
        slowest: recorder.slowest,
    }
}

/// Settings of traces; `None` when no collector is set.
pub fn tracer(config: &Config) -> Option<TracerSettings> {
    let traces = &config.observe.traces;
    Some(TracerSettings {
        otlp: traces.otlp.clone()?,
        service_name: traces.service_name.clone(),
        interval: traces.interval.0,
    })
}
