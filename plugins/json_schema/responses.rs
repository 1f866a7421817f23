//! The check of responses: those that succeeded, with a body of one of the types, by their schema.
//! It must not know what becomes of them; that is the same for all plugins with schemas.
//! Attached by the plugin where its settings ask for it.

use bytes::Bytes;
use http::HeaderMap;

use super::is_of;
use crate::codec::whole::plain;
use crate::contract::Response;
use crate::json::bounded;
use crate::media::Kind;
use crate::schema::responses::{has_whole_body, Head, Judge};
use crate::schema::{Said, Schema};

/// What is looked for.
pub(super) struct ByType {
    pub(super) schema: Schema,
    pub(super) types: Vec<Kind>,
    pub(super) most: u64,
}

impl Judge for ByType {
    type Kept = ();

    fn head(&self, response: &Response<'_>) -> Head<()> {
        let is_looked_at = response.head.status.is_success()
            && has_whole_body(response)
            && is_of(&self.types, &response.head.headers);
        match is_looked_at {
            true => Head::Body(()),
            false => Head::Passes,
        }
    }

    fn fits(&self, _: &(), headers: &HeaderMap, body: &Bytes) -> bool {
        let Ok(body) = plain(headers, body, self.most) else {
            return false;
        };
        let value = bounded(&body, 127);
        value.is_ok_and(|value| self.schema.check(&value, body.len(), 0) == Said::Fits)
    }
}
