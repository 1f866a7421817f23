//! A name server of the test's own, whose answers change.
//! It must not know the proxy.
//! Used by tests of discovery and of what it must not lead to.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// A name server that knows one name; `None` makes it fail.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    pub(crate) answer: Arc<Mutex<Option<Vec<Ipv4Addr>>>>,
}

impl NameServer {
    pub(crate) fn start(answer: &[Ipv4Addr]) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(Some(answer.to_vec())));
        let shared = answer.clone();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let reply = reply(&question[..length], shared.lock().unwrap().as_deref());
                let _ = socket.send_to(&reply, from);
            }
        });
        NameServer { address, answer }
    }
}

/// RFC 1035 section 4: the question again, and A records that live one second.
fn reply(question: &[u8], answer: Option<&[Ipv4Addr]>) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let (code, addresses) = match answer {
        Some(addresses) => (0x80, addresses),
        None => (0x82, &[][..]),
    };
    let asks_a = question[end - 3] == 1;
    let addresses = if asks_a { addresses } else { &[] };
    let mut reply = question[..2].to_vec();
    reply.extend([
        0x81,
        code,
        0,
        1,
        0,
        u8::try_from(addresses.len()).unwrap(),
        0,
        0,
        0,
        0,
    ]);
    reply.extend(&question[12..end]);
    for address in addresses {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}
