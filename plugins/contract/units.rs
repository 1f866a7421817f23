//! Values with units as operators write them: `250ms`, `64KiB`, `20%`.
//! It must not know which setting holds them.
//! Used by plugin settings and by the proxy's own schema, so units are written the same everywhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A span of time: a number with `ms`, `s`, `m`, `h` or `d`, such as `250ms` or `1.5h`. At most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub Duration);

/// A number of bytes: a number with `B`, `KiB`, `MiB` or `GiB`, such as `64KiB`; a bare number is bytes.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "Scalar", into = "String")]
pub struct Size(pub u64);

/// A share from `0%` to `100%`, with up to two decimals, such as `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u16);

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
const TIMES: [(&str, f64); 5] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Time {
    /// A span of whole seconds.
    pub const fn secs(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    pub const fn millis(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        let digits = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = TIMES
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| factor);
        match (number.parse::<f64>(), factor) {
            (Ok(number), Some(factor)) if number * factor <= LONGEST.as_secs_f64() => {
                Ok(Time(Duration::from_secs_f64(number * factor)))
            }
            (Ok(_), Some(_)) => Err(format!("\"{text}\" is longer than ten years")),
            _ => Err(format!("\"{text}\" is not a time; write a number and ms, s, m, h or d, such as \"250ms\" or \"5s\"")),
        }
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Time, String> {
        text.parse()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            m if m % 86_400_000 == 0 => write!(f, "{}d", m / 86_400_000),
            m if m % 3_600_000 == 0 => write!(f, "{}h", m / 3_600_000),
            m if m % 60_000 == 0 => write!(f, "{}m", m / 60_000),
            m if m % 1000 == 0 => write!(f, "{}s", m / 1000),
            m => write!(f, "{m}ms"),
        }
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        time.to_string()
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$",
            "description": "A span of time: a number with ms, s, m, h or d, such as 250ms or 5s."})
    }
}

impl TryFrom<Scalar> for Size {
    type Error = String;

    fn try_from(scalar: Scalar) -> Result<Size, String> {
        match scalar {
            Scalar::Number(bytes) => Ok(Size(bytes)),
            Scalar::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = SIZES
            .iter()
            .find(|(name, _)| *name == unit.trim())
            .map(|(_, factor)| factor);
        let bytes = number
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(n, f)| n.checked_mul(*f));
        bytes.map(Size).ok_or_else(|| {
            format!("\"{text}\" is not a size; write a number and B, KiB, MiB or GiB, such as \"64KiB\"")
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZES
            .iter()
            .find(|(_, factor)| self.0.is_multiple_of(*factor) && self.0 > 0)
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$",
            "description": "A number of bytes: a number with B, KiB, MiB or GiB, such as 64KiB."})
    }
}

impl Percent {
    /// A whole percentage; `None` above 100.
    pub const fn new(percent: u8) -> Option<Percent> {
        if percent <= 100 {
            Some(Percent(percent as u16 * 100))
        } else {
            None
        }
    }

    /// The share as a number from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Percent, String> {
        let number = text
            .strip_suffix('%')
            .and_then(|number| number.trim().parse::<f64>().ok());
        match number {
            Some(percent) if (0.0..=100.0).contains(&percent) => {
                Ok(Percent((percent * 100.0).round() as u16))
            }
            _ => Err(format!("\"{text}\" is not a share; write 0% to 100%")),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> String {
        percent.to_string()
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?%$",
            "description": "A share from 0% to 100%."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_written() {
        for text in ["250ms", "5s", "2m", "1h", "3d", "0s"] {
            assert_eq!(
                text.parse::<Time>().map(|time| time.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn a_time_without_unit_is_refused() {
        assert!("5".parse::<Time>().is_err());
        assert!("5 fortnights".parse::<Time>().is_err());
        assert!("99999999d".parse::<Time>().is_err());
    }

    #[test]
    fn sizes_read_back_as_written() {
        for text in ["64KiB", "1MiB", "3GiB", "100B"] {
            assert_eq!(
                text.parse::<Size>().map(|size| size.to_string()),
                Ok(text.to_owned())
            );
        }
        assert!("99999999999GiB".parse::<Size>().is_err());
    }

    #[test]
    fn shares_above_one_hundred_are_refused() {
        assert_eq!(
            Percent::try_from("0.5%".to_owned()).map(|p| p.fraction()),
            Ok(0.005)
        );
        assert!(Percent::try_from("101%".to_owned()).is_err());
    }
}
