//! Settings of the sources of certificates, proven to be well formed.
//! It must not know how sources work; `control::identity` runs them.
//! Parsed by the rules, made by the compiler; a change of them starts the source anew.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Files; those of each workload are its own.
    Files {
        /// The roots of the own trust domain.
        bundle: PathBuf,
    },
    /// The built-in authority.
    Ca(CaSettings),
    /// A SPIFFE Workload API.
    Spire(SpireSocket),
    /// Consul's agent.
    Consul(ConsulSettings),
}

impl Source {
    /// The word in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Files { .. } => "files",
            Source::Ca(_) => "ca",
            Source::Spire(_) => "spire",
            Source::Consul(_) => "consul",
        }
    }
}

/// How the built-in authority is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSettings {
    /// `host:port`.
    pub address: String,
    /// SHA-256 of its root, in hex.
    pub root_hash: String,
    /// File with a join token; only read while the node has no certificate.
    pub token_file: Option<PathBuf>,
    /// Folder for what the node keeps.
    pub state: PathBuf,
}

/// The hash in `sha256:HEX`.
///
/// # Errors
/// What is wrong with it.
pub fn root_hash(text: &str) -> Result<String, &'static str> {
    let hash = text
        .strip_prefix("sha256:")
        .ok_or("it does not begin with `sha256:`")?;
    match hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(hash.to_ascii_lowercase()),
        false => Err("it is not 64 hexadecimal digits"),
    }
}

/// Where a Workload API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpireSocket {
    /// A socket file.
    Unix(PathBuf),
    /// An address.
    Tcp(SocketAddr),
}

impl SpireSocket {
    /// Reads `unix:/path`, `unix:///path` or, on loopback, `tcp://ip:port` (SPIFFE Workload Endpoint, section 4).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<SpireSocket, &'static str> {
        if let Some(address) = text
            .strip_prefix("tcp://")
            .or_else(|| text.strip_prefix("tcp:"))
        {
            let address: SocketAddr = address
                .parse()
                .map_err(|_| "it is not an IP address and a port")?;
            // Keys come over it in the clear.
            if !address.ip().is_loopback() {
                return Err("keys come from it unencrypted, so the address must be of this machine: loopback");
            }
            return Ok(SpireSocket::Tcp(address));
        }
        unix(text).map(SpireSocket::Unix)
    }
}

impl fmt::Display for SpireSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpireSocket::Unix(path) => write!(f, "unix:{}", path.display()),
            SpireSocket::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// How Consul's agent is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulSettings {
    /// Where it listens.
    pub address: ConsulAddress,
    /// File with its token.
    pub token_file: Option<PathBuf>,
}

/// Where Consul's agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsulAddress {
    /// An address of this machine.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl ConsulAddress {
    /// Reads `http://127.0.0.1:8500` or `unix:/path`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<ConsulAddress, &'static str> {
        if let Some(address) = text.strip_prefix("http://") {
            let address: SocketAddr = address
                .trim_end_matches('/')
                .parse()
                .map_err(|_| "it is not an IP address and a port")?;
            return match address.ip().is_loopback() {
                true => Ok(ConsulAddress::Tcp(address)),
                false => Err("it is not of this machine, and keys would travel without encryption"),
            };
        }
        unix(text).map(ConsulAddress::Unix)
    }
}

impl fmt::Display for ConsulAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsulAddress::Tcp(address) => write!(f, "http://{address}"),
            ConsulAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn unix(text: &str) -> Result<PathBuf, &'static str> {
    let path = text
        .strip_prefix("unix://")
        .or_else(|| text.strip_prefix("unix:"));
    match path {
        Some(path) if path.starts_with('/') && path.len() > 1 => Ok(path.into()),
        Some(_) => Err("it does not name a path from the root"),
        None => Err("its form is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_the_forms_of_the_standard() {
        for good in ["unix:/run/agent.sock", "unix:///run/agent.sock"] {
            assert_eq!(
                SpireSocket::parse(good),
                Ok(SpireSocket::Unix("/run/agent.sock".into()))
            );
        }
        assert_eq!(
            SpireSocket::parse("tcp://127.0.0.1:81"),
            Ok(SpireSocket::Tcp(([127, 0, 0, 1], 81).into()))
        );
        for wrong in [
            "",
            "/run/agent.sock",
            "unix:agent.sock",
            "unix:/",
            "tcp://localhost:81",
            "tcp://10.0.0.1:81",
            "tcp://[2001:db8::1]:81",
            "tcp://127.0.0.1",
        ] {
            assert!(SpireSocket::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn agents_are_on_this_machine() {
        assert!(ConsulAddress::parse("http://127.0.0.1:8500").is_ok());
        assert!(ConsulAddress::parse("http://[::1]:8500/").is_ok());
        assert!(ConsulAddress::parse("unix:/run/consul.sock").is_ok());
        for wrong in [
            "http://10.0.0.1:8500",
            "https://127.0.0.1:8500",
            "127.0.0.1:8500",
            "http://consul:8500",
        ] {
            assert!(ConsulAddress::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hashes_are_named_and_whole() {
        let hash = "Ab".repeat(32);
        assert_eq!(
            root_hash(&format!("sha256:{hash}")),
            Ok(hash.to_lowercase())
        );
        for wrong in [
            hash.as_str(),
            "sha256:",
            "sha256:ab",
            &format!("sha256:{}", "xy".repeat(32)),
        ] {
            assert!(root_hash(wrong).is_err(), "{wrong}");
        }
    }
}
