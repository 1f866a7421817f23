use pingora::http::RequestHeader;
use windrose_plugins::contract::{ClientFacts, Principal, Unknown, WholeBody};

use super::*;

fn instance(mode: Mode, fails_open: bool) -> Instance {
    let counter = IntCounter::default;
    Instance {
        name: "guard".into(),
        kind: "guard",
        place: "".into(),
        mode,
        fails_open,
        hooks: Hooks::new(),
        answered: counter(),
        would_answer: counter(),
        failed: counter(),
        examples: Examples::default(),
    }
}

fn unknown() -> Verdict {
    Verdict::Unknown(Unknown::from("a store"))
}

#[test]
fn a_guard_that_does_not_know_refuses_traffic_but_not_a_dry_run() {
    let guard = instance(Mode::Enforce, false);

    let live = guard
        .settle(unknown(), Effects::Live, &mut |_, _| {})
        .map(|answer| answer.cause.name);

    assert_eq!(live, Some("plugin_failed"));
    assert!(guard
        .settle(unknown(), Effects::Dry, &mut |_, _| {})
        .is_none());
    assert_eq!((guard.failed.get(), guard.answered.get()), (1, 1));
}

fn chain(hooks: Hooks, fails_open: bool) -> Chain {
    let one = Instance {
        hooks,
        ..instance(Mode::Enforce, fails_open)
    };
    Chain::new(vec![Arc::new(one)])
}

#[test]
fn a_panic_in_a_hook_is_a_failure_of_its_plugin() {
    let hooks = || Hooks::new().on_request_body(|_, _, _| panic!("a bug of {}", "this plugin"));
    let (closed, open) = (chain(hooks(), false), chain(hooks(), true));
    let cause = |chain: &Chain| {
        let answer = chain.request_body(
            &mut Slots::default(),
            &mut None,
            true,
            Effects::Live,
            &mut |_, _| {},
        );
        answer.map(|answer| answer.cause.name)
    };

    let (closed_says, open_says) = (cause(&closed), cause(&open));

    assert_eq!((closed_says, open_says), (Some("plugin_failed"), None));
    assert_eq!(
        (closed.all[0].failed.get(), open.all[0].failed.get()),
        (1, 1)
    );
}

#[test]
fn what_fails_open_or_is_in_the_shadow_stops_nothing() {
    let open = instance(Mode::Enforce, true);
    let shadow = instance(Mode::Shadow, false);

    assert!(open
        .settle(unknown(), Effects::Live, &mut |_, _| {})
        .is_none());
    assert!(shadow
        .settle(unknown(), Effects::Live, &mut |_, _| {})
        .is_none());
    assert_eq!((open.failed.get(), shadow.would_answer.get()), (1, 1));
}

/// A chain of one plugin in the shadow that edits and takes everything it can, and refuses.
fn greedy() -> Chain {
    let take = |body: &mut Option<Bytes>| {
        *body = None;
        Verdict::from(Answer::of(&causes::BODY_TOO_LARGE))
    };
    let hooks = Hooks::new()
        .on_request(|request| {
            request.head.set_method(http::Method::DELETE);
            *request.principal = None;
            Answer::of(&causes::NO_ROUTE).into()
        })
        .on_response(|response| {
            let _ = response.head.set_status(418);
            Verdict::Continue
        })
        .on_request_body(move |_, body, _| take(body))
        .on_response_body(move |_, body, _| take(body));
    Chain::new(vec![Arc::new(Instance {
        hooks,
        ..instance(Mode::Shadow, false)
    })])
}

#[tokio::test]
async fn a_plugin_in_the_shadow_changes_no_request_and_leaves_an_example() {
    let chain = greedy();
    let facts = ClientFacts {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        secure: false,
        listener: "web",
        route: "all",
        host: "test",
        path: "/",
        sends_body: false,
        request_id: "id-1",
        trusted_peer: false,
        trace: None,
        certificate: None,
    };
    let mut head = RequestHeader::build("GET", b"/", None).unwrap();
    let mut principal = Some(Principal::consumer("ann"));
    let mut request = Request {
        head: &mut head,
        client: &facts,
        principal: &mut principal,
        body: None,
        upstream: None,
        slots: &mut Slots::default(),
        effects: Effects::Live,
    };

    let answer = chain
        .request(&mut request, &mut NoBody, &mut |_, _| {})
        .await;

    assert!(answer.is_none());
    assert_eq!(head.method, http::Method::GET);
    assert_eq!(principal.map(|one| one.name).as_deref(), Some("ann"));
    let examples = chain.all[0].examples.all();
    assert_eq!(examples.len(), 1);
    assert_eq!(examples[0].cause.name, "no_route");
    assert_eq!(&*examples[0].request_id, "id-1");
}

#[test]
fn a_plugin_in_the_shadow_takes_no_body() {
    let chain = greedy();
    let mut body = Some(Bytes::from_static(b"piece"));
    let slots = &mut Slots::default();

    let on = chain.request_body(slots, &mut body, true, Effects::Live, &mut |_, _| {});
    let back = chain.response_body(slots, &mut body, true);

    assert!(on.is_none() && back.is_none());
    assert_eq!(body.as_deref(), Some(&b"piece"[..]));
    assert_eq!(chain.all[0].would_answer.get(), 2);
}

/// A body that comes once, and what was put in its place.
struct OneBody {
    bytes: &'static [u8],
    replaced: Option<Bytes>,
    asked: usize,
}

impl BodySource for OneBody {
    fn whole(&mut self, most: u64) -> BodyFuture<'_> {
        self.asked += 1;
        let bytes = self
            .replaced
            .clone()
            .unwrap_or(Bytes::from_static(self.bytes));
        let body = match bytes.len() as u64 <= most {
            true => Ok(Box::new(WholeBody::new(bytes))),
            false => Err(Unread::TooLarge),
        };
        Box::pin(std::future::ready(body))
    }

    fn begin(&mut self, most: u64) -> BodyFuture<'_> {
        let most = usize::try_from(most).unwrap();
        let begin = WholeBody::cut(Bytes::from_static(&self.bytes[..most]));
        Box::pin(std::future::ready(Ok(Box::new(begin))))
    }

    fn replace(&mut self, body: Box<WholeBody>) {
        self.replaced = Some(body.bytes().clone());
    }
}

/// A plugin that wants a body of at most four bytes, and puts its length in its place.
fn measuring(mode: Mode) -> Arc<Instance> {
    let hooks = Hooks::new()
        .on_request(|request| {
            let body = request.body.as_mut().expect("it was asked for");
            let length = body.bytes().len().to_string();
            body.replace(length);
            Verdict::Continue
        })
        .with_whole_body(4, &causes::BODY_TOO_LARGE);
    Arc::new(Instance {
        hooks,
        ..instance(mode, false)
    })
}

async fn through(chain: &Chain, bodies: &mut OneBody) -> Option<Box<Answer>> {
    let facts = ClientFacts {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        secure: false,
        listener: "web",
        route: "all",
        host: "test",
        path: "/",
        sends_body: false,
        request_id: "id-1",
        trusted_peer: false,
        trace: None,
        certificate: None,
    };
    let mut head = RequestHeader::build("POST", b"/", None).unwrap();
    let mut request = Request {
        head: &mut head,
        client: &facts,
        principal: &mut None,
        body: None,
        upstream: None,
        slots: &mut Slots::default(),
        effects: Effects::Live,
    };
    let answer = chain.request(&mut request, bodies, &mut |_, _| {}).await;
    assert!(
        request.body.is_none(),
        "a body is only for those who want it"
    );
    answer
}

#[tokio::test]
async fn hooks_that_want_the_body_see_what_those_before_made_of_it() {
    let mut bodies = OneBody {
        bytes: b"abc",
        replaced: None,
        asked: 0,
    };
    let chain = Chain::new(vec![
        measuring(Mode::Enforce),
        measuring(Mode::Shadow),
        measuring(Mode::Enforce),
    ]);

    let answer = through(&chain, &mut bodies).await;

    assert!(answer.is_none() && chain.wants_body());
    assert_eq!(
        bodies.replaced.as_deref(),
        Some(&b"1"[..]),
        "the length of \"3\""
    );
    assert_eq!(bodies.asked, 3);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_and_in_the_shadow_only_counted() {
    let mut bodies = OneBody {
        bytes: b"abcde",
        replaced: None,
        asked: 0,
    };

    let answer = through(&Chain::new(vec![measuring(Mode::Enforce)]), &mut bodies).await;
    let shadow = Chain::new(vec![measuring(Mode::Shadow)]);
    let in_shadow = through(&shadow, &mut bodies).await;

    assert_eq!(
        answer.map(|answer| answer.cause),
        Some(&causes::BODY_TOO_LARGE)
    );
    assert!(in_shadow.is_none());
    assert_eq!(shadow.all[0].would_answer.get(), 1);
}
