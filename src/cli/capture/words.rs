//! What rules do, in words, and above all what they leave open.
//! It must not know how rules read.
//! Called by `windrose capture`.

use super::group;
use super::rules::{Family, Takers, Wanted, Whom};

/// One sentence for each thing that is captured, and for each that is not.
pub(super) fn sentences(wanted: &Wanted, netns: Option<&str>) -> Vec<String> {
    let whose = whose(wanted, netns);
    let mut all = Vec::new();
    told(
        &mut all,
        &format!("TCP {whose} that goes out"),
        wanted.outbound,
    );
    told(&mut all, "TCP that comes in", wanted.inbound);
    left_open(&mut all, wanted);
    if let Whom::Cgroup(group) = &wanted.whom {
        all.push(group::warning(group));
    }
    if let Some(proxy) = wanted.proxy {
        all.push(format!(
            "EVERYTHING of user {proxy} is left alone, not the proxy's connections only: run applications as other users, or set `server.mark`"
        ));
    }
    let proxys = match wanted.mark {
        Some(mark) => format!("the proxy's own connections (mark {mark:#x})"),
        None => "the proxy's own connections".to_owned(),
    };
    all.push(format!(
        "left alone: UDP, names looked up over TCP (port 53), what a machine says to itself, connections that are open already, and {proxys}"
    ));
    all
}

fn whose(wanted: &Wanted, netns: Option<&str>) -> String {
    match (&wanted.whom, netns) {
        (Whom::User(user), _) => format!("of user {user}"),
        (Whom::Cgroup(group), _) => format!("of the control group /{}", group.path),
        (Whom::Everybody, Some(name)) => format!("of the network namespace {name}"),
        (Whom::Everybody, None) => "of everybody".to_owned(),
    }
}

fn told(all: &mut Vec<String>, what: &str, takers: Takers) {
    for family in Family::ALL {
        let Some(taker) = takers.of(family) else {
            continue;
        };
        let how = match taker.is_tproxy {
            true => "TPROXY",
            false => "REDIRECT",
        };
        let (family, port) = (family.name(), taker.port);
        all.push(format!(
            "{what} over {family} goes to the listener at port {port} ({how})"
        ));
    }
}

fn left_open(all: &mut Vec<String>, wanted: &Wanted) {
    for family in Family::ALL {
        let name = family.name();
        if wanted.outbound.of(family).is_none() {
            all.push(format!(
                "{name} is NOT captured when it goes out: no capturing mesh-outbound listener is bound for it"
            ));
        }
        if wanted.takes_in && wanted.inbound.of(family).is_none() {
            let bind = match family {
                Family::V4 => "0.0.0.0 or [::]",
                Family::V6 => "[::]",
            };
            all.push(format!(
                "{name} is NOT captured when it comes in, and callers reach applications past the proxy: no capturing mesh-inbound listener is bound where it is led ({bind})"
            ));
        }
    }
}
