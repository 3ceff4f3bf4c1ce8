//! Pipelines: declarations, commands, operands.
use std::sync::Arc;

use super::lex::Kind;
use super::{Fault, PAREN_WEIGHT, Parser, constant};
use crate::ast::{Command, Expr, Pipe, Term};

impl Parser<'_> {
    /// A pipeline up to and with the token `end`. Variables it declares stay in scope.
    pub(super) fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, Fault> {
        let mut pipe =
            Pipe { pos: self.peek_non_space().pos, declared: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.next_non_space();
            match token.kind {
                k if k == end => {
                    self.check(&pipe, context)?;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.at -= 1;
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(token, context),
            }
        }
    }

    /// `$x :=`, `$x =` or, in a range, `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), Fault> {
        while self.peek_non_space().kind == Kind::Variable {
            let start = self.at;
            let name: Arc<str> = Arc::from(self.next().text);
            let next = self.peek_non_space();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    self.next();
                    pipe.assigns = next.kind == Kind::Assign;
                    pipe.declared.push(name.clone());
                    self.variables.push(name);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.next();
                    pipe.declared.push(name.clone());
                    self.variables.push(name);
                    if context != "range" || pipe.declared.len() >= 2 {
                        return self.error(format!("too many declarations in {context}"));
                    }
                    if !matches!(self.peek_non_space().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                        return self.error("range can only initialize variables");
                    }
                }
                _ => {
                    // An ordinary use of a variable: read it again as an operand.
                    self.at = start;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, pipe: &Pipe, context: &str) -> Result<(), Fault> {
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            if let Some(Expr {
                term: Term::Bool(_) | Term::Dot | Term::Nil | Term::Number(_) | Term::String(..), ..
            }) = command.args.first()
            {
                return self.error(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Fault> {
        let mut args = Vec::new();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.at -= 1,
                Kind::Pipe => {} // Go lets a pipe stand at the end
                _ => return self.unexpected(token, "operand"),
            }
            break;
        }
        if args.is_empty() {
            return self.error("empty command");
        }
        Ok(Command { args })
    }

    /// A term and the fields that follow it without a space.
    fn operand(&mut self) -> Result<Option<Expr>, Fault> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let pos = self.peek().pos;
        let mut fields: Vec<Arc<str>> = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(Arc::from(self.next().text.trim_start_matches('.')));
        }
        let term = match term.term {
            Term::Field(mut names) => {
                names.append(&mut fields);
                Term::Field(names)
            }
            Term::Variable(mut names) => {
                names.append(&mut fields);
                Term::Variable(names)
            }
            Term::Bool(_) | Term::String(..) | Term::Number(_) | Term::Nil | Term::Dot => {
                return self
                    .error(format!("unexpected . after term {}", ferula_model::labels::quoted(&term.to_string())));
            }
            other => Term::Chain(Box::new(Expr { pos: term.pos, term: other }), fields),
        };
        Ok(Some(Expr { pos, term }))
    }

    fn term(&mut self) -> Result<Option<Expr>, Fault> {
        let token = self.next_non_space();
        let term = match token.kind {
            Kind::Identifier => {
                if !self.names.is_function(token.text) {
                    let name = ferula_model::labels::quoted(token.text);
                    return self.error(format!("function {name} not defined"));
                }
                Term::Identifier(Arc::from(token.text))
            }
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Variable => {
                self.known_variable(token.text)?;
                Term::Variable(vec![Arc::from(token.text)])
            }
            Kind::Field => Term::Field(vec![Arc::from(token.text.trim_start_matches('.'))]),
            Kind::Bool => Term::Bool(token.text == "true"),
            Kind::Number => self.constant(constant::number(token.text))?,
            Kind::CharConstant => self.constant(constant::character(token.text))?,
            Kind::String | Kind::RawString => match constant::unquote(token.text) {
                Some(value) => Term::String(Arc::from(value), Arc::from(token.text)),
                None => return self.error("invalid syntax"),
            },
            Kind::LeftParen => {
                self.deeper(PAREN_WEIGHT)?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.nesting -= PAREN_WEIGHT;
                Term::Pipe(Box::new(pipe))
            }
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Expr { pos: token.pos, term }))
    }

    fn constant(&self, number: Result<crate::ast::Number, String>) -> Result<Term, Fault> {
        match number {
            Ok(n) => Ok(Term::Number(n)),
            Err(message) => self.error(message),
        }
    }

    fn known_variable(&self, name: &str) -> Result<(), Fault> {
        if self.variables.iter().any(|v| v.as_ref() == name) {
            return Ok(());
        }
        self.error(format!("undefined variable {}", ferula_model::labels::quoted(name)))
    }
}
