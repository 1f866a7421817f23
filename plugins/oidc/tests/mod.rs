use std::collections::BTreeMap;
use std::time::Duration;

use http::header::LOCATION;

use super::*;
use crate::contract::CallFailure;
use crate::jwt::tests::Issuer;
use crate::query::{decoded, pairs};
use crate::testkit::{answered, fields as all_of, reply, Exchange, Instance, Kit, Task};

mod beside;
mod dance;
mod hostile;
mod lasting;
mod settings;

const SECRET: &str = "an example of at least thirty-two bytes";
const CONFIG: &str = "issuer: https://id.test\nclient: {id: shop, secret: s3cret}\nsecrets: [an example of at least thirty-two bytes]\norigins: https://shop.test\n";
const TOKEN: &str = "https://id.test/token";
/// When everything begins.
const START: u64 = 1_000_000;

/// A provider, a proxy and the time.
struct Scene {
    kit: Kit,
    issuer: Issuer,
    plugin: Instance,
    task: Task,
}

fn description(more: &str) -> String {
    format!(
        r#"{{"issuer":"https://id.test","authorization_endpoint":"https://id.test/auth?a=b","token_endpoint":"{TOKEN}","jwks_uri":"https://id.test/keys","userinfo_endpoint":"https://id.test/me"{more}}}"#
    )
}

impl Scene {
    fn new(config: &str) -> Scene {
        Scene::of(config, "")
    }

    /// With further members of the provider's description.
    fn of(config: &str, more: &str) -> Scene {
        Scene::in_kit(Kit::new(), config, more)
    }

    fn in_kit(kit: Kit, config: &str, more: &str) -> Scene {
        let issuer = Issuer::of("RS256");
        kit.advance(Duration::from_secs(START));
        let well_known = "https://id.test/.well-known/openid-configuration";
        kit.answer(well_known, Ok(reply(200, &[], description(more))));
        kit.answer(
            "https://id.test/keys",
            Ok(reply(200, &[], issuer.jwks("k1"))),
        );
        let plugin = kit.instance(&PLUGIN, &format!("{CONFIG}{config}"));
        let task = kit.task(&plugin, "provider");
        Scene {
            kit,
            issuer,
            plugin,
            task,
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.kit.advance(Duration::from_secs(seconds));
        self.task.go_on();
    }

    fn now(&self) -> u64 {
        self.kit.clock().unix().as_secs()
    }

    /// An identity of this login for `ann`; `change` edits its claims.
    fn identity(&self, nonce: &str, change: &[(&str, serde_json::Value)]) -> String {
        let now = self.now();
        let mut claims = serde_json::json!({
            "iss": "https://id.test", "aud": "shop", "sub": "ann", "iat": now, "exp": now + 300, "nonce": nonce,
        });
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        self.issuer
            .raw(r#"{"alg":"RS256","kid":"k1"}"#, &claims.to_string())
    }

    /// What the token endpoint says next.
    fn gives(&self, identity: &str, more: &str) {
        self.kit.forget_answers(TOKEN);
        let body = format!(
            r#"{{"access_token":"at-1","token_type":"Bearer","id_token":"{identity}"{more}}}"#
        );
        self.kit.answer(TOKEN, Ok(reply(200, &[], body)));
    }

    fn refuses(&self, status: u16, body: &str) {
        self.kit.forget_answers(TOKEN);
        let body = body.to_owned();
        self.kit.answer(TOKEN, Ok(reply(status, &[], body)));
    }

    fn fails(&self) {
        self.kit.forget_answers(TOKEN);
        self.kit.answer(TOKEN, Err(CallFailure::TimedOut));
    }

    /// Calls of the token endpoint.
    fn asked(&self) -> Vec<crate::testkit::Asked> {
        let all = self.kit.asked().into_iter();
        all.filter(|asked| asked.url == TOKEN).collect()
    }
}

/// Somebody's cookies.
#[derive(Clone, Default)]
struct Browser {
    jar: BTreeMap<String, String>,
}

/// What came of a request.
#[derive(Debug)]
struct Outcome {
    status: u16,
    why: String,
    location: String,
    exchange_fields: Vec<(String, String)>,
    who: String,
    challenge: String,
}

impl Outcome {
    fn refused(&self) -> (u16, &str) {
        (self.status, &self.why)
    }

    /// A parameter of where the browser is sent.
    fn parameter(&self, name: &str) -> String {
        let query = self.location.split_once('?').map_or("", |(_, query)| query);
        let found = pairs(query).find(|(one, _)| *one == name);
        found.map_or(String::new(), |(_, value)| {
            String::from_utf8(decoded(value).into_owned()).unwrap()
        })
    }

    fn sent(&self, name: &str) -> Option<&str> {
        let mut fields = self.exchange_fields.iter();
        let found = fields.find(|(one, _)| one == name);
        found.map(|(_, value)| &**value)
    }
}

impl Browser {
    /// Looks at a page, as a person does.
    fn looks(&mut self, scene: &Scene, target: &str) -> Outcome {
        self.asks(scene, page(target))
    }

    fn asks(&mut self, scene: &Scene, exchange: Exchange) -> Outcome {
        self.asks_of(&scene.plugin, exchange)
    }

    fn asks_of(&mut self, plugin: &Instance, exchange: Exchange) -> Outcome {
        let mut exchange = self.with_cookies(exchange);
        let verdict = plugin.request(&mut exchange);
        self.takes(plugin, exchange, verdict)
    }

    fn with_cookies(&self, exchange: Exchange) -> Exchange {
        let pairs: Vec<String> = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        match pairs.is_empty() {
            true => exchange,
            false => exchange.with("cookie", &pairs.join("; ")),
        }
    }

    fn takes(&mut self, plugin: &Instance, mut exchange: Exchange, verdict: Verdict) -> Outcome {
        let mut outcome = Outcome {
            status: 200,
            why: String::new(),
            location: String::new(),
            exchange_fields: Vec::new(),
            who: exchange.principal().map_or(String::new(), Principal::id),
            challenge: String::new(),
        };
        match verdict {
            Verdict::Continue => {
                plugin.upstream_request(&mut exchange);
                let fields = exchange.upstream.headers.iter();
                outcome.exchange_fields = fields
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                    .collect();
            }
            Verdict::Failed { cause, .. } => {
                (outcome.status, outcome.why) = (cause.status, cause.name.to_owned());
                return outcome;
            }
            Verdict::Unknown(what) => {
                outcome.why = format!("unknown: {}", what.0);
                return outcome;
            }
            verdict => {
                let answer = answered(verdict);
                let field = |name| {
                    crate::testkit::field(&answer, name)
                        .unwrap_or_default()
                        .to_owned()
                };
                outcome.location = field(LOCATION.as_str());
                outcome.challenge = field("www-authenticate");
                assert_eq!(field("cache-control"), "no-store");
                (outcome.status, outcome.why) = (answer.status, answer.cause.name.to_owned());
                exchange.answer(&answer);
            }
        }
        plugin.response(&mut exchange);
        for field in all_of(&exchange.response.headers, "set-cookie") {
            self.set(field);
        }
        outcome
    }

    fn set(&mut self, field: &str) {
        let pair = field.split(';').next().unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        assert!(
            field.contains("; HttpOnly; SameSite=Lax; Secure"),
            "{field}"
        );
        assert!(
            name.starts_with("__Host-") && field.contains("; Path=/;"),
            "{field}"
        );
        match field.contains("Max-Age=0;") {
            true => self.jar.remove(name),
            false => self.jar.insert(name.to_owned(), value.to_owned()),
        };
    }

    /// Logs in from a page; the session begins with what the token endpoint is scripted to say besides.
    fn logs_in(&mut self, scene: &Scene, more: &str) -> Outcome {
        let away = self.looks(scene, "/page?x=1");
        assert_eq!(away.refused(), (302, "auth.oidc_login"));
        let identity = scene.identity(&away.parameter("nonce"), &[]);
        scene.gives(&identity, more);
        self.comes_back(scene, &away)
    }

    fn comes_back(&mut self, scene: &Scene, away: &Outcome) -> Outcome {
        let state = away.parameter("state");
        self.looks(scene, &format!("/oauth2/callback?state={state}&code=c-1"))
    }

    fn logins(&self) -> usize {
        self.jar
            .keys()
            .filter(|name| name.contains(".login."))
            .count()
    }

    fn session(&self) -> Option<&String> {
        self.jar.get("__Host-oidc")
    }
}

fn get(target: &str) -> Exchange {
    Exchange::get(&format!("https://shop.test{target}"))
}

/// A request as browsers make it for a page.
fn page(target: &str) -> Exchange {
    get(target)
        .with("accept", "text/html,*/*")
        .with("sec-fetch-mode", "navigate")
}
