//! A tunnel that is asked for and not yet answered: refused before anything is carried, or opened once its endpoint is there.
//! It must not know why it is refused beyond the cause.
//! Made by `server` for connections of bytes, answered by `tcp`.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::RecvStream;
use http::StatusCode;
use windrose_plugins::contract::{Blame, Cause};

use super::server::status;
use super::Tunnel;
use crate::proxy::transport::Transport;

/// A CONNECT that waits. One that is dropped is answered with 503.
pub(in crate::proxy) struct Knock {
    asked: Option<(SendResponse<Bytes>, RecvStream)>,
    /// Who asks, and for where.
    ends: (SocketAddr, SocketAddr),
}

impl Knock {
    pub(super) fn new(
        respond: SendResponse<Bytes>,
        body: RecvStream,
        ends: (SocketAddr, SocketAddr),
    ) -> Knock {
        let asked = Some((respond, body));
        Knock { asked, ends }
    }

    /// Opens it; `None` where who asked has left.
    pub(in crate::proxy) fn open(mut self) -> Option<Transport> {
        let (mut respond, body) = self.asked.take()?;
        let send = respond.send_response(status(StatusCode::OK), false).ok()?;
        let (client, to) = self.ends;
        Some(Transport::tunnel(Tunnel::new(send, body), client, to))
    }

    /// Refuses it: 401 to who may not, as ztunnel does, and 503 where it leads nowhere.
    pub(in crate::proxy) fn refuse(mut self, cause: &Cause) {
        self.answer(match cause.blame {
            Blame::Policy => StatusCode::UNAUTHORIZED,
            Blame::Client | Blame::Upstream | Blame::Dependency | Blame::Proxy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        });
    }

    /// Waits until who asked has left.
    pub(in crate::proxy) async fn gone(&mut self) {
        match &mut self.asked {
            Some((respond, _)) => {
                let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            }
            None => pending().await,
        }
    }

    fn answer(&mut self, code: StatusCode) {
        if let Some((mut respond, _)) = self.asked.take() {
            let _ = respond.send_response(status(code), true);
        }
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.answer(StatusCode::SERVICE_UNAVAILABLE);
    }
}
