//! Several HTTP/1 requests sent without waiting for answers: answered in order, on the connection they came on.
//! It must not know how the bytes of one request are told from those of the next.
//! Part of the test binary.

use std::io::{Read, Write};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex;

use crate::support::proxy::{pool, ALL_TO_APP};
use crate::support::tls::{connect, Wish};
use crate::support::upstream::answer;
use crate::support::{Authority, Conn, Proxy, Upstream, DEADLINE};

/// A service that answers with the method, target and body it saw.
fn telling() -> Upstream {
    Upstream::with(|seen, stream| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        let told = format!("{} {} {body}", seen.method, seen.target);
        answer(stream, 200, &[], told.trim().as_bytes())
    })
}

/// What the answers say, in the order they came.
fn told<S: Read + Write>(conn: &mut Conn<S>, answers: usize) -> Vec<String> {
    let replies = (0..answers).map(|_| conn.reply().expect("a reply"));
    replies.map(|reply| reply.text()).collect()
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: test\r\n\r\n")
}

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let service = telling();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send([get("/1"), get("/2"), get("/3")].concat());

    assert_eq!(told(&mut conn, 3), ["GET /1", "GET /2", "GET /3"]);
    assert_eq!(conn.ask(get("/4")).text(), "GET /4");
}

#[test]
fn more_requests_than_one_read_takes_are_all_answered() {
    let service = telling();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    let requests: String = (0..500).map(|number| get(&format!("/{number}"))).collect();
    conn.send(requests);

    let expected: Vec<String> = (0..500).map(|number| format!("GET /{number}")).collect();
    assert_eq!(told(&mut conn, 500), expected);
}

#[test]
fn bodies_of_known_length_end_where_the_next_request_begins() {
    let service = telling();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();
    let post = "POST /2 HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello";
    let long = "x".repeat(100_000);
    let upload = format!("PUT /4 HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n{long}");

    conn.send([&get("/1"), post, &get("/3"), &upload, &get("/5")].concat());

    let upload = format!("PUT /4 {long}");
    let expected = ["GET /1", "POST /2 hello", "GET /3", &upload, "GET /5"];
    assert_eq!(told(&mut conn, 5), expected);
}

#[test]
fn a_body_that_nobody_wanted_is_not_taken_for_a_request() {
    let proxy = Proxy::http("routes: []\n");
    let mut conn = proxy.connect();
    let smuggled = get("/smuggled");
    let length = smuggled.len();

    conn.send(format!(
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{smuggled}{}",
        get("/next")
    ));
    let reply = conn.reply().unwrap();

    // Nobody reads the body, so the connection ends before anything could be mistaken for a request.
    assert_eq!(reply.status, 404);
    assert!(conn.reply().is_err());
    proxy.logged(|line| line["path"] == "/");
    assert_eq!(proxy.log().len(), 1);
}

#[test]
fn a_request_split_across_writes_is_put_together() {
    let service = telling();
    let proxy = Proxy::to(&[&service]);
    let second = get("/2");
    for at in [1, 10, second.len() - 1] {
        let mut conn = proxy.connect();
        let (begin, end) = second.split_at(at);

        conn.send([&get("/1"), begin].concat());
        let first = told(&mut conn, 1);
        conn.send([end, &get("/3")].concat());

        assert_eq!(first, ["GET /1"]);
        assert_eq!(told(&mut conn, 2), ["GET /2", "GET /3"], "split at {at}");
    }
}

#[test]
fn a_request_that_comes_while_another_is_served_waits_its_turn() {
    let (service, gate) = gated();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send(get("/1"));
    gate.wait();
    conn.send([get("/2"), get("/3")].concat());
    // Whatever else the proxy does, it has met these bytes once it has answered another client.
    assert_eq!(proxy.get("/other").status, 200);
    gate.open();

    assert_eq!(told(&mut conn, 3), ["/1", "/2", "/3"]);
}

#[test]
fn a_malformed_request_gets_its_400_after_the_answer_before() {
    let service = telling();
    let proxy = Proxy::to(&[&service]);
    let malformed = [
        "GET / / HTTP/1.1\r\nhost: test\r\n\r\n",
        "GET /2 HTTP/1.1\r\nhost: test\n\r\n",
        "GET /2 HTTP/1.1\r\nhost: a b\r\n\r\n",
    ];
    for second in malformed {
        let mut conn = proxy.connect();

        conn.send([&get("/1"), second, &get("/3")].concat());
        let (first, second) = (conn.reply().unwrap(), conn.reply().unwrap());

        assert_eq!(first.text(), "GET /1");
        assert_eq!(second.status, 400);
        assert!(conn.reply().is_err(), "what follows is not believed");
    }
}

#[test]
fn a_request_after_chunks_ends_with_the_connection() {
    let service = telling();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send(format!(
        "POST /1 HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n{}",
        get("/2")
    ));
    let first = told(&mut conn, 1);

    assert_eq!(first, ["POST /1 hi"]);
    assert!(conn.reply().is_err(), "the client has to send it again");
}

#[test]
fn a_request_that_comes_while_one_with_chunks_is_served_takes_nothing_from_it() {
    let (service, gate) = gated();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send(
        "POST /1 HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    gate.wait();
    conn.send(get("/2"));
    gate.open();

    assert_eq!(conn.reply().unwrap().status, 200);
}

#[test]
fn requests_in_one_tls_record_are_answered_in_order() {
    let service = telling();
    let folder = tempfile::TempDir::new().unwrap();
    Authority::new()
        .issue(&["test"])
        .write(folder.path(), "web");
    let proxy = Proxy::start_in(
        folder,
        &format!(
            "listeners:\n- name: web\n  bind: 127.0.0.1:0\n  tls: {{certificates: [{{cert: web.crt, key: web.key}}]}}\n{}{ALL_TO_APP}",
            pool("app", &[&service])
        ),
    );
    let wish = Wish {
        sni: Some("test"),
        ..Wish::default()
    };
    let mut conn = connect(proxy.address("web"), &wish).unwrap();

    conn.send([get("/1"), get("/2"), get("/3")].concat());

    assert_eq!(told(&mut conn, 3), ["GET /1", "GET /2", "GET /3"]);
}

#[test]
fn a_listener_that_goes_away_answers_one_waiting_request_and_says_so() {
    let (service, gate) = gated();
    let rest = format!("{}{ALL_TO_APP}", pool("app", &[&service]));
    let other = "listeners:\n- {name: other, bind: 127.0.0.1:0}\n";
    let proxy = Proxy::http(&rest);
    let mut conn = proxy.connect();
    conn.send([get("/1"), get("/2"), get("/3")].concat());
    gate.wait();

    proxy.reload(&format!("{other}{rest}"));
    gate.open();
    let (first, second) = (conn.reply().unwrap(), conn.reply().unwrap());

    assert_eq!((first.text(), second.text()), ("/1".into(), "/2".into()));
    assert_eq!(second.header("connection"), Some("close"));
    assert!(conn.reply().is_err());
}

#[test]
fn what_a_client_says_before_the_101_belongs_to_the_new_protocol() {
    let service = Upstream::with(|_, stream| {
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        stream.write_all(switch.as_bytes())?;
        let mut said = [0; 5];
        stream.read_exact(&mut said)?;
        stream.write_all(&said)?;
        Ok(false)
    });
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();

    conn.send(
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly",
    );
    let reply = conn.head().unwrap();

    assert_eq!(reply.status, 101);
    assert_eq!(conn.exactly(5).unwrap(), b"early");
}

#[test]
fn a_request_after_an_upgrade_that_was_refused_is_answered() {
    let service = telling();
    let proxy = Proxy::to(&[&service]);
    let mut conn = proxy.connect();
    let upgrade =
        "GET /1 HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

    conn.send([upgrade, &get("/2")].concat());

    assert_eq!(told(&mut conn, 2), ["GET /1", "GET /2"]);
}

/// A service that keeps `/1` waiting until its gate is open, and answers with targets.
fn gated() -> (Upstream, Gate) {
    let (arrived, arrivals) = channel();
    let (opener, opened) = channel();
    let (arrived, opened) = (Mutex::new(arrived), Mutex::new(opened));
    let service = Upstream::with(move |seen, stream| {
        if seen.target == "/1" {
            arrived.lock().unwrap().send(()).unwrap();
            opened.lock().unwrap().recv().unwrap();
        }
        answer(stream, 200, &[], seen.target.as_bytes())
    });
    (service, Gate { arrivals, opener })
}

struct Gate {
    arrivals: Receiver<()>,
    opener: Sender<()>,
}

impl Gate {
    /// Waits until a request stands before it.
    fn wait(&self) {
        self.arrivals.recv_timeout(DEADLINE).unwrap();
    }

    fn open(&self) {
        self.opener.send(()).unwrap();
    }
}
