//! Rules of what becomes of open connections when certificates end.
//! It must not know certificates.
//! Called by the rules of `identity`.

use windrose_plugins::contract::Time;

use crate::config::report::Report;
use crate::config::schema::{Identity, OnExpiry};

/// Checks `on_expiry` and what belongs to it.
pub(super) fn check(identity: &Identity, report: &mut Report) {
    let Some(grace) = identity.expiry_grace else {
        return;
    };
    let path = "identity.expiry_grace";
    if identity.on_expiry == OnExpiry::Keep {
        report.error(
            path,
            "belongs to `on_expiry: close`, and it is `keep`",
            "remove one of them: connections that are kept need no time to end in",
        );
    }
    if grace > MOST {
        report.error(
            path,
            format!("must be from 0s to 24h, found \"{grace}\""),
            "to let connections outlive certificates use `on_expiry: keep`",
        );
    }
}

const MOST: Time = Time::secs(24 * 60 * 60);
