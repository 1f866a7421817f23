use std::time::Duration;

use super::*;
use crate::testkit::{answered, went_on, Exchange, Instance, Kit};

const BOTH: &str = "database: GeoLite2-Country.mmdb\nasn_database: GeoLite2-ASN.mmdb\n";
/// Of the test data: Great Britain by country, France by registration.
const GB: &str = "2.125.160.216";
const SE: &str = "89.160.20.112";
const US: &str = "216.160.83.56";
/// Autonomous system 1221, and no country in the test data.
const TELSTRA: &str = "1.128.0.0";

fn kit() -> Kit {
    Kit::new().in_folder("vectors/geo")
}

fn plugin(config: &str) -> Instance {
    kit().instance(&PLUGIN, &format!("{BOTH}{config}"))
}

fn lets_in(plugin: &Instance, address: &str) -> bool {
    let mut exchange = Exchange::get("http://shop.test/").from(address);
    match plugin.request(&mut exchange) {
        Verdict::Continue => true,
        verdict => {
            assert_eq!(answered(verdict).cause, &DENIED);
            false
        }
    }
}

#[test]
fn countries_are_let_in_or_kept_out() {
    let allow = plugin("allow: [gb, SE]");
    assert!(lets_in(&allow, GB) && lets_in(&allow, SE));
    assert!(lets_in(&allow, &format!("::ffff:{GB}")));
    assert!(!lets_in(&allow, US) && !lets_in(&allow, "10.0.0.1"));

    let deny = plugin("deny: [US]");
    assert!(!lets_in(&deny, US));
    assert!(lets_in(&deny, GB) && lets_in(&deny, "10.0.0.1") && lets_in(&deny, "::1"));

    let strict = plugin("deny: [US]\nunknown: deny");
    assert!(lets_in(&strict, GB) && !lets_in(&strict, "10.0.0.1"));
    let mild = plugin("allow: [US]\nunknown: allow");
    assert!(!lets_in(&mild, GB) && lets_in(&mild, "10.0.0.1"));

    let network = plugin("deny_asns: [1221]");
    assert!(!lets_in(&network, TELSTRA) && lets_in(&network, GB));
}

#[test]
fn the_service_is_told_and_clients_cannot_say_it_themselves() {
    let plugin = plugin("country_header: x-country\nasn_header: x-asn");
    let told = |address: &str| {
        let mut exchange = Exchange::get("http://shop.test/")
            .from(address)
            .with("x-country", "XX")
            .with("x_country", "XX")
            .with("x-asn", "1");
        assert!(went_on(&plugin.request(&mut exchange)));
        let seen = exchange.request.headers.get("x-country").cloned();
        plugin.upstream_request(&mut exchange);
        let headers = &exchange.upstream.headers;
        let text = |name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(
            seen.as_ref(),
            headers.get("x-country"),
            "later plugins see it as well"
        );
        assert!(!headers.contains_key("x_country"));
        (text("x-country"), text("x-asn"))
    };

    assert_eq!(told(GB), (Some("GB".to_owned()), None));
    assert_eq!(told(TELSTRA).1, Some("1221".to_owned()));
    assert_eq!(told("10.0.0.1"), (None, None));
}

#[test]
fn files_that_are_broken_are_refused_or_read_without_harm() {
    let mut refused = 0;
    for file in std::fs::read_dir("vectors/geo/bad").unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap();
        let Ok(database) = Database::read(bytes) else {
            refused += 1;
            continue;
        };
        for address in [
            "1.1.1.1",
            "255.255.255.255",
            "0.0.0.0",
            "2001:db8::1",
            "::",
            GB,
        ] {
            // Whatever it says, it says so in time.
            let _ = database.country(address.parse().unwrap());
            let _ = database.asn(address.parse().unwrap());
        }
    }
    assert!(refused >= 15, "{refused}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn a_file_with_any_change_is_refused_or_read_without_harm(at in 0_usize..18_012, byte: u8, cut in 0_usize..40_000, address: u32) {
        let mut bytes = std::fs::read("vectors/geo/GeoLite2-Country.mmdb").unwrap();
        bytes[at] = byte;
        bytes.truncate(cut);
        if let Ok(database) = Database::read(bytes) {
            let _ = database.country(std::net::Ipv4Addr::from(address).into());
            let _ = database.country(GB.parse().unwrap());
        }
    }
}

#[test]
fn a_reload_takes_up_a_changed_file_and_keeps_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let part = folder.path().join("part");
        std::fs::copy(format!("vectors/geo/{name}"), &part).unwrap();
        std::fs::rename(part, folder.path().join("geo.mmdb")).unwrap();
    };
    let kit = Kit::new().in_folder(folder.path());
    let config = "database: geo.mmdb\ndeny: [GB]";
    copy("GeoLite2-Country.mmdb");
    let before = kit.instance(&PLUGIN, config);
    assert!(!lets_in(&before, GB));
    let same = kit.with_build("geo", |build| {
        let opened = [(); 2].map(|()| database::open(build, "database", "geo.mmdb").ok().unwrap());
        Arc::ptr_eq(&opened[0], &opened[1])
    });
    assert!(same);

    std::fs::write(folder.path().join("geo.mmdb"), "nothing of the kind").unwrap();
    assert_eq!(kit.problem_paths(&PLUGIN, config), ["database"]);
    copy("GeoLite2-ASN.mmdb");
    let after = kit.instance(&PLUGIN, config);
    assert!(lets_in(&after, GB), "that file knows no countries");
    kit.advance(Duration::from_secs(1));
    assert!(
        !lets_in(&before, GB),
        "what was built before keeps what it read"
    );
}

#[test]
fn what_is_said_in_another_layout_is_a_failure_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read("vectors/geo/GeoLite2-Country.mmdb").unwrap();
    let codes: Vec<usize> = (0..bytes.len() - 3)
        .filter(|at| &bytes[*at..at + 3] == b"BGB")
        .collect();
    codes
        .into_iter()
        .for_each(|at| bytes[at + 1..at + 3].copy_from_slice(b"?\n"));
    std::fs::write(folder.path().join("geo.mmdb"), bytes).unwrap();
    let kit = Kit::new().in_folder(folder.path());
    let plugin = kit.instance(&PLUGIN, "database: geo.mmdb\ndeny: [US]");

    match plugin.request(&mut Exchange::get("http://shop.test/").from(GB)) {
        Verdict::Failed { cause, reason } => {
            assert_eq!(cause, &UNREADABLE);
            assert!(!reason.contains('\n'), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!lets_in(&plugin, US) && lets_in(&plugin, SE));
    // A file of another kind says nothing of countries.
    let other = Database::read(std::fs::read("vectors/geo/GeoLite2-ASN.mmdb").unwrap()).unwrap();
    assert_eq!(other.country(GB.parse().unwrap()), Ok(None));
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    let paths = |config: &str| {
        kit().problem_paths(
            &PLUGIN,
            &format!("database: GeoLite2-Country.mmdb\n{config}"),
        )
    };

    assert_eq!(paths("allow: [DE, UK, XX]"), ["allow[1]", "allow[2]"]);
    assert_eq!(paths("allow: [DE]\ndeny: [de]"), ["deny[0]"]);
    assert_eq!(paths("country_header: x\nunknown: deny"), ["unknown"]);
    assert_eq!(
        paths("deny: [DE]\ndeny_asns: [1]\nasn_header: x"),
        ["deny_asns", "asn_header"]
    );
    assert_eq!(paths(""), [""]);
    assert_eq!(paths("country_header: connection"), ["country_header"]);
    assert_eq!(
        paths("deny: [DE]\nasn_database: none.mmdb\nasn_header: x"),
        ["asn_database"]
    );
    let folder = kit().problem_paths(&PLUGIN, "database: bad\ndeny: [DE]");
    assert_eq!(folder, ["database"]);
}
