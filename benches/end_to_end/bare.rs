//! The floor: Pingora and nothing of ours, built with the same profile and allocator as Windrose.
//! It must not grow features; its downstream read buffer is off, as Windrose's, since that is Pingora's best setting here.
//! The bench starts its own executable with the word `bare` to become this.

use std::error::Error;
use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::ListenerConfig;
use pingora::modules::http::HttpModules;
use pingora::prelude::{HttpPeer, Session};
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::{http_proxy_service, ProxyHttp};
use pingora::server::configuration::ServerConf;
use pingora::server::Server;

/// Serves until killed: plain port, TLS port, origin port, certificate, key.
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [plain, tls, origin, cert, key] = arguments else {
        return Err("bare takes five arguments".into());
    };
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let origin = SocketAddr::from(([127, 0, 0, 1], origin.parse()?));
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { origin });
    let buffers = L4BufferSettings::new(0, 1460);
    let mut settings = TlsSettings::intermediate(cert, key)?;
    settings.enable_h2();
    service.add_listener(ListenerConfig::tcp(format!("127.0.0.1:{plain}")).l4_buffer(buffers));
    let secure = ListenerConfig::tcp(format!("127.0.0.1:{tls}"));
    service.add_listener(secure.tls(settings).l4_buffer(buffers));
    server.add_service(service);
    server.run_forever()
}

struct Bare {
    origin: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }
}
