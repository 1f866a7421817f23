//! Lets clients call gRPC services by REST and JSON, as the `google.api.http` options of a descriptor set say.
//! It must not know connections; a request becomes a gRPC call, and the response's frames and status become JSON and a status of HTTP.
//! Called by the chain of a listener or route that names it; its pool has to speak HTTP/2.

mod binding;
mod causes;
mod path;
mod request;
mod response;
mod status;
#[cfg(test)]
mod tests;
mod transcoder;

use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use prost_reflect::DescriptorPool;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::contract::{Build, Cause, Hooks, Plugin, PluginDef, Problem, Safety, Size};
use binding::Bindings;
pub use causes::{
    MALFORMED, NO_BINDING, PARAMETER, RESPONSE_MALFORMED, RESPONSE_TOO_LARGE, TOO_LARGE,
    UNSUPPORTED,
};
use transcoder::Transcoder;

/// The table line.
pub const PLUGIN: PluginDef = PluginDef::of::<Config>();

/// Settings of `grpc_json`. Methods with one message in the request are called; those whose requests stream are not. Paths, bodies and
/// parameters mean what `google/api/http.proto` says, JSON what proto3 says. A response with one message is held until the call's
/// status is known, which becomes the status of HTTP, with `google.rpc.Status` as the body of an error. A stream of messages begins with
/// the first of them; an error after that is its last item, `{"error": {…}}`, as the status of HTTP was sent. gRPC calls and requests
/// that no method is bound to go on as they are, unless `unmatched` says otherwise. Trailers other than the status are dropped.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file of the descriptor set, relative to the configuration: `protoc --include_imports --descriptor_set_out=FILE` or
    /// `buf build -o FILE`. Read when the configuration is; at most 64 MiB. A small one may stand here itself, in base64:
    /// `data:;base64,…`.
    pub descriptor: String,
    /// The services whose methods are called, such as `[shop.v1.Orders]`. Default: all of the descriptor set.
    #[serde(default)]
    pub services: Vec<String>,
    /// Binds methods without a `google.api.http` option to `POST /package.Service/Method`, with the message as the body.
    /// Default: `false`.
    #[serde(default)]
    pub unannotated: bool,
    /// What becomes of requests that no method is bound to: `pass` lets them go on, `refuse` refuses them with the cause
    /// `grpc_json.no_binding`, but for gRPC calls. Default: `pass`.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// What becomes of fields in bodies that the message does not have: `refuse` or `ignore`. Default: `refuse`.
    #[serde(default)]
    pub unknown_fields: Unknown,
    /// What becomes of parameters that the message does not have: `refuse` or `ignore`. Default: `refuse`.
    #[serde(default)]
    pub unknown_parameters: Unknown,
    /// Parameters that are for others, such as `[api_key]`: they are not looked at. Default: none.
    #[serde(default)]
    pub ignored_parameters: Vec<String>,
    /// How a stream of messages is sent: `lines` one after the other (`application/x-ndjson`), `array` as one document.
    /// Default: `lines`.
    #[serde(default)]
    pub stream: Form,
    /// How messages are printed. Default: as proto3 says.
    #[serde(default)]
    pub print: Print,
    /// The most bytes of a request's body, which is held in memory. Default: 1MiB, at most 64MiB.
    #[serde(default = "one_mib")]
    pub max_request: Size,
    /// The most bytes of a response's message, and of the JSON that it becomes. A single message is held in memory, as is each of a
    /// stream. Default: 4MiB, at most 64MiB.
    #[serde(default = "four_mib")]
    pub max_response: Size,
}

/// What becomes of requests that no method is bound to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// They go on.
    #[default]
    Pass,
    /// They are refused.
    Refuse,
}

/// What becomes of what a message does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// The request is refused.
    #[default]
    Refuse,
    /// It is left out.
    Ignore,
}

/// How a stream of messages is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A line for each message.
    #[default]
    Lines,
    /// One array.
    Array,
}

/// How messages are printed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Print {
    /// Also fields that have their default. Default: `false`.
    pub defaults: bool,
    /// Fields by their names in the proto, not in lowerCamelCase. Default: `false`.
    pub proto_names: bool,
    /// Enum values as numbers. Default: `false`.
    pub enums_as_numbers: bool,
    /// 64-bit integers as numbers, of which many clients lose digits. Default: `false`.
    pub integers_as_numbers: bool,
}

fn one_mib() -> Size {
    Size(1 << 20)
}

fn four_mib() -> Size {
    Size(4 << 20)
}

impl Plugin for Config {
    const KIND: &'static str = "grpc_json";
    const ABOUT: &'static str = "call gRPC services by REST and JSON";
    const EXAMPLE: &'static str = "descriptor: data:;base64,ClsKB28ucHJvdG8SBHNob3AiFwoFT3JkZXISDgoCaWQYASABKAlSAmlkMikKBk9yZGVycxIfCgNHZXQSCy5zaG9wLk9yZGVyGgsuc2hvcC5PcmRlcmIGcHJvdG8z
services: [shop.Orders]
unannotated: true
unmatched: refuse
print: {defaults: true}";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[
        &NO_BINDING,
        &TOO_LARGE,
        &UNSUPPORTED,
        &MALFORMED,
        &PARAMETER,
        &RESPONSE_TOO_LARGE,
        &RESPONSE_MALFORMED,
    ];

    fn build(self, build: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let most = self.max_request.0;
        let transcoder = Arc::new(Transcoder::of(self, build)?);
        let [wants, sent, wish, held, piece, end] = std::array::from_fn(|_| transcoder.clone());
        Ok(Hooks::new()
            .on_request(move |request| transcoder.request(request))
            .with_whole_body_where(most, &TOO_LARGE, move |request| wants.is_ours(request))
            .on_upstream_request(move |request| sent.upstream(request))
            .on_held_response(
                move |response| wish.wish(response),
                move |response, body| held.held(response, body),
            )
            .on_response_body(move |slots, bytes, last| piece.piece(slots, bytes, last))
            .on_response_trailers(move |slots, trailers, bytes| end.end(slots, trailers, bytes)))
    }
}

fn bounds(config: &Config) -> Vec<Problem> {
    let sizes = [
        ("max_request", config.max_request),
        ("max_response", config.max_response),
    ];
    let wrong = sizes
        .into_iter()
        .filter(|(_, size)| !(1..=MOST).contains(&size.0));
    wrong
        .map(|(path, size)| Problem::at(path, format!("must be from 1B to 64MiB, found {size}")))
        .collect()
}

fn bindings(config: &Config, build: &Build<'_>) -> Result<Bindings, Vec<Problem>> {
    let file = &config.descriptor;
    let set = descriptor_set(file, build);
    let set = set.map_err(|fact| vec![Problem::at("descriptor", fact)])?;
    let pool = DescriptorPool::decode(&set[..]).map_err(|error| {
        let problem = Problem::at(
            "descriptor",
            format!("what it names is no descriptor set: {error}"),
        );
        vec![problem.help("make it with `protoc --include_imports --descriptor_set_out=FILE`")]
    })?;
    let unknown = |name: &&String| pool.get_service_by_name(name).is_none();
    if let Some(name) = config.services.iter().find(unknown) {
        let known: Vec<String> = pool
            .services()
            .map(|one| one.full_name().to_owned())
            .collect();
        let problem = Problem::at("services", format!("no service is named \"{name}\""));
        return Err(vec![
            problem.help(format!("in the descriptor set: {}", known.join(", ")))
        ]);
    }
    let bindings = Bindings::of(pool, &config.services, config.unannotated);
    let bindings = bindings.map_err(|wrong| {
        let problem = |fact| Problem::at("descriptor", fact);
        wrong.into_iter().map(problem).collect::<Vec<_>>()
    })?;
    match bindings.methods() {
        0 => {
            let fact = "no method of the descriptor set can be called";
            let remedy = "give methods `google.api.http` options, or set `unannotated: true`";
            Err(vec![Problem::at("descriptor", fact).help(remedy)])
        }
        _ => Ok(bindings),
    }
}

fn descriptor_set(file: &str, build: &Build<'_>) -> Result<Vec<u8>, String> {
    if let Some(text) = file.strip_prefix("data:;base64,") {
        let set = STANDARD.decode(text.trim());
        return set.map_err(|error| format!("the data is no base64: {error}"));
    }
    let path = build.path(file);
    let length = std::fs::metadata(&path).map(|about| about.len());
    let length = length.map_err(|error| format!("\"{file}\": {error}"))?;
    if length > MOST {
        return Err(format!("\"{file}\" is larger than 64MiB"));
    }
    std::fs::read(&path).map_err(|error| format!("\"{file}\": {error}"))
}

const MOST: u64 = 64 << 20;
