//! Rules of `identity`, provoked once each.
//! It must not test decoding.
//! Run by `cargo test`.

use super::each_is_reported;

#[test]
fn identities_are_named_well_and_told_apart() {
    each_is_reported(CASES);
}

const CASES: &[(&str, &str)] = &[
    (
        "identity: {trust_domain: 'td:80', source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}]}",
        r#"identity.trust_domain: "td:80": a trust domain has only letters"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: ''}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: '', key: ''}}]}",
        "identity.source.files.bundle: ",
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: []}",
        "identity.workloads: must have from 1 to 1000 entries, found 0",
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: W, id: 'spiffe://td/w', certificate: {cert: c, key: k}}]}",
        r#"identity.workloads[0].name: the name "W" is empty"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w/', certificate: {cert: c, key: k}}]}",
        r#"identity.workloads[0].id: "spiffe://td/w/": the path has an empty segment"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td', certificate: {cert: c, key: k}}]}",
        r#"identity.workloads[0].id: "spiffe://td" has no path"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://other/w', certificate: {cert: c, key: k}}]}",
        r#"identity.workloads[0].id: "spiffe://other/w" is not in the trust domain "td""#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        "identity.workloads[0].certificate: is missing: the source is `files`",
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: '', key: k}}]}",
        "identity.workloads[0].certificate.cert: ",
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}, match: {listeners: [in], ports: [0], cgroups: [/]}}]}",
        r#"identity.workloads[0].match.listeners[0]: no listener is named "in""#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}, match: {ports: [0], cgroups: [/]}}]}",
        "identity.workloads[0].match.ports[0]: must be from 1 to 65535",
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}, match: {cgroups: [/]}}]}",
        r#"identity.workloads[0].match.cgroups[0]: "/" is no control group"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}, match: {users: [7]}}, {name: v, id: 'spiffe://td/v', certificate: {cert: c, key: k}, match: {users: [7]}}]}",
        r#"identity.workloads[1].match.users[0]: "7" is the workload "w"'s already"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}], federated: [{trust_domain: td, bundle: b}]}",
        r#"identity.federated[0].trust_domain: "td" is the own trust domain"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}], federated: [{trust_domain: x, bundle: b}, {trust_domain: X, bundle: b}]}",
        r#"identity.federated[1].trust_domain: "x" is federated[0] already"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}], hold: 61s}",
        r#"identity.hold: must be from 0s to 60s, found "61s""#,
    ),
];
