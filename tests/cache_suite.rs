//! Caching as others judge it: the cases of the HTTP caching tests, run through a real proxy as the suite's own engine does.
//! It must not excuse anything in silence: every case that comes out otherwise stands in a table, with the reason.
//! Part of the test binary; the cases are in `golden/cache-tests`.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::upstream::Seen;
use crate::support::wait::pause;
use crate::support::{Conn, Proxy, Reply, Upstream};

/// Cases that come out otherwise, and why that is meant or known. `required` ones are what RFC 9111 demands, `optimal` ones what a
/// cache may do better. Cases of the kind `check` have no right outcome and are not run.
const OTHERWISE: &[(&str, &str)] = &[
    (
        "headers-store-Set-Cookie",
        "what sets cookies is not kept, or without them: `set_cookie`",
    ),
    (
        "headers-store-Transfer-Encoding",
        "what is framed by a coding that is none is not kept",
    ),
    ("other-set-cookie", "of cookies: the same"),
    (
        "other-date-update",
        "Pingora's HTTP/1 server writes a Date of its own into every response",
    ),
    (
        "other-date-update-expires",
        "the same; caches behind are only more careful for it",
    ),
    (
        "freshness-expires-ansi-c",
        "its day of the week is wrong, and dates are read strictly",
    ),
    (
        "freshness-expires-wrong-case-weekday",
        "dates are read strictly: what is none is in the past",
    ),
    ("freshness-expires-wrong-case-month", "the same"),
    ("freshness-expires-wrong-case-tz", "the same"),
    (
        "heuristic-599-cached",
        "nothing is guessed for a status that nobody knows",
    ),
    ("method-POST", "only GET fills the store"),
    (
        "vary-normalise-lang-order",
        "languages are compared as written, since the service may weigh them",
    ),
    ("vary-normalise-lang-case", "the same"),
    ("vary-normalise-lang-select", "the same"),
    (
        "conditional-lm-fresh-no-lm",
        "a date is compared with `Last-Modified` only",
    ),
    ("partial-store-partial-reuse-partial", "parts are not kept"),
    ("partial-store-partial-reuse-partial-byterange", "the same"),
    ("partial-store-partial-reuse-partial-absent", "the same"),
    ("partial-store-partial-reuse-partial-suffix", "the same"),
    ("partial-store-partial-complete", "the same"),
];

/// A case as it came out.
#[derive(Debug)]
enum Failed {
    /// What the case wants before it judges did not come about.
    Setup(String),
    Judged(String),
}

impl Failed {
    fn told(&self) -> String {
        match self {
            Failed::Setup(fact) => format!("before it judges: {fact}"),
            Failed::Judged(fact) => fact.clone(),
        }
    }
}

type Outcome = Result<(), Failed>;

#[test]
fn the_cases_of_the_caching_tests_come_out_as_they_say() {
    let cases = cases();
    let origin = Arc::<Origin>::default();
    let serving = origin.clone();
    let service = Upstream::with(move |seen, stream| serving.answer(seen, stream));
    let proxy = Proxy::http(&format!(
        "{}{ALL_TO_APP}  plugins: [{{kind: response_cache, config: {{heuristic: {{}}, status: ''}}}}]\n  timeouts: {{response_header: 10s}}\n",
        pool("app", &[&service])
    ));
    let address = proxy.address("web");

    let outcomes: BTreeMap<String, Outcome> = std::thread::scope(|scope| {
        let run = |case: &Case| {
            let (id, requests) = (case.id.clone(), case.requests.clone());
            let origin = origin.clone();
            (
                id.clone(),
                scope.spawn(move || play(&id, &requests, address, &origin)),
            )
        };
        let running: Vec<_> = cases.iter().map(run).collect();
        let joined = running
            .into_iter()
            .map(|(id, one)| (id, one.join().unwrap()));
        joined.collect()
    });

    let failed = |id: &str| matches!(outcomes.get(id), Some(Err(_)));
    let depends_on_failed = |case: &&Case| case.depends_on.iter().any(|id| failed(id));
    let mut wrong = BTreeMap::new();
    for case in cases.iter().filter(|case| !depends_on_failed(case)) {
        if let Err(fact) = &outcomes[&case.id] {
            wrong.insert(case.id.as_str(), (case.kind.as_str(), fact.told()));
        }
    }
    let excused: HashMap<&str, &str> = OTHERWISE.iter().copied().collect();
    let new: Vec<_> = wrong
        .iter()
        .filter(|(id, _)| !excused.contains_key(*id))
        .collect();
    let right: Vec<_> = excused
        .keys()
        .filter(|id| !wrong.contains_key(**id))
        .collect();
    assert!(
        new.is_empty() && right.is_empty(),
        "otherwise: {new:#?}\nno longer: {right:?}"
    );
    assert!(cases.len() > 200, "{}", cases.len());
}

/// A case.
struct Case {
    id: String,
    kind: String,
    depends_on: Vec<String>,
    requests: Vec<Value>,
}

/// The cases that a shared cache without extensions can show.
fn cases() -> Vec<Case> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/cache-tests/cases.json"
    );
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let groups = golden.as_array().unwrap().iter();
    let tests = groups.flat_map(|group| group["tests"].as_array().unwrap());
    let is_ours = |test: &&Value| {
        test["kind"] != "check" && test["browser_only"] != true && test["cdn_only"] != true
    };
    let case = |test: &Value| Case {
        id: text(&test["id"]).to_owned(),
        kind: test["kind"].as_str().unwrap_or("required").to_owned(),
        depends_on: list(&test["depends_on"])
            .iter()
            .map(|id| text(id).to_owned())
            .collect(),
        requests: list(&test["requests"]).to_vec(),
    };
    tests.filter(is_ours).map(case).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The suite's server: answers each request of a case as the case says, and remembers it.
#[derive(Default)]
struct Origin {
    cases: Mutex<HashMap<String, Vec<Value>>>,
    seen: Mutex<HashMap<String, Vec<Asked>>>,
}

/// A request as the server saw it.
#[derive(Clone)]
struct Asked {
    number: usize,
    method: String,
    headers: Vec<(String, String)>,
    /// Fields of its response that the client is to get as they are.
    answered: Vec<(String, String)>,
}

impl Origin {
    fn answer(&self, seen: &Seen, stream: &mut TcpStream) -> io::Result<bool> {
        let path = seen.target.split('?').next().unwrap_or_default();
        let id = path.split('/').nth(2).unwrap_or_default().to_owned();
        let requests = self
            .cases
            .lock()
            .unwrap()
            .get(&id)
            .cloned()
            .unwrap_or_default();
        let past = self.seen.lock().unwrap().get(&id).map_or(0, Vec::len);
        let told = seen
            .header("req-num")
            .and_then(|number| number.parse().ok());
        let number: usize = told.unwrap_or(past + 1);
        let Some(case) = requests.get(number.wrapping_sub(1)) else {
            return write(stream, 409, "Unknown", &[], b"", true);
        };
        if let Some(seconds) = case["response_pause"].as_u64() {
            pause(Duration::from_secs(seconds));
        }
        for interim in list(&case["interim_responses"]) {
            let fields: Vec<(String, String)> = pairs(&interim[1]).collect();
            head(stream, number_of(&interim[0]), "Interim", &fields)?;
        }
        let before = number.checked_sub(2).and_then(|at| requests.get(at));
        let (status, reason) = status(case, before, seen);
        let now = SystemTime::now();
        let (mut fields, answered) = self.fields(case, seen, now);
        let mut all = self.seen.lock().unwrap();
        let asked = all.entry(id.clone()).or_default();
        let place = asked.len() + 1;
        asked.push(Asked {
            number,
            method: seen.method.clone(),
            headers: seen.headers.clone(),
            answered,
        });
        let numbers: Vec<String> = asked.iter().map(|one| one.number.to_string()).collect();
        drop(all);
        fields.push(("Server-Request-Count".into(), place.to_string()));
        fields.push(("Client-Request-Count".into(), number.to_string()));
        fields.push(("Request-Numbers".into(), numbers.join(" ")));
        if case["disconnect"] == true {
            return Ok(false);
        }
        let body = case["response_body"].as_str().unwrap_or(&id);
        let is_head = seen.method == "HEAD";
        write(stream, status, &reason, &fields, body.as_bytes(), is_head)
    }

    /// The fields of a response, and those that must arrive as they are.
    #[allow(clippy::type_complexity, reason = "two lists of the same kind")]
    fn fields(
        &self,
        case: &Value,
        seen: &Seen,
        now: SystemTime,
    ) -> (Vec<(String, String)>, Vec<(String, String)>) {
        let millis = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let mut fields = vec![
            ("Server-Base-Url".to_owned(), seen.target.clone()),
            ("Server-Now".to_owned(), millis.to_string()),
        ];
        let mut kept: Vec<(String, String)> = Vec::new();
        for field in list(&case["response_headers"]) {
            let value = fixed(field, case, now, &seen.target);
            let name = text(&field[0]).to_owned();
            fields.push((name.clone(), value));
            if field[2].is_null() || field[2] == true {
                let all = fields
                    .iter()
                    .filter(|(one, _)| one.eq_ignore_ascii_case(&name));
                let all: Vec<&str> = all.map(|(_, value)| value.as_str()).collect();
                let all = all.join(", ");
                kept.retain(|(one, _)| !one.eq_ignore_ascii_case(&name));
                kept.push((name, all));
            }
        }
        let has = |name: &str| fields.iter().any(|(one, _)| one.eq_ignore_ascii_case(name));
        let (kind, date) = (has("content-type"), has("date"));
        if !kind {
            fields.push(("Content-Type".into(), "text/plain".into()));
        }
        if !date {
            fields.push(("Date".into(), httpdate::fmt_http_date(now)));
        }
        (fields, kept)
    }
}

/// A field's value: numbers of dates are seconds from now, locations are below the request's own.
fn fixed(field: &Value, case: &Value, now: SystemTime, base: &str) -> String {
    let name = text(&field[0]).to_ascii_lowercase();
    if let (true, Some(delta)) = (DATES.contains(&&*name), field[1].as_i64()) {
        let old = list(&case["rfc850date"])
            .iter()
            .any(|one| text(one) == name);
        return date(now, delta, old);
    }
    let is_location = matches!(&*name, "location" | "content-location");
    match (
        is_location && case["magic_locations"] == true,
        text(&field[1]),
    ) {
        (true, "") => base.to_owned(),
        (true, below) => format!("{base}/{below}"),
        (false, _) => match &field[1] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        },
    }
}

const DATES: &[&str] = &[
    "date",
    "expires",
    "last-modified",
    "if-modified-since",
    "if-unmodified-since",
];

fn date(now: SystemTime, delta: i64, old: bool) -> String {
    let by = Duration::from_secs(delta.unsigned_abs());
    let at = if delta < 0 { now - by } else { now + by };
    let date = httpdate::fmt_http_date(at);
    if !old {
        return date;
    }
    let part = |from: usize, to: usize| date[from..to].to_owned();
    let day = match &date[..3] {
        "Mon" => "Monday",
        "Tue" => "Tuesday",
        "Wed" => "Wednesday",
        "Thu" => "Thursday",
        "Fri" => "Friday",
        "Sat" => "Saturday",
        _ => "Sunday",
    };
    format!(
        "{day}, {}-{}-{} {} GMT",
        part(5, 7),
        part(8, 11),
        part(14, 16),
        part(17, 25)
    )
}

/// The status, by what the case says and whether the request confirms what was sent before.
fn status(case: &Value, before: Option<&Value>, seen: &Seen) -> (u16, String) {
    if text(&case["expected_type"]).ends_with("validated") {
        let sent = |name: &str| {
            let fields = list(&before?["response_headers"]).iter();
            let mut found = fields.filter(|field| text(&field[0]).eq_ignore_ascii_case(name));
            found.next().map(|field| field[1].clone())
        };
        let tag = sent("etag").and_then(|it| it.as_str().map(str::to_owned));
        let is_tag = tag.is_some() && seen.header("if-none-match") == tag.as_deref();
        // Dates were numbers when they were sent; what comes back is a date then.
        let changed = sent("last-modified");
        let asks = seen.header("if-modified-since");
        let is_date =
            changed.is_some_and(|it| it.as_str().map_or(asks.is_some(), |it| asks == Some(it)));
        return match is_tag || is_date {
            true => (304, "Not Modified".into()),
            false => (999, "304 Not Generated".into()),
        };
    }
    let set = &case["response_status"];
    match set[0].as_u64() {
        Some(_) => (number_of(&set[0]), text(&set[1]).to_owned()),
        None => (200, "OK".into()),
    }
}

fn number_of(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap_or(0)).unwrap()
}

fn pairs(fields: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    let all = list(fields).iter();
    all.map(|field| (text(&field[0]).to_owned(), text(&field[1]).to_owned()))
}

fn head(
    stream: &mut TcpStream,
    status: u16,
    reason: &str,
    fields: &[(String, String)],
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())
}

fn write(
    stream: &mut TcpStream,
    status: u16,
    reason: &str,
    fields: &[(String, String)],
    body: &[u8],
    is_head: bool,
) -> io::Result<bool> {
    let mut fields = fields.to_vec();
    let has_body = !matches!(status, 204 | 304);
    let mut names = fields.iter().map(|(name, _)| name);
    let has_length = names.any(|name| name.eq_ignore_ascii_case("content-length"));
    if has_body && !has_length {
        fields.push(("Content-Length".into(), body.len().to_string()));
    }
    head(stream, status, reason, &fields)?;
    if has_body && !is_head {
        stream.write_all(body)?;
    }
    Ok(true)
}

/// The suite's client: plays a case and judges what comes.
fn play(id: &str, requests: &[Value], address: SocketAddr, origin: &Origin) -> Outcome {
    let all = requests.to_vec();
    origin.cases.lock().unwrap().insert(id.to_owned(), all);
    let mut replies: Vec<Reply> = Vec::new();
    for (at, case) in requests.iter().enumerate() {
        let sent = request(id, at, case, replies.last());
        let mut conn = Conn::open(address);
        conn.send(sent);
        let mut interim = Vec::new();
        let broke = |error: io::Error| Failed::Judged(format!("request {}: {error}", at + 1));
        let reply = reply(&mut conn, case["request_method"] == "HEAD", &mut interim);
        let reply = reply.map_err(broke)?;
        judge(id, case, at + 1, &reply, &interim)?;
        replies.push(reply);
        if case["pause_after"] == true {
            // Ages and lifetimes have whole seconds: there is no other way to let them pass in another process.
            pause(Duration::from_secs(3));
        }
    }
    let seen = origin.seen.lock().unwrap();
    let seen = seen.get(id).cloned().unwrap_or_default();
    judge_seen(requests, &replies, &seen)
}

fn request(id: &str, at: usize, case: &Value, before: Option<&Reply>) -> String {
    let method = case["request_method"].as_str().unwrap_or("GET");
    let mut target = format!("/test/{id}");
    if let Some(name) = case["filename"].as_str() {
        target.push_str(&format!("/{name}"));
    }
    if let Some(query) = case["query_arg"].as_str() {
        target.push_str(&format!("?{query}"));
    }
    let mut all = format!("{method} {target} HTTP/1.1\r\nhost: test\r\npragma: foo\r\ncache-control: nothing-to-see-here\r\n");
    for field in list(&case["request_headers"]) {
        let now = before.and_then(|reply| reply.header("server-now")?.parse().ok());
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.unwrap_or(0));
        let value = match case["magic_ims"] == true {
            true => fixed(field, case, now, ""),
            false => text(&field[1]).to_owned(),
        };
        all.push_str(&format!("{}: {value}\r\n", text(&field[0])));
    }
    let body = case["request_body"].as_str().unwrap_or_default();
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        all.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    all.push_str(&format!(
        "test-id: {id}\r\nreq-num: {}\r\n\r\n{body}",
        at + 1
    ));
    all
}

fn reply(conn: &mut Conn, is_head: bool, interim: &mut Vec<Reply>) -> io::Result<Reply> {
    loop {
        let mut head = conn.any_head()?;
        if head.status < 200 {
            interim.push(head);
            continue;
        }
        if !is_head {
            head.body = conn.body_of(&head)?;
        }
        return Ok(head);
    }
}

/// Fails, in the way that the case says for this check.
fn check(case: &Value, what: &str, holds: bool, fact: impl FnOnce() -> String) -> Outcome {
    let is_setup = case["setup"] == true
        || list(&case["setup_tests"])
            .iter()
            .any(|one| text(one) == what);
    match (holds, is_setup) {
        (true, _) => Ok(()),
        (false, true) => Err(Failed::Setup(fact())),
        (false, false) => Err(Failed::Judged(fact())),
    }
}

fn judge(id: &str, case: &Value, number: usize, reply: &Reply, interim: &[Reply]) -> Outcome {
    let place = reply
        .header("server-request-count")
        .and_then(|it| it.parse::<usize>().ok());
    let is_cached = match text(&case["expected_type"]) {
        "cached" => place.map_or(reply.status == 304, |place| place < number),
        "not_cached" => place == Some(number),
        _ => true,
    };
    check(case, "expected_type", is_cached, || {
        format!(
            "{number} is no. {place:?} of the server, not {}",
            case["expected_type"]
        )
    })?;
    let wanted = match (&case["expected_status"], &case["response_status"][0]) {
        (Value::Number(status), _) => status.as_u64(),
        (Value::Null, Value::Number(status)) if case.get("expected_status").is_none() => {
            status.as_u64()
        }
        _ if case.get("expected_status").is_some() => None,
        _ if reply.status == 999 => {
            return check(case, "expected_type", false, || {
                format!("{number} should have been conditional")
            });
        }
        _ => Some(200),
    };
    let is_status = wanted.is_none_or(|wanted| wanted == u64::from(reply.status));
    check(case, "expected_status", is_status, || {
        format!("{number} has status {}, not {wanted:?}", reply.status)
    })?;
    judge_fields(case, number, reply)?;
    if let Some(wanted) = case["expected_interim_responses"].as_array() {
        let got: Vec<u16> = interim.iter().map(|one| one.status).collect();
        let want: Vec<u16> = wanted.iter().map(|one| number_of(&one[0])).collect();
        check(case, "expected_interim_responses", got == want, || {
            format!("{number}: {got:?}, not {want:?}")
        })?;
    }
    judge_body(id, case, number, reply)
}

fn joined(reply: &Reply, name: &str) -> Option<String> {
    let all = reply.all(name);
    (!all.is_empty()).then(|| all.join(", "))
}

fn judge_fields(case: &Value, number: usize, reply: &Reply) -> Outcome {
    let now = reply
        .header("server-now")
        .and_then(|it| it.parse().ok())
        .unwrap_or(0);
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
    let base = reply.header("server-base-url").unwrap_or("");
    for field in list(&case["expected_response_headers"]) {
        let what = "expected_response_headers";
        if let Some(name) = field.as_str() {
            check(case, what, reply.header(name).is_some(), || {
                format!("{number} has no {name}")
            })?;
            continue;
        }
        let got = joined(reply, text(&field[0]));
        let holds = match (text(&field[1]), field.get(2)) {
            ("=", Some(other)) => got == joined(reply, text(other)),
            (">", Some(least)) => {
                let got = got.as_deref().and_then(|got| got.parse::<i64>().ok());
                got > least.as_i64()
            }
            _ => got.as_deref() == Some(&*fixed(field, case, now, base)),
        };
        check(case, what, holds, || {
            format!("{number} has {got:?} instead of {field}")
        })?;
    }
    for field in list(&case["expected_response_headers_missing"]) {
        let what = "expected_response_headers_missing";
        if let Some(name) = field.as_str() {
            check(case, what, reply.header(name).is_none(), || {
                format!("{number} has {name}")
            })?;
        }
    }
    Ok(())
}

fn judge_body(id: &str, case: &Value, number: usize, reply: &Reply) -> Outcome {
    let got = reply.text();
    let wanted = match (
        case.get("expected_response_text"),
        case["response_body"].as_str(),
    ) {
        _ if case["check_body"] == false => return Ok(()),
        (Some(Value::String(text)), _) => text.as_str(),
        (Some(_), _) => return Ok(()),
        (None, Some(body)) => body,
        (None, None) if matches!(reply.status, 204 | 304) || case["request_method"] == "HEAD" => {
            return Ok(())
        }
        (None, None) => id,
    };
    let what = "expected_response_text";
    check(case, what, got == wanted, || {
        format!("{number} has the body {got:?}, not {wanted:?}")
    })
}

/// What the server saw.
fn judge_seen(requests: &[Value], replies: &[Reply], seen: &[Asked]) -> Outcome {
    let mut at = 0;
    for (number, (case, reply)) in (1..).zip(requests.iter().zip(replies)) {
        let kind = text(&case["expected_type"]);
        if kind == "cached" {
            continue;
        }
        let asked = seen.get(at);
        at += 1;
        let is_asked = asked.is_some()
            && (kind != "not_cached" || asked.is_some_and(|it| it.number == number));
        check(case, "expected_type", is_asked || kind.is_empty(), || {
            format!("{number} did not come to the server")
        })?;
        let Some(asked) = asked else { continue };
        let has = |name: &str| {
            asked
                .headers
                .iter()
                .find(|(one, _)| one.eq_ignore_ascii_case(name))
        };
        for (wanted, name) in [
            ("etag_validated", "if-none-match"),
            ("lm_validated", "if-modified-since"),
        ] {
            let holds = kind != wanted || has(name).is_some();
            check(case, "expected_type", holds, || {
                format!("{number} came without {name}")
            })?;
        }
        for field in list(&case["expected_request_headers"]) {
            let holds = match field.as_str() {
                Some(name) => has(name).is_some(),
                None => has(text(&field[0])).is_some_and(|(_, value)| value == text(&field[1])),
            };
            check(case, "expected_request_headers", holds, || {
                format!("{number} came without {field}")
            })?;
        }
        for (name, value) in &asked.answered {
            if name.eq_ignore_ascii_case("date") {
                continue;
            }
            let got = joined(reply, name);
            if got.as_deref() != Some(value) {
                return Err(Failed::Setup(format!(
                    "{number} has {name} {got:?}, not {value:?}"
                )));
            }
        }
        if let Some(method) = case["expected_method"].as_str() {
            let holds = asked.method == method;
            check(case, "expected_method", holds, || {
                format!("{number} came as {}", asked.method)
            })?;
        }
    }
    Ok(())
}
