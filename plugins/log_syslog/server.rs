//! Where a syslog server is, as operators write it.
//! It must not connect.
//! Part of the settings of `log_syslog`.

use std::path::{Path, PathBuf};

use crate::contract::{Far, Problem};

/// Takes the setting `server` apart; `resolve` finds the path of a socket.
pub(super) fn parsed(text: &str, resolve: impl Fn(&str) -> PathBuf) -> Result<Far, Problem> {
    let wrong = |fact: String| Problem::at("server", fact).help(REMEDY);
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| wrong(format!("{text:?} names no server")))?;
    if scheme == "unix" {
        return match rest.is_empty() || rest.ends_with('/') || rest.contains('\0') {
            true => Err(wrong(format!("{text:?} names no socket"))),
            false => Ok(Far::Unix {
                path: resolve(rest),
            }),
        };
    }
    let default = match scheme {
        "udp" => 514,
        "tcp" => 601,
        "tls" => 6514,
        _ => {
            return Err(wrong(format!(
                "{text:?} is none of udp://, tcp://, tls:// and unix://"
            )))
        }
    };
    let (host, port) = authority(rest.strip_suffix('/').unwrap_or(rest), default)
        .ok_or_else(|| wrong(format!("{text:?} names no host and port")))?;
    Ok(match scheme {
        "udp" => Far::Udp { host, port },
        "tcp" => Far::Tcp { host, port },
        _ => Far::Tls {
            name: host.clone(),
            host,
            port,
            ca: None,
        },
    })
}

/// A host, without the brackets of an IPv6 address, and a port.
fn authority(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                after.strip_prefix(':').or(after.is_empty().then_some("")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
            None => (text, Some("")),
        },
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(is_host) {
        return None;
    }
    let port = match port? {
        "" => default,
        port => port.parse().ok().filter(|port| *port > 0)?,
    };
    Some((host.to_owned(), port))
}

/// Certificates from a file.
pub(super) fn authorities(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if size.len() > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    let pem = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    match openssl::x509::X509::stack_from_pem(&pem) {
        Ok(all) if !all.is_empty() => Ok(pem),
        _ => Err("holds no certificates in PEM".to_owned()),
    }
}

const LARGEST: u64 = 4 << 20;
const REMEDY: &str = "write such as \"udp://logs.example:514\", \"tcp://logs.example:601\", \"tls://logs.example:6514\" or \"unix:///dev/log\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_with_the_ports_of_their_standards() {
        for (text, expected) in [
            ("udp://logs", "udp://logs:514"),
            ("tcp://logs.example.", "tcp://logs.example.:601"),
            ("tls://logs.example/", "tls://logs.example:6514"),
            ("tcp://10.0.0.1:1514", "tcp://10.0.0.1:1514"),
            ("udp://[2001:db8::1]", "udp://[2001:db8::1]:514"),
            ("udp://[::1]:99", "udp://[::1]:99"),
            ("unix:///dev/log", "unix:/dev/log"),
            ("unix://log.sock", "unix:/etc/log.sock"),
        ] {
            let far = parsed(text, |path| Path::new("/etc").join(path));
            assert_eq!(far.unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for text in [
            "",
            "logs",
            "logs:514",
            "http://logs",
            "udp://",
            "udp://:514",
            "udp://a:0",
            "udp://a:70000",
            "udp://a:b",
            "udp://a:1:2",
            "udp://::1",
            "udp://[a]:1",
            "udp://[::1",
            "udp://[::1]1",
            "udp://a/b",
            "udp://u@a",
            "udp://a:",
            "udp://a b",
            "tls://a\r\nb",
            "unix://",
            "unix:///dev/",
            "unix://a\0b",
        ] {
            assert!(
                parsed(text, |path| PathBuf::from(path)).is_err(),
                "{text:?}"
            );
        }
    }
}
