//! How much a GraphQL document asks for, in one walk over it: each fragment is measured once, however often it is spread.
//! It must not know limits but those that keep the walk itself short.
//! Called by the gate for each operation of a request.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use apollo_parser::cst::{self, CstNode, Definition, Selection};
use apollo_parser::{Lexer, Parser, TokenKind};
use serde_json::{Map, Value};

/// How things are counted.
pub(super) struct Law {
    pub(super) depth: u32,
    pub(super) costs: BTreeMap<String, u64>,
    pub(super) list_arguments: BTreeSet<String>,
    pub(super) assumed_list: u64,
    pub(super) tokens: u32,
}

/// What a document asks for: of its operations the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) depth: u32,
    pub(super) cost: u64,
    pub(super) root_fields: u64,
    pub(super) aliases: u64,
    pub(super) directives: u64,
    pub(super) asks_schema: bool,
    /// Whether an operation is a mutation.
    pub(super) changes: bool,
}

/// Why a document cannot be measured, or need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// It has more tokens than may be.
    Tokens,
    /// It is deeper than may be.
    Depth,
    /// It is no GraphQL document of operations and fragments.
    Syntax,
    /// A fragment is not there, is there twice, or holds itself.
    Fragment,
}

/// Measures a document.
///
/// # Errors
/// Why it cannot be measured.
pub(super) fn measured(
    query: &str,
    variables: &Map<String, Value>,
    law: &Law,
) -> Result<Measured, Over> {
    scan(query, law)?;
    let tree = Parser::new(query)
        .recursion_limit(NESTING as usize * 2)
        .parse();
    if tree.errors().len() > 0 {
        return Err(Over::Syntax);
    }
    let document = tree.document();
    let mut fragments = HashMap::new();
    let mut operations = Vec::new();
    for definition in document.definitions() {
        match definition {
            Definition::OperationDefinition(operation) => operations.push(operation),
            Definition::FragmentDefinition(fragment) => {
                let name = fragment.fragment_name().and_then(|name| name.name());
                let name = name.ok_or(Over::Syntax)?.text().to_string();
                if fragments.insert(name, (fragment, State::New)).is_some() {
                    return Err(Over::Fragment);
                }
            }
            _ => return Err(Over::Syntax),
        }
    }
    if operations.is_empty() {
        return Err(Over::Syntax);
    }
    let mut walk = Walk {
        law,
        given: variables,
        defaults: HashMap::new(),
        fragments,
        level: 0,
    };
    let mut all = Measured::default();
    for operation in operations {
        let one = walk.operation(&operation)?;
        all.depth = all.depth.max(one.depth);
        all.cost = all.cost.max(one.cost);
        all.root_fields = all.root_fields.max(one.fields);
        all.asks_schema |= one.asks_schema;
        let kind = operation.operation_type();
        all.changes |= kind.is_some_and(|kind| kind.mutation_token().is_some());
    }
    for node in document.syntax().descendants() {
        all.aliases += u64::from(cst::Alias::can_cast(node.kind()));
        all.directives += u64::from(cst::Directive::can_cast(node.kind()));
    }
    Ok(all)
}

/// Counts tokens and how deep brackets are, so that the parser never sees what could be too much for it.
fn scan(query: &str, law: &Law) -> Result<(), Over> {
    let mut tokens = 0_u32;
    let mut nesting = 0_u32;
    for token in Lexer::new(query) {
        let kind = token.map_err(|_| Over::Syntax)?.kind();
        match kind {
            TokenKind::Whitespace | TokenKind::Comment | TokenKind::Comma | TokenKind::Eof => {
                continue;
            }
            TokenKind::LCurly | TokenKind::LBracket | TokenKind::LParen => nesting += 1,
            TokenKind::RCurly | TokenKind::RBracket | TokenKind::RParen => {
                nesting = nesting.saturating_sub(1);
            }
            _ => {}
        }
        tokens += 1;
        if tokens > law.tokens {
            return Err(Over::Tokens);
        }
        if nesting > NESTING {
            return Err(Over::Depth);
        }
    }
    Ok(())
}

/// What a selection set asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    depth: u32,
    cost: u64,
    /// Fields of its own and of fragments in it.
    fields: u64,
    asks_schema: bool,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.depth = self.depth.max(other.depth);
        self.cost = self.cost.saturating_add(other.cost);
        self.fields = self.fields.saturating_add(other.fields);
        self.asks_schema |= other.asks_schema;
    }
}

/// How far a fragment is.
#[derive(Clone, Copy)]
enum State {
    New,
    /// It is measured just now, so to meet it is a circle.
    Open,
    Done(Sum),
}

struct Walk<'w> {
    law: &'w Law,
    given: &'w Map<String, Value>,
    /// What variables are that are not given.
    defaults: HashMap<String, u64>,
    fragments: HashMap<String, (cst::FragmentDefinition, State)>,
    level: u32,
}

impl Walk<'_> {
    fn operation(&mut self, operation: &cst::OperationDefinition) -> Result<Sum, Over> {
        let before = std::mem::take(&mut self.defaults);
        let definitions = operation.variable_definitions();
        for definition in definitions
            .iter()
            .flat_map(|all| all.variable_definitions())
        {
            let name = definition.variable().and_then(|variable| variable.name());
            let default = definition
                .default_value()
                .and_then(|default| default.value());
            if let (Some(name), Some(cst::Value::IntValue(number))) = (name, default) {
                let length = self.number_of(&number);
                self.defaults.insert(name.text().to_string(), length);
            }
        }
        // What a fragment costs depends on them.
        if before != self.defaults {
            self.fragments
                .values_mut()
                .for_each(|(_, state)| *state = State::New);
        }
        let selections = operation.selection_set().ok_or(Over::Syntax)?;
        self.selections(&selections)
    }

    fn selections(&mut self, set: &cst::SelectionSet) -> Result<Sum, Over> {
        self.level += 1;
        if self.level > LEVELS {
            return Err(Over::Depth);
        }
        let mut sum = Sum::default();
        for selection in set.selections() {
            let part = match selection {
                Selection::Field(field) => self.field(&field)?,
                Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name().and_then(|name| name.name());
                    self.fragment(&name.ok_or(Over::Syntax)?.text())?
                }
                Selection::InlineFragment(inline) => {
                    let selections = inline.selection_set().ok_or(Over::Syntax)?;
                    self.selections(&selections)?
                }
            };
            sum.add(part);
        }
        if sum.depth > self.law.depth {
            return Err(Over::Depth);
        }
        self.level -= 1;
        Ok(sum)
    }

    fn field(&mut self, field: &cst::Field) -> Result<Sum, Over> {
        let name = field.name().ok_or(Over::Syntax)?;
        let name = name.text();
        let inner = match field.selection_set() {
            Some(selections) => self.selections(&selections)?,
            None => Sum::default(),
        };
        let own = self.law.costs.get(&*name).copied().unwrap_or(1);
        let times = self.length(field);
        Ok(Sum {
            depth: inner.depth.saturating_add(1),
            cost: own.saturating_add(times.saturating_mul(inner.cost)),
            fields: 1,
            asks_schema: inner.asks_schema || matches!(&*name, "__schema" | "__type"),
        })
    }

    /// How long the list of a field is: the largest number that one of its arguments says, else one.
    fn length(&self, field: &cst::Field) -> u64 {
        let mut longest = None;
        let arguments = field.arguments();
        for argument in arguments.iter().flat_map(|all| all.arguments()) {
            let Some(name) = argument.name() else {
                continue;
            };
            if !self.law.list_arguments.contains(&*name.text()) {
                continue;
            }
            let length = match argument.value() {
                Some(cst::Value::IntValue(number)) => self.number_of(&number),
                Some(cst::Value::Variable(variable)) => self.variable(&variable),
                Some(cst::Value::NullValue(_)) => continue,
                _ => self.law.assumed_list,
            };
            longest = Some(longest.unwrap_or(0).max(length));
        }
        longest.unwrap_or(1)
    }

    fn variable(&self, variable: &cst::Variable) -> u64 {
        let Some(name) = variable.name() else {
            return self.law.assumed_list;
        };
        let name = name.text();
        match self.given.get(&*name) {
            Some(Value::Number(number)) => match number.as_u64() {
                Some(number) => number,
                None => self
                    .law
                    .assumed_list
                    .max(number.as_f64().map_or(0, |number| number.abs() as u64)),
            },
            Some(_) => self.law.assumed_list,
            None => self
                .defaults
                .get(&*name)
                .copied()
                .unwrap_or(self.law.assumed_list),
        }
    }

    /// Numbers that no 64 bits hold are the largest. Negative ones are no length: services take them for none, for all there is, or for
    /// as many from the end.
    fn number_of(&self, number: &cst::IntValue) -> u64 {
        let text = number.int_token().map(|token| token.text().to_owned());
        let text = text.unwrap_or_default();
        match text.strip_prefix('-') {
            Some(text) => self.law.assumed_list.max(text.parse().unwrap_or(u64::MAX)),
            None => text.parse().unwrap_or(u64::MAX),
        }
    }

    fn fragment(&mut self, name: &str) -> Result<Sum, Over> {
        let (definition, state) = self.fragments.get_mut(name).ok_or(Over::Fragment)?;
        match *state {
            State::Open => Err(Over::Fragment),
            State::Done(sum) => Ok(sum),
            State::New => {
                *state = State::Open;
                let selections = definition.selection_set().ok_or(Over::Syntax)?;
                let sum = self.selections(&selections)?;
                if let Some((_, state)) = self.fragments.get_mut(name) {
                    *state = State::Done(sum);
                }
                Ok(sum)
            }
        }
    }
}

/// Brackets within brackets: fields, and lists and objects in arguments.
const NESTING: u32 = 200;
/// Selection sets within each other, fragments included.
const LEVELS: u32 = 250;
