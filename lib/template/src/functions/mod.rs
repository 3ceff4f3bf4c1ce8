//! Functions of templates: their registry, their signatures, and the sets that Prometheus and Alertmanager define.
pub mod alertmanager;
pub(crate) mod builtin;
pub(crate) mod compare;
pub(crate) mod escape;
pub mod humanize;
pub mod json;
pub mod prometheus;
pub mod text;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::exec::Env;
use crate::value::{Shape, Value};

/// The Go type of a parameter; arguments are checked against it as Go does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Any,
    Str,
    Int,
    Float,
    Bool,
    /// `[]string`
    Strings,
    Time,
    Duration,
    /// A type of the program's own, by Go's name of it: an object or a list of that `type_name`.
    Named(&'static str),
}

impl Type {
    pub fn go_name(self) -> &'static str {
        match self {
            Type::Any => "interface {}",
            Type::Str => "string",
            Type::Int => "int",
            Type::Float => "float64",
            Type::Bool => "bool",
            Type::Strings => "[]string",
            Type::Time => "time.Time",
            Type::Duration => "time.Duration",
            Type::Named(name) => name,
        }
    }
    /// Whether Go would accept the value for a parameter of this type.
    pub(crate) fn accepts(self, v: &Value) -> bool {
        match (self, v) {
            (Type::Any, _)
            | (Type::Str, Value::Str(_))
            | (Type::Int, Value::Int(_))
            | (Type::Float, Value::Float(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::Time, Value::Time(_))
            | (Type::Duration, Value::Duration(_))
            | (Type::Strings, Value::Nil) => true,
            (Type::Strings, Value::List(l)) => l.type_name == "[]string",
            (Type::Named(name), v @ (Value::Object(_) | Value::List(_) | Value::Map(_))) => v.type_name() == name,
            (Type::Strings, Value::Object(o)) => {
                o.shape() == Shape::List && o.items().iter().all(|v| matches!(v, Value::Str(_)))
            }
            _ => false,
        }
    }
}

type Body = dyn Fn(&mut Env<'_>, &[Value]) -> Result<Value, String> + Send + Sync;

/// A function a template may call. Cloning shares the closure.
#[derive(Clone)]
pub struct Function {
    pub(crate) params: &'static [Type],
    pub(crate) variadic: bool,
    body: Arc<Body>,
}

impl Function {
    /// A function of exactly these parameters. Its error is the text of the Go error.
    pub fn new(
        params: &'static [Type],
        body: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Function {
        Function { params, variadic: false, body: Arc::new(move |_, args| body(args)) }
    }
    /// A function whose last parameter may come any number of times, also never.
    pub fn variadic(
        params: &'static [Type],
        body: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Function {
        Function { params, variadic: true, body: Arc::new(move |_, args| body(args)) }
    }
    /// A function that also gets at the running execution: to run other templates, to charge the budget.
    pub fn with_env(
        params: &'static [Type],
        body: impl Fn(&mut Env<'_>, &[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Function {
        Function { params, variadic: false, body: Arc::new(body) }
    }
    /// The type of the `i`-th argument.
    pub(crate) fn param(&self, i: usize) -> Type {
        self.params.get(i).or(self.params.last()).copied().unwrap_or(Type::Any)
    }
    pub(crate) fn call(&self, env: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
        (self.body)(env, args)
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "func{:?}", self.params)
    }
}

/// Functions by name. Go's builtins are always there and need no entry.
#[derive(Clone, Debug, Default)]
pub struct Functions(HashMap<Arc<str>, Function>);

impl Functions {
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds or replaces.
    pub fn add(&mut self, name: &str, function: Function) -> &mut Self {
        self.0.insert(Arc::from(name), function);
        self
    }
    pub fn extend(&mut self, other: Functions) -> &mut Self {
        self.0.extend(other.0);
        self
    }
    pub fn get(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }
}

/// The `i`-th argument as text; the signature has made sure that it is there and is a string.
pub(crate) fn text_arg(args: &[Value], i: usize) -> &str {
    args.get(i).and_then(Value::as_str).unwrap_or("")
}

/// The `i`-th argument; the signature has made sure that it is there.
pub(crate) fn arg(args: &[Value], i: usize) -> &Value {
    args.get(i).unwrap_or(&Value::Nil)
}
