//! What of a request is hashed to keep it with a share or an endpoint: a field, a cookie, a parameter, the client's address.
//! It must not know what is chosen by it.
//! Called by `share`, and by the proxy for the endpoint.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

use super::conditions::parameter;
use super::fields;

/// A field's value, of a repeated one the first. What is empty tells nobody apart, and counts as absent; so below.
pub fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let value = headers.get(name)?.as_bytes();
    (!value.is_empty()).then_some(value)
}

/// A cookie's value.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    fields::cookie(headers, name).filter(|value| !value.is_empty())
}

/// A query parameter, decoded as conditions see it.
pub fn query<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, [u8]>> {
    let value = parameter(query?, name)?;
    let bytes = match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// The client's address: the same text however it reached us.
pub fn address(client: IpAddr) -> Vec<u8> {
    client.to_canonical().to_string().into_bytes()
}
