//! Countries as databases and operators write them: two letters.
//! It must not know addresses.
//! Part of `geo`.

use http::HeaderValue;

/// A country's two letters, upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Country([u8; 2]);

impl Country {
    /// Of two letters; of any other text none that a database names.
    pub(super) fn of(text: &str) -> Country {
        match text.as_bytes() {
            [a, b] => Country([a.to_ascii_uppercase(), b.to_ascii_uppercase()]),
            _ => Country([0, 0]),
        }
    }

    /// What a database says, if it is a code.
    pub(super) fn read(text: &str) -> Option<Country> {
        let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then(|| Country::of(text))
    }

    pub(super) fn value(self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(&self.0).ok()
    }
}

/// Whether it is a code of ISO 3166-1, or `XK`, which databases use for Kosovo. Codes that are not assigned are mistakes: `UK`, `EN`.
pub(super) fn is_country(text: &str) -> bool {
    let Country(letters) = Country::of(text);
    CODES
        .as_bytes()
        .chunks(3)
        .any(|code| code.starts_with(&letters))
}

const CODES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD \
CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP \
GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU \
LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN \
PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW \
TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        assert_eq!(CODES.len(), 250 * 3);
        for code in ["DE", "de", "GB", "XK", "ZW", "AD"] {
            assert!(is_country(code), "{code}");
        }
        for text in [
            "UK", "EN", "XX", "D", "DEU", "", "D ", " D", "E ", "ÄÖ", "\0\0",
        ] {
            assert!(!is_country(text), "{text:?}");
        }
    }
}
