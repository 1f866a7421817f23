//! The folder and the `identity` of a node: roots, and a certificate for each workload.
//! It must not know listeners and pools, which differ from test to test.
//! Used by tests of the mesh whose certificates lie in files.

use tempfile::TempDir;

use super::tls::Authority;

/// A folder with the roots, and certificates of these workloads under their names.
pub(crate) fn folder(authority: &Authority, workloads: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    authority.write_bundle(folder.path(), "bundle.pem");
    for (name, id) in workloads {
        authority.svid(id).write(folder.path(), name);
    }
    folder
}

/// `identity` of workloads: name, ID, and what each is known by.
pub(crate) fn identity(workloads: &[(&str, &str, &str)]) -> String {
    let mut text = "identity:\n  trust_domain: mesh.test\n  source: {files: {bundle: bundle.pem}}\n  hold: 0s\n  workloads:\n".to_owned();
    for (name, id, matches) in workloads {
        text += &format!("  - {{name: {name}, id: '{id}', certificate: {{cert: {name}.crt, key: {name}.key}}, match: {{{matches}}}}}\n");
    }
    text
}

/// Both for a node with one workload, which is known by nothing.
pub(crate) fn node(authority: &Authority, id: &str) -> (TempDir, String) {
    (
        folder(authority, &[("own", id)]),
        identity(&[("own", id, "")]),
    )
}
