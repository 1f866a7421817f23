//! Identities: names parsed, certificates and bundles read once so that a broken file is found before a reload.
//! It must not change what is in use; `control::identity` does once the snapshot is in force.
//! Called by `compile`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Means;
use crate::config::report::Report;
use crate::config::schema::{self, IdentitySource};
use crate::snapshot::identity::{
    root_hash, Bounds, Bundle, CaSettings, ConsulAddress, ConsulSettings, Identity, Matches,
    OnExpiry, Seed, Source, SpiffeId, SpireSocket, Svid, SvidFiles, TrustDomain, Workload,
};

/// Builds the identity of the node; `None` for one that `rules` have refused.
pub(super) fn compile(
    settings: &schema::Identity,
    means: &Means<'_>,
    report: &mut Report,
) -> Option<Identity> {
    let mut workloads = Vec::new();
    let mut seed = Seed::default();
    for (at, one) in settings.workloads.iter().enumerate() {
        let path = format!("identity.workloads[{at}].certificate");
        let workload = workload(one, means)?;
        let svid = one
            .certificate
            .as_ref()
            .and_then(|files| svid(files, &workload, &path, means, report));
        seed.svids.push(svid.map(Arc::new));
        workloads.push(Arc::new(workload));
    }
    let source = match &settings.source {
        IdentitySource::Files(files) => {
            seed.own = bundle(&files.bundle, "identity.source.files.bundle", means, report);
            Source::Files {
                bundle: means.path(&files.bundle),
            }
        }
        IdentitySource::Ca(ca) => Source::Ca(CaSettings {
            address: ca.address.clone(),
            root_hash: root_hash(&ca.root_hash).ok()?,
            token_file: ca.token_file.as_ref().map(|file| means.path(file)),
            state: means.path(&ca.state),
        }),
        IdentitySource::Spire(spire) => Source::Spire(SpireSocket::parse(&spire.socket).ok()?),
        IdentitySource::Consul(consul) => Source::Consul(ConsulSettings {
            address: ConsulAddress::parse(&consul.address).ok()?,
            token_file: consul.token_file.as_ref().map(|file| means.path(file)),
        }),
    };
    let mut federated = Vec::new();
    let mut others = HashMap::new();
    for (at, one) in settings.federated.iter().enumerate() {
        let domain = TrustDomain::parse(&one.trust_domain).ok()?;
        let path = format!("identity.federated[{at}].bundle");
        if let Some(bundle) = bundle(&one.bundle, &path, means, report) {
            others.insert(domain.clone(), bundle);
        }
        federated.push((domain, means.path(&one.bundle)));
    }
    seed.federated = others;
    Some(Identity {
        trust_domain: TrustDomain::parse(&settings.trust_domain).ok()?,
        source,
        workloads,
        federated,
        hold: settings.hold.0,
        on_expiry: on_expiry(settings),
        seed,
        registry: means.identities.clone(),
    })
}

fn on_expiry(settings: &schema::Identity) -> OnExpiry {
    match settings.on_expiry {
        schema::OnExpiry::Close => OnExpiry::Close {
            grace: settings.expiry_grace.map_or(GRACE, |grace| grace.0),
        },
        schema::OnExpiry::Keep => OnExpiry::Keep,
    }
}

fn workload(one: &schema::Workload, means: &Means<'_>) -> Option<Workload> {
    let id = SpiffeId::parse(&one.id).ok()?;
    let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    let matches = &one.matches;
    Some(Workload {
        name: one.name.as_str().into(),
        matches: Matches {
            listeners: texts(&matches.listeners),
            ports: matches.ports.as_slice().into(),
            users: matches.users.as_slice().into(),
            cgroups: texts(&matches.cgroups),
        },
        files: one.certificate.as_ref().map(|files| SvidFiles {
            cert: means.path(&files.cert),
            key: means.path(&files.key),
        }),
        service: one.service.as_deref().map(Box::from),
        bounds: Bounds {
            connections: one.limits.connections,
            requests: one.limits.requests,
            memory: one.limits.memory.0,
        },
        held: means.identities.held(&one.name, &id),
        id,
    })
}

fn svid(
    files: &schema::CertificateFiles,
    workload: &Workload,
    path: &str,
    means: &Means<'_>,
    report: &mut Report,
) -> Option<Svid> {
    let at = |key: &str| format!("{path}.{key}");
    let cert = means
        .read(&files.cert)
        .map_err(|fact| report.error(at("cert"), fact, RELATIVE));
    let key = means
        .read(&files.key)
        .map(Zeroizing::new)
        .map_err(|fact| report.error(at("key"), fact, RELATIVE));
    let svid = Svid::from_pem(&cert.ok()?, &key.ok()?);
    let svid = svid
        .map_err(|fact| report.error(at("cert"), format!("\"{}\": {fact}", files.cert), ISSUE))
        .ok()?;
    if svid.id != workload.id {
        let fact = format!(
            "\"{}\" is of \"{}\", not of \"{}\"",
            files.cert, svid.id, workload.id
        );
        report.error(at("cert"), fact, "use the certificate of this workload");
        return None;
    }
    Some(svid)
}

fn bundle(file: &str, path: &str, means: &Means<'_>, report: &mut Report) -> Option<Arc<Bundle>> {
    let content = means
        .read(file)
        .map_err(|fact| report.error(path, fact, RELATIVE))
        .ok()?;
    let bundle = Bundle::read(&content);
    bundle
        .map_err(|fact| {
            report.error(
                path,
                format!("\"{file}\": {fact}"),
                "give the authorities' certificates, as PEM or as a SPIFFE bundle",
            )
        })
        .ok()
        .map(Arc::new)
}

/// As long as most endpoints have to answer.
const GRACE: Duration = Duration::from_secs(30);
const RELATIVE: &str = "paths are relative to the configuration file";
const ISSUE: &str =
    "issue an X.509-SVID: one `spiffe://` URI, keyUsage digitalSignature (critical), no authority";
