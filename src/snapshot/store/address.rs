//! Where a store is, as its `url` says.
//! It must not know credentials; a URL that has some is refused, because URLs are shown.
//! Parsed by `config`, dialled by `control::stores`.

use std::fmt;
use std::path::PathBuf;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host and port.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
        /// Number of the database.
        database: u32,
    },
    /// A Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Number of the database.
        database: u32,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port, .. } => match host.contains(':') {
                true => write!(f, "[{host}]:{port}"),
                false => write!(f, "{host}:{port}"),
            },
            Address::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Reads a `url`.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn parse(url: &str) -> Result<Address, String> {
        if let Some(rest) = url.strip_prefix("unix://") {
            return unix(rest);
        }
        let schemes = [("redis://", false), ("rediss://", true)];
        let found = schemes
            .into_iter()
            .find_map(|(scheme, tls)| Some((url.strip_prefix(scheme)?, tls)));
        let (rest, tls) = found.ok_or("begins with none of redis://, rediss://, unix://")?;
        if rest.contains('@') {
            return Err("has a user or password in it; they have keys of their own".to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err("has something after a \"?\" or \"#\"".to_owned());
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(authority)?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() {
            return Err("names no host".to_owned());
        }
        if !host.chars().all(is_host) {
            return Err("has a host with characters that hosts cannot have".to_owned());
        }
        Ok(Address::Tcp {
            host: host.to_owned(),
            port,
            tls,
            database: number(database)?,
        })
    }

    /// Number of the database.
    pub fn database(&self) -> u32 {
        match self {
            Address::Tcp { database, .. } | Address::Unix { database, .. } => *database,
        }
    }
}

fn unix(rest: &str) -> Result<Address, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.ends_with('/') {
        return Err("names no absolute path".to_owned());
    }
    let database = match query {
        "" => 0,
        query => {
            let database = query.strip_prefix("db=");
            number(database.ok_or("has something other than `db` after the \"?\"")?)?
        }
    };
    Ok(Address::Unix {
        path: path.into(),
        database,
    })
}

fn host_and_port(authority: &str) -> Result<(&str, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']').ok_or("has a \"[\" without \"]\"")?;
            (host, rest.strip_prefix(':').unwrap_or(rest))
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = match port {
        "" => DEFAULT_PORT,
        port => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("has no port after the \":\"")?,
    };
    Ok((host, port))
}

fn number(text: &str) -> Result<u32, String> {
    match text {
        "" => Ok(0),
        text => text
            .parse()
            .map_err(|_| "has a database that is not a number".to_owned()),
    }
}

const DEFAULT_PORT: u16 = 6379;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let tcp = |host: &str, port, tls, database| {
            Ok(Address::Tcp {
                host: host.to_owned(),
                port,
                tls,
                database,
            })
        };
        assert_eq!(Address::parse("redis://h"), tcp("h", 6379, false, 0));
        assert_eq!(Address::parse("redis://h:1/2"), tcp("h", 1, false, 2));
        assert_eq!(Address::parse("rediss://[::1]/"), tcp("::1", 6379, true, 0));
        let unix = Address::parse("unix:///run/r.sock?db=3");
        assert_eq!(unix.map(|it| it.database()), Ok(3));
    }

    proptest! {
        #[test]
        fn no_text_is_repeated_in_what_is_wrong_with_it(secret in "[a-z]{12}", scheme in "redis://|rediss://|unix://|") {
            if let Err(fact) = Address::parse(&format!("{scheme}u:{secret}@h")) {
                prop_assert!(!fact.contains(&secret));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = Address::parse(&text);
            let _ = Address::parse(&format!("redis://{text}"));
            let _ = Address::parse(&format!("unix:///{text}"));
        }
    }
}
