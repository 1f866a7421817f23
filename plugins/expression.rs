//! Expressions in CEL: compiled once, bounded in what they may cost, evaluated against named variables.
//! It must not know requests; whoever evaluates one says what its variables are, and which it knows at all.
//! Used by the plugin `cel`, by keys and costs of limits, and by the rules of policies.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{
    operators as op, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr,
};
use cel::context::VariableResolver;
use cel::{Context, Env, Program, Value};

/// What expressions of one kind can ask about, and whether they may look at each item of a list.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary {
    /// Variables, such as `request.method`.
    pub variables: &'static [&'static str],
    /// Those of them that are maps of text: what is inside is not known before.
    pub maps: &'static [&'static str],
    /// Those of them in which anything may be, to any depth.
    pub trees: &'static [&'static str],
    /// Whether `all`, `exists` and `exists_one` are known, one not inside another.
    pub loops: bool,
}

/// An expression.
pub struct Expression {
    /// As written.
    pub text: Box<str>,
    asks: BTreeSet<&'static str>,
    program: Program,
}

/// What an expression comes to, where it need not be true or false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// True or false.
    Truth(bool),
    /// A whole number.
    Number(i64),
    /// A text of at most [`LONGEST_OUTCOME`] bytes.
    Text(String),
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
    /// Compiles a text that is true or false, for [`Expression::holds`].
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str, vocabulary: &Vocabulary) -> Result<Expression, String> {
        let (expression, is_truth) = Expression::judged(text, vocabulary)?;
        match is_truth {
            true => Ok(expression),
            false => Err("it is neither true nor false".to_owned()),
        }
    }

    /// Compiles a text that may come to anything, for [`Expression::value`].
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_value(text: &str, vocabulary: &Vocabulary) -> Result<Expression, String> {
        let (expression, _) = Expression::judged(text, vocabulary)?;
        Ok(expression)
    }

    fn judged(text: &str, vocabulary: &Vocabulary) -> Result<(Expression, bool), String> {
        let program = compiled(text)?;
        let mut judge = Judge::of(vocabulary);
        judge.node(program.expression())?;
        let is_truth = judge.is_truth(&program.expression().expr);
        let expression = Expression {
            text: text.into(),
            asks: judge.asks,
            program,
        };
        Ok((expression, is_truth))
    }

    /// Whether it asks for this variable. What nobody asks for need not be found out.
    pub fn asks(&self, variable: &str) -> bool {
        self.asks.contains(variable)
    }

    /// Whether it asks for any variable that begins so, such as `request.`.
    pub fn asks_any(&self, prefix: &str) -> bool {
        self.asks.iter().any(|one| one.starts_with(prefix))
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// Why it has no outcome.
    pub fn holds(&self, variables: &dyn VariableResolver) -> Result<bool, Unevaluable> {
        match evaluated(&self.program, variables) {
            Ok(Value::Bool(truth)) => Ok(truth),
            Ok(_) => Err(Unevaluable("it is neither true nor false".to_owned())),
            Err(why) => Err(why),
        }
    }

    /// What it comes to.
    ///
    /// # Errors
    /// Why it has no outcome; a list, a map, a number that is not whole and a long text are none.
    pub fn value(&self, variables: &dyn VariableResolver) -> Result<Outcome, Unevaluable> {
        let none = |why: &str| Err(Unevaluable(why.to_owned()));
        match evaluated(&self.program, variables)? {
            Value::Bool(truth) => Ok(Outcome::Truth(truth)),
            Value::Int(number) => Ok(Outcome::Number(number)),
            Value::UInt(number) => match i64::try_from(number) {
                Ok(number) => Ok(Outcome::Number(number)),
                Err(_) => none("its number is too large"),
            },
            Value::String(text) if text.len() > LONGEST_OUTCOME => none("its text is too long"),
            Value::String(text) => Ok(Outcome::Text(text.to_string())),
            _ => none("it is neither a text, nor a whole number, nor true or false"),
        }
    }
}

fn evaluated(program: &Program, variables: &dyn VariableResolver) -> Result<Value, Unevaluable> {
    let mut context = Context::with_env(ENV.clone());
    context.set_variable_resolver(variables);
    let outcome = program.execute(&context);
    outcome.map_err(|error| Unevaluable(error.to_string()))
}

fn compiled(text: &str) -> Result<Program, String> {
    if text.len() > LONGEST_EXPRESSION {
        return Err(format!(
            "it has {} bytes; {LONGEST_EXPRESSION} are the most",
            text.len()
        ));
    }
    if depth(text) > MOST_DEPTH {
        return Err(format!("it is nested more than {MOST_DEPTH} deep"));
    }
    // A parser made from a grammar is not ours to trust with any text: it may panic, and it takes much of a stack for each
    // bracket.
    let parse = || ENV.compile(text).map_err(|errors| errors.to_string());
    let parsed = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("expression".to_owned())
            .stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, parse).ok()?.join().ok()
    });
    match parsed {
        Some(Ok(program)) => Ok(program),
        Some(Err(errors)) => {
            let words = errors
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty());
            Err(words.collect::<Vec<_>>().join(" "))
        }
        None => Err("it cannot be read".to_owned()),
    }
}

/// How deep a text makes a parser go, or more: brackets, choices, and signs one after another.
fn depth(text: &str) -> usize {
    let (mut open, mut most, mut choices, mut signs) = (0_usize, 0, 0, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'?' => choices += 1,
            _ => {}
        }
        match byte {
            b'!' | b'-' => signs += 1,
            b' ' | b'\t' | b'\n' => {}
            _ => signs = 0,
        }
        most = most.max(open + choices + signs);
    }
    most
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Finds out whether everything in an expression is known and bounded in its cost, and what it asks for.
struct Judge<'v> {
    vocabulary: &'v Vocabulary,
    asks: BTreeSet<&'static str>,
    parts: usize,
    depth: usize,
    /// Names that a loop gives: its item, and what it adds up.
    own: Vec<String>,
}

impl<'v> Judge<'v> {
    fn of(vocabulary: &'v Vocabulary) -> Judge<'v> {
        Judge {
            vocabulary,
            asks: BTreeSet::new(),
            parts: 0,
            depth: 0,
            own: Vec::new(),
        }
    }

    /// Evaluation goes as deep as this, on the stack of a thread that serves requests.
    fn node(&mut self, node: &IdedExpr) -> Result<(), String> {
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(format!("it has more than {MOST_PARTS} parts"));
        }
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(format!("it is nested more than {MOST_DEPTH} deep"));
        }
        let outcome = self.kind(node);
        self.depth -= 1;
        outcome
    }

    fn kind(&mut self, node: &IdedExpr) -> Result<(), String> {
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(&node.expr, select),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if !FUNCTIONS.contains(&name) {
                    return Err(format!("the function `{name}` is not known here"));
                }
                let mut inner = call.target.as_deref().into_iter().chain(&call.args);
                inner.try_for_each(|inner| self.node(inner))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|inner| self.node(inner)),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err("maps and messages are not known here".to_owned())
            }
        }
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        if self.own.iter().any(|own| own == name) {
            return Ok(());
        }
        match self.known(name) {
            Some(variable) => {
                self.asks.insert(variable);
                Ok(())
            }
            None => Err(format!("`{name}` is not known; {}", self.words())),
        }
    }

    fn select(&mut self, whole: &Expr, select: &SelectExpr) -> Result<(), String> {
        let Some(name) = variable(whole) else {
            return self.node(&select.operand);
        };
        if let Some(variable) = self.known(&name).filter(|_| !select.test) {
            self.asks.insert(variable);
            return Ok(());
        }
        if let Some(variable) = self.inside(&name) {
            self.asks.insert(variable);
            return Ok(());
        }
        let first = name.split('.').next().unwrap_or_default();
        match self.own.iter().any(|own| own == first) {
            true => Ok(()),
            false => Err(format!("`{name}` is not known here; {}", self.words())),
        }
    }

    /// `all`, `exists` and `exists_one`: what they add up is a truth or a number. Those that make lists cost the square of
    /// what they look at.
    fn comprehension(&mut self, it: &ComprehensionExpr) -> Result<(), String> {
        let adds_up = matches!(it.accu_init.expr, Expr::Literal(_));
        if !self.vocabulary.loops || !adds_up {
            let some = match self.vocabulary.loops {
                true => "`map` and `filter`",
                false => "loops (`all`, `exists`, `map`, `filter`)",
            };
            return Err(format!("{some} are not known here"));
        }
        if !self.own.is_empty() {
            return Err("a loop inside a loop is not known here".to_owned());
        }
        self.node(&it.iter_range)?;
        self.own = vec![it.iter_var.clone(), it.accu_var.clone()];
        self.own.extend(it.iter_var2.clone());
        // The condition and the result are the macro's own.
        let outcome = self.node(&it.loop_step);
        self.own.clear();
        outcome
    }

    fn known(&self, name: &str) -> Option<&'static str> {
        let mut all = self.vocabulary.variables.iter().copied();
        all.find(|one| *one == name)
    }

    /// The variable that this is inside of: a field of a map, or anything below a tree.
    fn inside(&self, name: &str) -> Option<&'static str> {
        let below = |one: &str| {
            name.strip_prefix(one)
                .and_then(|rest| rest.strip_prefix('.'))
        };
        let mut maps = self.vocabulary.maps.iter().copied();
        let mut trees = self.vocabulary.trees.iter().copied();
        let map = maps.find(|one| below(one).is_some_and(|rest| !rest.contains('.')));
        map.or_else(|| trees.find(|one| below(one).is_some()))
    }

    fn words(&self) -> String {
        format!("known: {}", self.vocabulary.variables.join(", "))
    }

    /// Whether it can be true or false; what is inside a tree, or an item of a list, may be.
    fn is_truth(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
            Expr::Ident(name) => TRUE_OR_FALSE.contains(&name.as_str()),
            Expr::Select(select) => {
                let name = variable(expr).unwrap_or_default();
                select.test || TRUE_OR_FALSE.contains(&&*name) || self.is_in_tree(&name)
            }
            Expr::Call(call) => {
                let inner = call
                    .args
                    .first()
                    .and_then(|operand| variable(&operand.expr));
                match call.func_name.as_str() {
                    op::CONDITIONAL => {
                        let mut arms = call.args.iter().skip(1);
                        arms.all(|arm| self.is_truth(&arm.expr))
                    }
                    op::INDEX => inner.is_some_and(|name| {
                        self.vocabulary.trees.contains(&&*name) || self.is_in_tree(&name)
                    }),
                    name => TRUTHS.contains(&name),
                }
            }
            Expr::Comprehension(_) => true,
            _ => false,
        }
    }

    fn is_in_tree(&self, name: &str) -> bool {
        let inside = self.inside(name);
        inside.is_some_and(|one| self.vocabulary.trees.contains(&one))
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

/// Variables that are true or false themselves.
const TRUE_OR_FALSE: &[&str] = &["source.secure"];

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
/// Bytes of a text that an expression comes to.
pub const LONGEST_OUTCOME: usize = 1024;
const MOST_PARTS: usize = 200;
const MOST_DEPTH: usize = 32;
/// Ten times of what the deepest text took in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;
