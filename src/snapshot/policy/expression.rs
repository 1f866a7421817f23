//! What expressions of policies can ask about.
//! It must not know how they are compiled and evaluated: `windrose_plugins::expression` does that for everybody.
//! Part of a policy's rule.

use windrose_plugins::expression::{Expression, Vocabulary};

/// An expression of a policy.
///
/// # Errors
/// What is wrong with it, in words.
pub fn expression(text: &str) -> Result<Expression, String> {
    Expression::new(text, &VOCABULARY)
}

const VOCABULARY: Vocabulary = Vocabulary {
    variables: &[
        "request.method",
        "request.host",
        "request.path",
        "request.query",
        "request.headers",
        "source.principal",
        "source.trust_domain",
        "source.namespace",
        "source.service_account",
        "source.consumer",
        "source.address",
        "destination.listener",
        "destination.route",
        "destination.pool",
        "destination.port",
    ],
    maps: &["request.headers"],
    trees: &[],
    loops: false,
};
