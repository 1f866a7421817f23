//! Times, durations and numbers as text, without allocation.
//! It must not know time zones: everything is UTC.
//! The line formats of the access log use it, and the recorder.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in UTC, in parts.
struct Parts {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// A clock before 1970 is a broken clock; 1970 says so.
fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn parts(since: Duration) -> Parts {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date of the proleptic Gregorian calendar, with years that begin in March (Howard Hinnant's algorithm).
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    Parts {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        hour: second / 3600,
        minute: second / 60 % 60,
        second: second % 60,
    }
}

/// RFC 3339 with microseconds.
pub(in crate::observe) fn rfc3339(out: &mut Vec<u8>, time: SystemTime) {
    let since = since_1970(time);
    let (of, text) = SECOND.get();
    let text = match of == since.as_secs() {
        true => text,
        false => {
            let text = whole_second(&parts(since));
            SECOND.set((since.as_secs(), text));
            text
        }
    };
    out.extend_from_slice(&text);
    digits::<6>(out, since.subsec_micros().into());
    out.push(b'Z');
}

/// What stands before the fraction, with its point.
fn whole_second(parts: &Parts) -> [u8; 20] {
    let mut out = Vec::with_capacity(20);
    digits::<4>(&mut out, parts.year);
    out.push(b'-');
    digits::<2>(&mut out, parts.month);
    out.push(b'-');
    digits::<2>(&mut out, parts.day);
    out.push(b'T');
    clock(&mut out, parts);
    out.push(b'.');
    out.try_into().unwrap_or([b'0'; 20])
}

thread_local! {
    /// The second this thread wrote last, and its text: requests come by the thousand in one, and a date costs a dozen divisions.
    static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [b'0'; 20])) };
}

/// The form of Apache's `%t`, without the brackets.
pub(super) fn apache(out: &mut Vec<u8>, time: SystemTime) {
    let parts = parts(since_1970(time));
    digits::<2>(out, parts.day);
    out.push(b'/');
    out.extend_from_slice(MONTHS[parts.month as usize - 1].as_bytes());
    out.push(b'/');
    digits::<4>(out, parts.year);
    out.push(b':');
    clock(out, &parts);
    out.extend_from_slice(b" +0000");
}

fn clock(out: &mut Vec<u8>, parts: &Parts) {
    digits::<2>(out, parts.hour);
    out.push(b':');
    digits::<2>(out, parts.minute);
    out.push(b':');
    digits::<2>(out, parts.second);
}

/// Milliseconds with three decimals.
pub(super) fn millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = whole_micros(duration);
    number(out, micros / 1000);
    out.push(b'.');
    digits::<3>(out, micros % 1000);
}

/// Seconds with six decimals.
pub(super) fn seconds(out: &mut Vec<u8>, duration: Duration) {
    let micros = whole_micros(duration);
    number(out, micros / 1_000_000);
    out.push(b'.');
    digits::<6>(out, micros % 1_000_000);
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A number as it is.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The last digits of a number, with leading zeros.
fn digits<const WIDTH: usize>(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [b'0'; WIDTH];
    for place in text.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text);
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> [String; 2] {
        let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(42);
        let (mut long, mut short) = (Vec::new(), Vec::new());
        rfc3339(&mut long, time);
        apache(&mut short, time);
        [long, short].map(|text| String::from_utf8(text).expect("ASCII"))
    }

    #[test]
    fn dates_are_right_at_the_edges_of_the_calendar() {
        for (seconds, long, short) in [
            (
                0,
                "1970-01-01T00:00:00.000042Z",
                "01/Jan/1970:00:00:00 +0000",
            ),
            (
                951_782_399,
                "2000-02-28T23:59:59.000042Z",
                "28/Feb/2000:23:59:59 +0000",
            ),
            (
                951_782_400,
                "2000-02-29T00:00:00.000042Z",
                "29/Feb/2000:00:00:00 +0000",
            ),
            (
                1_735_689_599,
                "2024-12-31T23:59:59.000042Z",
                "31/Dec/2024:23:59:59 +0000",
            ),
            (
                4_107_542_400,
                "2100-03-01T00:00:00.000042Z",
                "01/Mar/2100:00:00:00 +0000",
            ),
        ] {
            assert_eq!(at(seconds), [long, short]);
        }
    }

    #[test]
    fn durations_keep_their_leading_zeros() {
        let mut out = Vec::new();

        millis(&mut out, Duration::from_micros(1_234_005));
        out.push(b' ');
        seconds(&mut out, Duration::from_micros(1_000_007));

        assert_eq!(out, b"1234.005 1.000007");
    }
}
