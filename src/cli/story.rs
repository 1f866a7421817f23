//! The story of a request in lines for a terminal: what was asked, by whom, what was decided, what came of it.
//! It must not know where the record came from, nor explain causes.
//! Called by `cli::why`.

use std::fmt::Write as _;

use windrose_plugins::contract::CacheResult;

use crate::observe::recorder::{Attempt, Pair, Reason, Record, Seen};

/// The lines.
pub(super) fn of(record: &Record) -> String {
    let mut story = format!("{}\n\n", headline(record));
    let mut line = |name: &str, text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(story, "  {name:<10} {text}");
    };
    line("when", &format!("{}, {}", record.time, kept(record.kept)));
    line("id", &ids(record));
    line("by", &caller(record));
    line("fields", &fields(record));
    line("route", &route(record));
    line(
        "pool",
        record.decision.pool.as_deref().unwrap_or("none chosen"),
    );
    if let Some(cache) = &record.answer.cache {
        line("cache", cache);
    }
    for (at, attempt) in record.attempts.iter().enumerate() {
        line(&format!("attempt {}", at + 1), &tried(attempt));
    }
    if record.decision.pool.is_some() && record.attempts.is_empty() && !is_stored(record) {
        line("attempts", "none: no endpoint could be tried");
    }
    line("answer", &answer(record));
    line("took", &took(record));
    story
}

fn headline(record: &Record) -> String {
    let asked = &record.request;
    let answer = &record.answer;
    let host = match asked.authority.is_empty() {
        true => &asked.host,
        false => &asked.authority,
    };
    let query: Vec<String> = asked.query.iter().map(pair).collect();
    let query = match query.is_empty() {
        true => String::new(),
        false => format!("?{}", query.join("&")),
    };
    let status = match answer.status {
        0 => "no answer".to_owned(),
        status => status.to_string(),
    };
    let cause = answer.cause.as_deref();
    let cause = cause.map_or(String::new(), |cause| format!(" {cause}"));
    format!(
        "{status}{cause}: {} {}://{host}{}{query} {}",
        asked.method, asked.scheme, asked.path, asked.protocol
    )
}

fn pair(pair: &Pair) -> String {
    match pair.value.is_empty() {
        true => pair.name.clone(),
        false => format!("{}={}", pair.name, pair.value),
    }
}

fn kept(reason: Reason) -> &'static str {
    match reason {
        Reason::Error => "kept as an error",
        Reason::Slowest => "kept as one of the slowest 1%",
        Reason::Audit => "kept, as a policy in audit mode would have treated it differently",
        Reason::Sample => "kept as a sample",
    }
}

fn ids(record: &Record) -> String {
    let mut ids = record.request_id.clone();
    if !record.trace_id.is_empty() {
        let _ = write!(ids, ", trace {}", record.trace_id);
    }
    ids
}

fn caller(record: &Record) -> String {
    let caller = &record.caller;
    let mut text = format!(
        "{} through listener {} ({}), connected from {}",
        caller.client, caller.listener, caller.role, caller.peer
    );
    let known = [
        ("SNI", &caller.sni),
        ("certificate", &caller.certificate),
        ("principal", &caller.principal),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            let _ = write!(text, ", {name} {value}");
        }
    }
    text
}

fn fields(record: &Record) -> String {
    let asked = &record.request;
    let names: Vec<&str> = asked.fields.iter().map(|field| &*field.name).collect();
    let mut text = match names.is_empty() {
        true => "none".to_owned(),
        false => format!("{} (--json has their values)", names.join(", ")),
    };
    if asked.left_out > 0 {
        let _ = write!(text, ", {} more left out", asked.left_out);
    }
    if asked.seen == Seen::AfterPlugins {
        text.push_str(", after plugins");
    }
    text
}

fn route(record: &Record) -> String {
    let decision = &record.decision;
    let generation = decision.generation;
    let Some(route) = &decision.route else {
        return format!("none matched in generation {generation}");
    };
    let rule = decision.rule.unwrap_or(0);
    let place = decision.place.as_deref();
    let place = place.map_or(String::new(), |place| format!(" at {place}"));
    format!("{route}, rule {rule}{place}, generation {generation}")
}

fn tried(attempt: &Attempt) -> String {
    let result = match (&attempt.cause, attempt.status) {
        (Some(cause), Some(status)) => format!("{status}, then {cause},"),
        (Some(cause), None) => cause.clone(),
        (None, Some(status)) => status.to_string(),
        (None, None) => "no answer".to_owned(),
    };
    let reused = match attempt.reused {
        true => ", on a connection that was there",
        false => "",
    };
    format!(
        "{}: {result} after {} ms{reused}",
        attempt.endpoint, attempt.ms
    )
}

fn answer(record: &Record) -> String {
    let answer = &record.answer;
    let by = match (&answer.cause, record.attempts.last()) {
        _ if is_stored(record) => "from the cache",
        (None, Some(_)) => "from the endpoint",
        (Some(_), Some(last)) if last.status == Some(answer.status) => {
            "from the endpoint, cut short"
        }
        _ => "made by the proxy",
    };
    let mut text = match answer.status {
        0 => "none was sent".to_owned(),
        status => format!("{status} {by}, {} bytes of body", answer.bytes),
    };
    if let Some(status) = answer.grpc_status {
        let _ = write!(text, ", grpc-status {status}");
    }
    text
}

/// Whether what was sent is what a cache had, whoever confirmed it or failed before.
fn is_stored(record: &Record) -> bool {
    let stored = [
        CacheResult::Hit,
        CacheResult::Stale,
        CacheResult::StaleError,
        CacheResult::Revalidated,
    ];
    let answer = &record.answer;
    let word = answer.cache.as_deref();
    answer.cause.is_none() && stored.iter().any(|one| word == Some(one.as_str()))
}

fn took(record: &Record) -> String {
    let durations = &record.durations;
    let mut text = format!("{} ms", durations.total_ms);
    if let Some(before) = durations.before_upstream_ms {
        let _ = write!(text, ": {before} ms to the first attempt");
    }
    if let Some(upstream) = durations.upstream_ms {
        let _ = write!(text, ", {upstream} ms from there to the response header");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_tried_twice_is_told_line_by_line() {
        let record = serde_json::from_str(RETRIED).expect("a record");

        assert_eq!(of(&record), STORY);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let story = of(&Record::default());

        assert!(story.contains("none matched in generation 0"), "{story}");
        assert!(story.contains("none was sent"), "{story}");
    }

    #[test]
    fn what_a_cache_did_is_told_in_its_word() {
        let told = |cache: &str, attempts: &str| {
            let record = format!(
                r#"{{"decision": {{"pool": "app"}}, "attempts": [{attempts}], "answer": {{"status": 200, "bytes": 4, "cache": "{cache}"}}}}"#
            );
            of(&serde_json::from_str(&record).expect("a record"))
        };
        let refused = r#"{"endpoint": "10.0.0.1:80", "cause": "connect_refused", "ms": 0.2}"#;

        let (hit, stale, miss) = (
            told("hit", ""),
            told("stale_error", refused),
            told("miss", refused),
        );

        assert!(hit.contains("  cache      hit\n"), "{hit}");
        assert!(
            hit.contains("200 from the cache, 4 bytes") && !hit.contains("attempts"),
            "{hit}"
        );
        assert!(
            stale.contains("cache      stale_error\n") && stale.contains("from the cache"),
            "{stale}"
        );
        assert!(
            miss.contains("cache      miss\n") && miss.contains("from the endpoint"),
            "{miss}"
        );
    }

    const RETRIED: &str = r#"{
        "time": "2024-02-29T01:02:03.000004Z", "kept": "error", "request_id": "r1", "trace_id": "t1",
        "caller": {"listener": "web", "role": "ingress", "client": "10.0.0.9", "peer": "10.0.0.8:5", "sni": "a.test"},
        "request": {"method": "GET", "scheme": "https", "host": "a.test", "authority": "a.test:8443", "path": "/x",
            "query": [{"name": "token", "value": "***", "redacted": true}, {"name": "flag"}], "protocol": "HTTP/2",
            "fields": [{"name": "accept", "value": "*/*"}], "left_out": 2},
        "decision": {"generation": 3, "route": "shop", "rule": 1, "place": "gw.yaml:9", "pool": "app"},
        "attempts": [{"endpoint": "10.0.0.1:80", "cause": "connect_refused", "ms": 0.2},
            {"endpoint": "10.0.0.2:80", "status": 503, "reused": true, "ms": 4.5}],
        "answer": {"status": 503, "bytes": 12},
        "durations": {"total_ms": 5.1, "before_upstream_ms": 0.1, "upstream_ms": 4.9}
    }"#;

    const STORY: &str = "503: GET https://a.test:8443/x?token=***&flag HTTP/2

  when       2024-02-29T01:02:03.000004Z, kept as an error
  id         r1, trace t1
  by         10.0.0.9 through listener web (ingress), connected from 10.0.0.8:5, SNI a.test
  fields     accept (--json has their values), 2 more left out
  route      shop, rule 1 at gw.yaml:9, generation 3
  pool       app
  attempt 1  10.0.0.1:80: connect_refused after 0.2 ms
  attempt 2  10.0.0.2:80: 503 after 4.5 ms, on a connection that was there
  answer     503 from the endpoint, 12 bytes of body
  took       5.1 ms: 0.1 ms to the first attempt, 4.9 ms from there to the response header
";
}
