//! Text to trees. Follows the grammar and the error texts of Go's `text/template/parse`.
//!
//! Control structures and parentheses nest at most [`MAX_NESTING`] deep; everything else is iterative.
mod constant;
mod lex;
mod pipeline;

use std::sync::Arc;

use lex::{Kind, Token};

use crate::Error;
use crate::ast::{Arm, BranchKind, List, Node, Tree};

/// Deepest nesting of control structures and parentheses together. Holds on a 256 KiB stack in a debug build.
pub(crate) const MAX_NESTING: usize = 50;
/// A pair of parentheses takes as much stack as so many blocks.
pub(crate) const PAREN_WEIGHT: usize = 3;

/// What the parser must know of the functions: whether a name is one.
pub(crate) trait Names {
    fn is_function(&self, name: &str) -> bool;
}

/// Parses `text`; the first tree is the text itself, the others are what it defines.
pub(crate) fn parse(name: &str, text: &str, names: &dyn Names) -> Result<Vec<Tree>, Error> {
    let tokens = lex::tokens(text);
    let mut parser = Parser {
        name: Arc::from(name),
        text: Arc::from(text),
        tokens: &tokens,
        at: 0,
        names,
        variables: vec![Arc::from("$")],
        range_depth: 0,
        nesting: 0,
        action_line: 0,
        trees: Vec::new(),
    };
    parser.file().map_err(|e| *e)?;
    Ok(parser.trees)
}

type Fault = Box<Error>;

pub(crate) struct Parser<'a> {
    name: Arc<str>,
    text: Arc<str>,
    tokens: &'a [Token<'a>],
    at: usize,
    names: &'a dyn Names,
    variables: Vec<Arc<str>>,
    range_depth: usize,
    nesting: usize,
    action_line: usize,
    trees: Vec<Tree>,
}

/// What ended a list of nodes.
enum Stop {
    End,
    Else,
}

impl<'a> Parser<'a> {
    // --- tokens
    fn peek(&self) -> &'a Token<'a> {
        static EOF: Token<'static> = Token { kind: Kind::Eof, pos: 0, line: 1, text: "", error: None };
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).unwrap_or(&EOF)
    }
    fn next(&mut self) -> &'a Token<'a> {
        let t = self.peek();
        self.at += 1;
        t
    }
    fn peek_non_space(&mut self) -> &'a Token<'a> {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
        self.peek()
    }
    fn next_non_space(&mut self) -> &'a Token<'a> {
        self.peek_non_space();
        self.next()
    }

    // --- errors
    fn error_at<T>(&self, line: usize, message: impl Into<String>) -> Result<T, Fault> {
        Err(Box::new(Error::Parse { name: self.name.to_string(), line, message: message.into() }))
    }
    /// An error at the line of the token read last.
    fn error<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        let last = self.tokens.len().saturating_sub(1);
        let line = self.tokens.get(self.at.saturating_sub(1).min(last)).map_or(1, |t| t.line);
        self.error_at(line, message)
    }
    fn unexpected<T>(&self, token: &Token<'_>, context: &str) -> Result<T, Fault> {
        if let Some(message) = &token.error {
            let mut extra = String::new();
            if self.action_line != 0 && self.action_line != token.line {
                extra = format!(" in action started at {}:{}", self.name, self.action_line);
                if message.ends_with(" action") {
                    extra = extra.split_off(" in action".len());
                }
            }
            return self.error_at(token.line, format!("{message}{extra}"));
        }
        self.error_at(token.line, format!("unexpected {token} in {context}"))
    }
    fn expect(&mut self, kind: Kind, context: &str) -> Result<&'a Token<'a>, Fault> {
        let token = self.next_non_space();
        if token.kind != kind { self.unexpected(token, context) } else { Ok(token) }
    }
    fn deeper(&mut self, weight: usize) -> Result<(), Fault> {
        self.nesting += weight;
        if self.nesting > MAX_NESTING {
            return self.error(format!("nested too deeply (more than {MAX_NESTING} levels)"));
        }
        Ok(())
    }

    // --- structure
    fn file(&mut self) -> Result<(), Fault> {
        let mut root = List::default();
        loop {
            if self.peek().kind == Kind::Eof {
                break;
            }
            if self.peek().kind == Kind::LeftDelim {
                let delim = self.at;
                self.next();
                if self.peek_non_space().kind == Kind::Define {
                    self.next_non_space();
                    self.definition()?;
                    continue;
                }
                self.at = delim;
            }
            match self.text_or_action()? {
                Item::Node(node) => root.nodes.push(node),
                Item::Stop(Stop::End) => return self.error("unexpected {{end}}"),
                Item::Stop(Stop::Else) => return self.error("unexpected {{else}}"),
            }
        }
        let name = self.name.clone();
        let tree = self.tree(name, root);
        // The text itself comes first, unless it defines a template of its own name.
        if self.trees.iter().any(|t| t.name == tree.name) {
            return self.add(tree);
        }
        self.trees.insert(0, tree);
        Ok(())
    }

    fn tree(&self, name: Arc<str>, root: List) -> Tree {
        Tree { name, parse_name: self.name.clone(), text: self.text.clone(), root }
    }

    fn add(&mut self, tree: Tree) -> Result<(), Fault> {
        match self.trees.iter_mut().find(|t| t.name == tree.name) {
            None => self.trees.push(tree),
            Some(old) if old.is_empty() => *old = tree,
            Some(_) if tree.is_empty() => {}
            Some(_) => return self.error(multiple(&tree.name)),
        }
        Ok(())
    }

    /// `{{define "name"}} ... {{end}}`, the keyword being read.
    fn definition(&mut self) -> Result<(), Fault> {
        let context = "define clause";
        let token = self.next_non_space();
        let name = self.template_name(token, context)?;
        self.expect(Kind::RightDelim, context)?;
        let variables = std::mem::replace(&mut self.variables, vec![Arc::from("$")]);
        let ranges = std::mem::take(&mut self.range_depth);
        let (list, stop) = self.item_list()?;
        (self.variables, self.range_depth) = (variables, ranges);
        if let Stop::Else = stop {
            return self.error(format!("unexpected {{{{else}}}} in {context}"));
        }
        let tree = self.tree(name, list);
        self.add(tree)
    }

    fn template_name(&mut self, token: &Token<'a>, context: &str) -> Result<Arc<str>, Fault> {
        match token.kind {
            Kind::String | Kind::RawString => match constant::unquote(token.text) {
                Some(name) => Ok(Arc::from(name)),
                None => self.error("invalid syntax"),
            },
            _ => self.unexpected(token, context),
        }
    }

    /// Nodes up to `{{end}}` or `{{else}}`.
    fn item_list(&mut self) -> Result<(List, Stop), Fault> {
        let mut list = List::default();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => list.nodes.push(node),
                Item::Stop(stop) => return Ok((list, stop)),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Result<Item, Fault> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text { text: Arc::from(token.text) })),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let item = self.action();
                if item.is_ok() {
                    self.action_line = 0;
                }
                item
            }
            _ => self.unexpected(token, "input"),
        }
    }

    fn action(&mut self) -> Result<Item, Fault> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Block => self.block(),
            Kind::Break | Kind::Continue => self.loop_exit(token),
            Kind::Else => self.else_control(),
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                Ok(Item::Stop(Stop::End))
            }
            Kind::If => self.branch(BranchKind::If, "if"),
            Kind::Range => self.branch(BranchKind::Range, "range"),
            Kind::With => self.branch(BranchKind::With, "with"),
            Kind::Template => self.template(),
            _ => {
                self.at -= 1;
                let pipe = self.pipeline("command", Kind::RightDelim)?;
                Ok(Item::Node(Node::Action { pos: token.pos, pipe, escapers: Vec::new() }))
            }
        }
    }

    fn loop_exit(&mut self, token: &Token<'a>) -> Result<Item, Fault> {
        let word = token.text;
        let close = self.next_non_space();
        if close.kind != Kind::RightDelim {
            return self.unexpected(close, &format!("{{{{{word}}}}}"));
        }
        if self.range_depth == 0 {
            return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(Item::Node(if token.kind == Kind::Break { Node::Break } else { Node::Continue }))
    }

    /// `{{else}}`; for `{{else if` the `if` is left to be read by the branch.
    fn else_control(&mut self) -> Result<Item, Fault> {
        if !matches!(self.peek_non_space().kind, Kind::If | Kind::With) {
            self.expect(Kind::RightDelim, "else")?;
        }
        Ok(Item::Stop(Stop::Else))
    }

    fn branch(&mut self, kind: BranchKind, context: &str) -> Result<Item, Fault> {
        self.deeper(1)?;
        let scope = self.variables.len();
        let (mut arms, mut otherwise): (Vec<Arm>, _) = (Vec::new(), None);
        loop {
            let pipe = self.pipeline(context, Kind::RightDelim)?;
            self.range_depth += usize::from(kind == BranchKind::Range);
            let body = self.item_list();
            self.range_depth -= usize::from(kind == BranchKind::Range);
            let (list, stop) = body?;
            arms.push(Arm { pos: pipe.pos, pipe, list });
            if let Stop::End = stop {
                break;
            }
            let next = self.peek_non_space();
            let same = matches!((kind, next.kind), (BranchKind::If, Kind::If) | (BranchKind::With, Kind::With));
            if same {
                self.next_non_space();
                continue;
            }
            if matches!(next.kind, Kind::If | Kind::With) && self.after_else() {
                return self.unexpected(next, "input");
            }
            let (list, stop) = self.item_list()?;
            if let Stop::Else = stop {
                return self.error("expected end; found {{else}}");
            }
            otherwise = Some(list);
            break;
        }
        self.variables.truncate(scope);
        self.nesting -= 1;
        let pos = arms.first().map_or(0, |a| a.pos);
        Ok(Item::Node(Node::Branch { pos, kind, arms, otherwise }))
    }

    /// Whether the token read last is the `else` of `{{else if`, not a closing delimiter.
    fn after_else(&self) -> bool {
        let read = self.tokens.get(..self.at).unwrap_or(&[]);
        read.iter().rev().find(|t| t.kind != Kind::Space).is_some_and(|t| t.kind == Kind::Else)
    }

    /// `{{block "name" pipeline}} ... {{end}}`: a definition and its use.
    fn block(&mut self) -> Result<Item, Fault> {
        let context = "block clause";
        let token = self.next_non_space();
        let name = self.template_name(token, context)?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        self.deeper(1)?;
        let variables = std::mem::replace(&mut self.variables, vec![Arc::from("$")]);
        let ranges = std::mem::take(&mut self.range_depth);
        let (list, stop) = self.item_list()?;
        (self.variables, self.range_depth) = (variables, ranges);
        self.nesting -= 1;
        if let Stop::Else = stop {
            return self.error(format!("unexpected {{{{else}}}} in {context}"));
        }
        let tree = self.tree(name.clone(), list);
        self.add(tree)?;
        Ok(Item::Node(Node::Template { pos: token.pos, name, pipe: Some(pipe) }))
    }

    fn template(&mut self) -> Result<Item, Fault> {
        let context = "template clause";
        let token = self.next_non_space();
        let name = self.template_name(token, context)?;
        let mut pipe = None;
        if self.next_non_space().kind != Kind::RightDelim {
            self.at -= 1;
            pipe = Some(self.pipeline(context, Kind::RightDelim)?);
        }
        Ok(Item::Node(Node::Template { pos: token.pos, name, pipe }))
    }
}

enum Item {
    Node(Node),
    Stop(Stop),
}

fn multiple(name: &str) -> String {
    format!("template: multiple definition of template {}", ferula_model::labels::quoted(name))
}
