//! How long a request may take: what its route allows, what it brings itself, and how endpoints are told what is left.
//! It must not know when the request began; whoever counts time does.
//! Called by [`Walk`](super::Walk).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::snapshot::route::Timeouts;

/// The deadline of a gRPC call: up to eight digits and a unit (gRPC over HTTP/2, "Timeout").
const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");
/// The deadline of any other request: a number with `ms`, `s` or `m`, or bare milliseconds.
const REQUEST: HeaderName = HeaderName::from_static("x-request-timeout");

/// The time of a request, and who set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// From the request's header on.
    pub time: Duration,
    /// Who set it.
    pub by: SetBy,
}

/// Who set a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// `timeouts.request` of the route.
    Route,
    /// The request's `grpc-timeout`.
    Grpc,
    /// The request's `x-request-timeout`.
    Field,
}

impl SetBy {
    /// The word for people and tools.
    pub fn as_str(self) -> &'static str {
        match self {
            SetBy::Route => "route",
            SetBy::Grpc => "grpc-timeout",
            SetBy::Field => "x-request-timeout",
        }
    }
}

/// What a field says of the request's time, if it is one that does. A value that cannot be read says nothing and is passed on.
pub(super) fn brought(name: &str, value: &HeaderValue) -> Option<Deadline> {
    let (by, time) = match name {
        "grpc-timeout" => (SetBy::Grpc, grpc(value)?),
        "x-request-timeout" => (SetBy::Field, plain(value).filter(|time| !time.is_zero())?),
        _ => return None,
    };
    Some(Deadline { time, by })
}

/// The shorter of what the route allows and what the request brings.
pub(super) fn deadline(timeouts: &Timeouts, brought: Option<Deadline>) -> Option<Deadline> {
    let route = timeouts.request.map(|time| Deadline {
        time,
        by: SetBy::Route,
    });
    let brought = brought.filter(|_| timeouts.honours_clients);
    match (route, brought) {
        (Some(route), Some(brought)) if brought.time < route.time => Some(brought),
        (None, brought) => brought,
        (route, _) => route,
    }
}

/// Tells the endpoint what is left, in the field of its protocol; what the request said in the other one is longer by now.
pub(super) fn tell(headers: &mut HeaderMap, left: Duration, is_grpc: bool) {
    let millis = left.as_millis();
    let text = match is_grpc {
        false => format!("{}ms", millis.max(1)),
        // Eight digits are the most a value may have.
        true if millis >= 100_000_000 => format!("{}S", left.as_secs().min(99_999_999)),
        true if millis == 0 => format!("{}u", left.as_micros().max(1)),
        true => format!("{millis}m"),
    };
    // Digits and letters are a value.
    if let Ok(value) = HeaderValue::try_from(text) {
        let (told, other) = if is_grpc {
            (GRPC, REQUEST)
        } else {
            (REQUEST, GRPC)
        };
        headers.insert(told, value);
        headers.remove(other);
    }
}

fn grpc(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn plain(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let factor = match unit {
        "" | "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    let seconds = number.parse::<f64>().ok()? * factor;
    // A day is longer than anybody waits; more is a mistake or an attack.
    (seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Option<Duration> {
        let value = HeaderValue::from_str(value).unwrap();
        brought(name, &value).map(|deadline| deadline.time)
    }

    #[test]
    fn grpc_timeouts_have_up_to_eight_digits_and_a_unit() {
        let read = |text| of("grpc-timeout", text);

        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for odd in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "5 S", "5é"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn plain_timeouts_are_milliseconds_or_have_a_unit() {
        let read = |text| of("x-request-timeout", text);

        assert_eq!(read("250"), Some(Duration::from_millis(250)));
        assert_eq!(read("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(read("2m"), Some(Duration::from_secs(120)));
        for odd in [
            "", "0", "ms", "1h", "-1s", "1e3", "9999999s", "1.2.3s", "inf",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_request_shortens_its_time_and_never_lengthens_it() {
        let timeouts = Timeouts {
            request: Some(Duration::from_secs(2)),
            honours_clients: true,
            ..Timeouts::default()
        };
        let brought = |seconds| {
            Some(Deadline {
                time: Duration::from_secs(seconds),
                by: SetBy::Grpc,
            })
        };
        let by =
            |timeouts: &Timeouts, seconds| deadline(timeouts, brought(seconds)).map(|it| it.by);

        assert_eq!(by(&timeouts, 1), Some(SetBy::Grpc));
        assert_eq!(by(&timeouts, 3), Some(SetBy::Route));
        let unbound = Timeouts {
            request: None,
            ..timeouts.clone()
        };
        assert_eq!(by(&unbound, 3), Some(SetBy::Grpc));
        let deaf = Timeouts {
            honours_clients: false,
            ..timeouts
        };
        assert_eq!(by(&deaf, 1), Some(SetBy::Route));
    }

    #[test]
    fn what_is_left_is_told_in_the_form_of_the_protocol() {
        let told = |left, is_grpc| {
            let mut headers = HeaderMap::new();
            tell(&mut headers, left, is_grpc);
            let value = headers.values().next().unwrap();
            value.to_str().unwrap().to_owned()
        };

        assert_eq!(told(Duration::from_millis(1500), false), "1500ms");
        assert_eq!(told(Duration::from_micros(10), false), "1ms");
        assert_eq!(told(Duration::from_millis(1500), true), "1500m");
        assert_eq!(told(Duration::from_micros(10), true), "10u");
        assert_eq!(told(Duration::from_secs(200_000), true), "200000S");
    }
}
