//! Rules of `tests`: requests that can be made, and expectations about things that exist.
//! It must not run the tests; `config::tests` does.
//! Called by `config::rules::check`.

use windrose_plugins::contract::{builtin_causes, field_value};
use windrose_plugins::BUILTIN;

use super::listeners::word;
use super::values::{accept, method, token, url, within, Wrong};
use super::{nearest, protocol_of, Names};
use crate::config::report::Report;
use crate::config::schema::{Config, Expect, Protocol, Route, TestRequest};

/// Checks every test.
pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report) {
    for (path, test, route) in config.all_tests() {
        request(&test.request, names, &format!("{path}.request"), report);
        expect(
            &test.expect,
            route,
            names,
            &format!("{path}.expect"),
            report,
        );
    }
}

fn request(it: &TestRequest, names: &Names<'_>, path: &str, report: &mut Report) {
    accept(report, &format!("{path}.method"), method(&it.method));
    accept(
        report,
        &format!("{path}.url"),
        url(&it.url, &["http", "https"]),
    );
    for (name, value) in &it.headers {
        let path = format!("{path}.headers.{name}");
        accept(report, &path, token(name, "header name"));
        accept(
            report,
            &path,
            field_value(&path, value).map_err(Wrong::from),
        );
    }
    let Some(name) = &it.listener else {
        return;
    };
    let path = format!("{path}.listener");
    match names.listener(report, &path, name).map(protocol_of) {
        Some(speaks @ (Protocol::Tcp | Protocol::TlsPassthrough)) => {
            report.error(
                path,
                format!(
                    "\"{name}\" has protocol \"{}\" and sees no requests",
                    word(speaks)
                ),
                "name an `http`, `https` or `auto` listener",
            );
        }
        Some(Protocol::Http | Protocol::Https | Protocol::Auto) | None => {}
    }
}

fn expect(it: &Expect, route: Option<&Route>, names: &Names<'_>, path: &str, report: &mut Report) {
    if let Some(name) = &it.route {
        names.route(report, &format!("{path}.route"), name);
    }
    if let Some(name) = &it.pool {
        names.pool(report, &format!("{path}.pool"), name);
    }
    if let Some(status) = it.status {
        within(report, &format!("{path}.status"), status, 200, 599);
    }
    if let Some(name) = &it.cause {
        cause(name, &format!("{path}.cause"), report);
    }
    for name in it.headers.keys() {
        accept(
            report,
            &format!("{path}.headers.{name}"),
            token(name, "header name"),
        );
    }
    let nothing = route.is_none()
        && it.route.is_none()
        && it.principal.is_none()
        && it.pool.is_none()
        && it.subset.is_empty()
        && it.status.is_none()
        && it.cause.is_none()
        && it.policy.is_none()
        && it.path.is_none()
        && it.host.is_none()
        && it.location.is_none()
        && it.headers.is_empty();
    if nothing {
        report.error(
            path,
            "expects nothing, so the test cannot fail",
            "give `route`, `pool`, `status` or another expectation",
        );
    }
}

/// A warning only: plugins from other crates bring causes that are not known here.
fn cause(name: &str, path: &str, report: &mut Report) {
    let plugins = BUILTIN.iter().flat_map(|plugin| plugin.causes);
    let known: Vec<&str> = builtin_causes()
        .iter()
        .chain(plugins)
        .map(|cause| cause.name)
        .collect();
    if known.contains(&name) {
        return;
    }
    let remedy = match nearest(name, &known) {
        Some(near) => format!("did you mean \"{near}\"? a plugin of your own may bring others"),
        None => "/causes on the admin address lists them; a plugin of your own may bring others"
            .to_owned(),
    };
    report.warning(
        path,
        format!("no built-in cause is named \"{name}\""),
        remedy,
    );
}
