//! The plugin contract and the table of built-in plugins.
//! A plugin sees HTTP messages, its own settings and the handles the contract gives it; it never sees the proxy.
//! The proxy compiles `BUILTIN` into its registry; a program of your own passes further tables to `windrose::main`.

pub mod contract;
pub mod testkit;

mod keyed;

pub mod acl;
pub mod aggregate;
pub mod auth;
pub mod authorization;
pub mod basic_auth;
pub mod body;
pub mod body_limit;
pub mod bot_filter;
mod cached;
pub mod cel;
mod codec;
pub mod compress;
pub mod concurrency_limit;
pub mod cors;
pub mod csrf;
mod date;
pub mod decompress;
pub mod expression;
pub mod ext_authz;
mod fetched;
pub mod forward_auth;
pub mod geo;
mod granted;
pub mod graphql_limits;
pub mod grpc_json;
pub mod grpc_web;
pub mod headers;
pub mod hmac_auth;
mod host;
pub mod ip_filter;
mod json;
pub mod json_schema;
pub mod jwt;
pub mod key_auth;
mod keys;
pub mod llm;
pub mod log_file;
pub mod log_http;
pub mod log_syslog;
mod logged;
mod media;
pub mod mtls_auth;
pub mod oauth2_introspection;
pub mod oidc;
pub mod opa;
pub mod openapi;
pub mod place;
mod query;
pub mod quota;
pub mod rate_limit;
pub mod redirect;
pub mod referer;
pub mod request_id;
pub mod respond;
pub mod response_cache;
pub mod rewrite;
mod schema;
pub mod security_headers;
mod statuses;
pub mod waf_lite;

pub use contract::PluginDef;

/// Every built-in plugin, sorted by kind. Registering a plugin is one line here.
pub const BUILTIN: &[PluginDef] = &[
    acl::PLUGIN,
    aggregate::PLUGIN,
    auth::PLUGIN,
    basic_auth::PLUGIN,
    body::PLUGIN,
    body_limit::PLUGIN,
    bot_filter::PLUGIN,
    cel::PLUGIN,
    compress::PLUGIN,
    concurrency_limit::PLUGIN,
    cors::PLUGIN,
    csrf::PLUGIN,
    decompress::PLUGIN,
    ext_authz::PLUGIN,
    forward_auth::PLUGIN,
    geo::PLUGIN,
    graphql_limits::PLUGIN,
    grpc_json::PLUGIN,
    grpc_web::PLUGIN,
    headers::PLUGIN,
    hmac_auth::PLUGIN,
    ip_filter::PLUGIN,
    json_schema::PLUGIN,
    jwt::PLUGIN,
    key_auth::PLUGIN,
    llm::PLUGIN,
    log_file::PLUGIN,
    log_http::PLUGIN,
    log_syslog::PLUGIN,
    mtls_auth::PLUGIN,
    oauth2_introspection::PLUGIN,
    oidc::PLUGIN,
    opa::PLUGIN,
    openapi::PLUGIN,
    quota::PLUGIN,
    rate_limit::PLUGIN,
    redirect::PLUGIN,
    referer::PLUGIN,
    request_id::PLUGIN,
    respond::PLUGIN,
    response_cache::PLUGIN,
    rewrite::PLUGIN,
    security_headers::PLUGIN,
    waf_lite::PLUGIN,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::contract::builtin_causes;
    use crate::testkit::Kit;

    #[test]
    fn kinds_are_snake_case_unique_and_sorted() {
        let kinds: Vec<&str> = BUILTIN.iter().map(|plugin| plugin.kind).collect();

        assert!(kinds.windows(2).all(|pair| pair[0] < pair[1]), "{kinds:?}");
        let is_snake = |kind: &&str| {
            let is_part =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            kind.bytes().all(is_part)
        };
        assert!(kinds.iter().all(is_snake), "{kinds:?}");
    }

    #[test]
    fn every_example_builds_and_attaches_a_hook() {
        for plugin in BUILTIN {
            let hooks = Kit::for_examples().instance(plugin, plugin.example).hooks;

            let attached = hooks.connection.is_some()
                || hooks.request.is_some()
                || hooks.upstream_request.is_some()
                || hooks.response.is_some()
                || hooks.finish.is_some()
                || hooks.cache.is_some();
            assert!(attached, "{}", plugin.kind);
            assert!(!plugin.about.is_empty());
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_every_plugin() {
        for plugin in BUILTIN {
            let config = format!("{}\nno_such_key: 1", plugin.example);

            let problems = Kit::for_examples().problems(plugin, &config);

            assert_eq!(problems.len(), 1, "{}", plugin.kind);
            assert_eq!(problems[0].path, "no_such_key", "{}", plugin.kind);
        }
    }

    #[test]
    fn every_cause_has_a_name_and_an_explanation_of_its_own() {
        let own = BUILTIN.iter().flat_map(|plugin| plugin.causes);
        let mut names = BTreeSet::new();

        for cause in own.chain(builtin_causes()) {
            assert!(names.insert(cause.name), "{} is declared twice", cause.name);
            assert!(!cause.explanation.is_empty() && !cause.next_step.is_empty());
        }
    }

    #[test]
    fn what_says_that_no_credentials_came_is_a_401_of_the_plugins_own() {
        let absent = |plugin: &PluginDef| Some((plugin.kind, plugin.causes, plugin.absent?));

        for (kind, causes, absent) in BUILTIN.iter().filter_map(absent) {
            assert!(causes.contains(&absent) && absent.status == 401, "{kind}");
        }
    }

    #[test]
    fn every_setting_is_described_in_the_schema() {
        for plugin in BUILTIN {
            let schema = (plugin.schema)().to_value();
            let settings = schema["properties"]
                .as_object()
                .expect("settings are a map");

            for (key, setting) in settings {
                let described = setting["description"].is_string();
                assert!(described, "{}: {key}", plugin.kind);
            }
        }
    }
}
