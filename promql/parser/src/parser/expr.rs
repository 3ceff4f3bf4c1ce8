//! Operands, operators and what encloses them.
use super::modifier::BinaryModifiers;
use super::{Parser, Result};
use crate::ast::*;
use crate::functions::{Function, by_name};
use crate::number;
use crate::string::unquote_bytes;
use crate::token::{Keyword, Kind, Token};
use ferula_model::labels::quoted;

/// How tightly operators bind; unary signs bind as `*`, so that `-a ^ b` is `-(a ^ b)`.
const UNARY_POWER: u8 = 5;
const POW_POWER: u8 = 6;

fn power(op: BinaryOp) -> u8 {
    use BinaryOp::*;
    match op {
        Or => 1,
        And | Unless => 2,
        Eql | Neq | Lte | Lss | Gte | Gtr | TrimUpper | TrimLower => 3,
        Add | Sub => 4,
        Mul | Div | Mod | Atan2 => 5,
        Pow => POW_POWER,
    }
}

/// Something that is open: what is being read will be a part of it.
enum Frame {
    Paren { open: Span },
    Call { name: Token, func: Option<&'static Function>, args: Vec<Operand> },
    Aggregate { op: AggregateOp, start: Span, grouping: Option<Grouping>, args: Vec<Operand> },
    Unary { op: Token },
    Binary { lhs: Operand, op: BinaryOp, modifiers: BinaryModifiers },
}

/// An expression and its size: `depth` counts nested levels, a chain of left operands being one; `height` counts all.
struct Operand {
    expr: Expr,
    depth: usize,
    height: usize,
}

impl Operand {
    fn leaf(expr: Expr) -> Operand {
        Operand { expr, depth: 1, height: 1 }
    }
    fn over(expr: Expr, depth: usize, height: usize) -> Operand {
        Operand { expr, depth: depth + 1, height: height + 1 }
    }
}

struct Grouping {
    labels: Vec<String>,
    without: bool,
}

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr> {
        let mut open: Vec<Frame> = Vec::new();
        loop {
            let mut e = self.operand(&mut open)?;
            loop {
                let (expr, subqueries) = self.modifiers(e.expr)?;
                e = self.checked(Operand { expr, depth: e.depth + subqueries, height: e.height + subqueries })?;
                if let Kind::Operator(op) = self.peek() {
                    e = self.reduce(&mut open, e, power(op), op == BinaryOp::Pow)?;
                    self.next();
                    let modifiers = self.binary_modifiers()?;
                    self.push(&mut open, Frame::Binary { lhs: e, op, modifiers })?;
                    break;
                }
                e = self.reduce(&mut open, e, 0, false)?;
                match self.enclose(&mut open, e)? {
                    Enclosed::Argument => break,
                    Enclosed::Complete(complete) => e = complete,
                    Enclosed::All(expr) => return Ok(expr),
                }
            }
        }
    }

    fn push(&mut self, open: &mut Vec<Frame>, frame: Frame) -> Result<()> {
        if open.len() >= 2 * self.options.depth_max {
            return Err(self.too_deep(self.token().span));
        }
        open.push(frame);
        Ok(())
    }

    pub(super) fn too_deep(&self, span: Span) -> crate::ParseError {
        self.error(span, format!("query is nested deeper than {} levels", self.options.depth_max))
    }

    fn checked(&self, e: Operand) -> Result<Operand> {
        if e.depth > self.options.depth_max {
            return Err(self.too_deep(e.expr.span()));
        }
        if e.height > self.options.height_max {
            let message = format!("query has more than {} operators in a row", self.options.height_max);
            return Err(self.error(e.expr.span(), message));
        }
        Ok(e)
    }

    /// Reads up to and including an operand, opening frames on the way.
    fn operand(&mut self, open: &mut Vec<Frame>) -> Result<Operand> {
        loop {
            let token = self.token();
            let frame = match self.peek() {
                Kind::LeftParen => {
                    self.next();
                    Frame::Paren { open: token.span }
                }
                Kind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                    self.next();
                    Frame::Unary { op: token }
                }
                Kind::Number | Kind::Duration => {
                    self.next();
                    return Ok(Operand::leaf(Expr::Number(self.number_literal(token)?)));
                }
                Kind::String => {
                    self.next();
                    let bytes = unquote_bytes(self.word(token.span));
                    let value = String::from_utf8_lossy(&bytes).into_owned();
                    let not_utf8 = if std::str::from_utf8(&bytes).is_err() { Some(bytes) } else { None };
                    return Ok(Operand::leaf(Expr::String(StringLiteral { value, not_utf8, span: token.span })));
                }
                Kind::Aggregator(op) if self.starts_aggregation() => {
                    self.next();
                    self.open_aggregations += 1;
                    let grouping = self.grouping()?;
                    self.take_if(Kind::LeftParen).ok_or_else(|| self.unexpected_here())?;
                    let frame = Frame::Aggregate { op, start: token.span, grouping, args: Vec::new() };
                    if self.peek() == Kind::RightParen {
                        return self.complete(frame);
                    }
                    frame
                }
                Kind::Identifier | Kind::Bound(_) if self.peek_second() == Kind::LeftParen => {
                    self.next();
                    self.next();
                    let func = by_name(self.word(token.span));
                    let frame = Frame::Call { name: token, func, args: Vec::new() };
                    if self.peek() == Kind::RightParen {
                        return self.complete(frame);
                    }
                    frame
                }
                kind if kind == Kind::LeftBrace || kind.is_metric_name() => {
                    return Ok(Operand::leaf(Expr::Vector(self.vector_selector()?)));
                }
                _ => return Err(self.unexpected_here()),
            };
            self.push(open, frame)?;
        }
    }

    pub(super) fn number_literal(&self, token: Token) -> Result<NumberLiteral> {
        let value =
            number::value(token.kind, self.word(token.span)).map_err(|message| self.error(token.span, message))?;
        Ok(NumberLiteral { value, is_duration: token.kind == Kind::Duration, span: token.span })
    }

    /// An aggregator's name is a metric's unless arguments or a grouping follow.
    fn starts_aggregation(&self) -> bool {
        matches!(self.peek_second(), Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without))
    }

    fn grouping(&mut self) -> Result<Option<Grouping>> {
        let without = match self.peek() {
            Kind::Keyword(Keyword::By) => false,
            Kind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(Grouping { labels: self.label_names()?, without }))
    }

    /// Builds the unary and binary expressions on top of the stack that bind tighter than an operator of `power`.
    fn reduce(&mut self, open: &mut Vec<Frame>, mut e: Operand, next: u8, right_associative: bool) -> Result<Operand> {
        loop {
            let binds = match open.last() {
                Some(Frame::Unary { .. }) => UNARY_POWER,
                Some(Frame::Binary { op, .. }) => power(*op),
                _ => return Ok(e),
            };
            if binds < next || (binds == next && right_associative) {
                return Ok(e);
            }
            e = match open.pop() {
                Some(Frame::Unary { op }) => self.unary(op, e)?,
                Some(Frame::Binary { lhs, op, modifiers }) => self.binary(lhs, op, modifiers, e)?,
                _ => e,
            };
        }
    }

    fn unary(&self, op: Token, e: Operand) -> Result<Operand> {
        let negative = op.kind == Kind::Operator(BinaryOp::Sub);
        let span = op.span.to(e.expr.span());
        if let Expr::Number(mut n) = e.expr {
            n.value = if negative { -n.value } else { n.value };
            n.span = span;
            return Ok(Operand::leaf(Expr::Number(n)));
        }
        let value_type = e.expr.value_type();
        let expr = Expr::Unary(UnaryExpr { negative, expr: Box::new(e.expr), value_type, span });
        self.checked(Operand::over(expr, e.depth, e.height))
    }

    fn binary(&self, lhs: Operand, op: BinaryOp, modifiers: BinaryModifiers, rhs: Operand) -> Result<Operand> {
        let span = lhs.expr.span().to(rhs.expr.span());
        let BinaryModifiers { return_bool, mut matching } = modifiers;
        if !self.options.fill_modifiers && (matching.fill_lhs.is_some() || matching.fill_rhs.is_some()) {
            return Err(self.error_after_lookahead(span, "binop fill modifiers are experimental and not enabled"));
        }
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let scalar = |e: &Expr| e.value_type() == ValueType::Scalar;
        let value_type = if scalar(&lhs.expr) && scalar(&rhs.expr) { ValueType::Scalar } else { ValueType::Vector };
        let chained = usize::from(matches!(lhs.expr, Expr::Binary(_)));
        let (depth, height) = ((lhs.depth - chained).max(rhs.depth), lhs.height.max(rhs.height));
        let (lhs, rhs) = (Box::new(lhs.expr), Box::new(rhs.expr));
        let expr = Expr::Binary(BinaryExpr { op, lhs, rhs, matching: Some(matching), return_bool, value_type, span });
        self.checked(Operand::over(expr, depth, height))
    }

    /// What stands after a complete operand that no operator continues.
    fn enclose(&mut self, open: &mut Vec<Frame>, e: Operand) -> Result<Enclosed> {
        let Some(mut frame) = open.pop() else {
            return if self.peek() == Kind::Eof { Ok(Enclosed::All(e.expr)) } else { Err(self.unexpected_here()) };
        };
        let in_paren = matches!(frame, Frame::Paren { .. });
        match self.peek() {
            Kind::RightParen if in_paren => {
                let close = self.next();
                let Frame::Paren { open } = frame else { return Err(self.unexpected_here()) };
                let (value_type, span) = (e.expr.value_type(), open.to(close.span));
                let expr = Expr::Paren(ParenExpr { expr: Box::new(e.expr), value_type, span });
                Ok(Enclosed::Complete(self.checked(Operand::over(expr, e.depth, e.height))?))
            }
            kind @ (Kind::RightParen | Kind::Comma) if !in_paren => {
                if let Frame::Call { args, .. } | Frame::Aggregate { args, .. } = &mut frame {
                    args.push(e);
                }
                if kind == Kind::RightParen {
                    return Ok(Enclosed::Complete(self.complete(frame)?));
                }
                let comma = self.next();
                if !self.peek().starts_operand() && self.token().kind != Kind::Error {
                    return Err(self.error(comma.span, "trailing commas not allowed in function call args"));
                }
                open.push(frame);
                Ok(Enclosed::Argument)
            }
            _ => Err(self.unexpected_here()),
        }
    }

    /// Takes the closing parenthesis of a call or an aggregation and builds it.
    fn complete(&mut self, frame: Frame) -> Result<Operand> {
        let close = self.next().span;
        match frame {
            Frame::Call { name, func, args } => self.call(name, func, args, close),
            Frame::Aggregate { op, start, grouping, args } => self.aggregate(op, start, grouping, args, close),
            _ => Err(self.unexpected_here()),
        }
    }

    fn call(&self, name: Token, func: Option<&'static Function>, args: Vec<Operand>, close: Span) -> Result<Operand> {
        let word = self.word(name.span);
        let func = func.ok_or_else(|| self.error(name.span, format!("unknown function with name {}", quoted(word))))?;
        if func.is_experimental && !self.options.experimental_functions {
            return Err(self.error(name.span, format!("function {} is not enabled", quoted(word))));
        }
        let (depth, height) = size(&args);
        let args = args.into_iter().map(|a| a.expr).collect();
        let expr = Expr::Call(Call { func, args, span: name.span.to(close) });
        self.checked(Operand::over(expr, depth, height))
    }

    fn aggregate(
        &mut self,
        op: AggregateOp,
        start: Span,
        before: Option<Grouping>,
        args: Vec<Operand>,
        close: Span,
    ) -> Result<Operand> {
        let mut end = close;
        let after = if before.is_none() { self.grouping()? } else { None };
        if after.is_some() {
            end = self.last_end();
        }
        // Without a grouping upstream reads on to see whether one follows, and sees a bad token first.
        let reads_on = before.is_none() && after.is_none();
        let fail = |p: &Self, span, message: String| {
            if reads_on { p.error_after_lookahead(span, message) } else { p.error(span, message) }
        };
        let grouping = before.or(after).unwrap_or(Grouping { labels: Vec::new(), without: false });
        self.open_aggregations -= 1;
        let span = start.to(end);
        if args.is_empty() {
            return Err(fail(self, span, "no arguments for aggregate expression provided".to_owned()));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.as_str()
            );
            return Err(fail(self, span, message));
        }
        let (got, want) = (args.len(), 1 + usize::from(op.has_param()));
        let (depth, height) = size(&args);
        let mut args = args.into_iter().map(|a| Box::new(a.expr));
        let param = if op.has_param() { args.next() } else { None };
        let (Some(expr), None) = (args.next(), args.next()) else {
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {want}, got {got}");
            return Err(fail(self, span, message));
        };
        let Grouping { labels: grouping, without } = grouping;
        let expr = Expr::Aggregate(AggregateExpr { op, expr, param, grouping, without, span });
        self.checked(Operand::over(expr, depth, height))
    }
}

enum Enclosed {
    /// A comma: the next argument follows.
    Argument,
    Complete(Operand),
    All(Expr),
}

fn size(args: &[Operand]) -> (usize, usize) {
    args.iter().fold((0, 0), |(d, h), a| (d.max(a.depth), h.max(a.height)))
}
