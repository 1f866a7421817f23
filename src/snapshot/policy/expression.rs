//! Expressions in CEL: compiled once, bounded in what they may cost, evaluated against named variables.
//! It must not know requests; whoever evaluates one says what its variables are.
//! Part of a policy's rule.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{operators as op, Expr, IdedExpr, LiteralValue};
use cel::context::VariableResolver;
use cel::{Context, Env, Program, Value};

/// An expression that is true or false.
pub struct Expression {
    /// As written.
    pub text: Box<str>,
    /// Whether it asks about a request, which connections passed through as bytes have none of.
    pub is_of_request: bool,
    /// Whether it asks for the port, which may not be known.
    pub asks_port: bool,
    program: Program,
}

/// Why an expression has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unevaluable(pub String);

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.text)
    }
}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Expression, String> {
        if text.len() > LONGEST_EXPRESSION {
            return Err(format!(
                "it has {} bytes; {LONGEST_EXPRESSION} are the most",
                text.len()
            ));
        }
        // A parser made from a grammar is not ours to trust with any text.
        let compiled = std::panic::catch_unwind(AssertUnwindSafe(|| ENV.compile(text)));
        let program = match compiled {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => {
                let text = errors.to_string();
                let words = text.lines().map(str::trim).filter(|line| !line.is_empty());
                return Err(words.collect::<Vec<_>>().join(" "));
            }
            Err(_) => return Err("it cannot be read".to_owned()),
        };
        let mut parts = 0;
        judge(program.expression(), &mut parts)?;
        if !is_truth(&program.expression().expr) {
            return Err("it is neither true nor false".to_owned());
        }
        let is_of_request = program.references().has_variable("request");
        Ok(Expression {
            text: text.into(),
            is_of_request,
            asks_port: text.contains("destination.port"),
            program,
        })
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// Why it has no outcome.
    pub fn holds(&self, variables: &dyn VariableResolver) -> Result<bool, Unevaluable> {
        let mut context = Context::with_env(ENV.clone());
        context.set_variable_resolver(variables);
        match self.program.execute(&context) {
            Ok(Value::Bool(truth)) => Ok(truth),
            Ok(_) => Err(Unevaluable("it is neither true nor false".to_owned())),
            Err(error) => Err(Unevaluable(error.to_string())),
        }
    }
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Whether everything in it is known here and bounded in its cost.
fn judge(node: &IdedExpr, parts: &mut usize) -> Result<(), String> {
    *parts += 1;
    if *parts > MOST_PARTS {
        return Err(format!("it has more than {MOST_PARTS} parts"));
    }
    match &node.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => Err(format!("`{name}` is not known; {}", known())),
        Expr::Select(select) => match (variable(&node.expr), &select.operand.expr) {
            (Some(name), _) if VARIABLES.contains(&&*name) && !select.test => Ok(()),
            // A field of the map of fields.
            (_, operand) if variable(operand).as_deref() == Some("request.headers") => Ok(()),
            (Some(name), _) => Err(format!("`{name}` is not known here; {}", known())),
            (None, _) => judge(&select.operand, parts),
        },
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            if !FUNCTIONS.contains(&name) {
                return Err(format!("the function `{name}` is not known here"));
            }
            let mut inner = call.target.as_deref().into_iter().chain(&call.args);
            inner.try_for_each(|inner| judge(inner, parts))
        }
        Expr::List(list) => list
            .elements
            .iter()
            .try_for_each(|inner| judge(inner, parts)),
        Expr::Comprehension(_) => {
            Err("loops (`all`, `exists`, `map`, `filter`) are not known here".to_owned())
        }
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
            Err("maps and messages are not known here".to_owned())
        }
    }
}

/// A chain of names, as text.
fn variable(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => {
            let before = variable(&select.operand.expr)?;
            Some(format!("{before}.{}", select.field))
        }
        _ => None,
    }
}

fn is_truth(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::Select(select) => select.test,
        Expr::Call(call) => {
            let is_choice = call.func_name == op::CONDITIONAL;
            TRUTHS.contains(&call.func_name.as_str())
                || (is_choice && call.args.iter().skip(1).all(|arm| is_truth(&arm.expr)))
        }
        _ => false,
    }
}

fn known() -> String {
    format!("known: {}", VARIABLES.join(", "))
}

/// What an expression can ask about.
pub const VARIABLES: &[&str] = &[
    "request.method",
    "request.host",
    "request.path",
    "request.query",
    "request.headers",
    "source.principal",
    "source.trust_domain",
    "source.namespace",
    "source.service_account",
    "source.consumer",
    "source.address",
    "destination.listener",
    "destination.route",
    "destination.pool",
    "destination.port",
];

/// Functions that are true or false.
const TRUTHS: &[&str] = &[
    op::LOGICAL_AND,
    op::LOGICAL_OR,
    op::LOGICAL_NOT,
    op::EQUALS,
    op::NOT_EQUALS,
    op::GREATER,
    op::GREATER_EQUALS,
    op::LESS,
    op::LESS_EQUALS,
    op::IN,
    "contains",
    "startsWith",
    "endsWith",
];

/// Every function, each of a cost that is at most proportional to its arguments.
const FUNCTIONS: &[&str] = &[
    op::LOGICAL_AND,
    op::LOGICAL_OR,
    op::LOGICAL_NOT,
    op::EQUALS,
    op::NOT_EQUALS,
    op::GREATER,
    op::GREATER_EQUALS,
    op::LESS,
    op::LESS_EQUALS,
    op::IN,
    op::CONDITIONAL,
    op::INDEX,
    op::ADD,
    op::SUBSTRACT,
    "contains",
    "startsWith",
    "endsWith",
    "size",
    "int",
    "string",
];

/// Bytes of an expression.
pub const LONGEST_EXPRESSION: usize = 2048;
const MOST_PARTS: usize = 200;

#[cfg(test)]
mod tests {
    use cel::common::types::CelString;
    use cel::common::value::CowVal;

    use super::*;

    struct Caller;

    impl VariableResolver for Caller {
        fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
            let text = match variable {
                "request.method" => "POST",
                "source.namespace" => "shop",
                "request.headers" => {
                    let map = std::collections::HashMap::from([("x-tier", "gold")]);
                    return cel::to_value(map).ok()?.try_into().ok().map(CowVal::Owned);
                }
                _ => return None,
            };
            Some(CowVal::owned(CelString::from(text)))
        }
    }

    fn holds(text: &str) -> Result<bool, String> {
        let expression = Expression::new(text)?;
        expression.holds(&Caller).map_err(|why| why.0)
    }

    #[test]
    fn expressions_read_their_variables() {
        assert_eq!(holds("request.method == 'POST'"), Ok(true));
        assert_eq!(holds("source.namespace in ['web', 'edge']"), Ok(false));
        assert_eq!(holds("request.headers['x-tier'] == 'gold'"), Ok(true));
        assert_eq!(
            holds("has(request.headers.nope) && request.headers.nope == 'x'"),
            Ok(false)
        );
        assert_eq!(holds("source.namespace.startsWith('sh')"), Ok(true));
    }

    #[test]
    fn what_is_not_there_has_no_outcome() {
        let error = holds("request.headers['x-none'] == 'a'").unwrap_err();
        assert!(error.contains("x-none"), "{error}");
    }

    #[test]
    fn only_what_is_known_and_bounded_is_taken() {
        for (text, fact) in [
            ("request.method ==", ""),
            ("request.verb == 'GET'", "`request.verb` is not known"),
            ("now == 1", "`now` is not known"),
            ("request.method", "neither true nor false"),
            ("1 + 1", "neither true nor false"),
            ("[1, 2].all(x, x > 0)", "loops"),
            ("request.path.matches('a+')", "`matches` is not known"),
            ("has(request.method)", "not known here"),
            ("{'a': 1} == {'a': 1}", "maps"),
        ] {
            let error = Expression::new(text).map(drop).unwrap_err();
            assert!(error.contains(fact), "{text}: {error}");
        }
        let long = vec!["source.namespace == 'a'"; 60].join(" || ");
        let error = Expression::new(&long).map(drop).unwrap_err();
        assert!(error.contains("parts"), "{error}");
        let longer = vec!["source.namespace == 'a'"; 100].join(" || ");
        let error = Expression::new(&longer).map(drop).unwrap_err();
        assert!(error.contains("2048"), "{error}");
    }
}
