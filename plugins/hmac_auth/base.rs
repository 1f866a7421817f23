//! Signatures of RFC 9421, and the text that each is of (section 2.5).
//! It must not verify, nor know keys.
//! Used by the gate for each request.

use http::{HeaderMap, HeaderName};
use pingora_http::RequestHeader;
use sfv::{BareItem, Dictionary, InnerList, Item, ListEntry, Parser};

use super::causes;
use crate::contract::{Cause, Request};
use crate::host;
use crate::query::escape;

/// One signature of a request.
pub(super) struct Signature {
    input: InnerList,
    bytes: Vec<u8>,
}

impl Signature {
    /// Every signature that came.
    ///
    /// # Errors
    /// None, fields that are no dictionaries of the same signatures, or too many.
    pub(super) fn all(headers: &HeaderMap) -> Result<Vec<Signature>, &'static Cause> {
        let inputs = dictionary(headers, "signature-input")?;
        let mut codes = dictionary(headers, "signature")?;
        if inputs.is_empty() && codes.is_empty() {
            return Err(&causes::MISSING);
        }
        if inputs.len() != codes.len() || inputs.len() > MOST {
            return Err(&causes::MALFORMED);
        }
        let mut all = Vec::new();
        for (label, input) in inputs {
            let (ListEntry::InnerList(input), Some(ListEntry::Item(code))) =
                (input, codes.swap_remove(&label))
            else {
                return Err(&causes::MALFORMED);
            };
            let bytes = code
                .bare_item
                .as_byte_sequence()
                .ok_or(&causes::MALFORMED)?;
            let signature = Signature {
                bytes: bytes.to_vec(),
                input,
            };
            signature
                .is_plain()
                .then_some(())
                .ok_or(&causes::MALFORMED)?;
            all.push(signature);
        }
        Ok(all)
    }

    /// Whether it covers each component once, and only such as are known here.
    fn is_plain(&self) -> bool {
        let items = &self.input.items;
        let is_known = |item: &Item| match (name(item), item.params.len()) {
            (Some("@query-param"), 1) => parameter(item).is_some(),
            (Some(name), 0) if name.starts_with('@') => DERIVED.contains(&name),
            // Fields are named in lower case.
            (Some(name), 0) => HeaderName::from_lowercase(name.as_bytes()).is_ok(),
            _ => false,
        };
        let is_twice = |at: usize| items[..at].contains(&items[at]);
        items.len() <= MOST_COMPONENTS
            && items.iter().all(is_known)
            && !(0..items.len()).any(is_twice)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let value = self.input.params.get(name)?;
        value.as_string().map(|text| text.as_str())
    }

    fn time(&self, name: &str) -> Option<u64> {
        let value = self.input.params.get(name)?;
        u64::try_from(i64::from(value.as_integer()?)).ok()
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.text("keyid")
    }

    pub(super) fn algorithm(&self) -> Option<&str> {
        self.text("alg")
    }

    pub(super) fn tag(&self) -> Option<&str> {
        self.text("tag")
    }

    pub(super) fn nonce(&self) -> Option<&str> {
        self.text("nonce").filter(|nonce| !nonce.is_empty())
    }

    pub(super) fn created(&self) -> Option<u64> {
        self.time("created")
    }

    pub(super) fn expires(&self) -> Option<u64> {
        // An end that cannot be read is over.
        let end = self.input.params.get("expires")?;
        Some(
            end.as_integer()
                .map_or(0, |_| self.time("expires").unwrap_or(0)),
        )
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it covers this component.
    pub(super) fn covers(&self, component: &str) -> bool {
        let mut items = self.input.items.iter();
        items.any(|item| item.params.is_empty() && name(item) == Some(component))
    }

    /// Whether it covers this component, by itself or inside a larger one.
    pub(super) fn satisfies(&self, component: &str) -> bool {
        let inside: &[&str] = match component {
            "@path" | "@query" => &["@request-target", "@target-uri"],
            "@request-target" | "@authority" | "@scheme" => &["@target-uri"],
            _ => &[],
        };
        self.covers(component) || inside.iter().any(|one| self.covers(one))
    }

    /// The text that is signed; none where a component is not there or could be read in two ways.
    pub(super) fn base(&self, request: &Request<'_>) -> Option<String> {
        let mut base = String::new();
        for item in &self.input.items {
            let value = component(request, item)?;
            if value.contains('\n') || !value.is_ascii() {
                return None;
            }
            base.push_str(&written(item));
            base.push_str(": ");
            base.push_str(&value);
            base.push('\n');
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(&self.parameters()?);
        Some(base)
    }

    fn parameters(&self) -> Option<String> {
        let mut list = sfv::ListSerializer::new();
        let mut inner = list.inner_list();
        inner.items(&self.input.items);
        let _ = inner.finish().parameters(&self.input.params);
        list.finish()
    }
}

fn dictionary(headers: &HeaderMap, name: &str) -> Result<Dictionary, &'static Cause> {
    let mut text = Vec::new();
    for (at, value) in headers.get_all(name).iter().enumerate() {
        if at > 0 {
            text.extend(b", ");
        }
        text.extend(value.as_bytes());
    }
    if text.len() > LONGEST {
        return Err(&causes::MALFORMED);
    }
    let parsed = Parser::new(&text).parse::<Dictionary>();
    parsed.map_err(|_| &causes::MALFORMED)
}

fn name(item: &Item) -> Option<&str> {
    item.bare_item.as_string().map(|text| text.as_str())
}

/// The `name` of `@query-param`.
fn parameter(item: &Item) -> Option<&str> {
    item.params
        .get("name")
        .and_then(BareItem::as_string)
        .map(|text| text.as_str())
}

fn written(item: &Item) -> String {
    let mut serializer = sfv::ItemSerializer::new().bare_item(&item.bare_item);
    serializer = serializer.parameters(&item.params);
    serializer.finish()
}

/// The value of a component (sections 2.1 and 2.2).
fn component(request: &Request<'_>, item: &Item) -> Option<String> {
    let (head, client) = (&*request.head, request.client);
    let scheme = match client.secure {
        true => "https",
        false => "http",
    };
    let target = || head.uri.path_and_query().map_or("/", |both| both.as_str());
    Some(match name(item)? {
        "@method" => head.method.as_str().to_owned(),
        "@scheme" => scheme.to_owned(),
        "@authority" => authority(head, client.secure)?,
        "@request-target" => target().to_owned(),
        "@path" => head.uri.path().to_owned(),
        "@query" => format!("?{}", head.uri.query().unwrap_or_default()),
        "@target-uri" => format!("{scheme}://{}{}", authority(head, client.secure)?, target()),
        "@query-param" => query_parameter(head.uri.query()?, parameter(item)?)?,
        field => joined(&head.headers, field)?,
    })
}

/// The host as it was asked for, in lower case, without the port that goes without saying.
pub(super) fn authority(head: &RequestHeader, secure: bool) -> Option<String> {
    let authority = host::asked(head)?;
    let lower = authority.to_ascii_lowercase();
    let port = if secure { ":443" } else { ":80" };
    Some(
        lower
            .strip_suffix(port)
            .map_or(lower.clone(), str::to_owned),
    )
}

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).iter();
    let texts: Option<Vec<&str>> = values
        .map(|value| Some(value.to_str().ok()?.trim()))
        .collect();
    let texts = texts.filter(|texts| !texts.is_empty())?;
    Some(texts.join(", "))
}

/// The one parameter of this name, as section 2.2.8 writes it; none where there are several.
fn query_parameter(query: &str, wanted: &str) -> Option<String> {
    let mut found = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (encoded(name)? == wanted).then_some(value)
    });
    let (value, other) = (found.next()?, found.next());
    other.is_none().then(|| encoded(value))?
}

/// Decoded as a form is, and encoded again in the one way.
fn encoded(text: &str) -> Option<String> {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => plain.push(b' '),
            b'%' => {
                plain.push(escape(rest)?);
                rest = &rest[2..];
            }
            byte => plain.push(*byte),
        }
    }
    let mut again = String::new();
    for byte in plain {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'*' | b'-' | b'.' | b'_' => {
                again.push(char::from(byte));
            }
            byte => again.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(again)
}

const DERIVED: [&str; 7] = [
    "@method",
    "@scheme",
    "@authority",
    "@request-target",
    "@path",
    "@query",
    "@target-uri",
];
const MOST: usize = 4;
const MOST_COMPONENTS: usize = 64;
const LONGEST: usize = 16 * 1024;
