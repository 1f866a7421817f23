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
        "identity: {trust_domain: td, source: {ca: {address: nowhere, root_hash: 'sha256:00', state: ''}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        r#"identity.source.ca.address: "nowhere": it is not a host and a port"#,
    ),
    (
        "identity: {trust_domain: td, source: {ca: {address: 'ca:1', root_hash: 'sha256:00', state: s}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        r#"identity.source.ca.root_hash: "sha256:00": it is not 64 hexadecimal digits"#,
    ),
    (
        "identity: {trust_domain: td, source: {ca: {address: 'ca:1', root_hash: 'sha256:00', state: '', token_file: ''}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        "identity.source.ca.state: ",
    ),
    (
        "identity: {trust_domain: td, source: {ca: {address: 'ca:1', root_hash: 'sha256:00', state: s, token_file: ''}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        "identity.source.ca.token_file: ",
    ),
    (
        "identity: {trust_domain: td, source: {spire: {socket: /run/agent.sock}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        r#"identity.source.spire.socket: "/run/agent.sock": its form is not known"#,
    ),
    (
        "identity: {trust_domain: td, source: {consul: {address: 'http://10.0.0.1:8500'}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        r#"identity.source.consul.address: "http://10.0.0.1:8500": it is not of this machine"#,
    ),
    (
        "identity: {trust_domain: td, source: {consul: {token_file: ''}}, workloads: [{name: w, id: 'spiffe://td/w'}]}",
        "identity.source.consul.token_file: ",
    ),
    (
        "identity: {trust_domain: td, source: {consul: {}}, workloads: [{name: w, id: 'spiffe://td/w', service: 'a/b'}]}",
        r#"identity.workloads[0].service: "a/b" is no name of a service"#,
    ),
    (
        "identity: {trust_domain: td, source: {spire: {socket: 'unix:/a'}}, workloads: [{name: w, id: 'spiffe://td/w', service: a}]}",
        "identity.workloads[0].service: belongs to the source `consul`",
    ),
    (
        "identity: {trust_domain: td, source: {spire: {socket: 'unix:/a'}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}]}",
        "identity.workloads[0].certificate: belongs to the source `files`",
    ),
    (
        "identity: {trust_domain: 'td:80', source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}]}",
        r#"identity.trust_domain: "td:80": a trust domain has only letters"#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: ''}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: '', key: ''}}]}",
        "identity.source.files.bundle: ",
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}, limits: {memory: 4KiB}}]}",
        "identity.workloads[0].limits.memory: must be 0 or at least 64KiB, found 4KiB",
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
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}], expiry_grace: 25h}",
        r#"identity.expiry_grace: must be from 0s to 24h, found "25h""#,
    ),
    (
        "identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}], on_expiry: keep, expiry_grace: 1s}",
        "identity.expiry_grace: belongs to `on_expiry: close`, and it is `keep`",
    ),
    (
        "listeners: [{name: in, role: mesh-inbound, bind: '127.0.0.1:1', mtls: {}}]",
        "listeners[0].mtls: needs `identity`",
    ),
    (
        "listeners: [{name: in, bind: '127.0.0.1:1', mtls: {}}]",
        r#"listeners[0].mtls: is only used with role "mesh-inbound""#,
    ),
    (
        "listeners: [{name: in, role: mesh-inbound, bind: '127.0.0.1:1', mtls: {}, tls: {certificates: [{cert: c, key: k}]}}]",
        "listeners[0].mtls: stands beside `tls`",
    ),
    (
        "listeners: [{name: in, role: mesh-inbound, bind: '127.0.0.1:1', protocol: tls_passthrough, mtls: {}}]",
        r#"listeners[0].mtls: is not used by protocol "tls_passthrough""#,
    ),
    (
        "listeners: [{name: in, role: mesh-inbound, bind: '127.0.0.1:1', mtls: {handshake_timeout: 0s}}]",
        "listeners[0].mtls.handshake_timeout: ",
    ),
    (
        "listeners: [{name: in, role: mesh-inbound, bind: '127.0.0.1:1', mtls: {ports: {80: permissive}}}]",
        "listeners[0].mtls.ports: is not used",
    ),
    (
        "listeners: [{name: in, role: mesh-inbound, bind: '127.0.0.1:1', capture: redirect, mtls: {ports: {0: permissive}}}]",
        "listeners[0].mtls.ports.0: is no port",
    ),
    (
        "{identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}]}, listeners: [{name: in, role: mesh-inbound, bind: '127.0.0.1:1', mtls: {workload: v}}]}",
        r#"listeners[0].mtls.workload: no workload is named "v""#,
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], mtls: {peers: []}}]",
        "pools[0].mtls: needs `identity`",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], mtls: {peers: []}}]",
        "pools[0].mtls.peers: must not be empty",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], mtls: {peers: ['spiffe://td/a*']}}]",
        r#"pools[0].mtls.peers[0]: "spiffe://td/a*": `*` stands for a whole segment"#,
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], tls: {sni: a}, mtls: {peers: ['spiffe://td/a'], sni: 'a b'}}]",
        "pools[0].mtls: stands beside `tls`",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], mtls: {peers: ['spiffe://td/a'], sni: 'a b'}}]",
        "pools[0].mtls.sni: ",
    ),
    (
        "{identity: {trust_domain: td, source: {files: {bundle: b}}, workloads: [{name: w, id: 'spiffe://td/w', certificate: {cert: c, key: k}}, {name: v, id: 'spiffe://td/v', certificate: {cert: c, key: k}}]}, pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}}, mtls: {peers: ['spiffe://td/a']}}]}",
        "pools[0].mtls.workload: is missing: a health check is nobody's call",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], health: {tcp: {}}, mtls: {peers: ['spiffe://td/a'], hbone: {}}}]",
        "pools[0].mtls.hbone: stands beside `health`",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], proxy_protocol: v2, mtls: {peers: ['spiffe://td/a'], hbone: {}}}]",
        "pools[0].mtls.hbone: stands beside `proxy_protocol`",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], protocol: auto, mtls: {peers: ['spiffe://td/a'], hbone: {}}}]",
        r#"pools[0].mtls.hbone: stands beside protocol "auto""#,
    ),
    (
        "pools: [{name: p, endpoints: ['unix:/a'], mtls: {peers: ['spiffe://td/a'], hbone: {}}}]",
        "pools[0].mtls.hbone: stands beside an endpoint at a socket file",
    ),
    (
        "pools: [{name: p, endpoints: ['10.0.0.1:1'], mtls: {peers: ['spiffe://td/a'], hbone: {port: 0}}}]",
        "pools[0].mtls.hbone.port: is no port",
    ),
];
