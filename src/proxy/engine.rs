//! Pingora's HTTP engine around our hooks, without the system's authorities until a pool believes them.
//! It must not know requests, nor which pools there are; `app` says when one needs them.
//! `accept` and `serve` take the engine in use for each request.

use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};

use pingora::proxy::{http_proxy, HttpProxy};
use pingora::server::configuration::ServerConf;
use rustix::fs::{memfd_create, MemfdFlags};

use super::{Gateway, Shared};

/// The engine. Each of Pingora's two connectors in it reads the system's authorities, a megabyte of memory in thousands of
/// pieces, and the pools of a mesh have roots of their own. So the first engine believes nobody, and a second one takes its
/// place for good once a pool needs more. A request whose header is still coming in at that moment stays with the first: should
/// it be for such a pool, its endpoint is not believed.
pub struct Engine {
    conf: Arc<ServerConf>,
    shared: Arc<Shared>,
    bare: Arc<HttpProxy<Gateway>>,
    rooted: OnceLock<Arc<HttpProxy<Gateway>>>,
}

impl Engine {
    /// One that believes nobody yet. The settings are wanted twice.
    pub fn new([conf, bare]: [ServerConf; 2], shared: &Arc<Shared>) -> Engine {
        let gateway = Gateway::new(shared.clone());
        Engine {
            conf: Arc::new(conf),
            shared: shared.clone(),
            bare: Arc::new(believing_nobody(bare, gateway)),
            rooted: OnceLock::new(),
        }
    }

    /// Requests that begin from now on can be sent to endpoints that the system's authorities vouch for. Takes milliseconds
    /// the first time.
    pub fn believe_system(&self) {
        self.rooted.get_or_init(|| {
            let gateway = Gateway::new(self.shared.clone());
            Arc::new(http_proxy(&self.conf, gateway))
        });
    }

    /// The one for the next request.
    pub(super) fn get(&self) -> &Arc<HttpProxy<Gateway>> {
        self.rooted.get().unwrap_or(&self.bare)
    }
}

/// An engine whose connectors read a file that vouches for nothing in place of the system's: Pingora takes no empty one. On a
/// system that cannot give such a file it believes the system. What the connectors are built with reads the system's whatever it
/// is told, so the environment names an empty one meanwhile: this is at the start, when nobody else looks there.
fn believing_nobody(mut conf: ServerConf, gateway: Gateway) -> HttpProxy<Gateway> {
    // It exists as long as it is open.
    let file = memfd_create("nobody", MemfdFlags::CLOEXEC);
    let named = file.as_ref().ok().and_then(|file| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::write(&path, NOBODY).ok().map(|()| path)
    });
    conf.ca_file = named;
    const NAMES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
    let before = NAMES.map(std::env::var_os);
    for name in NAMES {
        std::env::set_var(name, "/dev/null");
    }
    let engine = http_proxy(&Arc::new(conf), gateway);
    for (name, value) in NAMES.into_iter().zip(before) {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
    engine
}

/// A certificate that vouches for nothing: it ended in 1970, is no authority's, and its key was never kept.
const NOBODY: &str = "-----BEGIN CERTIFICATE-----
MIIBPjCB5qADAgECAgEBMAoGCCqGSM49BAMCMBExDzANBgNVBAMMBm5vYm9keTAe
Fw03MDAxMDEwMDAwMDBaFw03MDAxMDEwMDAwMDFaMBExDzANBgNVBAMMBm5vYm9k
eTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABK8cpinPmauw8ayhFOTGiYXZSErU
nPu/xOxINhtK2LaHfTnVqu395tpXV8dy4LnCQ77aH94nseflXo9cTSFHBRajLzAt
MAwGA1UdEwEB/wQCMAAwHQYDVR0OBBYEFK1fVCEGik9IndYfe445pLIIFE0NMAoG
CCqGSM49BAMCA0cAMEQCIEuXFEWX/8hlVW/QHCmOUHXTMLKvbOhkmlrlVXpg3lGj
AiAphU6VqH6po2i8CJ6vUt9kTMV4NWZhbREE2YJxTu2apQ==
-----END CERTIFICATE-----
";
