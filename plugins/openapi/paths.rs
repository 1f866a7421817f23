//! Path templates, and which of them a path fits: concrete segments before templated ones, as the specification has it.
//! It must not know what stands behind a template.
//! Built once; a lookup goes down one segment after the other.

use std::collections::BTreeMap;

use regex::Regex;

use crate::contract::canonical_path;

/// A template taken apart.
#[derive(Debug, Clone)]
pub struct Template {
    segments: Vec<Segment>,
    /// The names of its parameters, in order.
    pub names: Vec<String>,
}

/// A segment of a template.
#[derive(Debug, Clone)]
enum Segment {
    Literal(String),
    /// One parameter and nothing else.
    Whole,
    /// Parameters with text around them; the text without the names, and what matches it.
    Mixed(String, Regex),
}

impl Template {
    /// Takes a template apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(text: &str) -> Result<Template, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a path begins with \"/\"".to_owned());
        };
        let mut names = Vec::new();
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            segments.push(segment_of(segment, &mut names)?);
        }
        let mut sorted = names.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a parameter stands in it twice".to_owned());
        }
        if segments.len() > MOST_SEGMENTS {
            return Err(format!("has more than {MOST_SEGMENTS} segments"));
        }
        Ok(Template { segments, names })
    }

    /// What sorts templates so that the first that fits a path is the one that is meant.
    pub(super) fn rank(&self) -> Vec<(u8, std::cmp::Reverse<usize>, String)> {
        let ranked = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => (0, std::cmp::Reverse(0), text.clone()),
            Segment::Mixed(text, _) => (1, std::cmp::Reverse(text.len()), text.clone()),
            Segment::Whole => (2, std::cmp::Reverse(0), String::new()),
        });
        ranked.collect()
    }

    /// The path of a template without parameters, in canonical form.
    pub fn path(&self) -> Option<String> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Whole | Segment::Mixed(..) => return None,
            }
        }
        Some(path)
    }

    /// A regular expression, not anchored, that matches the paths that it fits.
    pub fn pattern(&self) -> String {
        let mut pattern = String::new();
        for segment in &self.segments {
            pattern.push('/');
            match segment {
                Segment::Literal(text) => pattern.push_str(&regex::escape(text)),
                Segment::Whole => pattern.push_str("[^/]+"),
                Segment::Mixed(text, _) => {
                    let parts: Vec<String> = text.split("{}").map(regex::escape).collect();
                    pattern.push_str(&parts.join("[^/]+"));
                }
            }
        }
        pattern
    }
}

fn segment_of(text: &str, names: &mut Vec<String>) -> Result<Segment, String> {
    let mut shape = String::new();
    let mut pattern = String::from("^");
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("a brace is not closed")?;
        if name.is_empty() || name.contains('{') || before.contains('}') {
            return Err("braces hold one name each".to_owned());
        }
        let before = literal(before)?;
        pattern.push_str(&regex::escape(&before));
        pattern.push_str("(.+?)");
        shape.push_str(&before);
        shape.push_str("{}");
        names.push(name.to_owned());
        rest = after;
    }
    if rest.contains('}') {
        return Err("a brace is not opened".to_owned());
    }
    let rest = literal(rest)?;
    if shape.is_empty() {
        return Ok(Segment::Literal(rest));
    }
    pattern.push_str(&regex::escape(&rest));
    pattern.push('$');
    shape.push_str(&rest);
    if shape == "{}" {
        return Ok(Segment::Whole);
    }
    if shape.contains("{}{}") {
        return Err("nothing stands between two parameters".to_owned());
    }
    let regex = Regex::new(&pattern).map_err(|error| error.to_string())?;
    Ok(Segment::Mixed(shape, regex))
}

/// Text of a segment as canonical paths have it.
fn literal(text: &str) -> Result<String, String> {
    if matches!(text, "" | "." | "..") {
        return match text {
            "" => Ok(String::new()),
            _ => Err(format!("has the segment \"{text}\", which no path keeps")),
        };
    }
    let mut written = String::new();
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`|?#".contains(&byte) => written.push(char::from(byte)),
            other => written.push_str(&format!("%{other:02X}")),
        }
    }
    let canonical = canonical_path(&format!("/x{written}")).map(|path| path[2..].to_owned());
    canonical.map_err(|_| format!("\"{text}\" can stand in no path"))
}

/// Templates, and what stands behind each.
#[derive(Debug)]
pub(super) struct Paths<T> {
    nodes: Vec<Branch>,
    leaves: Vec<T>,
}

#[derive(Debug, Default)]
struct Branch {
    literals: BTreeMap<String, usize>,
    /// Those with more text first.
    mixed: Vec<(String, Regex, usize)>,
    whole: Option<usize>,
    leaf: Option<usize>,
}

impl<T> Default for Paths<T> {
    fn default() -> Paths<T> {
        Paths {
            nodes: vec![Branch::default()],
            leaves: Vec::new(),
        }
    }
}

impl<T> Paths<T> {
    /// What stands behind a template, made if nothing does yet. Templates that fit the same paths are one.
    pub(super) fn leaf(&mut self, template: &Template, new: impl FnOnce() -> T) -> &mut T {
        let mut at = 0;
        for segment in &template.segments {
            at = self.child(at, segment);
        }
        let leaf = match self.nodes[at].leaf {
            Some(leaf) => leaf,
            None => {
                self.leaves.push(new());
                self.nodes[at].leaf = Some(self.leaves.len() - 1);
                self.leaves.len() - 1
            }
        };
        &mut self.leaves[leaf]
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let next = self.nodes.len();
        let branch = &mut self.nodes[at];
        let child = match segment {
            Segment::Literal(text) => *branch.literals.entry(text.clone()).or_insert(next),
            Segment::Whole => *branch.whole.get_or_insert(next),
            Segment::Mixed(shape, regex) => {
                let known = branch.mixed.iter().find(|(known, _, _)| known == shape);
                match known.map(|(_, _, child)| *child) {
                    Some(child) => child,
                    None => {
                        branch.mixed.push((shape.clone(), regex.clone(), next));
                        let weight = |shape: &str| std::cmp::Reverse(shape.len());
                        branch.mixed.sort_by_key(|(shape, _, _)| weight(shape));
                        next
                    }
                }
            }
        };
        if child == next {
            self.nodes.push(Branch::default());
        }
        child
    }

    /// What stands behind the template that a canonical path fits, with the text of its parameters in order.
    pub(super) fn find<'p>(&self, path: &'p str) -> Option<(&T, Vec<&'p str>)> {
        let rest = path.strip_prefix('/')?;
        let segments: Vec<&str> = rest.split('/').take(MOST_SEGMENTS + 1).collect();
        let mut values = Vec::new();
        let leaf = self.descend(0, &segments, &mut values)?;
        Some((&self.leaves[leaf], values))
    }

    /// Each branch is visited once at most, as there is one way to it.
    fn descend<'p>(
        &self,
        at: usize,
        segments: &[&'p str],
        values: &mut Vec<&'p str>,
    ) -> Option<usize> {
        let branch = &self.nodes[at];
        let Some((&segment, rest)) = segments.split_first() else {
            return branch.leaf;
        };
        let literal = branch.literals.get(segment);
        if let Some(found) = literal.and_then(|child| self.descend(*child, rest, values)) {
            return Some(found);
        }
        let before = values.len();
        for (_, regex, child) in &branch.mixed {
            let Some(captures) = regex.captures(segment) else {
                continue;
            };
            values.extend(captures.iter().skip(1).flatten().map(|part| part.as_str()));
            if let Some(found) = self.descend(*child, rest, values) {
                return Some(found);
            }
            values.truncate(before);
        }
        let whole = branch.whole.filter(|_| !segment.is_empty())?;
        values.push(segment);
        let found = self.descend(whole, rest, values);
        if found.is_none() {
            values.truncate(before);
        }
        found
    }

    /// Everything that stands behind templates.
    pub(super) fn leaves(&self) -> &[T] {
        &self.leaves
    }
}

const MOST_SEGMENTS: usize = 64;
