//! The check of responses: their status, media type and JSON, by what the document says of the operation.
//! It must not know what becomes of them; that is the same for all plugins with schemas.
//! Attached by the plugin where its settings ask for it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::content::{Content, Looks};
use super::operation::Operation;
use crate::codec::whole::plain;
use crate::contract::{Response, Slot};
use crate::json::bounded;
use crate::media;
use crate::schema::responses::{has_whole_body, Head, Judge};
use crate::schema::{Said, Schema};

/// What is looked for.
pub(super) struct ByOperation {
    /// The operation that a request was found to be.
    pub(super) found: Slot<Arc<Operation>>,
    pub(super) most: u64,
}

/// The operation of a response, its status and media type.
pub(super) struct Declared {
    operation: Arc<Operation>,
    status: u16,
    kind: String,
}

impl Judge for ByOperation {
    type Kept = Declared;

    fn head(&self, response: &Response<'_>) -> Head<Declared> {
        let Some(operation) = response.slots.value(self.found).cloned() else {
            return Head::Passes;
        };
        let status = response.head.status.as_u16();
        let has_body =
            response.request.method != Method::HEAD && !matches!(status, 204 | 205 | 304);
        let kind = media::of(&response.head.headers).filter(|_| has_body);
        let declared = operation.responses.as_ref();
        let declared = declared.and_then(|all| all.of_status(status));
        match (declared, kind) {
            (None, _) => Head::Unfit,
            (Some(_), None) | (Some(None), Some(_)) => Head::Passes,
            (Some(Some(content)), Some(kind)) if content.media(&kind).is_none() => Head::Unfit,
            (Some(Some(content)), Some(kind)) => {
                match schema(content, &kind).is_some() && has_whole_body(response) {
                    false => Head::Passes,
                    true => Head::Body(Declared {
                        operation,
                        status,
                        kind,
                    }),
                }
            }
        }
    }

    fn fits(&self, kept: &Declared, headers: &HeaderMap, body: &Bytes) -> bool {
        let declared = kept.operation.responses.as_ref();
        let content = declared
            .and_then(|all| all.of_status(kept.status))
            .flatten();
        let Some(schema) = content.and_then(|content| schema(content, &kept.kind)) else {
            return true;
        };
        let Ok(plain) = plain(headers, body, self.most) else {
            return false;
        };
        let value = bounded(&plain, 127);
        value.is_ok_and(|value| schema.check(&value, plain.len(), 0) == Said::Fits)
    }
}

/// The schema of JSON of a media type, if there is one.
fn schema<'c>(content: &'c Content, kind: &str) -> Option<&'c Schema> {
    match &content.media(kind)?.looks {
        Looks::Json(schema) => schema.as_deref(),
        Looks::Presence | Looks::Form(_) => None,
    }
}
