//! Every rule of stores provoked, and what must stay silent.
//! It must not test how stores are reached.
//! Run by `cargo test`.

use super::{each_is_reported, reported};

#[test]
fn where_a_store_is_has_to_be_understood() {
    each_is_reported(&[
        (
            "redis: [{name: a, url: 'redis://h'}, {name: a, url: 'redis://h'}]",
            "redis[1].name: the name \"a\" is taken by redis[0]",
        ),
        (
            "redis: [{name: A, url: 'redis://h'}]",
            "redis[0].name: the name \"A\" is empty or has characters that names cannot have",
        ),
        (
            "redis: [{name: a, url: 'http://h'}]",
            "redis[0].url: begins with none of redis://, rediss://, unix://",
        ),
        (
            "redis: [{name: a, url: 'redis://'}]",
            "redis[0].url: names no host",
        ),
        (
            "redis: [{name: a, url: 'redis://h:99999'}]",
            "redis[0].url: has no port after the \":\"",
        ),
        (
            "redis: [{name: a, url: 'redis://h/zero'}]",
            "redis[0].url: has a database that is not a number",
        ),
        (
            "redis: [{name: a, url: 'unix://run/redis.sock'}]",
            "redis[0].url: names no absolute path",
        ),
        (
            "redis: [{name: a, url: 'unix:///run/redis.sock?database=1'}]",
            "redis[0].url: has something other than `db` after the \"?\"",
        ),
    ]);
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    let found = reported("redis: [{name: a, url: 'redis://ann:hunter2@h:1'}]");

    assert!(
        found.starts_with("redis[0].url: has a user or password in it"),
        "{found}"
    );
    assert!(!found.contains("hunter2"), "{found}");
}

#[test]
fn settings_that_have_no_effect_and_bounds() {
    each_is_reported(&[
        (
            "redis: [{name: a, url: 'redis://h', ca: ca.pem}]",
            "redis[0].ca: is not used: the store is not reached over TLS",
        ),
        (
            "redis: [{name: a, url: 'redis://h', username: ann}]",
            "redis[0].username: is not used without a `password`",
        ),
        (
            "redis: [{name: a, url: 'redis://h', password: ''}]",
            "redis[0].password: must not be empty",
        ),
        (
            "redis: [{name: a, url: 'redis://h', connect_timeout: 1ms}]",
            "redis[0].connect_timeout: must be from 10ms to 1m, found \"1ms\"",
        ),
        (
            "redis: [{name: a, url: 'redis://h', command_timeout: 1m}]",
            "redis[0].command_timeout: must be from 1ms to 10s, found \"1m\"",
        ),
        (
            "redis: [{name: a, url: 'redis://h', max_in_flight: 0}]",
            "redis[0].max_in_flight: must be",
        ),
        (
            "redis: [{name: a, url: 'redis://h', prefix: 'a b'}]",
            "redis[0].prefix: \"a b\" cannot begin keys",
        ),
    ]);
}

#[test]
fn stores_as_people_write_them_are_taken() {
    for url in [
        "redis://127.0.0.1",
        "redis://redis.internal:6380/3",
        "rediss://[::1]:6379/",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2",
    ] {
        let found = reported(&format!(
            "redis: [{{name: a, url: '{url}', username: u, password: p}}]"
        ));
        assert_eq!(found, "", "{url}");
    }
}
