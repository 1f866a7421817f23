//! Keys of `consumers`: who calls APIs under a name of their own, and what proves it.
//! It must not know plugins, which prove and judge consumers.
//! Read by `config::compile`, which hands them to every plugin.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use windrose_plugins::contract::Encoding;

/// Somebody who calls APIs. Plugins that authenticate prove consumers by their credentials; the name is then the principal `consumer:NAME` for later plugins, policies, logs and traces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    /// Name, unique among consumers: no control characters, no `:`.
    pub name: String,
    /// Groups, for the plugin `acl`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else is known, such as `{plan: gold}`, for plugins that read it. At most 64 entries. Default: nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// API keys for the plugin `key_auth`, as their SHA-256 in 64 hexadecimal digits (`printf %s KEY | sha256sum`). Several make it possible to change one without a gap. A key has to be random, at least 128 bits. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// A password's hash for the plugin `basic_auth`, of bcrypt (`htpasswd -nbB NAME PASSWORD` prints one after the colon) or Argon2; the name is the user's. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What issuers of tokens call it, for the plugins `jwt` and `oidc` with `consumer: {by: subject}`. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<TokenSubject>,
    /// Keys that it signs requests with, for the plugin `hmac_auth`. Several make it possible to change one without a gap. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signing_keys: Vec<SigningKey>,
    /// What it is known by in client certificates, for the plugin `mtls_auth`. Several make it possible to change one without a gap. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<KnownCertificate>,
}

/// What a consumer is known by in client certificates: one thing that they say, perhaps only in those of one `issuer`; or `issuer` alone, for all of its certificates. No two consumers are known by the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownCertificate {
    /// The SHA-256 of the whole certificate in 64 hexadecimal digits, also with colons between (`openssl x509 -noout -fingerprint -sha256`). Changes with each renewal. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// A URI of subjectAltName, letter by letter. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// A DNS name of subjectAltName; case does not matter. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// A mail address of subjectAltName; case matters before the `@` only. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The whole subject as RFC 4514 writes it, such as `CN=billing,O=Example` (`openssl x509 -noout -subject -nameopt RFC2253,-esc_msb`); spaces after commas do not matter. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The subject's common name, letter by letter. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// Whose certificates these are, as `subject` is written. Needed where several authorities are believed that could give the same name to different clients. Default: those of all that the listener believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A key that a consumer signs requests with: exactly one of `secret` and `public_key`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// The name that signatures give it (`keyid`), unique among all consumers.
    pub id: String,
    /// A secret of at least 32 bytes that the consumer has as well, for `hmac-sha256`; write it as `${env:NAME}` or `${file:path}`. Never shown. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How `secret` is written: `text`, `base64` or `hex`. Default: `text`.
    #[serde(default, skip_serializing_if = "Encoding::is_text")]
    pub encoding: Encoding,
    /// A public key in PEM, for `ed25519`, `ecdsa-p256-sha256`, `ecdsa-p384-sha384` or, with RSA, `rsa-pss-sha512`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// What an issuer of tokens calls a consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSubject {
    /// The issuer, as its tokens write it in `iss`, letter by letter.
    pub issuer: String,
    /// What it calls the consumer, in the claim that the plugin's `consumer.claim` names. One consumer's alone.
    pub subject: String,
}
