//! `html/template`: finds the context every action prints into and puts the fitting escapers there.
//!
//! Each template is walked once per context it is called in; a copy made for another context than plain text gets a
//! name of its own. Branches must end in the same context, or the template is refused, as in Go.
mod context;
mod filter;
mod transition;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use context::{Context, Delim, State, UrlPart};
pub(crate) use filter::{Escaper, apply};

use crate::Error;
use crate::ast::{BranchKind, List, Node, Pipe, Term, Tree};

/// The trees reachable from `name`, with escapers.
pub(crate) fn escape(trees: &BTreeMap<Arc<str>, Arc<Tree>>, name: &str) -> Result<Vec<Tree>, Error> {
    let mut walk = Walk { trees, done: HashMap::new(), output: Vec::new(), depth: 0 };
    let (_, end) = walk.call(name, Context::default()).map_err(|e| *e)?;
    if end.state != State::Text {
        return Err(Error::Escape(format!("{name}: ends in a non-text context: {end}")));
    }
    Ok(walk.output)
}

/// Deepest nesting of blocks and template calls together that is walked; holds on a 256 KiB stack.
const DEPTH_MAX: usize = 60;

struct Walk<'a> {
    trees: &'a BTreeMap<Arc<str>, Arc<Tree>>,
    /// By called name and context: the name of the copy and the context it ends in.
    done: HashMap<(Arc<str>, Context), (Arc<str>, Context)>,
    output: Vec<Tree>,
    depth: usize,
}

impl Walk<'_> {
    /// Escapes the template `name` as called in context `c`.
    fn call(&mut self, name: &str, c: Context) -> Result<(Arc<str>, Context), Fault> {
        let key = (Arc::<str>::from(name), c);
        if let Some(known) = self.done.get(&key) {
            return Ok(known.clone());
        }
        let trees = self.trees;
        let Some(tree) = trees.get(name) else {
            // The executor says which template is missing.
            return Ok((key.0, c));
        };
        let copy: Arc<str> = match c == Context::default() {
            true => key.0.clone(),
            false => Arc::from(format!("{name}$htmltemplate_{}", self.done.len())),
        };
        // A recursive call is taken to end where it begins; checked below.
        self.done.insert(key.clone(), (copy.clone(), c));
        let mut escaped = tree.as_ref().clone();
        let end = self.list(tree, &mut escaped.root, c)?;
        escaped.name = copy.clone();
        self.output.push(escaped);
        self.done.insert(key, (copy.clone(), end));
        Ok((copy, end))
    }

    fn list(&mut self, tree: &Tree, list: &mut List, mut c: Context) -> Result<Context, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep(tree));
        }
        for node in &mut list.nodes {
            c = match node {
                Node::Text { text } => text_node(tree, text, c)?,
                Node::Action { pos, pipe, escapers } if pipe.declared.is_empty() => {
                    action_node(tree, *pos, pipe, escapers, c)?
                }
                Node::Branch { .. } => self.branch(tree, node, c)?,
                Node::Template { name, .. } => {
                    let (copy, end) = self.call(name, c)?;
                    *name = copy;
                    end
                }
                Node::Action { .. } | Node::Break | Node::Continue => c,
            };
        }
        self.depth -= 1;
        Ok(c)
    }

    /// Every arm and the `else` begin in `c`; all must end alike.
    fn branch(&mut self, tree: &Tree, node: &mut Node, c: Context) -> Result<Context, Fault> {
        let Node::Branch { pos, kind, arms, otherwise } = node else { return Ok(c) };
        let mut all = None;
        let lists = arms.iter_mut().map(|a| Some(&mut a.list)).chain([otherwise.as_mut()]);
        for list in lists {
            let end = match list {
                Some(list) => self.list(tree, list, c)?,
                None => c,
            };
            all = Some(match all {
                None => end,
                Some(before) => join(before, end).ok_or_else(|| different_ends(tree, *pos, *kind, before, end))?,
            });
        }
        Ok(all.unwrap_or(c))
    }
}

type Fault = Box<Error>;

fn too_deep(tree: &Tree) -> Fault {
    Box::new(Error::Escape(format!("{}: nested too deeply (more than {DEPTH_MAX} levels)", tree.name)))
}

fn different_ends(tree: &Tree, pos: usize, kind: BranchKind, a: Context, b: Context) -> Fault {
    let word = match kind {
        BranchKind::If => "if",
        BranchKind::With => "with",
        BranchKind::Range => "range",
    };
    at(tree, pos, format!("{{{{{word}}}}} branches end in different contexts: {a}, {b}"))
}

fn action_node(
    tree: &Tree,
    pos: usize,
    pipe: &Pipe,
    escapers: &mut Vec<Escaper>,
    c: Context,
) -> Result<Context, Fault> {
    let (steps, end) = action(c).map_err(|m| at(tree, pos, format!("{{{{{pipe}}}}} {m}")))?;
    *escapers = without_predefined(pipe, steps);
    Ok(end)
}

fn at(tree: &Tree, pos: usize, message: String) -> Fault {
    let (line, column) = tree.location(pos);
    Box::new(Error::Escape(format!("{}:{line}:{column}: {message}", tree.parse_name)))
}

/// The one context that two branches may be taken to end in, if there is one.
fn join(a: Context, b: Context) -> Option<Context> {
    if a == b {
        return Some(a);
    }
    let (mut a, mut b) = (settled(a), settled(b));
    if a.url != b.url {
        (a.url, b.url) = (UrlPart::Unknown, UrlPart::Unknown);
    }
    a.js_regexp &= b.js_regexp;
    b.js_regexp = a.js_regexp;
    (a == b).then_some(a)
}

/// A context at whose end a branch may stand: an attribute name that might go on is taken as ended.
fn settled(c: Context) -> Context {
    match c.state {
        State::AttrName | State::AfterName => Context { state: State::Tag, attr: context::Attr::None, ..c },
        _ => c,
    }
}

/// The escapers an action needs in context `c`, and the context after it.
fn action(c: Context) -> Result<(Vec<Escaper>, Context), String> {
    let mut c = c;
    let mut steps = Vec::new();
    if c.state == State::BeforeValue {
        c = Context { state: c.attr.value(), delim: Delim::SpaceOrTagEnd, ..c };
    } else if c.state == State::AfterName {
        c = Context { state: State::AttrName, ..c };
    }
    match c.state {
        State::Text => steps.push(Escaper::Html),
        State::Rcdata => steps.push(Escaper::Rcdata),
        State::Tag | State::AttrName | State::AfterName => {
            steps.push(Escaper::Name);
            c.state = State::AttrName;
            c.attr = context::Attr::None;
        }
        State::BeforeValue | State::Attr => {}
        State::Url | State::CssUrl => match c.url {
            UrlPart::None => {
                steps.extend([Escaper::UrlFilter, Escaper::UrlNormalize]);
                c.url = UrlPart::PreQuery;
            }
            UrlPart::PreQuery => steps.push(Escaper::UrlNormalize),
            UrlPart::QueryOrFragment => steps.push(Escaper::UrlEscape),
            UrlPart::Unknown => return Err("appears in an ambiguous context within a URL".into()),
        },
        State::Js => {
            steps.push(Escaper::JsValue);
            c.js_regexp = false;
        }
        State::JsString(_) => steps.push(Escaper::JsString),
        State::JsRegexp => steps.push(Escaper::JsRegexp),
        State::Css => steps.push(Escaper::CssValue),
        State::CssString(_) => steps.push(Escaper::CssString),
        State::HtmlComment | State::JsComment(_) | State::CssComment => steps.push(Escaper::Comment),
    }
    match c.delim {
        Delim::None => {}
        Delim::SpaceOrTagEnd => steps.push(Escaper::Unquoted),
        Delim::Double | Delim::Single => steps.push(Escaper::Attribute),
    }
    Ok((steps, c))
}

/// Leaves out an escaper that the pipeline ends in by itself.
fn without_predefined(pipe: &Pipe, steps: Vec<Escaper>) -> Vec<Escaper> {
    let last = pipe.commands.last().and_then(|c| c.args.first()).map(|e| &e.term);
    match (last, steps.as_slice()) {
        (Some(Term::Identifier(name)), [Escaper::Html | Escaper::Rcdata]) if name.as_ref() == "html" => {
            vec![Escaper::AsIs]
        }
        _ => steps,
    }
}

/// Walks a text node: drops comments, escapes stray `<`, and answers the context after it.
fn text_node(tree: &Tree, text: &mut Arc<str>, mut c: Context) -> Result<Context, Fault> {
    let kept = text.clone();
    let (target, text) = (text, &kept[..]);
    let mut out = String::with_capacity(text.len());
    let (mut written, mut at_byte) = (0, 0);
    while at_byte < text.len() {
        let (next, used) = transition::after_text(c, &text[at_byte..])
            .map_err(|m| Box::new(Error::Escape(format!("{}: {m}", tree.name))))?;
        let end = at_byte + used;
        if matches!(c.state, State::Text | State::Rcdata) {
            // Every `<` that begins no tag is text.
            let tag =
                if next.state != c.state { text[at_byte..end].rfind('<').map_or(end, |i| at_byte + i) } else { end };
            for (i, _) in text[at_byte..tag].match_indices('<') {
                let i = at_byte + i;
                let doctype = text.get(i..i + 9).is_some_and(|d| d.eq_ignore_ascii_case("<!doctype"));
                if !doctype {
                    out.push_str(&text[written..i]);
                    out.push_str("&lt;");
                    written = i + 1;
                }
            }
        } else if c.is_comment() && c.delim == Delim::None {
            if let State::CssComment = c.state {
                out.push(' ');
            }
            if matches!(c.state, State::JsComment(_)) && text[at_byte..end].contains('\n') {
                out.push('\n');
            }
            written = end;
        }
        if next.state != c.state && next.is_comment() && next.delim == Delim::None {
            let opening = if next.state == State::HtmlComment { 4 } else { 2 };
            out.push_str(&text[written..end - opening]);
            written = end;
        }
        if used == 0 && next == c {
            return Err(Box::new(Error::Escape(format!("{}: no progress at {:?}", tree.name, &text[at_byte..]))));
        }
        (c, at_byte) = (next, end);
    }
    if !(c.is_comment() && c.delim == Delim::None) {
        out.push_str(&text[written..]);
    }
    *target = Arc::from(out);
    Ok(c)
}
