//! RSA keys that are not to be believed: too short, too costly, or made by a generator that was broken.
//! It must not know what keys are for.
//! Asked for every RSA key that is read.

use openssl::pkey::Public;
use openssl::rsa::Rsa;

/// # Errors
/// What is wrong with it, in words.
pub(super) fn judge(key: &Rsa<Public>) -> Result<(), String> {
    let bits = key.n().num_bits();
    if bits < SHORTEST_BITS {
        return Err(format!(
            "it has {bits} bits; RSA needs {SHORTEST_BITS} (RFC 7518 section 3.3)"
        ));
    }
    // What a verification costs grows with the square of the bits, and with those of the exponent.
    if bits > LONGEST_BITS {
        return Err(format!("it has {bits} bits; {LONGEST_BITS} are the most"));
    }
    let exponent = key.e();
    if exponent.num_bits() < 2 || exponent.num_bits() > 33 || !exponent.is_bit_set(0) {
        return Err("its exponent is not an odd number from 3 to 2^33".to_owned());
    }
    match is_of_roca(key) {
        true => Err(
            "it was made by a generator whose keys can be factored (ROCA, CVE-2017-15361)"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

/// Moduli of the broken generator are powers of 65537 modulo each small prime; of others, all of these hold together
/// with a probability below 2^-50.
fn is_of_roca(key: &Rsa<Public>) -> bool {
    PRIMES.iter().all(|prime| {
        let Ok(rest) = key.n().mod_word(*prime as u32) else {
            return false;
        };
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65_537 % prime;
            power == rest
        })
    })
}

const SHORTEST_BITS: i32 = 2048;
const LONGEST_BITS: i32 = 8192;
/// Those in whose groups the powers of 65537 are few.
const PRIMES: [u64; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];
