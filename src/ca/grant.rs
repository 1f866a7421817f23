//! What a token lets a node be: exact IDs, and prefixes of them, of one trust domain.
//! It must not know tokens or nodes; both carry one.
//! Checked before a token is made and before each certificate.

use serde::{Deserialize, Serialize};

use super::wire::RESERVED;
use crate::snapshot::identity::{SpiffeId, TrustDomain};

/// IDs a node may hold certificates for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Exact IDs.
    pub ids: Vec<String>,
    /// Whatever is below these, each ending with `/`.
    pub prefixes: Vec<String>,
}

impl Grant {
    /// From IDs as people write them: exact ones, and prefixes that end with `/*`.
    ///
    /// # Errors
    /// Which cannot be granted, and why.
    pub fn new(wanted: &[String], domain: &TrustDomain) -> Result<Grant, String> {
        let mut grant = Grant::default();
        for text in wanted {
            let told = |fact: &str| format!("\"{text}\": {fact}");
            let (exact, is_prefix) = match text.strip_suffix("/*") {
                Some(exact) => (exact, true),
                None => (text.as_str(), false),
            };
            let id = SpiffeId::parse(exact).map_err(told)?;
            if id.trust_domain() != *domain {
                return Err(told(&format!("is not of the trust domain {domain}")));
            }
            if format!("{}/", id.path()).starts_with(RESERVED) {
                return Err(told("what is below /windrose is the authority's own"));
            }
            match (is_prefix, id.path()) {
                (false, "") => return Err(told("names a trust domain and no workload")),
                (false, _) => grant.ids.push(id.as_str().to_owned()),
                (true, _) => grant.prefixes.push(format!("{id}/")),
            }
        }
        match grant.ids.is_empty() && grant.prefixes.is_empty() {
            true => Err("a token has to be bound to at least one ID or prefix".into()),
            false => Ok(grant),
        }
    }

    /// Whether a node with it may have a certificate for this ID.
    pub fn covers(&self, id: &SpiffeId) -> bool {
        let text = id.as_str();
        let below = |prefix: &String| text.starts_with(prefix.as_str());
        !id.path().is_empty()
            && !id.path().starts_with(RESERVED)
            && (self.ids.iter().any(|exact| exact == text) || self.prefixes.iter().any(below))
    }
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefixes = self.prefixes.iter().map(|prefix| format!("{prefix}*"));
        let all: Vec<String> = self.ids.iter().cloned().chain(prefixes).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(wanted: &[&str]) -> Result<Grant, String> {
        let wanted: Vec<String> = wanted.iter().map(|&text| text.to_owned()).collect();
        Grant::new(&wanted, &TrustDomain::parse("td").unwrap())
    }

    #[test]
    fn a_grant_covers_what_it_names_and_nothing_beside_it() {
        let grant = grant(&["spiffe://td/a", "spiffe://td/ns/shop/*"]).unwrap();
        let covers = |id: &str| grant.covers(&SpiffeId::parse(id).unwrap());

        assert!(covers("spiffe://td/a") && covers("spiffe://td/ns/shop/sa/web"));
        for other in [
            "spiffe://td/a/b",
            "spiffe://td/ab",
            "spiffe://td/ns/shop",
            "spiffe://td/ns/shopping/x",
            "spiffe://other/a",
        ] {
            assert!(!covers(other), "{other}");
        }
    }

    #[test]
    fn the_whole_domain_does_not_hold_what_is_reserved() {
        let all = grant(&["spiffe://td/*"]).unwrap();
        let covers = |id: &str| all.covers(&SpiffeId::parse(id).unwrap());

        assert!(covers("spiffe://td/x"));
        assert!(
            !covers("spiffe://td/windrose/ca")
                && !covers("spiffe://td/windrose/node/1")
                && !covers("spiffe://td")
        );
    }

    #[test]
    fn what_cannot_be_granted_is_refused_with_its_reason() {
        for (wrong, fact) in [
            ("spiffe://other/a", "not of the trust domain"),
            ("spiffe://td/windrose/node/x", "authority's own"),
            ("spiffe://td/windrose/*", "authority's own"),
            ("spiffe://td", "names a trust domain"),
            ("spiffe://td/a*", "path segments"),
            ("web", "does not begin"),
        ] {
            let problem = grant(&[wrong]).unwrap_err();
            assert!(problem.contains(fact), "{wrong}: {problem}");
        }
        assert!(grant(&[]).is_err());
    }
}
