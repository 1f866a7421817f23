use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{json, Map, Value};

use super::measure::{measured, Law, Measured, Over};
use super::*;
use crate::query::encoded;
use crate::testkit::{answered, went_on, Exchange, Instance, Kit};

const URL: &str = "http://api.test/graphql";

fn post(query: &str) -> Exchange {
    sent(&json!({"query": query}).to_string())
}

fn sent(body: &str) -> Exchange {
    typed("application/json", body.to_owned())
}

fn typed(kind: &str, body: impl Into<Bytes>) -> Exchange {
    Exchange::new("POST", URL)
        .with("content-type", kind)
        .with_body(body)
}

fn get(query: &str) -> Exchange {
    Exchange::get(&format!("{URL}?query={}", encoded(query)))
}

fn with(settings: &str) -> Instance {
    Kit::new().instance(&PLUGIN, settings)
}

fn refused(plugin: &Instance, mut exchange: Exchange) -> (u16, &'static str) {
    let answer = answered(plugin.request(&mut exchange));
    (answer.status, answer.cause.name)
}

fn passes(plugin: &Instance, mut exchange: Exchange) -> bool {
    went_on(&plugin.request(&mut exchange))
}

fn law() -> Law {
    Law {
        depth: 50,
        costs: BTreeMap::from([("search".to_owned(), 20)]),
        list_arguments: ["first", "last"].map(str::to_owned).into(),
        assumed_list: 100,
        tokens: 20_000,
    }
}

fn of(query: &str) -> Measured {
    measured(query, &Map::new(), &law()).unwrap()
}

fn wrong(query: &str) -> Over {
    measured(query, &Map::new(), &law()).unwrap_err()
}

#[test]
fn depth_is_that_of_fields_with_fragments_expanded() {
    assert_eq!(of("{a}").depth, 1);
    assert_eq!(of("{a{b{c}} d}").depth, 3);
    assert_eq!(of("{a{... on X{b{... @include(if: true){c}}}}}").depth, 3);
    assert_eq!(
        of("{a{...F}} fragment F on X{b{...G}} fragment G on Y{c d{e}}").depth,
        4
    );
    assert_eq!(of("query A{a} query B{a{b}}").depth, 2);
}

#[test]
fn what_is_in_a_list_costs_as_often_as_the_list_is_long() {
    assert_eq!(
        of("{users(first: 100){posts(last: 10){title}}}").cost,
        1 + 100 * (1 + 10)
    );
    assert_eq!(of("{a b c}").cost, 3);
    assert_eq!(of("{search(first: 2){a}}").cost, 20 + 2);
    assert_eq!(of("{users(first: 2, last: 5){a}}").cost, 1 + 5);
    assert_eq!(of("{users(other: 1000){a}}").cost, 2);
    assert_eq!(of("{users(first: 0){a}}").cost, 1);
    assert_eq!(of("{users(first: -5){a}}").cost, 1 + 100);
    assert_eq!(of("{users(last: -500){a}}").cost, 1 + 500);
    assert_eq!(of("query($n: Int = -1){users(first: $n){a}}").cost, 1 + 100);
    assert_eq!(of("{users(first: null){a}}").cost, 2);
    assert_eq!(of("{users(first: {n: 1}){a}}").cost, 101);
    assert_eq!(
        of("{u(first: 99999999999999999999){a(first: 99999999999){b}}}").cost,
        u64::MAX
    );
    assert_eq!(
        of("{u(first: 10){...F ...F}} fragment F on X{a b}").cost,
        1 + 10 * 4
    );
}

#[test]
fn lists_by_variables_are_as_long_as_these_say() {
    let query = "query($n: Int = 3, $m: Int){a(first: $n){b} c(first: $m){d}}";
    let cost = |variables: Value| {
        let variables = variables.as_object().unwrap();
        measured(query, variables, &law()).unwrap().cost
    };

    assert_eq!(cost(json!({})), 1 + 3 + 1 + 100);
    assert_eq!(cost(json!({"n": 10, "m": 20})), 1 + 10 + 1 + 20);
    assert_eq!(cost(json!({"n": "x", "m": null})), 2 + 200);
    assert_eq!(
        cost(json!({"n": 1e18, "m": -1})),
        2 + 1_000_000_000_000_000_000 + 100
    );
    // Each operation has defaults of its own, fragments too.
    let two =
        "query A($n: Int = 1){...F} query B($n: Int = 7){...F} fragment F on X{a(first: $n){b}}";
    assert_eq!(measured(two, &Map::new(), &law()).unwrap().cost, 8);
}

#[test]
fn everything_else_is_counted() {
    let found = of(
        "mutation M($a: Int @x){a: b @skip(if: true) c{d: e} ...F} fragment F on X{f g: h @y @z}",
    );

    assert_eq!(
        (found.aliases, found.directives, found.root_fields),
        (3, 4, 4)
    );
    assert!(found.changes && !found.asks_schema);
    assert!(of("{a ...F} fragment F on Query{__schema{types{name}}}").asks_schema);
    assert!(of("{x: __type(name: \"A\"){name}}").asks_schema);
    assert!(!of("{__typename a{__typename}}").asks_schema);
}

#[test]
fn fragments_that_cannot_be_expanded_are_told_apart_from_wrong_syntax() {
    for query in [
        "{...F}",
        "{...F} fragment F on X{...F}",
        "{...F} fragment F on X{a{...G}} fragment G on X{b{...F}}",
        "{a} fragment F on X{a} fragment F on X{b}",
    ] {
        assert_eq!(wrong(query), Over::Fragment, "{query}");
    }
    for query in [
        "",
        " # nothing",
        "{",
        "{}",
        "{a",
        "a",
        "fragment F on X{a}",
        "type A{a: Int}",
        "{a} type A{a: Int}",
        "{a(}",
        "{a(b:)}",
        "query($a){a}",
        "{a(b: \"x)}",
        "{a}}",
        "{a} x",
        "\u{0}",
        "{…}",
    ] {
        assert_eq!(wrong(query), Over::Syntax, "{query}");
    }
}

/// Each fragment holds the next twice: expanded, 2^n fields.
#[test]
fn fragments_that_double_are_measured_in_one_walk() {
    let mut query = "{...F0}".to_owned();
    for at in 0..100 {
        query += &format!(
            " fragment F{at} on X{{a ...F{next} ...F{next}}}",
            next = at + 1
        );
    }
    query += " fragment F100 on X{a}";

    assert_eq!(of(&query).cost, u64::MAX);
}

#[test]
fn nesting_of_every_kind_is_stopped_before_the_stack_ends() {
    let nested = |open: &str, close: &str, times: usize| {
        format!("{{a(b: {}1{})}}", open.repeat(times), close.repeat(times))
    };
    let chain = |times: usize| {
        let links = (0..times).map(|at| format!("fragment F{at} on X{{...F{}}}", at + 1));
        format!(
            "{{...F0}} {} fragment F{times} on X{{a}}",
            links.collect::<String>()
        )
    };

    assert_eq!(wrong(&"{a".repeat(3000)), Over::Depth);
    assert_eq!(wrong(&"{a".repeat(60)), Over::Syntax);
    assert_eq!(
        wrong(&format!("{}{}", "{a".repeat(60), "}".repeat(60))),
        Over::Depth
    );
    assert_eq!(wrong(&nested("[", "]", 5000)), Over::Depth);
    assert_eq!(wrong(&nested("{a: ", "}", 5000)), Over::Depth);
    assert_eq!(of(&nested("[", "]", 150)).depth, 1);
    assert_eq!(wrong(&chain(1000)), Over::Depth);
    assert_eq!(of(&chain(200)).depth, 1);
    assert_eq!(wrong(&format!("{{{}}}", "...{".repeat(3000))), Over::Depth);
    let types = format!(
        "query($a: {}Int{}){{a}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert_eq!(wrong(&types), Over::Depth);
}

#[test]
fn a_document_of_too_many_tokens_is_not_parsed() {
    assert_eq!(wrong(&format!("{{{}}}", "a ".repeat(30_000))), Over::Tokens);
    // Commas and remarks are none.
    assert_eq!(
        of(&format!(
            "{{{}a}} #{}",
            ",".repeat(30_000),
            "x".repeat(30_000)
        ))
        .cost,
        1
    );
}

#[test]
fn limits_have_causes_of_their_own_and_the_answer_says_them() {
    let plugin = with("depth: 3\ncost: 50\naliases: 2\nroot_fields: 3\ndirectives: 2\ntokens: 40");
    for (query, cause) in [
        ("{a{b{c{d}}}}", "graphql.depth"),
        ("{a(first: 60){b}}", "graphql.cost"),
        ("{a: x b: x c: x}", "graphql.aliases"),
        ("{a b c d}", "graphql.root_fields"),
        ("{a @x @y @z}", "graphql.directives"),
        (&"{a b}".repeat(20), "graphql.tokens"),
        ("{...F}", "graphql.fragment"),
        ("{", "graphql.malformed"),
        ("{__schema{types{name}}}", "graphql.introspection"),
    ] {
        assert_eq!(refused(&plugin, post(query)), (400, cause), "{query}");
        assert_eq!(refused(&plugin, get(query)), (400, cause), "{query}");
    }
    assert!(passes(&plugin, post("{a{b{c}}}")) && passes(&plugin, get("{a{b{c}}}")));

    let answer = answered(
        plugin
            .request(&mut post("{a{b{c{d}}}}").with("accept", "application/graphql-response+json")),
    );
    let (kind, body) = answer.body.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(kind, "application/graphql-response+json");
    assert_eq!(
        body["errors"],
        json!([{"message": "The query is too deep", "extensions": {"code": "graphql.depth", "limit": 3, "request_id": "test-request-id"}}])
    );
    let plain = answered(plugin.request(&mut post("{")));
    assert_eq!(plain.body.unwrap().0, "application/json");
}

#[test]
fn a_batch_is_bounded_by_number_and_by_cost_in_all() {
    let batch = |times: usize| {
        let all = vec![json!({"query": "{a(first: 10){b}}"}); times];
        sent(&Value::Array(all).to_string())
    };

    assert_eq!(refused(&with("{}"), batch(2)), (400, "graphql.batch"));
    assert!(passes(&with("{}"), batch(1)));
    assert!(passes(&with("batch: 3\ncost: 33"), batch(3)));
    assert_eq!(
        refused(&with("batch: 3\ncost: 32"), batch(3)),
        (400, "graphql.cost")
    );
}

#[test]
fn a_body_that_comes_with_another_method_is_refused() {
    let plugin = with("{}");
    let fat = |method: &str, body: &'static str| {
        Exchange::new(method, URL)
            .with("content-type", "application/json")
            .streaming()
            .with_body(body)
    };

    for method in ["GET", "PUT"] {
        let exchange = fat(method, r#"{"query": "{a}"}"#);
        assert_eq!(refused(&plugin, exchange), (400, "graphql.malformed"));
    }
    assert!(passes(&plugin, fat("GET", "")));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let plugin = with("{}");
    let malformed = (400, "graphql.malformed");

    for body in [
        r#"{"query": "{a}", "query": "{b}"}"#,
        r#"{"query": "{a}", "qu\u0065ry": "{b}"}"#,
        r#"{"query": ["{a}"]}"#,
        r#"{"query": "{a}", "variables": "{}"}"#,
        "[]",
        "\"{a}\"",
        "{",
        "[[{\"query\": \"{a}\"}]]",
    ] {
        assert_eq!(refused(&plugin, sent(body)), malformed, "{body}");
    }
    for target in [
        "query=%7Ba%7D&query=%7Bb%7D",
        "query=%7Ba%7D&qu%65ry=%7Bb%7D",
        "query=%7Ba%7D&variables=%7B%7D&variables=%7B%7D",
        "query=%7Ba%7D&variables=x",
        "query=%ff",
    ] {
        let exchange = Exchange::get(&format!("{URL}?{target}"));
        assert_eq!(refused(&plugin, exchange), malformed, "{target}");
    }
    let both = Exchange::new("POST", &format!("{URL}?query=%7Bb%7D"))
        .with("content-type", "application/json")
        .with_body(r#"{"query": "{a}"}"#);
    assert_eq!(refused(&plugin, both), malformed);
}

#[test]
fn queries_that_are_only_named_are_refused_or_pass() {
    let named =
        || sent(r#"{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}"#);
    let by_get = || Exchange::get(&format!("{URL}?extensions=%7B%7D"));

    for exchange in [named(), by_get(), sent(r#"{"query": null, "id": "x"}"#)] {
        assert_eq!(refused(&with("{}"), exchange), (400, "graphql.persisted"));
    }
    assert!(
        passes(&with("persisted: pass"), named()) && passes(&with("persisted: pass"), by_get())
    );
    // With the query it is judged all the same.
    let both = sent(r#"{"query": "{", "extensions": {"persistedQuery": {}}}"#);
    assert_eq!(
        refused(&with("persisted: pass"), both).1,
        "graphql.malformed"
    );
    assert!(passes(&with("{}"), Exchange::get(URL)));
}

#[test]
fn mutations_come_by_post_and_other_ways_in_are_closed_unless_opened() {
    let plugin = with("{}");

    assert_eq!(
        refused(&plugin, get("mutation{a}")),
        (405, "graphql.get_mutation")
    );
    assert_eq!(
        refused(&plugin, get("query A{a} mutation B{a}")),
        (405, "graphql.get_mutation")
    );
    assert!(passes(&plugin, post("mutation{a}")));
    let socket = || Exchange::get(URL).with("upgrade", "websocket");
    assert_eq!(refused(&plugin, socket()), (403, "graphql.websocket"));
    assert!(passes(&with("websockets: pass"), socket()));
    let form = || typed("multipart/form-data; boundary=x", "--x--");
    assert_eq!(refused(&plugin, form()), (415, "graphql.unsupported"));
    assert!(passes(&with("others: pass"), form()));
    let twice = sent("{}").with("content-type", "text/plain");
    assert_eq!(refused(&plugin, twice), (415, "graphql.unsupported"));
    assert!(passes(&plugin, typed("application/graphql", "{a}")));
    assert_eq!(
        refused(&plugin, typed("application/graphql; charset=utf-8", "{")),
        (400, "graphql.malformed")
    );
    assert_eq!(
        refused(&plugin, typed("application/graphql", &b"{a\xff}"[..])),
        (400, "graphql.malformed")
    );
    assert_eq!(
        refused(&with("max: 10B"), post("{aaaaaaaaaaa}")),
        (413, "graphql.too_large")
    );
    let coded = post("{a}").with("content-encoding", "deflate");
    assert_eq!(refused(&plugin, coded), (415, "graphql.unsupported"));
}

#[test]
fn wrong_settings_are_located_and_a_dry_run_counts_nothing() {
    let kit = Kit::new();
    let paths = |config: &str| kit.problem_paths(&PLUGIN, config);

    assert_eq!(
        paths("depth: 0\ntokens: 30000\nbatch: 101\nmax: 17MiB\ncost: 0\ncosts: {'a b': 1}\nlist_arguments: ['1']"),
        ["depth", "tokens", "batch", "max", "cost", "costs.a b", "list_arguments[0]"]
    );
    let plugin = kit.instance(&PLUGIN, "{}");
    assert_eq!(refused(&plugin, post("{").dry()).0, 400);
    assert_eq!(kit.counted("refused"), 0);
    assert_eq!(refused(&plugin, post("{")).0, 400);
    assert_eq!(kit.counted("refused"), 1);
}

fn queries() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("...".to_owned()),
        Just(":".to_owned()),
        Just("$".to_owned()),
        Just("@".to_owned()),
        Just("!".to_owned()),
        Just("=".to_owned()),
        Just("query".to_owned()),
        Just("fragment".to_owned()),
        Just("on".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("\"".to_owned()),
        Just("#".to_owned()),
        Just("first".to_owned()),
        Just("-1".to_owned()),
        Just("type".to_owned()),
        Just("extend".to_owned()),
        "[a-cF]",
        "[0-9]{1,3}",
        "\\PC",
    ];
    proptest::collection::vec(words, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_breaks_it(query in queries()) {
        let _ = measured(&query, &Map::new(), &law());
    }
}

proptest! {
    #[test]
    fn no_body_breaks_it(body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let verdict = with("{}").request(&mut typed("application/graphql", body));
        prop_assert!(matches!(verdict, Verdict::Continue | Verdict::Answer(_)));
    }

    /// A tree of fields, written and measured.
    #[test]
    fn what_is_measured_is_what_was_written(shape in proptest::collection::vec((0_u64..4, 1_usize..3), 1..9)) {
        let (mut query, mut cost, mut depth) = (String::new(), 0_u64, 0_u32);
        for (length, fields) in shape.iter().rev() {
            let inner = if query.is_empty() { String::new() } else { format!("{{{query}}}") };
            cost = (1 + length * cost) * *fields as u64;
            query = vec![format!("a(first: {length}){inner}"); *fields].join(" ");
            depth += 1;
        }
        let found = of(&format!("{{{query}}}"));
        prop_assert_eq!((found.cost, found.depth), (cost, depth));
    }
}
