//! A set of named templates that may call each other, with their functions, options and limits.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::Tree;
use crate::exec::Env;
use crate::functions::{Functions, builtin};
use crate::parse::{self, Names};
use crate::value::Value;
use crate::{Error, html};

/// What `.Field` gives when a map has no such key (Go's `missingkey` option).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// `<no value>`
    #[default]
    Default,
    /// The zero value of the map's elements. What Prometheus and Alertmanager set.
    Zero,
    Error,
}

/// Bounds of one execution, whatever the template does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes walked and arguments evaluated.
    pub steps: u64,
    /// Bytes printed and bytes made by functions, together.
    pub bytes: usize,
    /// Nested blocks and template calls together; what fits a 256 KiB stack.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { steps: 2_000_000, bytes: 64 << 20, depth: 56 }
    }
}

/// Templates by name. Cloning is cheap: the parsed trees are shared.
#[derive(Clone, Debug)]
pub struct Templates {
    trees: BTreeMap<Arc<str>, Arc<Tree>>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) missing_key: MissingKey,
    pub(crate) limits: Limits,
    main: Arc<str>,
}

impl Templates {
    /// An empty set whose templates may call `functions` and Go's builtins.
    pub fn new(functions: Functions) -> Templates {
        Templates {
            trees: BTreeMap::new(),
            functions: Arc::new(functions),
            missing_key: MissingKey::Default,
            limits: Limits::default(),
            main: Arc::from(""),
        }
    }
    pub fn missing_key(mut self, option: MissingKey) -> Templates {
        self.missing_key = option;
        self
    }
    pub fn limits(mut self, limits: Limits) -> Templates {
        self.limits = limits;
        self
    }

    /// Parses `text` as the template `name`, and whatever it defines. Later definitions replace earlier ones, but an
    /// empty one never replaces one with content. On an error nothing is added.
    pub fn parse(&mut self, name: &str, text: &str) -> Result<(), Error> {
        for tree in parse::parse(name, text, &Known(&self.functions))? {
            if tree.is_empty() && self.trees.contains_key(&tree.name) {
                continue;
            }
            self.trees.insert(tree.name.clone(), Arc::new(tree));
        }
        self.main = Arc::from(name);
        Ok(())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.trees.contains_key(name)
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.trees.keys().map(AsRef::as_ref)
    }

    /// Runs the template `name` over `data` and answers its output.
    pub fn execute(&self, name: &str, data: &Value) -> Result<String, Error> {
        self.execute_with(name, data, &Functions::default())
    }

    /// As [`execute`](Self::execute), with functions that exist for this execution only. Their names must have been
    /// known when the templates were parsed.
    pub fn execute_with(&self, name: &str, data: &Value, overrides: &Functions) -> Result<String, Error> {
        Env::new(self, overrides).execute(name, data)
    }

    /// Parses `text` beside the templates of the set and runs it: what Alertmanager does with every string of a
    /// receiver. Text without actions is answered as it is.
    pub fn expand(&self, text: &str, data: &Value) -> Result<String, Error> {
        self.expand_with(text, data, &Functions::default())
    }

    /// As [`expand`](Self::expand), with functions that exist for this execution only.
    pub fn expand_with(&self, text: &str, data: &Value, overrides: &Functions) -> Result<String, Error> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let mut set = self.clone();
        set.parse("", text)?;
        set.execute_with("", data, overrides)
    }

    /// As [`expand`](Self::expand), with `html/template`'s contextual escaping.
    pub fn expand_html(&self, text: &str, data: &Value) -> Result<String, Error> {
        self.expand_html_with(text, data, &Functions::default())
    }

    /// As [`expand_html`](Self::expand_html), with functions that exist for this execution only.
    pub fn expand_html_with(&self, text: &str, data: &Value, overrides: &Functions) -> Result<String, Error> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let mut set = self.clone();
        set.parse("", text)?;
        set.escaped("")?.execute_with("", data, overrides)
    }

    /// Runs the template `name` with `html/template`'s contextual escaping.
    pub fn execute_html(&self, name: &str, data: &Value) -> Result<String, Error> {
        self.escaped(name)?.execute(name, data)
    }

    /// The set with escapers put into `name` and everything it calls. Worth keeping when it runs often.
    pub fn escaped(&self, name: &str) -> Result<Templates, Error> {
        let mut set = self.clone();
        for tree in html::escape(&self.trees, name)? {
            set.trees.insert(tree.name.clone(), Arc::new(tree));
        }
        Ok(set)
    }

    pub(crate) fn tree(&self, name: &str) -> Option<&Tree> {
        self.trees.get(name).map(AsRef::as_ref)
    }
    /// The name parsed last, which errors about unknown templates show.
    pub(crate) fn main(&self) -> &str {
        &self.main
    }
}

struct Known<'a>(&'a Functions);

impl Names for Known<'_> {
    fn is_function(&self, name: &str) -> bool {
        builtin::is_builtin(name) || self.0.get(name).is_some()
    }
}
