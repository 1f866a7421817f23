//! Whether a failed attempt may be followed by another one, as far as the rule and the request say.
//! It must not know budgets, deadlines or endpoints, which change from moment to moment.
//! The data path asks for each failure.

use http::Method;

use crate::snapshot::route::Retry;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection was made.
    Connect,
    /// The endpoint refused the stream before it did anything.
    Refused,
    /// The connection broke before the response's header.
    Reset,
    /// It took longer than one attempt may.
    PerTry,
    /// It took longer than any request of its rule may.
    Timeout,
    /// The endpoint answered with this status.
    Status(u16),
    /// The endpoint answered with this gRPC status.
    Grpc(u16),
}

/// Why no further attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum No {
    /// The rule does not ask for one after such a failure, or for this method.
    Unwanted,
    /// All attempts were made.
    Attempts,
    /// The body is larger than what was kept of it.
    Body,
    /// Not enough time is left.
    Deadline,
    /// A budget is spent.
    Budget,
    /// As many as the pool allows are under way.
    Limit,
    /// The hop behind has tried itself, or is overloaded.
    Behind,
}

impl No {
    /// The word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            No::Unwanted => "unwanted",
            No::Attempts => "attempts",
            No::Body => "body",
            No::Deadline => "deadline",
            No::Budget => "budget",
            No::Limit => "limit",
            No::Behind => "behind",
        }
    }
}

/// Judges a failure. `made` are the attempts so far; `replayable` says whether the whole body can be sent again.
///
/// # Errors
/// Why no attempt follows.
pub fn again(
    retry: &Retry,
    failure: Failure,
    method: &Method,
    made: u8,
    replayable: bool,
) -> Result<(), No> {
    let is_safe = || retry.methods.contains(method);
    let wanted = match failure {
        Failure::Connect => retry.on_connect_failure,
        // RFC 9113 section 8.7: such a stream was not processed, whatever its method.
        Failure::Refused => retry.on_refused_stream,
        Failure::Reset => retry.on_reset && is_safe(),
        Failure::PerTry => retry.on_per_try_timeout && is_safe(),
        Failure::Timeout => false,
        Failure::Status(status) => retry.on_status(status) && is_safe(),
        Failure::Grpc(status) => retry.on_grpc(status),
    };
    match (wanted, made > retry.attempts, failure) {
        (false, _, _) => Err(No::Unwanted),
        (true, true, _) => Err(No::Attempts),
        // Nothing of the body was read yet.
        (true, false, Failure::Connect) => Ok(()),
        (true, false, _) if replayable => Ok(()),
        (true, false, _) => Err(No::Body),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshot::route::Backoff;

    fn retry() -> Retry {
        Retry {
            attempts: 2,
            on_connect_failure: true,
            on_refused_stream: true,
            on_reset: true,
            on_per_try_timeout: true,
            statuses: [503].into(),
            grpc: 1 << 14,
            methods: [Method::GET].into(),
            backoff: Backoff {
                base: Duration::ZERO,
                max: Duration::ZERO,
            },
            budget: None,
        }
    }

    const KINDS: [Failure; 6] = [
        Failure::Connect,
        Failure::Refused,
        Failure::Reset,
        Failure::PerTry,
        Failure::Status(503),
        Failure::Grpc(14),
    ];

    #[test]
    fn a_safe_method_is_sent_again_after_every_failure_that_is_wanted() {
        for failure in KINDS {
            let verdict = again(&retry(), failure, &Method::GET, 2, true);
            assert_eq!(verdict, Ok(()), "{failure:?}");
        }
        let get = |failure| again(&retry(), failure, &Method::GET, 1, true);
        assert_eq!(get(Failure::Status(500)), Err(No::Unwanted));
        assert_eq!(get(Failure::Grpc(13)), Err(No::Unwanted));
        assert_eq!(get(Failure::Grpc(99)), Err(No::Unwanted));
    }

    #[test]
    fn an_unsafe_method_is_sent_again_only_when_nothing_was_done() {
        let post = |failure| again(&retry(), failure, &Method::POST, 1, true).is_ok();

        let sent: Vec<Failure> = KINDS.into_iter().filter(|kind| post(*kind)).collect();
        assert_eq!(
            sent,
            [Failure::Connect, Failure::Refused, Failure::Grpc(14)]
        );
    }

    #[test]
    fn attempts_end() {
        for failure in KINDS {
            let verdict = again(&retry(), failure, &Method::GET, 3, true);
            assert_eq!(verdict, Err(No::Attempts), "{failure:?}");
        }
    }

    #[test]
    fn a_body_that_was_not_kept_is_sent_again_only_if_none_of_it_was_sent() {
        let get = |failure| again(&retry(), failure, &Method::GET, 1, false);

        assert_eq!(get(Failure::Connect), Ok(()));
        assert_eq!(get(Failure::Refused), Err(No::Body));
        assert_eq!(get(Failure::Reset), Err(No::Body));
    }
}
