//! What templates compute with: Go's dynamic values, as far as templates can tell them apart.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Zoned;

use crate::functions::Function;

/// One value. Cloning is at most a reference count.
#[derive(Clone, Default)]
pub enum Value {
    /// Go's `nil`, and what a missing key gives: prints `<no value>` alone and `<nil>` inside other output.
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    /// Text its producer vouches for: `html/template` puts it out as it is where the kind fits.
    Safe(Safe, Arc<str>),
    Time(Box<Zoned>),
    /// Nanoseconds.
    Duration(i64),
    List(Arc<List>),
    Map(Arc<Map>),
    Object(Arc<dyn Object>),
    Function(Function),
}

/// The contexts a [`Value::Safe`] vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safe {
    Html,
    Url,
    Js,
    Css,
    Attribute,
}

/// A Go slice.
#[derive(Clone, Debug)]
pub struct List {
    pub items: Vec<Value>,
    /// Go's name of the type, for errors: `[]string`.
    pub type_name: &'static str,
}

/// A Go map with string keys, walked in key order.
#[derive(Clone, Debug)]
pub struct Map {
    pub entries: BTreeMap<Arc<str>, Value>,
    /// Go's name of the type, for errors: `map[string]string`.
    pub type_name: &'static str,
    /// What a missing key gives under `missingkey=zero`.
    pub zero: Value,
}

/// How an [`Object`] behaves besides its fields and methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A struct: true, no length, no elements; an unknown field is an error.
    Struct,
    /// A slice: see [`Object::items`].
    List,
    /// A map with string keys: see [`Object::entries`]; an unknown field is a missing key.
    Map,
}

/// A Rust value acting as a Go value with fields and methods.
pub trait Object: Send + Sync {
    /// Go's name of the type, as errors show it: `*template.Data`.
    fn type_name(&self) -> &str;
    fn shape(&self) -> Shape {
        Shape::Struct
    }
    /// A field of a struct, an entry of a map.
    fn field(&self, name: &str) -> Option<Value> {
        let _ = name;
        None
    }
    /// Calls a method; `None` when there is no such method. The error is the Go error's text.
    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let _ = (name, args);
        None
    }
    /// The elements, for [`Shape::List`].
    fn items(&self) -> Vec<Value> {
        Vec::new()
    }
    /// The entries in key order, for [`Shape::Map`].
    fn entries(&self) -> Vec<(Arc<str>, Value)> {
        Vec::new()
    }
    /// What a missing key gives under `missingkey=zero`, for [`Shape::Map`].
    fn zero(&self) -> Value {
        Value::Nil
    }
    /// Exported fields in order, with their JSON names: for `toJson` and for printing a struct.
    fn fields(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }
    /// `String()` or `Error()`, where the Go type has one.
    fn text(&self) -> Option<String> {
        None
    }
}

impl Value {
    pub fn str(s: impl AsRef<str>) -> Value {
        Value::Str(Arc::from(s.as_ref()))
    }
    /// A `[]interface {}`.
    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Arc::new(List { items, type_name: "[]interface {}" }))
    }
    /// A `[]string`.
    pub fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Value {
        let items = items.into_iter().map(Value::str).collect();
        Value::List(Arc::new(List { items, type_name: "[]string" }))
    }
    /// A `map[string]interface {}`.
    pub fn map<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        let entries = entries.into_iter().map(|(k, v)| (Arc::from(k.as_ref()), v)).collect();
        Value::Map(Arc::new(Map { entries, type_name: "map[string]interface {}", zero: Value::Nil }))
    }
    /// A `map[string]string`.
    pub fn string_map<K: AsRef<str>, V: AsRef<str>>(entries: impl IntoIterator<Item = (K, V)>) -> Value {
        let entries = entries.into_iter().map(|(k, v)| (Arc::from(k.as_ref()), Value::str(v))).collect();
        Value::Map(Arc::new(Map { entries, type_name: "map[string]string", zero: Value::str("") }))
    }
    pub fn object(o: impl Object + 'static) -> Value {
        Value::Object(Arc::new(o))
    }
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// The text of a string of any kind.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) | Value::Safe(_, s) => Some(s),
            _ => None,
        }
    }

    /// Go's name of the type, as errors show it.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::Safe(Safe::Html, _) => "template.HTML",
            Value::Safe(Safe::Url, _) => "template.URL",
            Value::Safe(Safe::Js, _) => "template.JS",
            Value::Safe(Safe::Css, _) => "template.CSS",
            Value::Safe(Safe::Attribute, _) => "template.HTMLAttr",
            Value::Time(_) => "time.Time",
            Value::Duration(_) => "time.Duration",
            Value::List(l) => l.type_name,
            Value::Map(m) => m.type_name,
            Value::Object(o) => o.type_name(),
            Value::Function(_) => "func",
        }
    }

    /// Go's truth: everything but false, zero, nil and what is empty. Structs are true.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(b) => *b,
            Value::Int(i) | Value::Duration(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            _ => self.len().is_none_or(|n| n > 0),
        }
    }

    /// The length of what has one.
    pub fn len(&self) -> Option<usize> {
        match self {
            Value::Str(s) | Value::Safe(_, s) => Some(s.len()),
            Value::List(l) => Some(l.items.len()),
            Value::Map(m) => Some(m.entries.len()),
            Value::Object(o) => match o.shape() {
                Shape::Struct => None,
                Shape::List => Some(o.items().len()),
                Shape::Map => Some(o.entries().len()),
            },
            _ => None,
        }
    }
    /// Whether it has a length and that is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The elements of a slice, whichever Rust type carries it.
    pub fn items(&self) -> Option<std::borrow::Cow<'_, [Value]>> {
        match self {
            Value::List(l) => Some((&l.items[..]).into()),
            Value::Object(o) if o.shape() == Shape::List => Some(o.items().into()),
            _ => None,
        }
    }

    /// The entries of a map in key order, whichever Rust type carries it.
    pub fn entries(&self) -> Option<Vec<(Arc<str>, Value)>> {
        match self {
            Value::Map(m) => Some(m.entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            Value::Object(o) if o.shape() == Shape::Map => Some(o.entries()),
            _ => None,
        }
    }

    /// Bytes it would roughly take to print: what budgets charge for a value a function made.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Value::Str(s) | Value::Safe(_, s) => s.len(),
            Value::List(l) => l.items.len() * size_of::<Value>(),
            Value::Map(m) => m.entries.len() * 2 * size_of::<Value>(),
            _ => 0,
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::str(s)
    }
}
impl From<String> for Value {
    fn from(s: String) -> Value {
        Value::Str(Arc::from(s))
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}
impl From<i64> for Value {
    fn from(i: i64) -> Value {
        Value::Int(i)
    }
}
impl From<f64> for Value {
    fn from(f: f64) -> Value {
        Value::Float(f)
    }
}
impl From<Zoned> for Value {
    fn from(t: Zoned) -> Value {
        Value::Time(Box::new(t))
    }
}

/// As `%v` prints it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::format::sprint(self))
    }
}
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({self})", self.type_name())
    }
}
