//! Which coding a client takes, by its `Accept-Encoding` (RFC 9110 section 12.5.3).
//! It must not know responses.
//! Called for each response that could be coded.

use http::header::ACCEPT_ENCODING;
use http::HeaderMap;

use super::Coding;

/// The best of the offered codings: the one the client weighs most, and of several the first offered. `None` if it takes none, or
/// would rather have none.
pub(crate) fn best(headers: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    let wishes = Wishes::of(headers);
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let weight = wishes.weight(coding.name(), *coding == Coding::Gzip);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*coding, weight));
        }
    }
    // `identity` goes without saying, with the least weight; where it is said, it counts as such.
    let plain = wishes.identity.unwrap_or(0);
    best.filter(|(_, weight)| *weight >= plain)
        .map(|(coding, _)| coding)
}

/// Whether the client takes this coding.
pub(crate) fn takes(headers: &HeaderMap, coding: Coding) -> bool {
    Wishes::of(headers).weight(coding.name(), coding == Coding::Gzip) > 0
}

/// Weights in thousandths.
#[derive(Default)]
struct Wishes<'a> {
    named: Vec<(&'a str, u16)>,
    others: Option<u16>,
    identity: Option<u16>,
}

impl<'a> Wishes<'a> {
    fn of(headers: &'a HeaderMap) -> Wishes<'a> {
        let mut wishes = Wishes::default();
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        for item in texts.flat_map(|text| text.split(',')).take(MOST_ITEMS) {
            let (name, rest) = item.split_once(';').unwrap_or((item, ""));
            let Some(weight) = weight(rest) else {
                continue;
            };
            match name.trim() {
                "" => {}
                "*" => wishes.others = Some(weight),
                name if name.eq_ignore_ascii_case("identity") => wishes.identity = Some(weight),
                name => wishes.named.push((name, weight)),
            }
        }
        wishes
    }

    fn weight(&self, name: &str, is_gzip: bool) -> u16 {
        let is_it = |other: &str| {
            name.eq_ignore_ascii_case(other) || (is_gzip && other.eq_ignore_ascii_case("x-gzip"))
        };
        let named = self.named.iter().find(|(other, _)| is_it(other));
        named
            .map(|(_, weight)| *weight)
            .or(self.others)
            .unwrap_or(0)
    }
}

/// The weight among parameters; one if there is none. What is no weight makes the whole item worthless.
fn weight(parameters: &str) -> Option<u16> {
    let mut found = 1000;
    for parameter in parameters
        .split(';')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("q") {
            found = thousandths(value.trim())?;
        }
    }
    Some(found)
}

/// `0` to `1` with at most three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let decimals: u16 = format!("{decimals:0<3}")
        .parse()
        .ok()
        .filter(|_| are_digits)?;
    match (whole, decimals) {
        ("1", 0) => Some(1000),
        ("0", decimals) => Some(decimals),
        _ => None,
    }
}

/// More codings than there are.
const MOST_ITEMS: usize = 32;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    fn of(text: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(text).ok()?);
        best(&headers, &ALL).map(Coding::name)
    }

    #[test]
    fn the_heaviest_wins_and_then_the_first_offered() {
        assert_eq!(of("gzip, deflate, br, zstd"), Some("zstd"));
        assert_eq!(of("gzip, br"), Some("br"));
        assert_eq!(of("gzip;q=1, br;q=0.9"), Some("gzip"));
        assert_eq!(of("GZIP ; Q=0.5"), Some("gzip"));
        assert_eq!(of("x-gzip"), Some("gzip"));
        assert_eq!(of("*"), Some("zstd"));
        assert_eq!(of("*;q=0.1, zstd;q=0"), Some("br"));
    }

    #[test]
    fn what_a_client_does_not_take_it_does_not_get() {
        assert_eq!(of(""), None);
        assert_eq!(of("identity"), None);
        assert_eq!(of("deflate"), None);
        assert_eq!(of("gzip;q=0"), None);
        assert_eq!(of("*;q=0"), None);
        assert_eq!(of("identity, gzip;q=0.5"), None);
        assert_eq!(of("gzip;q=2, br;q=0.1234, zstd;q=x"), None);
        assert_eq!(best(&HeaderMap::new(), &ALL), None);
    }

    proptest! {
        #[test]
        fn nothing_a_client_says_breaks_it(text in "[ -~]{0,80}") {
            let _ = of(&text);
        }

        #[test]
        fn a_coding_without_weight_is_never_chosen(weight in "(0|0\\.|0\\.0{1,3})") {
            prop_assert_eq!(of(&format!("gzip;q={weight}")), None);
        }
    }
}
