//! The roots as a SPIFFE bundle: a JWK set that other trust domains can federate with.
//! It must not know where the roots come from.
//! Called by `authority`.

use base64::prelude::{Engine as _, BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use openssl::bn::{BigNum, BigNumContext};
use openssl::error::ErrorStack;
use openssl::x509::X509;
use serde_json::{json, Value};

use super::state::State;

/// JSON text (SPIFFE Trust Domain and Bundle, section 4).
pub(super) fn jwks(roots: &[X509], state: &State) -> Result<String, String> {
    let keys: Result<Vec<Value>, ErrorStack> = roots.iter().map(key).collect();
    let keys = keys.map_err(|error| error.to_string())?;
    let bundle = json!({
        "keys": keys,
        "spiffe_sequence": state.sequence,
        "spiffe_refresh_hint": state.refresh_seconds,
    });
    Ok(format!("{bundle:#}"))
}

/// One root as a JWK (RFC 7517). Ours are all P-256.
fn key(root: &X509) -> Result<Value, ErrorStack> {
    let key = root.public_key()?.ec_key()?;
    let mut context = BigNumContext::new()?;
    let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
    key.public_key()
        .affine_coordinates(key.group(), &mut x, &mut y, &mut context)?;
    let coordinate = |number: &BigNum| {
        Ok::<_, ErrorStack>(BASE64_URL_SAFE_NO_PAD.encode(number.to_vec_padded(32)?))
    };
    Ok(json!({
        "use": "x509-svid",
        "kty": "EC",
        "crv": "P-256",
        "x": coordinate(&x)?,
        "y": coordinate(&y)?,
        "x5c": [BASE64_STANDARD.encode(root.to_der()?)],
    }))
}
