//! The typed syntax tree: every node knows the bytes of the query it came from.
//!
//! The tree is plain data, checked by the parser: what stands here is well typed and within the caps of
//! [`ParseOptions`](crate::ParseOptions). Nesting is capped by `depth_max`; chains of binary operators
//! (`1 + 1 + 1 ...`) grow to the left and may be as long as `height_max`: walk them with [`BinaryExpr::spine`].
use std::sync::Arc;

use ferula_model::Matcher;

use crate::functions::Function;

/// Bytes `start..end` of the query text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        // The length cap keeps both far below u32::MAX; saturating keeps foreign callers safe.
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { start: clamp(start), end: clamp(end) }
    }
    /// From the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end }
    }
    /// `line:column` of the first byte, both from 1 and the column in bytes: how upstream prints positions.
    pub fn line_column(self, text: &str) -> (usize, usize) {
        let upto = (self.start as usize).min(text.len());
        let before = &text.as_bytes()[..upto];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        (line, column)
    }
}

/// The four types of PromQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// The name the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }
    /// The name error messages use.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Number(NumberLiteral),
    String(StringLiteral),
    Vector(VectorSelector),
    Matrix(MatrixSelector),
    Subquery(SubqueryExpr),
    Aggregate(AggregateExpr),
    Binary(BinaryExpr),
    Unary(UnaryExpr),
    Paren(ParenExpr),
    Call(Call),
}

impl Expr {
    pub fn span(&self) -> Span {
        match self {
            Expr::Number(e) => e.span,
            Expr::String(e) => e.span,
            Expr::Vector(e) => e.span,
            Expr::Matrix(e) => e.span,
            Expr::Subquery(e) => e.span,
            Expr::Aggregate(e) => e.span,
            Expr::Binary(e) => e.span,
            Expr::Unary(e) => e.span,
            Expr::Paren(e) => e.span,
            Expr::Call(e) => e.span,
        }
    }

    /// The static type. Costs nothing: binary, unary and parenthesised nodes carry it.
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Vector(_) | Expr::Aggregate(_) => ValueType::Vector,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Binary(e) => e.value_type,
            Expr::Unary(e) => e.value_type,
            Expr::Paren(e) => e.value_type,
            Expr::Call(e) => e.func.return_type,
        }
    }

    /// The expression inside all enclosing parentheses.
    pub fn without_parens(&self) -> &Expr {
        let mut e = self;
        while let Expr::Paren(p) = e {
            e = &p.expr;
        }
        e
    }

    /// The direct sub-expressions in the order of the text; an aggregation's parameter comes before its operand.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => Vec::new(),
            Expr::Subquery(e) => vec![&e.expr],
            Expr::Aggregate(e) => e.param.as_deref().into_iter().chain([&*e.expr]).collect(),
            Expr::Binary(e) => vec![&e.lhs, &e.rhs],
            Expr::Unary(e) => vec![&e.expr],
            Expr::Paren(e) => vec![&e.expr],
            Expr::Call(e) => e.args.iter().collect(),
        }
    }

    /// Calls `f` for this node and everything below it, parents first, in the order of the text. Iterative. A matrix
    /// selector is one node; its `selector` is not visited separately.
    pub fn visit<'a>(&'a self, mut f: impl FnMut(&'a Expr)) {
        let mut open = vec![self];
        while let Some(e) = open.pop() {
            f(e);
            open.extend(e.children().into_iter().rev());
        }
    }

    /// Every vector selector of the tree, those inside matrix selectors included, in the order of the text.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut all = Vec::new();
        self.visit(|e| match e {
            Expr::Vector(v) => all.push(v),
            Expr::Matrix(m) => all.push(&m.selector),
            _ => {}
        });
        all
    }
}

/// `1.5`, `0x1f`, `1_000`, `Inf`, `NaN`, or a duration used as a number of seconds (`1h30m` is 5400).
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    pub value: f64,
    /// Written as a duration, and printed as one.
    pub is_duration: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// Without quotes, escapes resolved. Bytes that are not UTF-8 (from `"\xff"`) stand as U+FFFD.
    pub value: String,
    /// The exact bytes, where they are not UTF-8: such a string is valid in Go, but no label can hold it.
    pub not_utf8: Option<Vec<u8>>,
    pub span: Span,
}

impl StringLiteral {
    /// The literal as Go's `%q` writes it, as error messages and the printer do.
    pub fn quoted(&self) -> String {
        match &self.not_utf8 {
            None => ferula_model::labels::quoted(&self.value),
            Some(bytes) => crate::string::quoted_bytes(bytes),
        }
    }
}

/// `name{matchers}` with its modifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name if it was given before the braces, else "" (a quoted name inside them is a matcher only).
    pub name: String,
    /// As written, followed by the matcher on `__name__` if `name` was given.
    pub matchers: Vec<Matcher>,
    pub offset: Option<Duration>,
    pub at: Option<At>,
    pub extension: Option<RangeExtension>,
    /// Whether all matchers may match the empty string: only the selector that is `info()`'s second argument.
    pub may_match_everything: bool,
    pub span: Span,
}

/// `anchored` or `smoothed` after a selector (flag promql-extended-range-selectors).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeExtension {
    Anchored,
    Smoothed,
}

/// The `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Milliseconds since the epoch.
    Timestamp(i64),
    /// The query's start time.
    Start,
    /// The query's end time.
    End,
}

/// `selector[range]`; offset, `@` and extension are the selector's.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub range: Duration,
    pub span: Span,
}

/// `expr[range:step]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SubqueryExpr {
    pub expr: Box<Expr>,
    pub range: Duration,
    /// `None`: the default evaluation interval.
    pub step: Option<Duration>,
    pub offset: Option<Duration>,
    pub at: Option<At>,
    pub span: Span,
}

/// A duration in `[...]` or after `offset`: plain milliseconds, or an expression that may depend on the query's step
/// and range.
#[derive(Clone, Debug, PartialEq)]
pub enum Duration {
    /// Milliseconds. Negative only in an offset.
    Fixed(i64),
    /// Written as an expression; [`Duration::resolve`] gives milliseconds, [`Duration::fixed`] where it is constant.
    Expr(Arc<DurationExpr>),
}

/// A duration expression. Numbers are seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    pub kind: DurationKind,
    /// Printed in parentheses.
    pub wrapped: bool,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    Number(NumberLiteral),
    /// `step()`
    Step,
    /// `range()`
    Range,
    Negative(Box<DurationExpr>),
    Binary(DurationOp, Box<DurationExpr>, Box<DurationExpr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

impl DurationOp {
    pub fn as_str(self) -> &'static str {
        match self {
            DurationOp::Add => "+",
            DurationOp::Sub => "-",
            DurationOp::Mul => "*",
            DurationOp::Div => "/",
            DurationOp::Mod => "%",
            DurationOp::Pow => "^",
            DurationOp::MinOf => "min_of",
            DurationOp::MaxOf => "max_of",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    LimitRatio,
    Limitk,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
}

impl AggregateOp {
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Avg => "avg",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Count => "count",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Group => "group",
            AggregateOp::LimitRatio => "limit_ratio",
            AggregateOp::Limitk => "limitk",
            AggregateOp::Max => "max",
            AggregateOp::Min => "min",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Sum => "sum",
            AggregateOp::Topk => "topk",
        }
    }
    /// Takes a parameter: a string for `count_values`, a scalar for the others.
    pub fn has_param(self) -> bool {
        use AggregateOp::*;
        matches!(self, Bottomk | CountValues | LimitRatio | Limitk | Quantile | Topk)
    }
    /// Needs `promql-experimental-functions`.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

/// `op by (grouping) (param, expr)`.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateExpr {
    pub op: AggregateOp,
    pub expr: Box<Expr>,
    pub param: Option<Box<Expr>>,
    /// As written: may hold repetitions.
    pub grouping: Vec<String>,
    pub without: bool,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    /// `==`
    Eql,
    /// `!=`
    Neq,
    /// `<=`
    Lte,
    /// `<`
    Lss,
    /// `>=`
    Gte,
    /// `>`
    Gtr,
    And,
    Or,
    Unless,
    /// `</`: keeps a native histogram's observations below a value.
    TrimUpper,
    /// `>/`: keeps those above.
    TrimLower,
}

impl BinaryOp {
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eql => "==",
            BinaryOp::Neq => "!=",
            BinaryOp::Lte => "<=",
            BinaryOp::Lss => "<",
            BinaryOp::Gte => ">=",
            BinaryOp::Gtr => ">",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }
    /// `== != <= < >= >`: filters, unless `bool` is given.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eql | Neq | Lte | Lss | Gte | Gtr)
    }
    /// `and or unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// `lhs op rhs`.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    pub op: BinaryOp,
    pub lhs: Box<Expr>,
    pub rhs: Box<Expr>,
    /// Set exactly when both sides are instant vectors.
    pub matching: Option<VectorMatching>,
    /// `bool` after a comparison: 0 or 1 instead of filtering.
    pub return_bool: bool,
    pub value_type: ValueType,
    pub span: Span,
}

impl BinaryExpr {
    /// The chain of operators down the left side, innermost first, and the leftmost operand below them:
    /// `a + b * c - d` gives `a` and the nodes of `+` and `-`. Folding it from the left evaluates without recursion.
    pub fn spine(&self) -> (&Expr, Vec<&BinaryExpr>) {
        let mut chain = vec![self];
        let mut first = &*self.lhs;
        while let Expr::Binary(b) = first {
            chain.push(b);
            first = &b.lhs;
        }
        chain.reverse();
        (first, chain)
    }
}

/// A chain of left operands can be long: it is dropped in a loop.
impl Drop for BinaryExpr {
    fn drop(&mut self) {
        let leaf = || Expr::Number(NumberLiteral { value: 0.0, is_duration: false, span: Span::default() });
        if !matches!(*self.lhs, Expr::Binary(_)) {
            return;
        }
        let mut rest = std::mem::replace(&mut *self.lhs, leaf());
        while let Expr::Binary(b) = &mut rest {
            let next = std::mem::replace(&mut *b.lhs, leaf());
            rest = next; // the node dropped here has a leaf on its left
        }
    }
}

/// How the series of two vectors find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// `labels` are those of `on(...)`; otherwise all labels but them match.
    pub on: bool,
    /// Labels that `group_left`/`group_right` copy from the "one" side.
    pub include: Vec<String>,
    /// `fill`/`fill_left`: stands in for a missing series of the left side.
    pub fill_lhs: Option<f64>,
    /// `fill`/`fill_right`: stands in for a missing series of the right side.
    pub fill_rhs: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cardinality {
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    pub fn as_str(self) -> &'static str {
        match self {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        }
    }
}

/// `-expr` or `+expr` on a scalar or an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct UnaryExpr {
    pub negative: bool,
    pub expr: Box<Expr>,
    pub value_type: ValueType,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ParenExpr {
    pub expr: Box<Expr>,
    pub value_type: ValueType,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub func: &'static Function,
    pub args: Vec<Expr>,
    pub span: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_chains_drop_on_a_small_stack() {
        let number = || Expr::Number(NumberLiteral { value: 1.0, is_duration: false, span: Span::default() });
        std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn(move || {
                let mut e = number();
                for _ in 0..100_000 {
                    e = Expr::Binary(BinaryExpr {
                        op: BinaryOp::Add,
                        lhs: Box::new(e),
                        rhs: Box::new(number()),
                        matching: None,
                        return_bool: false,
                        value_type: ValueType::Scalar,
                        span: Span::default(),
                    });
                }
                let Expr::Binary(top) = &e else { return };
                assert_eq!(top.spine().1.len(), 100_000);
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
