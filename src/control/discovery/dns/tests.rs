//! DNS discovery against a small name server on loopback.
//! It must not need the network or the system's resolver.
//! Run by `cargo test`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{Name, Record};
use tokio::net::UdpSocket;

use super::*;
use crate::control::pools::tests::{addresses as labels, pool, until};
use crate::observe::metrics::Metrics;
use crate::snapshot::pool::Source;

/// What a name server knows. A name that is not in it does not exist; a type in `broken` gets SERVFAIL.
#[derive(Clone, Default)]
struct Zone {
    records: Vec<Record>,
    broken: Vec<RecordType>,
}

impl Zone {
    fn a(mut self, name: &str, ttl: u32, ip: [u8; 4]) -> Zone {
        self.add(name, ttl, RData::A(A(Ipv4Addr::from(ip))));
        self
    }

    fn aaaa(mut self, name: &str, ttl: u32, last: u16) -> Zone {
        let ip = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
        self.add(name, ttl, RData::AAAA(AAAA(ip)));
        self
    }

    fn srv(mut self, priority: u16, weight: u16, port: u16, target: &str) -> Zone {
        let target = Name::from_str(target).unwrap();
        let data = RData::SRV(SRV::new(priority, weight, port, target));
        self.add("_web._tcp.test.", 60, data);
        self
    }

    fn broken(mut self, record: RecordType) -> Zone {
        self.broken.push(record);
        self
    }

    fn add(&mut self, name: &str, ttl: u32, data: RData) {
        let name = Name::from_str(name).unwrap();
        self.records.push(Record::from_rdata(name, ttl, data));
    }

    fn answer(&self, question: &Message) -> Message {
        let query = question.queries[0].clone();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        let of_name = self.records.iter().filter(|one| &one.name == query.name());
        if self.broken.contains(&query.query_type()) {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else if of_name.clone().count() == 0 {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let wanted = of_name.filter(|one| one.record_type() == query.query_type());
        answer.add_answers(wanted.cloned());
        answer.add_query(query);
        answer
    }
}

/// A name server on loopback that always answers, if only to say that there is nothing.
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    questions: Arc<AtomicUsize>,
}

impl Server {
    async fn new(zone: Zone) -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: socket.local_addr().unwrap(),
            zone: Arc::new(Mutex::new(zone)),
            questions: Arc::default(),
        };
        let (zone, questions) = (server.zone.clone(), server.questions.clone());
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                let question = Message::from_vec(&bytes[..length]).unwrap();
                let answer = zone.lock().unwrap().answer(&question);
                questions.fetch_add(1, Relaxed);
                let answer = answer.to_vec().unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        server
    }

    fn now_knows(&self, zone: Zone) {
        *self.zone.lock().unwrap() = zone;
    }

    fn source(&self, name: &str, record: DnsRecord) -> DnsSource {
        DnsSource {
            name: name.into(),
            record,
            port: 80,
            min_ttl: Duration::from_millis(20),
            max_ttl: Duration::from_millis(100),
            servers: vec![self.address],
        }
    }
}

fn shown(found: &Found) -> Vec<(String, u32)> {
    let specs = found.specs.iter();
    specs
        .map(|spec| (spec.address.to_string(), spec.weight))
        .collect()
}

fn weighed<const N: usize>(list: [(&str, u32); N]) -> Vec<(String, u32)> {
    list.map(|(address, weight)| (address.to_owned(), weight))
        .into()
}

#[tokio::test]
async fn both_families_are_asked_sorted_and_without_repetition() {
    let zone = Zone::default()
        .a("web.test.", 60, [10, 0, 0, 2])
        .a("web.test.", 30, [10, 0, 0, 1])
        .a("web.test.", 60, [10, 0, 0, 2])
        .aaaa("web.test.", 50, 1);
    let server = Server::new(zone).await;

    let both = ask(&server.source("web.test", DnsRecord::Both), &[])
        .await
        .unwrap();
    let four = ask(&server.source("web.test", DnsRecord::A), &[])
        .await
        .unwrap();
    let six = ask(&server.source("web.test", DnsRecord::Aaaa), &[])
        .await
        .unwrap();

    let wanted = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("[fd00::1]:80", 1)];
    assert_eq!(shown(&both), weighed(wanted));
    assert_eq!(both.ttl, Duration::from_secs(30));
    assert_eq!(shown(&four), weighed([wanted[0], wanted[1]]));
    assert_eq!(shown(&six), weighed([wanted[2]]));
}

#[tokio::test]
async fn services_give_ports_weights_and_priorities_in_their_order() {
    let zone = Zone::default()
        .srv(10, 3, 8080, "one.test.")
        .srv(10, 0, 8081, "two.test.")
        .srv(20, 9, 8082, "one.test.")
        .srv(20, 9, 8080, "one.test.")
        .a("one.test.", 60, [10, 0, 0, 1])
        .a("two.test.", 7, [10, 0, 0, 2]);
    let server = Server::new(zone).await;

    let found = ask(&server.source("_web._tcp.test", DnsRecord::Srv), &[])
        .await
        .unwrap();

    assert_eq!(
        shown(&found),
        weighed([
            ("10.0.0.1:8080", 3),
            ("10.0.0.1:8082", 9),
            ("10.0.0.2:8081", 1)
        ])
    );
    let priorities: Vec<u8> = found.specs.iter().map(|spec| spec.priority).collect();
    assert_eq!(priorities, [0, 1, 0]);
    assert_eq!(found.ttl, Duration::from_secs(7));
}

#[tokio::test]
async fn a_service_that_is_not_offered_is_no_answer() {
    let server = Server::new(Zone::default().srv(0, 0, 0, ".")).await;

    let problem = ask(&server.source("_web._tcp.test", DnsRecord::Srv), &[]).await;

    assert_eq!(problem, Err("the answer holds no addresses".into()));
}

#[tokio::test]
async fn addresses_need_no_server() {
    let source = |name: &str, record| DnsSource {
        name: name.into(),
        record,
        port: 81,
        min_ttl: Duration::from_secs(1),
        max_ttl: Duration::from_secs(300),
        servers: vec![([127, 0, 0, 1], 9).into()],
    };

    let four = ask(&source("10.0.0.1", DnsRecord::Both), &[])
        .await
        .unwrap();
    let six = ask(&source("fd00::1", DnsRecord::Both), &[]).await.unwrap();
    let service = ask(&source("10.0.0.1", DnsRecord::Srv), &[]).await;

    assert_eq!(shown(&four), weighed([("10.0.0.1:81", 1)]));
    assert_eq!(shown(&six), weighed([("[fd00::1]:81", 1)]));
    assert!(service.is_err());
}

#[tokio::test]
async fn a_family_that_breaks_takes_nothing_away_that_was_known() {
    let zone = Zone::default().a("web.test.", 60, [10, 0, 0, 1]);
    let server = Server::new(zone.broken(RecordType::AAAA)).await;
    let source = server.source("web.test", DnsRecord::Both);
    let known = EndpointSpec {
        priority: 0,
        address: Address::Tcp("[fd00::1]:80".parse().unwrap()),
        weight: 1,
        labels: BTreeMap::new(),
    };

    let fresh = ask(&source, &[]).await;
    let later = ask(&source, &[known]).await;

    assert_eq!(shown(&fresh.unwrap()), weighed([("10.0.0.1:80", 1)]));
    assert!(later.unwrap_err().contains("Server Failure"));
}

#[test]
fn an_answer_is_bounded() {
    let name = "many.test.";
    let mut weights = Weights::new();
    for n in 0..2000_u16 {
        let [high, low] = n.to_be_bytes();
        weights.insert(Address::Tcp(([10, 0, high, low], 80).into()), (0, 1));
    }

    let specs = bounded_specs(name, weights);

    assert_eq!(specs.len(), 1024);
}

#[tokio::test]
async fn the_last_good_answer_stays_while_dns_fails() {
    let server = Server::new(Zone::default().a("web.test.", 0, [10, 0, 0, 1])).await;
    let source = server.source("web.test", DnsRecord::A);
    let pool = pool("web", Source::Dns(source.clone()), None, &[]);
    let slot = Slot::new(&pool, &Arc::default(), &Metrics::new(8));
    let task = tokio::spawn(follow(slot.clone(), source));

    until("the first answer", || labels(&pool) == ["10.0.0.1:80"]).await;
    server.now_knows(Zone::default());
    until("the problem", || slot.problem().is_some()).await;

    assert_eq!(slot.problem().unwrap(), "the name does not exist");
    assert_eq!(labels(&pool), ["10.0.0.1:80"]);
    server.now_knows(Zone::default().a("web.test.", 0, [10, 0, 0, 2]));
    until("the next answer", || labels(&pool) == ["10.0.0.2:80"]).await;
    assert_eq!(slot.problem(), None);
    task.abort();
}

#[tokio::test]
async fn the_same_answer_leaves_the_set_alone() {
    let zone = Zone::default().a("web.test.", 0, [10, 0, 0, 1]);
    let server = Server::new(zone).await;
    let source = server.source("web.test", DnsRecord::A);
    let pool = pool("web", Source::Dns(source.clone()), None, &[]);
    let slot = Slot::new(&pool, &Arc::default(), &Metrics::new(8));
    let task = tokio::spawn(follow(slot.clone(), source));
    until("the first answer", || !labels(&pool).is_empty()).await;
    let set = pool.set.load_full();
    let asked = server.questions.load(Relaxed);

    until("more questions", || {
        server.questions.load(Relaxed) > asked + 2
    })
    .await;

    assert!(Arc::ptr_eq(&set, &pool.set.load_full()));
    task.abort();
}

#[test]
fn times_stay_between_the_shortest_and_the_longest() {
    let source = DnsSource {
        name: "web.test".into(),
        record: DnsRecord::A,
        port: 80,
        min_ttl: Duration::from_secs(1),
        max_ttl: Duration::from_secs(300),
        servers: Vec::new(),
    };

    assert_eq!(bounded(&source, Duration::ZERO), Duration::from_secs(1));
    assert_eq!(
        bounded(&source, Duration::from_secs(9)),
        Duration::from_secs(9)
    );
    assert_eq!(bounded(&source, Duration::MAX), Duration::from_secs(300));
    assert!(back_off(&source, 1) >= Duration::from_secs(1));
    assert!(back_off(&source, u32::MAX) >= Duration::from_secs(270));
    assert!(back_off(&source, u32::MAX) <= Duration::from_secs(300));
}

#[test]
fn weights_fit_into_the_range_of_a_pool() {
    assert_eq!(scaled(0, Some(0)), 1);
    assert_eq!(scaled(7, Some(900)), 7);
    assert_eq!(scaled(u16::MAX, Some(u16::MAX)), 1000);
    assert_eq!(scaled(1, Some(u16::MAX)), 1);
}
