//! Runs a tree over data: walks the nodes, prints, keeps variables and the budget.
mod call;
mod pipeline;

use std::fmt::Display;
use std::sync::Arc;

use crate::ast::{Arm, BranchKind, List, Node, Tree};
use crate::functions::{Function, Functions};
use crate::html;
use crate::parse::PAREN_WEIGHT;
use crate::value::Value;
use crate::{Error, Limits, MissingKey, Templates, format};

pub(crate) type Fault = Box<Error>;

/// One execution: what its templates share.
pub struct Env<'a> {
    pub(crate) templates: &'a Templates,
    overrides: &'a Functions,
    steps_left: u64,
    bytes_left: usize,
    depth: usize,
    limits: Limits,
}

impl<'a> Env<'a> {
    pub(crate) fn new(templates: &'a Templates, overrides: &'a Functions) -> Env<'a> {
        let limits = templates.limits;
        Env { templates, overrides, steps_left: limits.steps, bytes_left: limits.bytes, depth: 0, limits }
    }

    /// Runs the template `name` and answers its output, on the same budget.
    pub fn execute(&mut self, name: &str, data: &Value) -> Result<String, Error> {
        let Some(tree) = self.templates.tree(name) else {
            let mut known: Vec<String> = self.templates.names().map(ferula_model::labels::quoted).collect();
            known.sort();
            let known = match known.len() {
                0 => String::new(),
                _ => format!("; defined templates are: {}", known.join(", ")),
            };
            return Err(Error::Other(format!(
                "no template {} associated with template {}{known}",
                ferula_model::labels::quoted(name),
                ferula_model::labels::quoted(self.templates.main())
            )));
        };
        let mut out = String::new();
        self.deeper(PAREN_WEIGHT).map_err(Error::Other)?;
        let done = run(self, tree, data.clone(), &mut out);
        self.leave(PAREN_WEIGHT);
        done.map_err(|e| *e)?;
        Ok(out)
    }

    /// Charges bytes that a function is about to produce.
    pub fn charge(&mut self, bytes: usize) -> Result<(), String> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => Err(format!("template output budget exceeded ({} bytes)", self.limits.bytes)),
        }
    }
    /// Bytes that may still be produced.
    pub fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    fn function(&self, name: &str) -> Option<&Function> {
        self.overrides.get(name).or_else(|| self.templates.functions.get(name))
    }
    fn deeper(&mut self, weight: usize) -> Result<(), String> {
        self.depth += weight;
        if self.depth > self.limits.depth {
            return Err(format!("exceeded maximum template depth ({})", self.limits.depth));
        }
        Ok(())
    }
    fn leave(&mut self, weight: usize) {
        self.depth = self.depth.saturating_sub(weight);
    }
    fn step(&mut self) -> Result<(), String> {
        self.steps_left = match self.steps_left.checked_sub(1) {
            Some(left) => left,
            None => return Err(format!("template execution budget exceeded ({} steps)", self.limits.steps)),
        };
        Ok(())
    }
}

/// Runs one tree with fresh variables.
fn run<'a>(env: &mut Env<'a>, tree: &'a Tree, data: Value, out: &mut String) -> Result<(), Fault> {
    let mut runner = Runner { env, tree, variables: vec![("$", data.clone())], at: (0, &tree.root), out };
    runner.list(&data, &tree.root).map(|_| ())
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Through,
    Break,
    Continue,
}

struct Runner<'a, 'e, 'o> {
    env: &'e mut Env<'a>,
    tree: &'a Tree,
    variables: Vec<(&'a str, Value)>,
    /// The node being evaluated: position and text of the next error.
    at: (usize, &'a dyn Display),
    out: &'o mut String,
}

impl<'a> Runner<'a, '_, '_> {
    fn at(&mut self, pos: usize, node: &'a dyn Display) {
        self.at = (pos, node);
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        let (line, column) = self.tree.location(self.at.0);
        // A whole block is its own text here; keep the message readable.
        let mut node = self.at.1.to_string();
        if let Some((cut, _)) = node.char_indices().nth(400) {
            node.truncate(cut);
            node.push_str("...");
        }
        Err(Box::new(Error::Execute {
            file: self.tree.parse_name.to_string(),
            line,
            column,
            name: self.tree.name.to_string(),
            node,
            message: message.into(),
        }))
    }

    fn charged<T>(&self, result: Result<T, String>) -> Result<T, Fault> {
        match result {
            Ok(v) => Ok(v),
            Err(message) => self.fail(message),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Fault> {
        let charge = self.env.charge(text.len());
        self.charged(charge)?;
        self.out.push_str(text);
        Ok(())
    }

    fn list(&mut self, dot: &Value, list: &'a List) -> Result<Flow, Fault> {
        let room = self.env.deeper(1);
        self.charged(room)?;
        let mut flow = Flow::Through;
        for node in &list.nodes {
            flow = self.node(dot, node)?;
            if flow != Flow::Through {
                break;
            }
        }
        self.env.leave(1);
        Ok(flow)
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Result<Flow, Fault> {
        let step = self.env.step();
        match node {
            Node::Text { text } => {
                self.charged(step)?;
                self.write(text)?;
            }
            Node::Action { pos, pipe, escapers } => {
                self.at(*pos, node);
                self.charged(step)?;
                let value = self.pipeline(dot, pipe)?;
                if pipe.declared.is_empty() {
                    self.at(*pos, node);
                    self.print(&value, escapers)?;
                }
            }
            Node::Branch { pos, kind, arms, otherwise } => {
                self.at(*pos, node);
                self.charged(step)?;
                let mark = self.variables.len();
                let flow = match (kind, arms.first()) {
                    (BranchKind::Range, Some(arm)) => self.range(dot, arm, otherwise.as_ref())?,
                    _ => self.choose(dot, *kind, arms, otherwise.as_ref())?,
                };
                self.variables.truncate(mark);
                return Ok(flow);
            }
            Node::Template { pos, name, pipe } => {
                self.at(*pos, node);
                self.charged(step)?;
                let Some(tree) = self.env.templates.tree(name) else {
                    return self.fail(format!("template {} not defined", ferula_model::labels::quoted(name)));
                };
                let data = match pipe {
                    Some(pipe) => self.pipeline(dot, pipe)?,
                    None => Value::Nil,
                };
                run(self.env, tree, data, self.out)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    /// The first arm whose pipeline is true, else the `else`.
    fn choose(
        &mut self,
        dot: &Value,
        kind: BranchKind,
        arms: &'a [Arm],
        otherwise: Option<&'a List>,
    ) -> Result<Flow, Fault> {
        for arm in arms {
            let value = self.pipeline(dot, &arm.pipe)?;
            if value.is_true() {
                return if kind == BranchKind::With { self.list(&value, &arm.list) } else { self.list(dot, &arm.list) };
            }
        }
        otherwise.map_or(Ok(Flow::Through), |list| self.list(dot, list))
    }

    fn range(&mut self, dot: &Value, arm: &'a Arm, otherwise: Option<&'a List>) -> Result<Flow, Fault> {
        let value = self.pipeline(dot, &arm.pipe)?;
        let mut any = false;
        if let Value::Int(n) = value {
            if arm.pipe.declared.len() > 1 {
                return self.fail(format!("can't use {n} to iterate over more than one variable"));
            }
            for i in 0..n {
                any = true;
                if self.turn(arm, Value::Nil, Value::Int(i))? == Flow::Break {
                    break;
                }
            }
        } else if let Some(items) = value.items() {
            for (i, item) in items.iter().enumerate() {
                any = true;
                if self.turn(arm, Value::Int(i64::try_from(i).unwrap_or(0)), item.clone())? == Flow::Break {
                    break;
                }
            }
        } else if let Some(entries) = value.entries() {
            for (key, item) in entries {
                any = true;
                if self.turn(arm, Value::Str(key), item)? == Flow::Break {
                    break;
                }
            }
        } else if !value.is_nil() {
            let text = format::sprint(&value);
            return self.fail(format!("range can't iterate over {text}"));
        }
        match otherwise {
            Some(list) if !any => self.list(dot, list),
            _ => Ok(Flow::Through),
        }
    }

    /// One turn of a range: sets its variables, runs its body.
    fn turn(&mut self, arm: &'a Arm, key: Value, item: Value) -> Result<Flow, Fault> {
        let step = self.env.step();
        self.charged(step)?;
        let declared = &arm.pipe.declared;
        let values = match declared.len() {
            0 => vec![],
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        for (name, value) in declared.iter().zip(values) {
            self.set_variable(name, value)?;
        }
        let mark = self.variables.len();
        let flow = self.list(&item, &arm.list)?;
        self.variables.truncate(mark);
        Ok(flow)
    }

    /// Assigns to the innermost variable of that name.
    fn set_variable(&mut self, name: &str, value: Value) -> Result<(), Fault> {
        match self.variables.iter_mut().rev().find(|(n, _)| *n == name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    fn print(&mut self, value: &Value, escapers: &[html::Escaper]) -> Result<(), Fault> {
        if !escapers.is_empty() {
            let text = html::apply(escapers, value);
            let text = self.charged(text)?;
            return self.write(&text);
        }
        match value {
            Value::Nil => self.write("<no value>"),
            Value::Str(s) | Value::Safe(_, s) => {
                let s: Arc<str> = s.clone();
                self.write(&s)
            }
            Value::Function(_) => self.fail(format!("can't print {} of type func", self.at.1)),
            other => {
                let text = format::sprint(other);
                self.write(&text)
            }
        }
    }
}

/// What a missing key of a map gives.
fn missing(option: MissingKey, zero: impl FnOnce() -> Value, name: &str) -> Result<Value, String> {
    match option {
        MissingKey::Default => Ok(Value::Nil),
        MissingKey::Zero => Ok(zero()),
        MissingKey::Error => Err(format!("map has no entry for key {}", ferula_model::labels::quoted(name))),
    }
}
