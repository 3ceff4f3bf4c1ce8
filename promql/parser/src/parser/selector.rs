//! `name{label="value", ...}`.
use super::{Parser, Result};
use crate::ast::{BinaryOp, VectorSelector};
use crate::string::unquote;
use crate::token::Kind;
use ferula_model::labels::METRIC_NAME;
use ferula_model::{MatchOp, Matcher};

const PLACE: &str = "label matching";

impl Parser<'_> {
    pub(super) fn vector_selector(&mut self) -> Result<VectorSelector> {
        let start = self.token();
        self.selectors += 1;
        if self.selectors > self.options.selectors_max {
            let message = format!("query has more than {} selectors", self.options.selectors_max);
            return Err(self.error(start.span, message));
        }
        let mut name = String::new();
        if self.peek().is_metric_name() {
            name = self.word(start.span).to_owned();
            self.next();
        } else if self.peek() != Kind::LeftBrace {
            return Err(self.unexpected_here());
        }
        let mut matchers = Vec::new();
        if self.take_if(Kind::LeftBrace).is_some() {
            while self.take_if(Kind::RightBrace).is_none() {
                matchers.push(self.matcher()?);
                if self.take_if(Kind::Comma).is_none() && self.peek() != Kind::RightBrace {
                    return Err(self.unexpected(PLACE, "\",\" or \"}\""));
                }
            }
        }
        let span = start.span.to(self.last_end());
        if !name.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        let (offset, at, extension, may_match_everything) = (None, None, None, false);
        Ok(VectorSelector { name, matchers, offset, at, extension, may_match_everything, span })
    }

    /// `label op "value"`, or a quoted metric name alone.
    fn matcher(&mut self) -> Result<Matcher> {
        let label = self.token();
        let name = match self.peek() {
            Kind::Identifier => self.word(label.span).to_owned(),
            Kind::String => unquote(self.word(label.span)),
            _ => return Err(self.unexpected(PLACE, "identifier or \"}\"")),
        };
        self.next();
        let op = match self.peek() {
            Kind::Equal => MatchOp::Equal,
            Kind::Operator(BinaryOp::Neq) => MatchOp::NotEqual,
            Kind::EqualRegex => MatchOp::RegexMatch,
            Kind::NotEqualRegex => MatchOp::RegexNoMatch,
            _ if label.kind == Kind::String => return Ok(Matcher::equal(METRIC_NAME, name)),
            _ => return Err(self.unexpected(PLACE, "label matching operator")),
        };
        self.next();
        let value = self.token();
        if value.kind != Kind::String {
            return Err(self.unexpected(PLACE, "string"));
        }
        self.next();
        let span = label.span.to(value.span);
        let matcher =
            Matcher::new(op, name, unquote(self.word(value.span))).map_err(|e| self.error(span, e.to_string()))?;
        let states = matcher.regex().map_or(0, |re| re.states());
        self.regex_states = self.regex_states.saturating_add(states);
        if self.regex_states > self.options.regex_states_max {
            return Err(self.error(span, "regular expressions of the query are too large together"));
        }
        Ok(matcher)
    }
}
