//! Endpoints that get no new requests finish those they have: ejected, drained by weight, or gone from the pool.
//! It must not know what ejects; `outlier` tests that.
//! Part of the test binary.

use crate::outlier::{eject, seen};
use crate::support::proxy::{pool, ALL_TO_APP, WEB};
use crate::support::upstream::answer;
use crate::support::{until, Proxy, Upstream, WebSocket};

#[test]
fn what_runs_on_an_ejected_endpoint_goes_on() {
    let (sender, go) = std::sync::mpsc::channel::<()>();
    let go = std::sync::Mutex::new(go);
    let bad = Upstream::with(move |seen, stream| match &*seen.target {
        "/slow" => {
            let _ = go.lock().unwrap().recv();
            answer(stream, 200, &[], b"done")
        }
        _ => answer(stream, 503, &[], b""),
    });
    let good = Upstream::with(|seen, stream| match &*seen.target {
        "/slow" => answer(stream, 200, &[], b"done"),
        _ => answer(stream, 200, &[], b"ok"),
    });
    let pool = pool("app", &[&bad, &good]);
    let proxy = Proxy::http(&format!(
        "{pool}  balance: {{algorithm: round_robin}}\n  ejection: {{consecutive_failures: 2, base_time: 60s}}\n{ALL_TO_APP}    retry: {{attempts: 0}}\n"
    ));

    let texts = std::thread::scope(|scope| {
        let slow = [(); 2].map(|()| scope.spawn(|| proxy.get("/slow").text()));
        until("a slow request is there", || {
            (bad.requests() > 0).then_some(())
        });
        eject(&proxy, bad.address);
        // The request that ejected it is over a moment later.
        let seen = until("one request is left", || {
            let seen = seen(&proxy, bad.address);
            (seen["in_flight"] == 1).then_some(seen)
        });
        assert_eq!(seen["state"], "ejected");
        for _ in 0..2 {
            sender.send(()).unwrap();
        }
        slow.map(|one| one.join().unwrap())
    });

    assert_eq!(texts, ["done", "done"]);
}

#[test]
fn an_endpoint_that_leaves_finishes_what_it_has() {
    let (leaving, staying) = (WebSocket::service(), Upstream::answering("ok"));
    let config = |endpoints: &str| {
        format!("{WEB}pools:\n- {{name: app, endpoints: [{endpoints}]}}\n{ALL_TO_APP}")
    };
    let (first, other) = (leaving.address, staying.address);
    let proxy = Proxy::start(&config(&format!("'{first}'")));
    let mut stream = WebSocket::open(proxy.address("web"), "/ws");
    assert_eq!(stream.talk("one").as_deref(), Some("one"));

    let drained = format!("{{address: '{first}', weight: 0}}, '{other}'");
    proxy.reload(&config(&drained));
    let seen = seen(&proxy, first);
    assert_eq!(
        (&seen["state"], &seen["in_flight"]),
        (&"draining".into(), &1.into())
    );
    assert_eq!([(); 4].map(|()| proxy.get("/").text()), ["ok"; 4]);
    assert_eq!(stream.talk("two").as_deref(), Some("two"));

    proxy.reload(&config(&format!("'{other}'")));
    let draining = proxy.pool("app")["draining"].clone();
    assert_eq!(draining[0]["address"], first.to_string());
    assert_eq!(draining[0]["in_flight"], 1);
    assert_eq!(stream.talk("three").as_deref(), Some("three"));
    drop(stream);
    until("nothing is left", || {
        proxy.pool("app")["draining"].is_null().then_some(())
    });
}

#[test]
fn the_last_endpoint_of_a_pool_is_used_though_it_was_ejected() {
    let (bad, good) = (
        Upstream::statuses(&[503, 503, 200]),
        Upstream::answering("ok"),
    );
    let config = |upstreams: &[&Upstream]| {
        let pool = pool("app", upstreams);
        format!("{WEB}{pool}  ejection: {{consecutive_failures: 2, base_time: 60s}}\n{ALL_TO_APP}")
    };
    let proxy = Proxy::start(&config(&[&bad, &good]));
    eject(&proxy, bad.address);

    proxy.reload(&config(&[&bad]));

    assert_eq!(proxy.get("/").status, 200);
}
