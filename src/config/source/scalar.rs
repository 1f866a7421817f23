//! What an unquoted word means: null, a truth value, a number or text, by the YAML 1.2 core schema.
//! It must not know where the word stands or what is expected there.
//! Called by `source::parse` for plain scalars and for interpolated ones.

use super::Kind;

/// The value of an unquoted scalar (YAML 1.2.2 section 10.3.2). `no`, `on` and `12:30` are text.
pub(super) fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    if let Some(number) = whole(text) {
        return Kind::Int(number);
    }
    match float(text) {
        Some(number) => Kind::Float(number),
        None => Kind::Str(text.to_owned()),
    }
}

fn whole(text: &str) -> Option<i64> {
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    text.parse().ok()
}

/// `from_str_radix` takes a sign, which the core schema does not allow after a prefix.
fn digits(text: &str, radix: u32) -> Option<i64> {
    if !text.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    i64::from_str_radix(text, radix).ok()
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        _ => {}
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(f64::NAN);
    }
    // Rust also reads "inf", "nan" and "infinity", which are text in YAML.
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+');
    if !unsigned.contains(|c: char| c.is_ascii_digit()) || !unsigned.chars().all(numeric) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_yaml_1_1_are_text() {
        for word in ["no", "on", "Yes", "12:30", "1_000", "inf", "0x-1", "1.2.3"] {
            assert_eq!(plain(word), Kind::Str(word.to_owned()), "{word}");
        }
    }

    #[test]
    fn numbers_are_read_in_every_core_form() {
        assert_eq!(plain("0o17"), Kind::Int(15));
        assert_eq!(plain("0xff"), Kind::Int(255));
        assert_eq!(plain("-3"), Kind::Int(-3));
        assert_eq!(plain("1.5e3"), Kind::Float(1500.0));
        assert_eq!(plain("-.inf"), Kind::Float(f64::NEG_INFINITY));
        assert_eq!(plain("~"), Kind::Null);
    }
}
