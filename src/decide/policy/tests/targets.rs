//! What policies guard: pools, and services with their routes.
//! It must not test callers or conditions.
//! Part of the tests of rulings.

use super::*;

#[test]
fn a_policy_for_a_pool_is_not_for_another() {
    let mut one = policy(
        "allow",
        vec![(of(&["spiffe://mesh.test/ns/ops/*"]), When::default())],
    );
    one.target.pools = ["app".into()].into();
    let set = set(Effect::Allow, vec![one]);
    let allows = |pool| {
        let web = web();
        let subject = Subject {
            pool,
            ..subject(Some(&web), None)
        };
        authorize(&set, &subject, &mut Deaf).allows()
    };

    assert!(!allows("app") && allows("other") && allows(""));
}

#[test]
fn a_policy_for_a_service_is_for_its_routes_and_its_own_pools() {
    let mut one = policy(
        "allow",
        vec![(of(&["spiffe://mesh.test/ns/ops/*"]), When::default())],
    );
    let names = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect();
    one.target.services = Some(Services {
        names: names(&["pay"]),
        routes: names(&["pay", "pay.5432"]),
        pools: names(&["pay"]),
        others: names(&["written"]),
    });
    assert!(one.target.is_for("any", "pay.5432") && one.target.is_for("any", "written"));
    assert!(!one.target.is_for("any", "other"));
    let set = set(Effect::Allow, vec![one]);
    let allows = |route, pool| {
        let web = web();
        let subject = Subject {
            route,
            pool,
            ..subject(Some(&web), None)
        };
        authorize(&set, &subject, &mut Deaf).allows()
    };

    assert!(!allows("pay.5432", "gateway") && !allows("written", "pay"));
    assert!(allows("written", "gateway") && allows("written", ""));
}
