//! Hours, days and months of the calendar in UTC, from seconds since 1970 and back.
//! It must not know time zones or leap seconds, which Unix time does not count.
//! Called by `quota` for each request.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::date::{date, MARCH_OF_YEAR_0};

/// How long a quota is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From each full hour.
    Hour,
    /// From midnight.
    Day,
    /// From midnight of the first.
    Month,
}

/// A period on the calendar. Times are since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// Such as `2026-11`, `2026-11-26` or `2026-11-26T06`.
    pub(super) name: String,
    pub(super) begins: Duration,
    pub(super) ends: Duration,
}

impl Period {
    /// The period of a time.
    pub(super) fn at(self, now: Duration) -> Span {
        let days = now.as_secs() / DAY;
        let (year, month, day) = date(days);
        match self {
            Period::Hour => {
                let hour = now.as_secs() / HOUR;
                let name = format!("{year}-{month:02}-{day:02}T{:02}", hour % 24);
                Span::new(name, hour * HOUR, (hour + 1) * HOUR)
            }
            Period::Day => {
                let name = format!("{year}-{month:02}-{day:02}");
                Span::new(name, days * DAY, (days + 1) * DAY)
            }
            Period::Month => {
                let next = if month == 12 {
                    (year + 1, 1)
                } else {
                    (year, month + 1)
                };
                let name = format!("{year}-{month:02}");
                Span::new(name, (days + 1 - day) * DAY, first_of(next) * DAY)
            }
        }
    }
}

impl Span {
    fn new(name: String, begins: u64, ends: u64) -> Span {
        Span {
            name,
            begins: Duration::from_secs(begins),
            ends: Duration::from_secs(ends),
        }
    }

    pub(super) fn left(&self, now: Duration) -> Duration {
        self.ends.saturating_sub(now)
    }

    pub(super) fn length(&self) -> Duration {
        self.ends.saturating_sub(self.begins)
    }
}

/// The day since 1970 on which a month begins.
fn first_of((year, month): (u64, u64)) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.saturating_sub(MARCH_OF_YEAR_0)
}

const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(period: Period, seconds: u64) -> String {
        period.at(Duration::from_secs(seconds)).name
    }

    #[test]
    fn known_moments_are_in_their_periods() {
        // As `date -u -d @SECONDS` prints them.
        for (seconds, hour) in [
            (0, "1970-01-01T00"),
            (951_782_400, "2000-02-29T00"),
            (951_868_799, "2000-02-29T23"),
            (951_868_800, "2000-03-01T00"),
            (1_709_164_800, "2024-02-29T00"),
            (1_798_761_599, "2026-12-31T23"),
            (1_798_761_600, "2027-01-01T00"),
            (4_107_542_400, "2100-03-01T00"),
        ] {
            assert_eq!(name(Period::Hour, seconds), hour);
            assert_eq!(name(Period::Day, seconds), hour[..10]);
            assert_eq!(name(Period::Month, seconds), hour[..7]);
        }
    }

    #[test]
    fn periods_follow_each_other_without_gap_for_two_hundred_years() {
        for period in [Period::Day, Period::Month] {
            let mut span = period.at(Duration::ZERO);
            assert_eq!(span.begins, Duration::ZERO);
            while span.ends < Duration::from_secs(200 * 365 * DAY) {
                let next = period.at(span.ends);
                assert_eq!(next.begins, span.ends, "{} and {}", span.name, next.name);
                let last = period.at(span.ends - Duration::from_secs(1));
                assert_eq!(last, span);
                span = next;
            }
        }
    }

    #[test]
    fn months_have_the_length_that_they_have() {
        let days = |seconds| {
            Period::Month
                .at(Duration::from_secs(seconds))
                .length()
                .as_secs()
                / DAY
        };

        assert_eq!(days(1_709_164_800), 29, "February 2024");
        assert_eq!(days(1_798_761_599), 31, "December 2026");
    }
}
