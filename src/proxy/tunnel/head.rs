//! Where a tunnel goes, by the head of its CONNECT.
//! It must not know streams; anyone who has proven an identity may have written it.
//! Called by `server` for each stream.

use std::net::SocketAddr;

use http::{Method, Uri};

/// Where a tunnel goes (RFC 9113 section 8.5). Names are for nodes that resolve them; this one is the last.
pub(super) fn target(method: &Method, uri: &Uri) -> Option<SocketAddr> {
    let target: SocketAddr = uri.authority()?.as_str().parse().ok()?;
    let is_tunnel = *method == Method::CONNECT && uri.scheme().is_none() && target.port() != 0;
    is_tunnel.then(|| SocketAddr::new(target.ip().to_canonical(), target.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_go_to_addresses_and_ports() {
        let of = |uri: &str| target(&Method::CONNECT, &uri.parse().unwrap());

        assert_eq!(of("10.0.0.1:80"), "10.0.0.1:80".parse().ok());
        assert_eq!(of("[2001:db8::1]:80"), "[2001:db8::1]:80".parse().ok());
        assert_eq!(of("[::ffff:10.0.0.1]:80"), "10.0.0.1:80".parse().ok());
        for wrong in [
            "10.0.0.1:0",
            "pay.shop:80",
            "10.0.0.1",
            "http://10.0.0.1:80/",
            "user@10.0.0.1:80",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(target(&Method::GET, &"10.0.0.1:80".parse().unwrap()), None);
    }
}
