//! Pipelines and their operands: constants, fields, variables, chains.
use super::{Fault, Runner};
use crate::ast::{Command, Expr, Number, Pipe, Term};
use crate::functions::Type;
use crate::parse::PAREN_WEIGHT;
use crate::value::Value;

impl<'a> Runner<'a, '_, '_> {
    /// The value of a pipeline, which is also assigned to the variables it declares.
    pub(super) fn pipeline(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value, Fault> {
        self.at(pipe.pos, pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.declared {
            if pipe.assigns {
                self.set_variable(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    /// One command; `piped` is the value of the one before it, which becomes its last argument.
    fn command(&mut self, dot: &Value, command: &'a Command, piped: Option<Value>) -> Result<Value, Fault> {
        let step = self.env.step();
        self.charged(step)?;
        let Some(first) = command.args.first() else { return Ok(Value::Nil) };
        match &first.term {
            Term::Field(_) | Term::Chain(..) | Term::Variable(_) | Term::Identifier(_) => {
                return self.invoke(dot, first, &command.args, piped, command);
            }
            Term::Pipe(pipe) => {
                self.not_a_function(&command.args, &piped)?;
                return self.parenthesised(dot, pipe);
            }
            _ => {}
        }
        self.at(first.pos, first);
        self.not_a_function(&command.args, &piped)?;
        match &first.term {
            Term::Nil => self.fail("nil is not a command"),
            Term::Dot => Ok(dot.clone()),
            _ => self.constant(first),
        }
    }

    fn parenthesised(&mut self, dot: &Value, pipe: &'a Pipe) -> Result<Value, Fault> {
        let room = self.env.deeper(PAREN_WEIGHT);
        self.charged(room)?;
        let value = self.pipeline(dot, pipe)?;
        self.env.leave(PAREN_WEIGHT);
        Ok(value)
    }

    fn not_a_function(&mut self, args: &'a [Expr], piped: &Option<Value>) -> Result<(), Fault> {
        match args.first() {
            Some(first) if args.len() > 1 || piped.is_some() => {
                self.fail(format!("can't give argument to non-function {first}"))
            }
            _ => Ok(()),
        }
    }

    /// A field, chain, variable or function, with the arguments that follow it.
    pub(super) fn invoke(
        &mut self,
        dot: &Value,
        first: &'a Expr,
        args: &'a [Expr],
        piped: Option<Value>,
        whole: &'a dyn std::fmt::Display,
    ) -> Result<Value, Fault> {
        self.at(first.pos, first);
        match &first.term {
            Term::Field(names) => self.fields(dot, dot.clone(), first, names, args, piped),
            Term::Chain(inner, names) => {
                if let Term::Nil = inner.term {
                    return self.fail(format!("indirection through explicit nil in {first}"));
                }
                let receiver = self.argument(dot, inner, Type::Any)?;
                self.fields(dot, receiver, first, names, args, piped)
            }
            Term::Variable(names) => {
                let (name, fields) = match names.split_first() {
                    Some((name, fields)) => (name, fields),
                    None => return Ok(Value::Nil),
                };
                let found = self.variables.iter().rev().find(|(n, _)| *n == name.as_ref()).map(|(_, v)| v.clone());
                let Some(value) = found else { return self.fail(format!("undefined variable: {name}")) };
                if fields.is_empty() {
                    self.not_a_function(args, &piped)?;
                    return Ok(value);
                }
                self.fields(dot, value, first, fields, args, piped)
            }
            Term::Identifier(name) => self.function(dot, name, args, piped, (first.pos, first, whole)),
            _ => self.constant(first),
        }
    }

    /// `.A.B.C args`: all but the last are looked up bare.
    fn fields(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        node: &'a Expr,
        names: &'a [std::sync::Arc<str>],
        args: &'a [Expr],
        piped: Option<Value>,
    ) -> Result<Value, Fault> {
        let Some((last, first)) = names.split_last() else { return Ok(receiver) };
        for (i, name) in first.iter().enumerate() {
            receiver = self.field(dot, receiver, i > 0, node, name, &[], None)?;
        }
        self.field(dot, receiver, !first.is_empty(), node, last, args, piped)
    }

    /// An argument for a parameter of type `want`.
    pub(super) fn argument(&mut self, dot: &Value, expr: &'a Expr, want: Type) -> Result<Value, Fault> {
        let step = self.env.step();
        self.charged(step)?;
        self.at(expr.pos, expr);
        let value = match &expr.term {
            Term::Dot => dot.clone(),
            Term::Nil if matches!(want, Type::Any | Type::Strings) => return Ok(Value::Nil),
            Term::Nil => return self.fail(format!("cannot assign nil to {}", want.go_name())),
            Term::Field(_) | Term::Variable(_) | Term::Chain(..) => {
                self.invoke(dot, expr, std::slice::from_ref(expr), None, expr)?
            }
            Term::Identifier(_) => self.invoke(dot, expr, &[], None, expr)?,
            Term::Pipe(pipe) => self.parenthesised(dot, pipe)?,
            _ => return self.constant_for(expr, want),
        };
        self.checked(value, want)
    }

    /// A value for a parameter of type `want`, or Go's complaint.
    pub(super) fn checked(&self, value: Value, want: Type) -> Result<Value, Fault> {
        if want.accepts(&value) {
            return Ok(value);
        }
        if value.is_nil() {
            return self.fail(format!("invalid value; expected {}", want.go_name()));
        }
        self.fail(format!("wrong type for value; expected {}; got {}", want.go_name(), value.type_name()))
    }

    fn constant_for(&self, expr: &'a Expr, want: Type) -> Result<Value, Fault> {
        let mismatch = |kind: &str| self.fail(format!("expected {kind}; found {expr}"));
        match (want, &expr.term) {
            (Type::Any, _) => self.constant(expr),
            (Type::Str, Term::String(s, _)) => Ok(Value::Str(s.clone())),
            (Type::Str, _) => mismatch("string"),
            (Type::Bool, Term::Bool(b)) => Ok(Value::Bool(*b)),
            (Type::Bool, _) => mismatch("bool"),
            (Type::Int, Term::Number(Number { int: Some(i), .. })) => Ok(Value::Int(*i)),
            (Type::Duration, Term::Number(Number { int: Some(i), .. })) => Ok(Value::Duration(*i)),
            (Type::Int | Type::Duration, _) => mismatch("integer"),
            (Type::Float, Term::Number(Number { float: Some(f), .. })) => Ok(Value::Float(*f)),
            (Type::Float, _) => mismatch("float"),
            (Type::Strings | Type::Time | Type::Named(_), _) => {
                self.fail(format!("can't handle {expr} for arg of type {}", want.go_name()))
            }
        }
    }

    /// A constant where any value is accepted.
    fn constant(&self, expr: &'a Expr) -> Result<Value, Fault> {
        match &expr.term {
            Term::Bool(b) => Ok(Value::Bool(*b)),
            Term::String(s, _) => Ok(Value::Str(s.clone())),
            Term::Number(n) => match (n.ideal_int, n.int, n.float) {
                (true, Some(i), _) => Ok(Value::Int(i)),
                (false, _, Some(f)) => Ok(Value::Float(f)),
                _ => self.fail(format!("{} overflows int", n.text)),
            },
            Term::Nil => self.fail("evalEmptyInterface: nil (can't happen)"),
            _ => self.fail(format!("can't handle assignment of {expr} to empty interface argument")),
        }
    }
}
