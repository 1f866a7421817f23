use super::*;

#[test]
fn a_change_of_roots_waits_for_nodes_and_for_leaves() {
    let (_folder, authority, first) = founded();
    let (node, _) = joined(&authority, &[WEB]);
    let old_leaf = authority.certificate(&node, &ask(WEB)).unwrap();
    let old_roots = authority.roots(&authority.state().unwrap()).unwrap();

    let second = authority.begin_rotation(None, None).unwrap();
    assert!(authority
        .begin_rotation(None, None)
        .unwrap_err()
        .contains("under way"));
    let early = authority.switch_rotation().unwrap_err();
    assert!(early.contains("node-a") && early.contains(WEB), "{early}");
    let trusted = authority
        .sync(&node, &[first.hash.clone(), second.hash.clone()])
        .unwrap();
    assert_eq!((trusted.roots.len(), &trusted.issuing), (2, &first.hash));
    assert!(authority.finish_rotation().unwrap_err().contains("switch"));
    authority.switch_rotation().unwrap();
    assert!(authority.abort_rotation().unwrap_err().contains("already"));

    // Who heard of neither root's end believes both.
    let new_leaf = authority
        .certificate(&node, &ask("spiffe://td/ns/shop/sa/web"))
        .unwrap();
    let both = authority.roots(&authority.state().unwrap()).unwrap();
    for (leaf, roots) in [
        (&old_leaf, &both),
        (&new_leaf, &both),
        (&new_leaf, &old_roots),
        (&old_leaf, &old_roots),
    ] {
        assert_eq!(judged(&leaf.certificate, roots).as_deref(), Ok(WEB));
    }
    let held_up = authority.finish_rotation().unwrap_err();
    assert!(
        held_up.contains(node.as_str()) && !held_up.contains(WEB),
        "{held_up}"
    );
    authority.certificate(&node, &ask(node.as_str())).unwrap();
    authority.finish_rotation().unwrap();

    let only = authority.roots(&authority.state().unwrap()).unwrap();
    assert_eq!(judged(&new_leaf.certificate, &only).as_deref(), Ok(WEB));
    assert_eq!(judged(&old_leaf.certificate, &only), Err("mtls.untrusted"));
    assert!(!state::root_key_path(&authority.folder, first.number).exists());
    let after = authority.certificate(&node, &ask(WEB)).unwrap();
    assert_eq!(chain(&after.certificate).len(), 2);
}

#[test]
fn a_change_can_be_aborted_before_it_issues() {
    let (_folder, authority, first) = founded();
    authority.begin_rotation(None, None).unwrap();
    authority.abort_rotation().unwrap();

    let state = authority.state().unwrap();
    assert_eq!(
        (state.roots.len(), state.issuing, state.sequence),
        (1, first.number, 3)
    );
    authority.begin_rotation(None, None).unwrap();
}

#[test]
fn a_root_that_was_moved_away_is_asked_for_when_it_is_needed() {
    let folder = TempDir::new().unwrap();
    let away = folder.path().join("safe");
    let authority_folder = folder.path().join("ca");
    Authority::init(
        &authority_folder,
        &Init {
            offline_root: Some(away.clone()),
            ..init()
        },
    )
    .unwrap();
    let authority = Authority::open(&authority_folder).unwrap();
    let key = folder.path().join("elsewhere.key");
    std::fs::rename(away.join("root-1.key"), &key).unwrap();
    let (node, _) = joined(&authority, &[WEB]);

    authority.certificate(&node, &ask(WEB)).unwrap();
    let problem = authority.begin_rotation(None, None).unwrap_err();
    assert!(problem.contains("--root-key"), "{problem}");
    assert!(authority.renew_issuer_with(None).is_err());
    authority.renew_issuer_with(Some(&key)).unwrap();
    let begun = authority.begin_rotation(Some(&key), Some(&away)).unwrap();

    assert!(away.join("root-2.key").exists());
    let other = state::Issuer::read(&authority_folder, begun.number).unwrap();
    assert_eq!(other.chain.len(), 2);
    let wrong = authority
        .renew_issuer_with(Some(&away.join("root-2.key")))
        .unwrap_err();
    assert!(wrong.contains("is not the key of root 1"), "{wrong}");
}

#[test]
fn issuers_cannot_name_another_trust_domain() {
    let (folder, authority, _) = founded();
    let issuer = state::Issuer::read(folder.path(), 1).unwrap();
    let by = certify::Signer {
        cert: &issuer.chain[0],
        key: &issuer.key,
    };
    let now = unix_now();
    let span = certify::Span {
        from: now - 10,
        until: now + 100,
    };
    let key = keys::generate().unwrap();
    let forged = certify::leaf("spiffe://other/web", &key, by, span).unwrap();
    let roots = authority.roots(&authority.state().unwrap()).unwrap();
    let mut trust = Trust::default();
    // Even where the root is believed for the other domain as well.
    trust.bundles.insert(
        TrustDomain::parse("other").unwrap(),
        Arc::new(Bundle::new(roots).unwrap()),
    );
    let mut others = openssl::stack::Stack::new().unwrap();
    others.push(issuer.chain[0].clone()).unwrap();

    let rejection = verify(&forged, Some(&others), &trust).unwrap_err();

    assert_eq!(rejection.cause.name, "mtls.constraint");
}

#[test]
fn files_are_private_and_an_authority_is_not_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, authority, _) = founded();
    let (key, _) = (
        keys::generate().unwrap(),
        authority.make_token(grant(&[WEB]), 60).unwrap(),
    );
    let _ = key;

    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
            assert_eq!(mode, 0, "{}", entry.path().display());
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert!(Authority::init(folder.path(), &init())
        .unwrap_err()
        .contains("already"));
}

#[test]
fn an_issuer_that_ends_soon_is_renewed_where_the_roots_key_is() {
    let (folder, authority, _) = founded();
    let (node, _) = joined(&authority, &[WEB]);
    let root = state::root_cert(folder.path(), 1).unwrap();
    let root_key = state::key_at(&state::root_key_path(folder.path(), 1)).unwrap();
    let by = certify::Signer {
        cert: &root,
        key: &root_key,
    };
    let now = unix_now();
    let put = |until: u64| {
        let key = keys::generate().unwrap();
        let span = certify::Span {
            from: now - 10,
            until,
        };
        let cert = certify::issuer("td", 1, &key, by, span).unwrap();
        let issuer = state::Issuer {
            chain: vec![cert],
            key,
        };
        issuer.write(folder.path(), 1).unwrap();
    };
    let ends = || {
        authority
            .issuer_ends(&authority.state().unwrap())
            .unwrap()
            .0
    };

    put(now + 100);
    let roots = authority.roots(&authority.state().unwrap()).unwrap();
    let issued = authority.certificate(&node, &ask(WEB)).unwrap();
    assert_eq!(judged(&issued.certificate, &roots).as_deref(), Ok(WEB));
    assert!(ends() > now + 80 * 86_400);

    std::fs::remove_file(state::root_key_path(folder.path(), 1)).unwrap();
    put(now + 100);
    let short = authority.certificate(&node, &ask(WEB)).unwrap();
    assert_eq!(
        certify::ends(&chain(&short.certificate)[0]).unwrap(),
        now + 100
    );
    put(now - 1);
    let refusal = authority.certificate(&node, &ask(WEB)).unwrap_err();
    assert_eq!((refusal.status, refusal.cause), (503, "ca.issuer_expired"));
}

#[test]
fn certificates_by_hand_hold_a_change_up_until_each_of_them_ends() {
    let (_folder, authority, _) = founded();
    let id = SpiffeId::parse(WEB).unwrap();
    // On two hosts.
    authority.issue(&id, Some(3600)).unwrap();
    authority.issue(&id, Some(1)).unwrap();
    authority.begin_rotation(None, None).unwrap();
    authority.switch_rotation().unwrap();
    // On one of them it is replaced.
    authority.issue(&id, Some(3600)).unwrap();

    let held_up = authority.finish_rotation().unwrap_err();

    assert!(held_up.contains(WEB), "{held_up}");
}

#[test]
fn a_change_that_is_killed_between_two_writes_goes_on() {
    let (folder, authority, first) = founded();
    let state = folder.path().join("ca.json");
    let (node, _) = joined(&authority, &[WEB]);
    // Each act is done, and then the last write of it undone, which is what a kill before it leaves.
    let again = |act: &dyn Fn() -> Result<(), String>| {
        let before = std::fs::read(&state).unwrap();
        act().unwrap();
        std::fs::write(&state, before).unwrap();
        let issued = authority.certificate(&node, &ask(WEB)).unwrap();
        let roots = authority.roots(&authority.state().unwrap()).unwrap();
        assert_eq!(judged(&issued.certificate, &roots).as_deref(), Ok(WEB));
        act().unwrap();
    };

    again(&|| authority.begin_rotation(None, None).map(drop));
    let second = authority.state().unwrap().roots[1].hash.clone();
    authority.sync(&node, &[first.hash, second]).unwrap();
    again(&|| authority.switch_rotation());
    authority.certificate(&node, &ask(WEB)).unwrap();
    authority.certificate(&node, &ask(node.as_str())).unwrap();
    // Finishing writes first and tidies then: here it is killed before it tidied.
    let crossed = std::fs::read(state::Issuer::path(folder.path(), 2)).unwrap();
    authority.finish_rotation().unwrap();
    std::fs::write(state::Issuer::path(folder.path(), 2), crossed).unwrap();
    let with_cross = authority.certificate(&node, &ask(WEB)).unwrap();
    authority.begin_rotation(None, None).unwrap();
    let without = authority.certificate(&node, &ask(WEB)).unwrap();

    assert_eq!(chain(&with_cross.certificate).len(), 3);
    assert_eq!(chain(&without.certificate).len(), 2);
    let roots = authority.roots(&authority.state().unwrap()).unwrap();
    for issued in [with_cross, without] {
        assert_eq!(judged(&issued.certificate, &roots).as_deref(), Ok(WEB));
    }
}
