//! The services of the demo: they answer with what they are and what they were asked, and one of them always fails.
//! It must not know proxies or their configuration, only the names that the configuration gives to ports.
//! Started by `demo` before the proxies.

use std::io;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::wire::Head;
use super::{chat, grpc};

/// A service over HTTP.
struct Persona {
    /// The configuration's name for its port.
    variable: &'static str,
    service: &'static str,
    version: &'static str,
    instance: &'static str,
    mood: Mood,
}

#[derive(Clone, Copy)]
enum Mood {
    Well,
    /// Accepts connections and answers every request with 503.
    Broken,
}

const PERSONAS: [Persona; 6] = [
    persona("DEMO_SHOP_V1_A", "shop", "v1", "shop-v1-a", Mood::Well),
    persona("DEMO_SHOP_V1_B", "shop", "v1", "shop-v1-b", Mood::Well),
    persona("DEMO_SHOP_V2", "shop", "v2", "shop-v2-a", Mood::Well),
    persona("DEMO_SHOP_BROKEN", "shop", "v1", "shop-v1-c", Mood::Broken),
    persona("DEMO_ORDERS", "orders", "v3", "orders-a", Mood::Well),
    persona("DEMO_BILLING", "billing", "v1", "billing-a", Mood::Well),
];

const fn persona(
    variable: &'static str,
    service: &'static str,
    version: &'static str,
    instance: &'static str,
    mood: Mood,
) -> Persona {
    Persona {
        variable,
        service,
        version,
        instance,
        mood,
    }
}

/// Starts every service on a free port; the result names the ports as the configuration does.
pub(super) async fn start() -> io::Result<Vec<(&'static str, u16)>> {
    let mut ports = Vec::new();
    for persona in &PERSONAS {
        let (listener, port) = free().await?;
        ports.push((persona.variable, port));
        tokio::spawn(accept(listener, move |stream| http(stream, persona)));
    }
    let (listener, port) = free().await?;
    ports.push(("DEMO_CHAT", port));
    tokio::spawn(accept(listener, chat::serve));
    let (listener, port) = free().await?;
    ports.push(("DEMO_GRPC", port));
    tokio::spawn(accept(listener, grpc::serve));
    let (listener, port) = free().await?;
    ports.push(("DEMO_ECHO", port));
    tokio::spawn(accept(listener, echo));
    Ok(ports)
}

async fn free() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn accept<F, S>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> S,
    S: std::future::Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A broken connection ends itself; nobody else is concerned.
                tokio::spawn(serve(stream));
            }
            // Out of file descriptors, say: connections that end give some back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn http(stream: TcpStream, persona: &'static Persona) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = Head::read(&mut stream).await? {
        let body = head.body(&mut stream).await?;
        let answer = persona.answer(&head, body.len());
        stream.write_all(&answer).await?;
        stream.flush().await?;
        let closes = head.field("connection");
        if closes.is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

impl Persona {
    fn answer(&self, head: &Head, body_bytes: usize) -> Vec<u8> {
        let method = head.start.split(' ').next().unwrap_or_default();
        let status = match self.mood {
            Mood::Well => "200 OK",
            Mood::Broken => "503 Service Unavailable",
        };
        let fields = head.fields.iter();
        let fields: serde_json::Map<String, serde_json::Value> = fields
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        let mut body = json!({
            "service": self.service,
            "version": self.version,
            "instance": self.instance,
            "method": method,
            "host": head.field("host"),
            "path": head.second(),
            "body_bytes": body_bytes,
            "headers": fields,
        })
        .to_string();
        body.push('\n');
        let length = body.len();
        if method == "HEAD" {
            body.clear();
        }
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             X-Served-By: {}\r\n\r\n{body}",
            self.instance
        )
        .into_bytes()
    }
}

/// Sends back whatever comes, and ends when the client ended its side.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_tells_who_it_is_and_what_it_was_asked() {
        let mut raw = &b"GET /x?y=1 HTTP/1.1\r\nHost: shop.localhost\r\nX-A: b\r\n\r\n"[..];
        let head = Head::read(&mut raw).await.unwrap().unwrap();

        let answer = String::from_utf8(PERSONAS[2].answer(&head, 0)).unwrap();

        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["service"], &body["version"]),
            (&"shop".into(), &"v2".into())
        );
        assert_eq!(body["path"], "/x?y=1");
        assert_eq!(body["headers"]["x-a"], "b");
    }

    #[tokio::test]
    async fn the_broken_one_fails_every_request() {
        let mut raw = &b"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n"[..];
        let head = Head::read(&mut raw).await.unwrap().unwrap();

        let broken = PERSONAS
            .iter()
            .find(|persona| matches!(persona.mood, Mood::Broken));
        let answer = broken.unwrap().answer(&head, 0);

        assert!(answer.starts_with(b"HTTP/1.1 503 "));
    }
}
