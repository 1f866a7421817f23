use super::*;

#[tokio::test]
async fn reloading_needs_the_field_and_tells_the_outcome() {
    let bench = Bench::new().await;
    let intent = "x-windrose-admin: reload\r\n";

    let read = bench.ask("GET", "/reload", intent).await;
    let without = bench.ask("POST", "/reload", "").await;
    let good = bench.ask("POST", "/reload", intent).await;
    bench.refuses.store(true, Relaxed);
    let refused = bench.ask("POST", "/reload", intent).await;

    assert_eq!(read.status, 405);
    assert!(read.head.contains("allow: post"));
    assert_eq!(without.status, 403);
    assert_eq!(good.status, 200);
    assert_eq!(good.json()["changes"][0], "route web changed");
    assert_eq!(good.json()["took_ms"], 12.0);
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["ok"], false);
    assert_eq!(refused.json()["problems"][0], "a.yaml:1:1: wrong");
}

#[tokio::test]
async fn a_probation_is_asked_for_with_its_terms() {
    let bench = Bench::new().await;
    let ask = |target: &'static str| bench.ask("POST", target, "x-windrose-admin: reload\r\n");

    let asked = ask("/reload?confirm=5m&max_5xx_rise=12%25").await;
    let wrong = ask("/reload?confirm=soon").await;
    let short = ask("/reload?confirm=0s").await;
    let unknown = ask("/reload?confrim=5m").await;

    let terms = asked.json()["changes"][0].as_str().unwrap().to_owned();
    assert_eq!(terms, "Terms { time: 300s, max_rise: 0.12 }");
    for (reply, words) in [
        (wrong, "not a time"),
        (short, "from 1s to 24h"),
        (unknown, "confrim"),
    ] {
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains(words), "{}", reply.body);
    }
}

#[tokio::test]
async fn a_generation_to_confirm_can_be_named() {
    let bench = Bench::new().await;
    let ask = |target: &'static str| bench.ask("POST", target, "x-windrose-admin: reload\r\n");

    let named = ask("/confirm?generation=12").await;
    let wrong = ask("/confirm?generation=soon").await;
    let unknown = ask("/confirm?confirm=5m").await;

    assert_eq!(named.json()["changes"][0], "generation 12 confirmed");
    assert_eq!((wrong.status, unknown.status), (400, 400));
}

#[tokio::test]
async fn what_ends_a_probation_needs_the_field_too() {
    let bench = Bench::new().await;

    for path in ["/confirm", "/rollback"] {
        let read = bench.get(path).await;
        let without = bench.ask("POST", path, "").await;

        assert_eq!((read.status, without.status), (405, 403), "{path}");
    }
    let field = "x-windrose-admin: reload\r\n";
    assert_eq!(bench.ask("POST", "/confirm", field).await.status, 200);
    assert_eq!(bench.ask("POST", "/rollback", field).await.status, 409);
}
