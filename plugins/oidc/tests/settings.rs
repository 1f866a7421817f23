//! Settings that are wrong, each with the path of what is.
//! It must not test requests.
//! Part of the tests of `oidc`.

use super::*;

fn paths(config: &str) -> Vec<String> {
    Kit::new().problem_paths(&PLUGIN, config)
}

fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(CONFIG.contains(from), "{from}");
    paths(&CONFIG.replace(from, to))
}

#[test]
fn every_setting_has_its_bounds() {
    for (more, path) in [
        ("refresh: 1s", "refresh"),
        ("refresh: 10m\nkeep: 1m", "keep"),
        ("timeout: 1m", "timeout"),
        ("clock_skew: 11m", "clock_skew"),
        ("login: {timeout: 1s}", "login.timeout"),
        ("login: {most: 0}", "login.most"),
        ("session: {absolute: 91d}", "session.absolute"),
        ("session: {idle: 13h}", "session.idle"),
        ("session: {most_bytes: 33KiB}", "session.most_bytes"),
        ("scopes: [email]", "scopes"),
        ("scopes: [openid, 'a b']", "scopes[1]"),
        ("require: {scopes: ['']}", "require.scopes[0]"),
        ("require: {claims: {groups: []}}", "require.claims.groups"),
        ("parameters: {state: x}", "parameters.state"),
        ("cookie: 'a b'", "cookie"),
        ("algorithms: []", "algorithms"),
        ("algorithms: [HS256]", "algorithms[0]"),
        ("callback: {path: callback}", "callback.path"),
        ("callback: {path: /a/../b}", "callback.path"),
        ("logout: {path: '/a?b'}", "logout.path"),
        ("logout: {path: /oauth2/callback}", "logout.path"),
        ("logout: {after: 'https://evil.test'}", "logout.after"),
        ("logout: {after: /oauth2/logout}", "logout.after"),
        (
            "userinfo_endpoint: 'https://id.test/me'",
            "userinfo_endpoint",
        ),
        ("headers: {host: sub}", "headers.host"),
        ("access_token_header: host", "access_token_header"),
        (
            "access_token_header: x-a\nheaders: {x-a: sub}",
            "access_token_header",
        ),
        ("access_token_header: connection", "access_token_header"),
        ("consumer: {by: subject}", "consumer.by"),
        ("consumer: {claim: ''}", "consumer.claim"),
        ("realm: \"a\\nb\"", "realm"),
        ("discovery: 'ftp://id.test'", "discovery"),
        ("jwks: nonsense", "jwks"),
        (
            "token_endpoint: {url: 'https://x.test/t', pool: nope}",
            "token_endpoint.pool",
        ),
    ] {
        assert_eq!(paths(&format!("{CONFIG}{more}")), [path], "{more}");
    }
    let many: Vec<String> = (0..17).map(|at| format!("p{at}: x")).collect();
    let many = format!("{CONFIG}parameters: {{{}}}", many.join(", "));
    assert_eq!(paths(&many), ["parameters"]);
}

#[test]
fn the_provider_the_site_and_the_secrets_have_to_be_such() {
    assert_eq!(changed("https://id.test", "id.test"), ["issuer", "issuer"]);
    assert_eq!(
        changed("issuer: https://id.test", "issuer: https://id.test?a=b"),
        ["issuer"]
    );
    assert_eq!(changed(&format!("[{SECRET}]"), "[short]"), ["secrets"]);
    assert_eq!(
        changed(&format!("[{SECRET}]"), &format!("[{SECRET}, short]")),
        ["secrets[1]"]
    );
    assert_eq!(changed(&format!("[{SECRET}]"), "[]"), ["secrets"]);
    assert_eq!(
        changed("origins: https://shop.test", "origins: https://shop.test/"),
        ["origins"]
    );
    assert_eq!(
        changed(
            "origins: https://shop.test",
            "origins: [https://a.test, http://a.test]"
        ),
        ["origins[1]"]
    );
    assert_eq!(
        changed("origins: https://shop.test", "origins: []"),
        ["origins"]
    );
    let problems = Kit::new().problems(&PLUGIN, &CONFIG.replace(SECRET, "sesame"));
    assert!(!format!("{problems:?}").contains("sesame"));
}

#[test]
fn a_client_proves_itself_in_one_way() {
    for (client, path) in [
        ("{id: '', secret: s}", "client.id"),
        ("{id: shop, secret: ''}", "client.secret"),
        ("{id: shop, send: basic}", "client.secret"),
        ("{id: shop, send: post}", "client.secret"),
        ("{id: shop, send: private_key_jwt}", "client.private_key"),
        ("{id: shop, private_key: nonsense}", "client.private_key"),
        (
            "{id: shop, secret: s, private_key: k}",
            "client.private_key",
        ),
        ("{id: shop, secret: s, send: none}", "client.secret"),
        ("{id: shop, secret: s, key_id: k}", "client.key_id"),
    ] {
        assert_eq!(
            changed("{id: shop, secret: s3cret}", client),
            [path],
            "{client}"
        );
    }
}
