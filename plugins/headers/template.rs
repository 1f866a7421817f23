//! A field value with variables, parsed once and rendered for each message.
//! It must not know fields; only what is known about the client and the caller.
//! Called by `headers`, which parses while it is built.

use http::HeaderValue;

use crate::contract::{did_you_mean, field_value, ClientFacts, Principal, Problem};

/// What variables are taken from.
pub(super) struct Facts<'a> {
    pub(super) client: &'a ClientFacts<'a>,
    pub(super) principal: Option<&'a Principal>,
}

/// A parsed value.
pub(super) enum Template {
    /// No variable: copied without work.
    Fixed(HeaderValue),
    /// Pieces, in order.
    Pieces(Vec<Piece>),
}

pub(super) enum Piece {
    Text(String),
    Variable(Variable),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    RequestId,
    ClientIp,
    Host,
    Path,
    Route,
    Principal,
}

const VARIABLES: [(&str, Variable); 6] = [
    ("request_id", Variable::RequestId),
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("route", Variable::Route),
    ("principal", Variable::Principal),
];

impl Template {
    /// Parses a value; every refusal is located at `path`.
    pub(super) fn of(path: &str, text: &str) -> Result<Template, Problem> {
        // Checked as a whole first, so rendering has only variables left to clean.
        let fixed = field_value(path, text)?;
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix("${") {
                plain.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or_else(|| {
                    Problem::at(path, "\"${\" is not closed")
                        .help("add a \"}\", or write \"$${\" for the characters themselves")
                })?;
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Variable(variable(path, name)?));
                rest = after;
            } else {
                plain.push('$');
            }
        }
        plain.push_str(rest);
        if pieces.is_empty() {
            return match plain == text {
                true => Ok(Template::Fixed(fixed)),
                false => field_value(path, &plain).map(Template::Fixed),
            };
        }
        pieces.push(Piece::Text(plain));
        Ok(Template::Pieces(pieces))
    }

    pub(super) fn needs_principal(&self) -> bool {
        match self {
            Template::Fixed(_) => false,
            Template::Pieces(pieces) => pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Variable(Variable::Principal))),
        }
    }

    /// The value for one message; `None` when it comes out empty.
    pub(super) fn render(&self, facts: &Facts<'_>) -> Option<HeaderValue> {
        let pieces = match self {
            Template::Fixed(value) => return Some(value.clone()).filter(|v| !v.is_empty()),
            Template::Pieces(pieces) => pieces,
        };
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Variable(variable) => variable.write(facts, &mut text),
            }
        }
        HeaderValue::from_str(&text).ok().filter(|v| !v.is_empty())
    }
}

fn variable(path: &str, name: &str) -> Result<Variable, Problem> {
    let names = VARIABLES.map(|(name, _)| name);
    let found = VARIABLES.iter().find(|(known, _)| *known == name);
    found.map(|(_, variable)| *variable).ok_or_else(|| {
        let guess = did_you_mean(name, names)
            .map(|guess| format!("did you mean \"${{{guess}}}\"? "))
            .unwrap_or_default();
        Problem::at(path, format!("no variable is named \"{name}\""))
            .help(format!("{guess}variables known: {}", names.join(", ")))
    })
}

impl Variable {
    fn write(self, facts: &Facts<'_>, text: &mut String) {
        match self {
            Variable::RequestId => push(facts.client.request_id, text),
            Variable::ClientIp => text.push_str(&facts.client.address.to_string()),
            Variable::Host => push(facts.client.host, text),
            Variable::Path => push(facts.client.path, text),
            Variable::Route => push(facts.client.route, text),
            Variable::Principal => {
                let id = facts.principal.map(Principal::id).unwrap_or_default();
                push(&id, text);
            }
        }
    }
}

/// Percent-encodes what is not visible ASCII: a decoded path may hold line breaks, which would begin a new field.
fn push(value: &str, text: &mut String) {
    for byte in value.bytes() {
        match byte {
            b' '..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
}
