//! Rules as they are written, and the names they go by.
//! It must not ask a kernel; the black-box tests do.
//! Part of the unit tests.

use super::*;

fn taker(address: &str, port: u16, is_tproxy: bool) -> Option<Taker> {
    Some(Taker {
        address: address.parse().unwrap(),
        port,
        is_tproxy,
    })
}

fn wanted() -> Wanted {
    Wanted {
        name: "web".into(),
        whom: Whom::User(1001),
        proxy: Some(900),
        mark: Some(0x77),
        outbound: Takers {
            v4: taker("127.0.0.1", 15001, false),
            v6: taker("::1", 15001, false),
        },
        takes_in: false,
        inbound: Takers::default(),
        inbound_ports: Vec::new(),
        own_ports: vec![15006, 9901],
        skip_ports: vec![22],
        skip_nets: vec!["10.9.0.0/16".parse().unwrap()],
    }
}

fn group(path: &str) -> Whom {
    Whom::Cgroup(Group {
        path: path.into(),
        folder: format!("unified/{path}"),
    })
}

#[test]
fn what_goes_out_is_redirected_but_for_the_proxy_and_what_is_skipped() {
    assert_eq!(
        wanted().nft(),
        "table inet windrose_web
delete table inet windrose_web
table inet windrose_web {
\tchain outbound {
\t\ttype nat hook output priority -100; policy accept;
\t\tmeta l4proto != tcp return
\t\ttcp flags & (fin | syn | rst | ack) != syn return
\t\tmeta mark 0x77 return
\t\tmeta skuid 900 return
\t\toifname \"lo\" return
\t\ttcp dport 53 return
\t\ttcp dport { 22 } return
\t\tip daddr { 10.9.0.0/16 } return
\t\tmeta skuid 1001 meta nfproto ipv4 meta l4proto tcp redirect to :15001
\t\tmeta skuid 1001 meta nfproto ipv6 meta l4proto tcp redirect to :15001
\t}
}
"
    );
}

#[test]
fn transparent_listeners_get_what_opens_connections_and_what_belongs_to_them() {
    let text = Wanted {
        whom: group("system.slice/web.service"),
        outbound: Takers {
            v4: taker("0.0.0.0", 15001, true),
            v6: taker("::1", 15002, true),
        },
        ..wanted()
    }
    .nft();

    let mark = format!("{:#x}", route_mark("web"));
    for rule in [
        "type route hook output priority -150; policy accept;",
        "ct direction reply return",
        "tcp flags & (fin | syn | rst | ack) == syn jump choose_outbound",
        &format!("ct mark & 0xffff0000 == {mark} meta mark set meta mark & 0x0000ffff | {mark}"),
        &format!("socket cgroupv2 level 2 \"unified/system.slice/web.service\" meta nfproto ipv4 ct mark set ct mark & 0x0000ffff | {mark}"),
        &format!("meta mark & 0xffff0000 != {mark} return"),
        "meta nfproto ipv4 meta l4proto tcp tproxy ip to :15001 accept",
        "meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:15002 accept",
    ] {
        assert!(text.contains(&format!("\t\t{rule}\n")), "{rule}: {text}");
    }
    assert!(!text.contains("redirect"), "{text}");
}

#[test]
fn a_family_without_a_transparent_listener_is_not_led_round() {
    let wanted = Wanted {
        outbound: Takers {
            v4: taker("127.0.0.1", 15001, true),
            v6: taker("::1", 15001, false),
        },
        ..wanted()
    };

    let text = wanted.nft();

    assert!(!text.contains("meta nfproto ipv6 ct mark"), "{text}");
    assert_eq!(text.matches("nfproto ipv6").count(), 1, "{text}");
    assert!(wanted.routes(Family::V4) && !wanted.routes(Family::V6));
}

#[test]
fn what_comes_in_leaves_the_proxys_own_ports_alone_and_needs_no_mark() {
    let inbound = |is_tproxy| {
        Wanted {
            outbound: Takers::default(),
            inbound: Takers {
                v4: taker("0.0.0.0", 15006, is_tproxy),
                v6: None,
            },
            inbound_ports: vec![8080],
            ..wanted()
        }
        .nft()
    };

    for (text, how) in [
        (inbound(false), "redirect to :15006"),
        (inbound(true), "tproxy ip to :15006 accept"),
    ] {
        for rule in [
            "fib daddr type != local return",
            "tcp dport { 15006, 9901 } return",
            "tcp dport != { 8080 } return",
            &format!("meta nfproto ipv4 meta l4proto tcp {how}"),
        ] {
            assert!(text.contains(&format!("\t\t{rule}\n")), "{rule}: {text}");
        }
        assert!(
            !text.contains("mark") && !text.contains("hook output"),
            "{text}"
        );
    }
}

#[test]
fn iptables_is_told_the_same_for_each_family() {
    let (v4, v6) = (wanted().iptables(Family::V4), wanted().iptables(Family::V6));

    assert!(v4.starts_with("*nat\n:WINDROSE_WEB_O - [0:0]\n:WINDROSE_WEB_I - [0:0]\n"));
    for rule in [
        "-p tcp ! --syn -j RETURN",
        "-m owner --uid-owner 900 -j RETURN",
        "-p tcp --dport 53 -j RETURN",
        "-d 10.9.0.0/16 -j RETURN",
    ] {
        assert!(v4.contains(&format!("-A WINDROSE_WEB_O {rule}\n")), "{v4}");
    }
    assert!(v4.ends_with("-A WINDROSE_WEB_O -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n"));
    assert!(!v6.contains("10.9.0.0"), "{v6}");
}

#[test]
fn names_of_groups_are_one_word_whatever_is_in_them() {
    let wanted = Wanted {
        whom: group(r"my apps.slice/a\x2db.service"),
        ..wanted()
    };

    let nft = r#"level 2 "unified/my apps.slice/a\x2db.service" "#;
    assert!(wanted.nft().contains(nft), "{}", wanted.nft());
    let iptables = r#"-m cgroup ! --path "my apps.slice/a\\x2db.service" -j"#;
    assert!(wanted.iptables(Family::V4).contains(iptables));
}

#[test]
fn names_lead_to_marks_and_chains_of_their_own() {
    assert_ne!(route_mark("web"), route_mark("api"));
    assert_eq!(route_mark("web") & !MARK_MASK, 0);
    assert!(chains("a_name_that_is_far_too_long")[0].len() <= 28);
}
