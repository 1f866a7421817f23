//! The address of a redirect, put together of its parts.
//! It must not know who redirects nor why: routes and plugins write addresses the same way.
//! Always absolute, so that a path such as `//elsewhere` can never be read as a host.

use std::fmt;

/// Where a redirect points to. Its text is the value of a `Location` field, if its parts hold nothing that such a field cannot carry.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host without port.
    pub host: &'a str,
    /// Left out where it is the scheme's own.
    pub port: Option<u16>,
    /// From its first slash on.
    pub path: &'a str,
    /// Without `?`; an empty one is kept, as it came.
    pub query: Option<&'a str>,
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        let standard = if self.scheme == "https" { 443 } else { 80 };
        if let Some(port) = self.port.filter(|port| *port != standard) {
            write!(f, ":{port}")?;
        }
        f.write_str(self.path)?;
        match self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_goes_without_saying_is_not_said() {
        let of = |scheme, port| {
            let location = Location {
                scheme,
                host: "shop.test",
                port,
                path: "//x",
                query: Some("a=1"),
            };
            location.to_string()
        };

        assert_eq!(of("https", Some(443)), "https://shop.test//x?a=1");
        assert_eq!(of("http", None), "http://shop.test//x?a=1");
        assert_eq!(of("http", Some(443)), "http://shop.test:443//x?a=1");
    }
}
