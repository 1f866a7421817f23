//! Responses that are held back, for tests.
//! It must not know what a plugin does with them.
//! Part of the kit.

use bytes::Bytes;

use super::{Exchange, Instance};
use crate::contract::{Held, Hold, Response, Verdict, WholeBody};

impl Instance {
    /// Runs the response hook, and asks what the plugin wants of [`Exchange::response`].
    pub fn wish(&self, exchange: &mut Exchange) -> Hold {
        let _ = self.response(exchange);
        match &self.hooks.held_response {
            Some(held) => exchange.responding(|response| (held.wish)(response)),
            None => Hold::Nothing,
        }
    }

    /// Runs the hook on a response that was held.
    pub fn held_response(&self, exchange: &mut Exchange, held: &mut Held) -> Verdict {
        match &self.hooks.held_response {
            Some(it) => exchange.responding(|response| (it.hook)(response, held)),
            None => Verdict::Continue,
        }
    }

    /// Lets a whole response with this body through, as the proxy would where it is small enough; what it becomes.
    pub fn respond(
        &self,
        exchange: &mut Exchange,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, Verdict> {
        let mut held = Held {
            body: WholeBody::new(body.into()),
            is_whole: true,
            ..Held::default()
        };
        if self.wish(exchange) == Hold::Nothing {
            return Ok(held.body.bytes().clone());
        }
        match self.held_response(exchange, &mut held) {
            Verdict::Continue => Ok(held.body.bytes().clone()),
            other => Err(other),
        }
    }
}

impl Exchange {
    pub(super) fn responding<T>(&mut self, work: impl FnOnce(&mut Response<'_>) -> T) -> T {
        let client = self.facts.view(&self.request);
        work(&mut Response {
            head: &mut self.response,
            request: &self.request,
            client: &client,
            cause: self.cause,
            slots: &mut self.seen.slots,
            effects: self.seen.effects,
        })
    }
}
