//! The black-box tests, and the rules of the house. One binary, so that everything links once.
//! It must not know the proxy's inside; what it asserts is seen at the edge: replies, logs, metrics, what upstreams saw.
//! Run by `cargo test`.

#![allow(
    clippy::unwrap_used,
    reason = "a test whose scene cannot be set should stop right there"
)]

mod aggregate;
mod amplification;
mod authorities;
mod balance;
mod bodies;
mod cache;
mod cache_keys;
mod cache_stand_in;
mod cache_store;
mod cache_suite;
mod calls;
mod capture;
mod capture_groups;
mod capture_rules;
mod captured;
mod captured_names;
mod captured_policies;
mod certs;
mod chaos;
mod cli;
mod connections;
mod deadlines;
mod detect;
mod discovery;
mod draining;
mod egress;
mod envoy;
mod envoy_tunnels;
mod explain;
mod explain_bytes;
mod ext_authz;
mod failures;
mod fair;
mod fault;
mod forwarded;
mod gateway_api;
mod geo;
mod grpc_json;
mod hbone;
mod held_responses;
mod hold;
mod house;
mod http;
mod idle;
mod limits;
mod live;
mod llm;
mod log_syslog;
mod mesh;
mod mesh_check;
mod mesh_policies;
mod mesh_status;
mod mirror;
mod mtls;
mod observability;
mod outlier;
mod overload;
mod peers;
mod pipelining;
mod plan;
mod plugin_kit;
mod plugins;
mod plugins_ask;
mod plugins_auth;
mod plugins_mtls;
mod plugins_oidc;
mod plugins_transform;
mod plugins_validate;
mod policies;
mod probation;
mod quarantine;
mod quotas;
mod recorder;
mod reload;
mod replay;
mod retries;
mod roles;
mod routing;
mod service;
mod service_mtls;
mod services;
mod split;
mod ssrf_guard;
mod stores;
mod strangers;
mod streams;
mod subsets;
mod support;
mod tunnels;
