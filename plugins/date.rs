//! The date of a day, for plugins that write or count by it.
//! It must not know time zones or leap seconds, which Unix time does not count.
//! Called by `quota` and `log_http`; tested by the former's calendar, which goes both ways.

/// Year, month and day of a day since 1970. Years are counted from March, so that the day that is not always there is the last one;
/// 400 years have 146,097 days.
pub(crate) fn date(days: u64) -> (u64, u64, u64) {
    let since = days + MARCH_OF_YEAR_0;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + later, month, day)
}

/// Days from the first of March of the year 0 to 1970.
pub(crate) const MARCH_OF_YEAR_0: u64 = 719_468;
