//! Where a plugin's calls go, as operators write it: a URL, perhaps with the pool that carries it.
//! It must not know how calls are made; every refusal is a located [`Problem`].
//! Part of plugin settings; read while a plugin is built, never per request.

use std::fmt;
use std::net::IpAddr;

use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::Deserialize;

use super::Problem;

/// A service to call: its URL, or `{url: ..., pool: ...}`.
///
/// With `pool` the endpoints, TLS and health are the pool's, and the URL says path and Host. Without, the URL makes a pool of its
/// own, named after its origin: the name is looked up in DNS beside the traffic, and `https` is verified with the system's
/// authorities. Plugins with the same origin share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http://`, `h2c://` (HTTP/2 in the clear) or `https://`, host, optional port, path and query.
    pub url: String,
    /// The pool that carries calls.
    pub pool: Option<String>,
}

/// A target with the URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is `https`.
    pub secure: bool,
    /// Whether it is `h2c`: HTTP/2 in the clear.
    pub http2: bool,
    /// The host in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// The port, that of the scheme if none is written.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Takes the URL apart.
    ///
    /// # Errors
    /// What is wrong with it; `path` is where the target stands below `config`.
    pub fn origin(&self, path: &str) -> Result<Origin, Problem> {
        let at = self.url_path(path);
        let wrong = |fact: String| Problem::at(at.clone(), fact).help(REMEDY);
        let quoted = shown(&self.url);
        if self.url.len() > LONGEST {
            return Err(wrong(format!("the URL is longer than {LONGEST} bytes")));
        }
        if self.url.contains('#') {
            return Err(wrong(format!(
                "\"{quoted}\" has a fragment, which is never sent"
            )));
        }
        let uri = self.url.parse::<http::Uri>();
        let uri = uri.map_err(|error| wrong(format!("\"{quoted}\" is not a URL: {error}")))?;
        let (secure, http2) = match uri.scheme_str() {
            Some("https") => (true, false),
            Some("http") => (false, false),
            Some("h2c") => (false, true),
            _ => {
                return Err(wrong(format!(
                    "\"{quoted}\" is none of http://, h2c:// and https://"
                )))
            }
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            let fact = "the URL holds a user name or password, which would be shown in logs";
            return Err(wrong(fact.to_owned()));
        }
        let written = uri.host().unwrap_or_default();
        // What is no port is none to `http`, too large ones included.
        let has_port = authority.len() > written.len();
        let host = written.to_ascii_lowercase();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = match (uri.port_u16(), has_port) {
            (Some(0), _) | (None, true) => return Err(wrong(format!("\"{quoted}\" has no port"))),
            (Some(port), _) => port,
            (None, false) => standard_port(secure),
        };
        if host.is_empty() {
            return Err(wrong(format!("\"{quoted}\" names no host")));
        }
        Ok(Origin {
            secure,
            http2,
            host,
            port,
            path: uri
                .path_and_query()
                .map_or("/", |it| it.as_str())
                .to_owned(),
        })
    }

    /// Where its URL stands.
    pub fn url_path(&self, path: &str) -> String {
        match self.pool {
            Some(_) => format!("{path}.url"),
            None => path.to_owned(),
        }
    }
}

impl Origin {
    /// The name of the pool that an origin makes, such as `https://idp.example`; no pool of the configuration has a colon.
    pub fn name(&self) -> String {
        let scheme = match (self.secure, self.http2) {
            (true, _) => "https",
            (false, true) => "h2c",
            (false, false) => "http",
        };
        format!("{scheme}://{}", self.authority())
    }

    /// What stands in `Host`: the port only where it is not that of the scheme.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == standard_port(self.secure) {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }

    /// The host, where it is an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

fn standard_port(secure: bool) -> u16 {
    if secure {
        443
    } else {
        80
    }
}

/// What may be shown of a URL: nothing of its query or credentials.
fn shown(url: &str) -> &str {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    if url.contains('@') {
        return "***";
    }
    let mut end = url.len().min(200);
    while !url.is_char_boundary(end) {
        end -= 1;
    }
    &url[..end]
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
        deserializer.deserialize_any(TargetVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: String,
    pool: Option<String>,
}

struct TargetVisitor;

impl<'de> Visitor<'de> for TargetVisitor {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a map with `url` and `pool`")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<Target, E> {
        Ok(Target {
            url: url.to_owned(),
            pool: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
        let written = Written::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(Target {
            url: written.url,
            pool: written.pool,
        })
    }
}

impl JsonSchema for Target {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": false, "required": ["url"], "properties": {
                "url": {"type": "string", "description": "`http://`, `h2c://` (HTTP/2 in the clear) or `https://`, host, optional port, path and query; at most 2048 bytes."},
                "pool": {"type": "string", "description": "The pool that carries calls: endpoints, TLS and health are its own, and the URL says path and Host. Default: a pool made of the URL, found in DNS beside the traffic, with `https` verified by the system's authorities."},
            }},
        ], "description": "A service to call: its URL, or `{url: ..., pool: ...}`."})
    }
}

const REMEDY: &str = "write a URL such as \"https://idp.example/introspect\"";
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target {
            url: url.to_owned(),
            pool: None,
        }
    }

    #[test]
    fn a_url_is_taken_apart_and_named_after_its_origin() {
        for (url, name, host, port, path) in [
            (
                "https://IDP.example/a?b=c",
                "https://idp.example",
                "idp.example",
                443,
                "/a?b=c",
            ),
            (
                "http://idp.example:8080",
                "http://idp.example:8080",
                "idp.example",
                8080,
                "/",
            ),
            ("http://[::1]:81/x", "http://[::1]:81", "::1", 81, "/x"),
            (
                "https://idp.example:443/",
                "https://idp.example",
                "idp.example",
                443,
                "/",
            ),
        ] {
            let origin = target(url).origin("service").unwrap();

            assert_eq!(origin.name(), name);
            assert_eq!(
                (&*origin.host, origin.port, &*origin.path),
                (host, port, path)
            );
        }
        assert_eq!(
            target("http://[::1]/").origin("").unwrap().address(),
            "::1".parse().ok()
        );
    }

    #[test]
    fn what_is_no_target_is_refused_where_it_stands_without_its_secrets() {
        let long = format!("http://a/{}", "x".repeat(3000));
        for url in [
            "",
            "idp.example",
            "ftp://a/",
            "http:///a",
            "/a",
            "http://a:0/",
            "http://a:/",
            "http://a b/",
            "http://a/#x",
            "https://user:hidden@a/",
            "https://a:99999/?hidden",
            &long,
        ] {
            let problem = target(url).origin("service").unwrap_err();

            assert_eq!(problem.path, "service", "{url}");
            assert!(!problem.fact.contains("hidden"), "{problem}");
            assert!(problem.fact.len() < 400 && !problem.remedy.is_empty());
        }
        let mut of_pool = target("ftp://a/");
        of_pool.pool = Some("idp".to_owned());
        assert_eq!(of_pool.origin("service").unwrap_err().path, "service.url");
    }

    #[test]
    fn a_target_is_a_text_or_a_map() {
        let text: Target = serde_yaml::from_str("http://a/").unwrap();
        let map: Target = serde_yaml::from_str("{url: 'http://a/', pool: idp}").unwrap();

        assert_eq!(text, target("http://a/"));
        assert_eq!(map.pool.as_deref(), Some("idp"));
        for wrong in ["5", "[a]", "{url: a, pol: b}", "{pool: b}"] {
            assert!(serde_yaml::from_str::<Target>(wrong).is_err(), "{wrong}");
        }
    }
}
