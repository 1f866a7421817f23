//! Hashes of passwords: bcrypt's and Argon2's (RFC 9106), told apart by how they begin, and bounded in what they may cost.
//! It must not know whose they are.
//! Called by `users`, which checks them while it is built and verifies on threads that may block.

use std::str::FromStr;

use argon2::password_hash::{PasswordHash, PasswordVerifier};
use argon2::{Argon2, Params};
use bcrypt::HashParts;

/// About two seconds on a current core. A thousand times more would be a stopped thread, not security.
const MOST_COST: u32 = 15;
/// KiB that one verification of Argon2 may take; as many run at once as `max_running` says.
const MOST_MEMORY: u32 = 256 << 10;
/// KiB times passes, the time it may take: some seconds.
const MOST_WORK: u64 = 2 << 20;
/// Lanes are worked one after the other.
const MOST_LANES: u32 = 16;

/// What verifying a hash takes.
#[derive(Clone, Copy)]
pub(super) enum Work {
    Bcrypt {
        cost: u32,
    },
    Argon2 {
        memory: u32,
        passes: u32,
        lanes: u32,
    },
}

/// Why a hash is not taken, to be put behind "the hash of NAME ".
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) fact: String,
    pub(super) remedy: &'static str,
}

impl Work {
    pub(super) const LEAST: Work = Work::Bcrypt { cost: 4 };

    /// Never quotes the hash.
    pub(super) fn of(hash: &str) -> Result<Work, Refused> {
        let kind = KINDS.iter().find(|(prefix, _)| hash.starts_with(prefix));
        match kind.map_or(Kind::Other(PLAIN), |(_, kind)| *kind) {
            Kind::Bcrypt => of_bcrypt(hash),
            Kind::Argon2 => of_argon2(hash),
            Kind::Other(kind) => refused(format!("is {kind}"), MAKE),
        }
    }

    /// A hash of nobody's password that takes as long.
    pub(super) fn decoy(self) -> String {
        match self {
            Work::Bcrypt { cost } => format!("$2b${cost:02}${}", ".".repeat(53)),
            Work::Argon2 {
                memory,
                passes,
                lanes,
            } => {
                let (salt, output) = ("A".repeat(22), "A".repeat(43));
                format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${output}")
            }
        }
    }

    /// Roughly the microseconds, to compare the two kinds: both double with each step of their parameters.
    pub(super) fn time(self) -> u64 {
        match self {
            Work::Bcrypt { cost } => 50 << cost,
            Work::Argon2 { memory, passes, .. } => u64::from(memory) * u64::from(passes),
        }
    }
}

/// Blocks for as long as it takes.
pub(super) fn verify(password: &[u8], hash: &str) -> bool {
    match PasswordHash::new(hash) {
        Ok(parsed) if hash.starts_with(ARGON2) => {
            let verified = Argon2::default().verify_password(password, &parsed);
            verified.is_ok()
        }
        Ok(_) | Err(_) => bcrypt::verify(password, hash).unwrap_or(false),
    }
}

fn of_bcrypt(hash: &str) -> Result<Work, Refused> {
    let Ok(parts) = HashParts::from_str(hash) else {
        let fact = "is bcrypt's, and incomplete or with characters that do not belong there";
        return refused(fact, "it has 60 characters; check quotes and line breaks");
    };
    let cost = parts.get_cost();
    if !(4..=MOST_COST).contains(&cost) {
        let remedy = "use a cost from 4 to 15; 10 to 12 suits most machines";
        return refused(format!("has cost {cost}"), remedy);
    }
    Ok(Work::Bcrypt { cost })
}

fn of_argon2(hash: &str) -> Result<Work, Refused> {
    let parsed = PasswordHash::new(hash).ok();
    let whole = parsed.filter(|parsed| parsed.salt.is_some() && parsed.hash.is_some());
    let version = whole.as_ref().map(|whole| whole.version);
    let params = whole.and_then(|whole| Params::try_from(&whole).ok());
    let (Some(version), Some(params)) = (version, params) else {
        let fact = "is Argon2's, and incomplete or with parts that do not belong there";
        let remedy = "it is written `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH`; check quotes and line breaks";
        return refused(fact, remedy);
    };
    if version != Some(19) {
        return refused("is of a version of Argon2 before 19 (RFC 9106)", MAKE);
    }
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    let work = u64::from(memory) * u64::from(passes);
    if memory > MOST_MEMORY || work > MOST_WORK || lanes > MOST_LANES {
        let fact = format!("takes {memory} KiB in {passes} passes and {lanes} lanes");
        let remedy = "at most 262144 KiB, 2097152 KiB times passes, and 16 lanes; m=19456,t=2,p=1 suits most machines";
        return refused(fact, remedy);
    }
    Ok(Work::Argon2 {
        memory,
        passes,
        lanes,
    })
}

fn refused(fact: impl Into<String>, remedy: &'static str) -> Result<Work, Refused> {
    Err(Refused {
        fact: fact.into(),
        remedy,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Bcrypt,
    Argon2,
    Other(&'static str),
}

const ARGON2: &str = "$argon2";
const MAKE: &str = "make a bcrypt hash with `htpasswd -nbB NAME PASSWORD`, or one of Argon2 with `argon2 SALT -id -e`";
const PLAIN: &str = "neither bcrypt's nor Argon2's; it may be a plain password";
const KINDS: [(&str, Kind); 12] = [
    ("$2y$", Kind::Bcrypt),
    ("$2b$", Kind::Bcrypt),
    ("$2a$", Kind::Bcrypt),
    ("$argon2id$", Kind::Argon2),
    ("$argon2i$", Kind::Argon2),
    (
        "$argon2d$",
        Kind::Other("of Argon2d, whose use of memory tells others on the machine of the password"),
    ),
    ("$2x$", Kind::Other("of the broken bcrypt variant \"$2x$\"")),
    (
        "{SHA}",
        Kind::Other("unsalted SHA-1, which is guessed in seconds"),
    ),
    (
        "$apr1$",
        Kind::Other("Apache's MD5, which is guessed quickly"),
    ),
    ("$1$", Kind::Other("MD5 crypt, which is guessed quickly")),
    ("$5$", Kind::Other("SHA-256 crypt, which is not supported")),
    ("$6$", Kind::Other("SHA-512 crypt, which is not supported")),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "password" and "somesalt", from the tests of Argon2's reference implementation.
    const REFERENCE: [&str; 3] = [
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
    ];

    #[test]
    fn the_reference_implementations_hashes_are_verified() {
        for hash in REFERENCE {
            assert!(Work::of(hash).is_ok(), "{hash}");
            assert!(verify(b"password", hash), "{hash}");
            assert!(!verify(b"Password", hash), "{hash}");
        }
        // More than the 72 bytes that bcrypt looks at.
        assert!(!verify(&[b'p'; 100], REFERENCE[0]));
    }

    #[test]
    fn decoys_take_as_long_and_match_nothing() {
        for hash in [REFERENCE[0], REFERENCE[1], &Work::LEAST.decoy()] {
            let work = Work::of(hash).unwrap();
            let decoy = work.decoy();

            assert_eq!(Work::of(&decoy).unwrap().time(), work.time());
            assert!(!verify(b"", &decoy) && !verify(b"password", &decoy));
        }
    }

    #[test]
    fn what_costs_too_much_or_is_broken_is_refused() {
        let with = |text: &str| {
            format!("$argon2id${text}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
        };
        let cases = [
            (with("v=19$m=262145,t=1,p=1"), "takes 262145 KiB"),
            (with("v=19$m=65536,t=33,p=1"), "33 passes"),
            (with("v=19$m=4096,t=1,p=17"), "17 lanes"),
            (
                with("v=19$m=4294967295,t=4294967295,p=1"),
                "4294967295 passes",
            ),
            (with("v=16$m=256,t=2,p=1"), "before 19"),
            (with("m=256,t=2,p=1"), "before 19"),
            (with("v=19$m=1,t=1,p=1"), "incomplete"),
            (with("v=19$m=256,t=0,p=1"), "incomplete"),
            (with("v=19$m=x"), "incomplete"),
            ("$argon2id$v=19$m=256,t=2,p=1".to_owned(), "incomplete"),
            (
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ".to_owned(),
                "incomplete",
            ),
            ("$argon2id$".to_owned(), "incomplete"),
            (with("").replace("argon2id", "argon2d"), "Argon2d"),
            ("$argon2x$v=19".to_owned(), "neither"),
        ];
        for (hash, fact) in cases {
            let refused = Work::of(&hash).err().map(|refused| refused.fact);
            let refused = refused.unwrap_or_default();
            assert!(refused.contains(fact), "{hash}: {refused}");
        }
    }

    #[test]
    fn the_dearer_of_the_two_kinds_is_found() {
        let argon2 = |memory, passes| Work::Argon2 {
            memory,
            passes,
            lanes: 1,
        };
        assert!(argon2(65536, 3).time() > Work::Bcrypt { cost: 10 }.time());
        assert!(argon2(256, 1).time() < Work::LEAST.time());
    }
}
