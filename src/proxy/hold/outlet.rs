//! Where a response leaves for the client: what Pingora hands on stops here while a plugin holds it, and goes out with its head later.
//! It must not know why it is held.
//! Shared by a lent session, which writes, and the request's state, which says what.

use std::mem::replace;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::{Error, ErrorType, Result};

/// The outlet of one request. The lock is held for moments: writer and state never work at the same time.
#[derive(Clone, Default)]
pub(in crate::proxy) struct Outlet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stage: Stage,
    /// Goes out behind the head, before trailers or the end.
    before: Option<Bytes>,
}

#[derive(Default)]
enum Stage {
    /// Everything goes out.
    #[default]
    Free,
    /// Nothing does.
    Held,
    /// The next thing to go out is this head.
    Released(Box<ResponseHeader>),
}

impl Outlet {
    /// Stops what comes from now on.
    pub(super) fn hold(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            stage: Stage::Held,
            before: None,
        };
    }

    /// Lets out what comes, behind this.
    pub(super) fn release(&self, head: ResponseHeader, before: Option<Bytes>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            stage: Stage::Released(Box::new(head)),
            before,
        };
    }

    /// What goes out of what Pingora hands on.
    ///
    /// # Errors
    /// When the response failed, or ended, while it is held.
    pub(in crate::proxy) fn sift(&self, tasks: Vec<HttpTask>) -> Result<Vec<HttpTask>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.stage, Stage::Free) && state.before.is_none() {
            return Ok(tasks);
        }
        let mut out = Vec::with_capacity(tasks.len() + 2);
        for task in tasks {
            state.pass(task, &mut out)?;
        }
        Ok(out)
    }
}

impl State {
    fn pass(&mut self, task: HttpTask, out: &mut Vec<HttpTask>) -> Result<()> {
        if is_interim(&task) {
            out.push(task);
            return Ok(());
        }
        match (replace(&mut self.stage, Stage::Free), task) {
            (Stage::Held, task) => {
                self.stage = Stage::Held;
                return stopped(task);
            }
            (Stage::Released(head), HttpTask::Header(_, end)) => self.begin(head, end, out),
            (Stage::Released(head), task) => {
                self.begin(head, false, out);
                out.push(task);
            }
            (Stage::Free, task) => out.push(task),
        }
        Ok(())
    }

    fn begin(&mut self, head: Box<ResponseHeader>, end: bool, out: &mut Vec<HttpTask>) {
        match self.before.take() {
            None => out.push(HttpTask::Header(head, end)),
            Some(bytes) => {
                out.push(HttpTask::Header(head, false));
                out.push(HttpTask::Body(Some(bytes), end));
            }
        }
    }
}

/// What does not go out: heads and pieces that are held elsewhere.
fn stopped(task: HttpTask) -> Result<()> {
    match task {
        HttpTask::Header(_, false) => Ok(()),
        HttpTask::Body(piece, false) if piece.as_ref().is_none_or(Bytes::is_empty) => Ok(()),
        HttpTask::Failed(error) => Err(error),
        HttpTask::Header(_, true) | HttpTask::Done => {
            Error::e_explain(END, "a held response has ended")
        }
        // A piece or trailers that were refused; the cause is known.
        _ => Error::e_explain(ErrorType::InternalError, "a held response was refused"),
    }
}

fn is_interim(task: &HttpTask) -> bool {
    match task {
        HttpTask::Header(head, _) => {
            head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
        }
        _ => false,
    }
}

/// Whether this says that a held response ended without a last piece.
pub(in crate::proxy) fn is_end(error: &Error) -> bool {
    *error.etype() == END
}

const END: ErrorType = ErrorType::Custom("HeldResponseEnded");

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16) -> Box<ResponseHeader> {
        Box::new(ResponseHeader::build(status, None).unwrap())
    }

    fn piece(text: &'static str, end: bool) -> HttpTask {
        HttpTask::Body(Some(Bytes::from_static(text.as_bytes())), end)
    }

    fn told(tasks: &[HttpTask]) -> Vec<String> {
        let tell = |task: &HttpTask| match task {
            HttpTask::Header(head, end) => format!("{} {end}", head.status.as_u16()),
            HttpTask::Body(piece, end) => {
                let piece = piece.clone().unwrap_or_default();
                format!("{} {end}", String::from_utf8_lossy(&piece))
            }
            HttpTask::Trailer(_) => "trailers".to_owned(),
            _ => "other".to_owned(),
        };
        tasks.iter().map(tell).collect()
    }

    #[test]
    fn nothing_stops_where_nothing_is_held() {
        let out = Outlet::default()
            .sift(vec![HttpTask::Header(head(200), false), piece("a", true)])
            .unwrap();

        assert_eq!(told(&out), ["200 false", "a true"]);
    }

    #[test]
    fn a_held_response_goes_out_with_its_new_head_and_interim_heads_before_it() {
        let outlet = Outlet::default();
        outlet.hold();

        let first = outlet.sift(vec![
            HttpTask::Header(head(103), false),
            HttpTask::Header(head(200), false),
            piece("", false),
        ]);
        outlet.release(*head(422), None);
        let rest = outlet.sift(vec![piece("new", true), HttpTask::Done]);

        assert_eq!(told(&first.unwrap()), ["103 false"]);
        assert_eq!(told(&rest.unwrap()), ["422 false", "new true", "other"]);
    }

    #[test]
    fn all_at_once_and_with_trailers_keeps_its_order() {
        let outlet = Outlet::default();
        outlet.release(*head(201), Some(Bytes::from_static(b"new")));

        let out = outlet.sift(vec![
            HttpTask::Header(head(200), false),
            piece("", false),
            HttpTask::Trailer(None),
            HttpTask::Done,
        ]);

        let expected = ["201 false", "new false", " false", "trailers", "other"];
        assert_eq!(told(&out.unwrap()), expected);
    }

    #[test]
    fn a_response_without_body_gets_one() {
        let outlet = Outlet::default();
        outlet.release(*head(404), Some(Bytes::from_static(b"{}")));

        let out = outlet.sift(vec![HttpTask::Header(head(200), true)]);

        assert_eq!(told(&out.unwrap()), ["404 false", "{} true"]);
    }

    #[test]
    fn what_ends_while_it_is_held_is_an_error() {
        let held = || {
            let outlet = Outlet::default();
            outlet.hold();
            outlet
        };
        let failed = held().sift(vec![HttpTask::Failed(Error::new(ErrorType::H2Error))]);
        let ended = held().sift(vec![HttpTask::Header(head(200), true)]);
        let refused = held().sift(vec![HttpTask::Trailer(None)]);

        assert_eq!(*failed.unwrap_err().etype(), ErrorType::H2Error);
        assert!(is_end(&ended.unwrap_err()));
        assert!(!is_end(&refused.unwrap_err()));
    }
}
