//! Calls: functions with Go's argument checks, and fields, which may be methods or map entries.
use std::fmt::Display;

use super::{Fault, Runner, missing};
use crate::ast::Expr;
use crate::functions::{Function, Type, builtin};
use crate::time::{duration_method, time_method};
use crate::value::Value;
use crate::{MissingKey, is_map};

impl<'a> Runner<'a, '_, '_> {
    /// Calls the function `name`. `args` begins with the name itself, or is empty for a bare name.
    pub(super) fn function(
        &mut self,
        dot: &Value,
        name: &'a str,
        args: &'a [Expr],
        piped: Option<Value>,
        here: (usize, &'a Expr, &'a dyn Display),
    ) -> Result<Value, Fault> {
        let args = args.get(1..).unwrap_or(&[]);
        let known = self.env.function(name).cloned();
        if known.is_none() && matches!(name, "and" | "or") {
            return self.and_or(dot, name, args, piped);
        }
        let Some(function) = known.or_else(|| builtin::function(name)) else {
            return self.fail(format!("{} is not a defined function", ferula_model::labels::quoted(name)));
        };
        let values = self.arguments(dot, name, &function, args, piped)?;
        match function.call(self.env, &values) {
            Ok(v) => {
                let charge = self.env.charge(v.weight());
                self.charged(charge)?;
                Ok(v)
            }
            Err(message) => {
                self.at(here.0, here.2);
                self.fail(format!("error calling {name}: {message}"))
            }
        }
    }

    /// Evaluates the arguments against the signature.
    fn arguments(
        &mut self,
        dot: &Value,
        name: &str,
        function: &Function,
        args: &'a [Expr],
        piped: Option<Value>,
    ) -> Result<Vec<Value>, Fault> {
        let given = args.len() + usize::from(piped.is_some());
        let wanted = function.params.len();
        if function.variadic && given < wanted.saturating_sub(1) {
            let (least, got) = (wanted - 1, args.len());
            return self.fail(format!("wrong number of args for {name}: want at least {least} got {got}"));
        }
        if !function.variadic && given != wanted {
            return self.fail(format!("wrong number of args for {name}: want {wanted} got {given}"));
        }
        let mut values = Vec::with_capacity(given);
        for (i, arg) in args.iter().enumerate() {
            values.push(self.argument(dot, arg, function.param(i))?);
        }
        if let Some(last) = piped {
            values.push(self.checked(last, function.param(args.len()))?);
        }
        Ok(values)
    }

    /// `and` and `or` evaluate no further than they must, and answer the deciding argument.
    fn and_or(&mut self, dot: &Value, name: &str, args: &'a [Expr], piped: Option<Value>) -> Result<Value, Fault> {
        if args.is_empty() && piped.is_none() {
            return self.fail(format!("wrong number of args for {name}: want at least 1 got 0"));
        }
        let mut value = Value::Nil;
        for arg in args {
            value = self.argument(dot, arg, Type::Any)?;
            if value.is_true() == (name == "or") {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }

    /// One field of `receiver`. `chained`: the receiver is itself a field of something.
    pub(super) fn field(
        &mut self,
        dot: &Value,
        receiver: Value,
        chained: bool,
        node: &'a Expr,
        name: &'a str,
        args: &'a [Expr],
        piped: Option<Value>,
    ) -> Result<Value, Fault> {
        let option = self.env.templates.missing_key;
        if receiver.is_nil() {
            return match option {
                MissingKey::Error => {
                    self.fail(format!("nil data; no entry for key {}", ferula_model::labels::quoted(name)))
                }
                MissingKey::Zero if chained => self.fail(format!("nil pointer evaluating interface {{}}.{name}")),
                _ => Ok(Value::Nil),
            };
        }
        let arguments = args.get(1..).unwrap_or(&[]);
        let has_arguments = !arguments.is_empty() || piped.is_some();
        if matches!(receiver, Value::Object(_) | Value::Time(_) | Value::Duration(_)) {
            let before = self.at;
            let mut values = Vec::with_capacity(arguments.len() + 1);
            for arg in arguments {
                values.push(self.argument(dot, arg, Type::Any)?);
            }
            values.extend(piped);
            if let Some(result) = self.method(&receiver, (before, node), name, &values)? {
                return Ok(result);
            }
            self.at = before;
        }
        let map = is_map(&receiver);
        let found = match &receiver {
            Value::Map(m) => m.entries.get(name).cloned(),
            Value::Object(o) => o.field(name),
            _ => None,
        };
        match found {
            Some(_) if has_arguments && map => self.fail(format!("{name} is not a method but has arguments")),
            Some(_) if has_arguments => self.fail(format!("{name} has arguments but cannot be invoked as function")),
            Some(v) => Ok(v),
            None if map => {
                let zero = || match &receiver {
                    Value::Map(m) => m.zero.clone(),
                    Value::Object(o) => o.zero(),
                    _ => Value::Nil,
                };
                self.charged(missing(option, zero, name))
            }
            None => self.fail(format!("can't evaluate field {name} in type {}", receiver.type_name())),
        }
    }

    fn method(
        &mut self,
        receiver: &Value,
        (before, node): ((usize, &'a dyn Display), &'a Expr),
        name: &str,
        args: &[Value],
    ) -> Result<Option<Value>, Fault> {
        let result = match receiver {
            Value::Object(o) => o.method(name, args),
            Value::Time(t) => time_method(t, name, args),
            Value::Duration(d) => duration_method(*d, name, args),
            _ => None,
        };
        match result {
            None => Ok(None),
            Some(Ok(v)) => {
                let charge = self.env.charge(v.weight());
                self.charged(charge)?;
                Ok(Some(v))
            }
            // Complaints about the arguments come from the call itself in Go, not from the method.
            Some(Err(m)) if m.starts_with("wrong number of args") => {
                self.at = before;
                self.fail(m)
            }
            Some(Err(m)) if m.starts_with("wrong type for value") => self.fail(m),
            Some(Err(m)) => {
                self.at(node.pos, node);
                self.fail(format!("error calling {name}: {m}"))
            }
        }
    }
}
