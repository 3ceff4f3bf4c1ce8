#![doc = include_str!("../README.md")]
pub mod ast;
mod check;
pub mod duration;
mod error;
pub mod functions;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod json;
mod lexer;
mod number;
mod parser;
mod pretty;
mod printer;
pub mod series_description;
mod string;
mod token;

pub use ast::*;
pub use duration::{DurationContext, DurationError, DurationUse};
pub use error::ParseError;
pub use functions::{FUNCTIONS, Function};
pub use json::to_json;
pub use pretty::pretty;

use ferula_model::Matcher;

/// Parses and checks a query with the default options.
pub fn parse_expr(text: &str) -> Result<Expr, ParseError> {
    parse_expr_with(text, &ParseOptions::default())
}

/// Parses and checks a query.
pub fn parse_expr_with(text: &str, options: &ParseOptions) -> Result<Expr, ParseError> {
    let mut expr = parser::Parser::new(text, options)?.query()?;
    check::check(text, &expr)?;
    check::normalise(&mut expr);
    Ok(expr)
}

/// Parses one selector such as `up{job="x"}`, as `match[]` parameters are. Matchers that all may match the empty string
/// are not refused here.
pub fn parse_metric_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    Ok(parser::Parser::new(text, &ParseOptions::default())?.lone_selector()?.matchers)
}

/// Caps and feature gates. Positions and texts of the errors are upstream's.
#[derive(Clone, Debug)]
pub struct ParseOptions {
    /// `--enable-feature=promql-experimental-functions`
    pub experimental_functions: bool,
    /// `--enable-feature=promql-extended-range-selectors`
    pub extended_range_selectors: bool,
    /// `--enable-feature=promql-binop-fill-modifiers`
    pub fill_modifiers: bool,
    /// Duration expressions; on by default since 3.14.
    pub duration_expressions: bool,
    /// Bytes of text.
    pub length_max: usize,
    pub tokens_max: usize,
    /// Nested levels: parentheses, arguments, right operands, unary signs.
    pub depth_max: usize,
    /// Height of the whole tree: also counts operators in a row (`1 + 1 + ...`), which nest to the left.
    pub height_max: usize,
    pub selectors_max: usize,
    /// States of all automata of regular expressions together (`ferula_regex::Regex::states`).
    pub regex_states_max: usize,
}

impl Default for ParseOptions {
    fn default() -> Self {
        ParseOptions {
            experimental_functions: false,
            extended_range_selectors: false,
            fill_modifiers: false,
            duration_expressions: true,
            length_max: 1 << 20,
            tokens_max: 200_000,
            depth_max: 128,
            height_max: 1_000,
            selectors_max: 10_000,
            regex_states_max: 4_000_000,
        }
    }
}
