//! Metrics of the process itself, as other Prometheus exporters name them.
//! It must not know anything about traffic; it reads `/proc/self`.
//! `Metrics::render` appends it at every scrape.

use std::fmt::Write as _;
use std::fs;

/// Appends the process metrics in Prometheus' text form. What `/proc` does not tell is left out.
pub(super) fn render(out: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut metric = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        }
    };
    metric(
        "process_cpu_seconds_total",
        "counter",
        "CPU time, user and system, in seconds.",
        cpu_seconds(&stat),
    );
    metric(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        kib(&status, "VmRSS:"),
    );
    metric(
        "process_virtual_memory_bytes",
        "gauge",
        "Virtual memory.",
        kib(&status, "VmSize:"),
    );
    metric(
        "process_threads",
        "gauge",
        "Threads.",
        word(&status, "Threads:"),
    );
    metric(
        "process_open_fds",
        "gauge",
        "Open file descriptors.",
        open_fds(),
    );
    metric(
        "process_max_fds",
        "gauge",
        "Highest number of file descriptors allowed.",
        word(&limits, "Max open files"),
    );
    metric(
        "process_start_time_seconds",
        "gauge",
        "Unix time at which the process was started.",
        start_time(&stat),
    );
}

/// Fields of `/proc/self/stat` counted from the state, which follows the name in parentheses (it may hold spaces).
fn field(stat: &str, index: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(index)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 11)? + field(stat, 12)?) / TICKS)
}

fn start_time(stat: &str) -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = word(&system, "btime")?;
    Some(boot + field(stat, 19)? / TICKS)
}

fn open_fds() -> Option<f64> {
    // The listing itself holds one descriptor open.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as f64 - 1.0).max(0.0))
}

fn kib(text: &str, key: &str) -> Option<f64> {
    Some(word(text, key)? * 1024.0)
}

fn word(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// USER_HZ: what the kernel counts time in towards user space, 100 on every architecture Linux runs on today.
const TICKS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_is_skipped() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 999";

        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(field(stat, 19), Some(999.0));
    }

    #[test]
    fn a_scrape_names_descriptors_and_memory() {
        let mut out = String::new();

        render(&mut out);

        for name in ["process_open_fds ", "process_resident_memory_bytes "] {
            let line = out.lines().find(|line| line.starts_with(name));
            let value: f64 = line.expect(name)[name.len()..].parse().expect("a number");
            assert!(value > 0.0, "{name}{value}");
        }
    }
}
