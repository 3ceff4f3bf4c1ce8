//! The parsed template: nodes with their byte offsets, printable as Go prints them in error messages.
//!
//! Nesting is capped by the parser ([`crate::parse::MAX_NESTING`]), so walking, printing and dropping may recurse.
use std::fmt;
use std::sync::Arc;

use crate::html::Escaper;

/// One named template and the text it was cut from.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub name: Arc<str>,
    /// The name given to the text as a whole; positions in errors refer to it.
    pub parse_name: Arc<str>,
    pub text: Arc<str>,
    pub root: List,
}

impl Tree {
    /// Whether there is nothing but spaces: such a definition never replaces another one.
    pub fn is_empty(&self) -> bool {
        self.root.nodes.iter().all(|n| matches!(n, Node::Text { text, .. } if text.trim().is_empty()))
    }
    /// Line from 1 and byte column from 0.
    pub fn location(&self, pos: usize) -> (usize, usize) {
        let before = self.text.get(..pos).unwrap_or(&self.text);
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        (line, before.len() - before.rfind('\n').map_or(0, |at| at + 1))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BranchKind {
    If,
    With,
    Range,
}

#[derive(Clone, Debug)]
pub(crate) struct Arm {
    pub pos: usize,
    pub pipe: Pipe,
    pub list: List,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Text {
        text: Arc<str>,
    },
    Action {
        pos: usize,
        pipe: Pipe,
        /// Set by the HTML escaper, empty for text templates.
        escapers: Vec<Escaper>,
    },
    /// `if`/`with` with their `else if`/`else with` as further arms, or `range` with one arm.
    Branch {
        pos: usize,
        kind: BranchKind,
        arms: Vec<Arm>,
        otherwise: Option<List>,
    },
    Template {
        pos: usize,
        name: Arc<str>,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    pub pos: usize,
    pub declared: Vec<Arc<str>>,
    pub assigns: bool,
    pub commands: Vec<Command>,
}

#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub args: Vec<Expr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub pos: usize,
    pub term: Term,
}

#[derive(Clone, Debug)]
pub(crate) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    /// The value and how it was written.
    String(Arc<str>, Arc<str>),
    Field(Vec<Arc<str>>),
    /// The variable with its `$`, then fields.
    Variable(Vec<Arc<str>>),
    Identifier(Arc<str>),
    Chain(Box<Expr>, Vec<Arc<str>>),
    Pipe(Box<Pipe>),
}

/// A constant: Go decides by its use whether it is an integer or a float.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub text: Arc<str>,
    pub int: Option<i64>,
    pub float: Option<f64>,
    /// Written as an integer or a character: the type it has where any value is accepted.
    pub ideal_int: bool,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|n| n.fmt(f))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Text { text, .. } => f.write_str(text),
            Node::Action { pipe, .. } => write!(f, "{{{{{pipe}}}}}"),
            Node::Break => f.write_str("{{break}}"),
            Node::Continue => f.write_str("{{continue}}"),
            Node::Template { name, pipe, .. } => {
                write!(f, "{{{{template {}", ferula_model::labels::quoted(name))?;
                if let Some(pipe) = pipe {
                    write!(f, " {pipe}")?;
                }
                f.write_str("}}")
            }
            Node::Branch { kind, arms, otherwise, .. } => {
                let word = match kind {
                    BranchKind::If => "if",
                    BranchKind::With => "with",
                    BranchKind::Range => "range",
                };
                for (i, arm) in arms.iter().enumerate() {
                    if i > 0 {
                        f.write_str("{{else}}")?;
                    }
                    write!(f, "{{{{{word} {}}}}}{}", arm.pipe, arm.list)?;
                }
                if let Some(list) = otherwise {
                    write!(f, "{{{{else}}}}{list}")?;
                }
                arms.iter().try_for_each(|_| f.write_str("{{end}}"))
            }
        }
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, v) in self.declared.iter().enumerate() {
            write!(f, "{}{v}", if i > 0 { ", " } else { "" })?;
        }
        if !self.declared.is_empty() {
            f.write_str(if self.assigns { " = " } else { " := " })?;
        }
        for (i, c) in self.commands.iter().enumerate() {
            write!(f, "{}{c}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, a) in self.args.iter().enumerate() {
            f.write_str(if i > 0 { " " } else { "" })?;
            match &a.term {
                Term::Pipe(p) => write!(f, "({p})")?,
                _ => a.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            Term::Dot => f.write_str("."),
            Term::Nil => f.write_str("nil"),
            Term::Bool(b) => b.fmt(f),
            Term::Number(n) => f.write_str(&n.text),
            Term::String(_, written) => f.write_str(written),
            Term::Field(names) => names.iter().try_for_each(|n| write!(f, ".{n}")),
            Term::Variable(names) => f.write_str(&names.join(".")),
            Term::Identifier(name) => f.write_str(name),
            Term::Chain(inner, fields) => {
                match &inner.term {
                    Term::Pipe(p) => write!(f, "({p})")?,
                    _ => inner.fmt(f)?,
                }
                fields.iter().try_for_each(|n| write!(f, ".{n}"))
            }
            Term::Pipe(p) => p.fmt(f),
        }
    }
}
