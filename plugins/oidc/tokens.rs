//! What the token endpoint answers (RFC 6749 section 5), read without believing more than it says.
//! It must not know what becomes of tokens.
//! Used when a login is completed and when a session gets other tokens.

use serde_json::Value;

use crate::contract::Reply;
use crate::json;

/// Tokens as they came. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// The identity, which a refresh need not bring.
    pub(super) identity: Option<String>,
    pub(super) access: String,
    /// Seconds until the access token ends.
    pub(super) lasts: Option<u64>,
    pub(super) refresh: Option<String>,
    pub(super) scope: Option<String>,
}

/// Why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotGiven {
    /// The code or refresh token is none, or none any more.
    Grant,
    /// The proxy is not who it says.
    Client,
    /// Nothing is known; for the log, without anything of the answer that a stranger chose.
    Unusable(String),
}

/// # Errors
/// Why no tokens are in it.
pub(super) fn read(reply: &Reply) -> Result<Given, NotGiven> {
    let said = json::strict_object(&reply.body);
    if reply.status != 200 {
        let error = said
            .as_ref()
            .ok()
            .and_then(|said| said.get("error")?.as_str());
        return Err(refused(reply.status, error.unwrap_or_default()));
    }
    let said = said.map_err(|_| unusable("with something that is no JSON object"))?;
    let text = |name: &str| match said.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if is_plain(text) => Ok(Some(text.clone())),
        Some(_) => Err(unusable("with a token that is none")),
    };
    let kind = said.get("token_type").and_then(Value::as_str);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(unusable("with tokens of a kind that is not `Bearer`"));
    }
    let access = text("access_token")?;
    Ok(Given {
        identity: text("id_token")?,
        access: access.ok_or_else(|| unusable("without an access token"))?,
        lasts: said.get("expires_in").and_then(seconds),
        refresh: text("refresh_token")?,
        scope: said.get("scope").and_then(Value::as_str).map(str::to_owned),
    })
}

fn refused(status: u16, error: &str) -> NotGiven {
    match (status, error) {
        (_, "invalid_grant") => NotGiven::Grant,
        (401 | 403, _) | (_, "invalid_client" | "unauthorized_client") => NotGiven::Client,
        (status, error) => {
            let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            let known = !error.is_empty() && error.len() <= 64 && error.bytes().all(is_word);
            let error = if known { error } else { "and no error's name" };
            unusable(&format!("with status {status} {error}"))
        }
    }
}

fn unusable(what: &str) -> NotGiven {
    NotGiven::Unusable(format!("the token endpoint answered {what}"))
}

/// Seconds, which some providers write as a text.
fn seconds(value: &Value) -> Option<u64> {
    let written = value.as_str().and_then(|text| text.parse().ok());
    let seconds = value.as_u64().or(written);
    seconds.map(|seconds| seconds.min(LONGEST_LIFE))
}

/// Visible ASCII (RFC 6749 appendix A), so that it can travel on in fields and forms.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Ten years.
const LONGEST_LIFE: u64 = 10 * 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::reply;

    fn says(status: u16, body: &str) -> Result<Given, NotGiven> {
        read(&reply(status, &[], body.to_owned()))
    }

    #[test]
    fn tokens_are_read_as_providers_write_them() {
        let given = says(
            200,
            r#"{"access_token":"a","token_type":"bearer","expires_in":"300","refresh_token":"","scope":"openid"}"#,
        );

        let given = given.unwrap_or_default();
        assert_eq!((&*given.access, given.lasts), ("a", Some(300)));
        assert_eq!((given.refresh, given.identity), (None, None));
        assert_eq!(given.scope.as_deref(), Some("openid"));
    }

    #[test]
    fn refusals_are_told_from_failures() {
        let not = |status: u16, body: &str| says(status, body).err().unwrap();
        assert_eq!(not(400, r#"{"error":"invalid_grant"}"#), NotGiven::Grant);
        assert_eq!(not(401, ""), NotGiven::Client);
        assert_eq!(not(400, r#"{"error":"invalid_client"}"#), NotGiven::Client);
        for (status, body) in [
            (500, "{}"),
            (400, r#"{"error":"<script>"}"#),
            (302, ""),
            (200, "[]"),
            (200, r#"{"token_type":"Bearer"}"#),
            (200, r#"{"access_token":"a"}"#),
            (200, r#"{"access_token":"a","token_type":"mac"}"#),
            (200, r#"{"access_token":"a\nb","token_type":"Bearer"}"#),
            (
                200,
                r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#,
            ),
            (200, r#"{"access_token":5,"token_type":"Bearer"}"#),
        ] {
            let why = not(status, body);
            let told = matches!(&why, NotGiven::Unusable(text) if !text.contains('<'));
            assert!(told, "{status} {body} {why:?}");
        }
    }
}
