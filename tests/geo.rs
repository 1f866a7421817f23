//! `geo` through the real proxy: clients of trusted proxies by country, what the service hears, and a database that breaks.
//! It must not know the file format; the plugin's own tests do.
//! Part of the test binary.

use std::path::Path;

use tempfile::TempDir;

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::{Proxy, Upstream};

#[test]
fn clients_are_kept_out_by_country_and_the_service_is_told_of_the_others() {
    let app = Upstream::answering("ok");
    let folder = TempDir::new().unwrap();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/vectors/geo");
    let database = folder.path().join("countries.mmdb");
    std::fs::copy(vectors.join("GeoLite2-Country.mmdb"), &database).unwrap();
    let yaml = format!(
        "listeners:\n- {{name: web, bind: '127.0.0.1:0', trusted_proxies: [127.0.0.0/8]}}\n{}{ALL_TO_APP}  plugins:\n  - {{kind: geo, config: {{database: countries.mmdb, deny: [SE], country_header: x-country}}}}\n  - {{kind: cel, config: {{deny: \"'x-country' in request.headers && request.headers['x-country'] == 'US'\"}}}}\n",
        pool("app", &[&app])
    );
    let proxy = Proxy::start_in(folder, &yaml);
    let ask = |address: &str| {
        let fields = format!("x-forwarded-for: {address}\r\nx-country: XX\r\n");
        let reply = proxy.ask("GET", "/", &fields);
        (reply.status, reply.why())
    };

    assert_eq!(ask("2.125.160.216"), (200, String::new()));
    assert_eq!(app.last().all("x-country"), ["GB"]);
    assert_eq!(ask("10.0.0.1"), (200, String::new()));
    assert!(app.last().all("x-country").is_empty());
    assert_eq!(ask("89.160.20.112"), (403, "policy_denied.geo".to_owned()));
    assert_eq!(ask("216.160.83.56"), (403, "policy_denied.cel".to_owned()));

    std::fs::write(&database, "broken").unwrap();
    let refused = proxy.reload_command();
    assert!(!refused.status.success());
    let told = String::from_utf8([refused.stdout, refused.stderr].concat()).unwrap();
    assert!(told.contains("is no sound database"), "{told}");
    assert_eq!(ask("89.160.20.112").0, 403, "what was loaded goes on");
}
