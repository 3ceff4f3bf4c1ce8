//! What follows an operand (`[..]`, `offset`, `@`, `anchored`) and what follows a binary operator (`bool`, `on (...)`,
//! `group_left (...)`, `fill (...)`).
use super::{Parser, Result};
use crate::ast::*;
use crate::number;
use crate::string::unquote;
use crate::token::{Bound, Keyword, Kind};
use ferula_model::labels::quoted;

pub struct BinaryModifiers {
    pub return_bool: bool,
    pub matching: VectorMatching,
}

/// The changeable parts of the three expressions that take modifiers.
struct Target<'e> {
    offset: &'e mut Option<Duration>,
    at: &'e mut Option<At>,
    span: &'e mut Span,
}

fn target(e: &mut Expr) -> Option<Target<'_>> {
    match e {
        Expr::Vector(v) => Some(Target { offset: &mut v.offset, at: &mut v.at, span: &mut v.span }),
        Expr::Matrix(m) => Some(Target { offset: &mut m.selector.offset, at: &mut m.selector.at, span: &mut m.span }),
        Expr::Subquery(s) => Some(Target { offset: &mut s.offset, at: &mut s.at, span: &mut s.span }),
        _ => None,
    }
}

impl Parser<'_> {
    /// Applies every modifier that follows; also says how many subqueries now enclose the expression.
    pub(super) fn modifiers(&mut self, mut e: Expr) -> Result<(Expr, usize)> {
        let mut subqueries = 0;
        loop {
            match self.peek() {
                Kind::LeftBracket => {
                    e = self.brackets(e)?;
                    subqueries += usize::from(matches!(e, Expr::Subquery(_)));
                    if subqueries > self.options.depth_max {
                        return Err(self.too_deep(e.span()));
                    }
                }
                Kind::Keyword(Keyword::Offset) => self.offset(&mut e)?,
                Kind::At => self.at_modifier(&mut e)?,
                Kind::Keyword(Keyword::Anchored) => self.extension(&mut e, RangeExtension::Anchored)?,
                Kind::Keyword(Keyword::Smoothed) => self.extension(&mut e, RangeExtension::Smoothed)?,
                _ => return Ok((e, subqueries)),
            }
        }
    }

    /// `[range]` or `[range:step]`.
    fn brackets(&mut self, e: Expr) -> Result<Expr> {
        let open = self.next().span;
        let range = self.positive_duration("subquery or range selector")?;
        match self.peek() {
            Kind::RightBracket => {
                let close = self.next().span;
                let problem = match e {
                    Expr::Vector(selector) => match (&selector.offset, selector.at) {
                        (Some(Duration::Fixed(_)), _) => "no offset modifiers allowed before range",
                        (_, Some(At::Timestamp(_))) => "no @ modifiers allowed before range",
                        _ => {
                            let span = selector.span.to(close);
                            return Ok(Expr::Matrix(MatrixSelector { selector, range, span }));
                        }
                    },
                    _ => "ranges only allowed for vector selectors",
                };
                Err(self.error(open.to(close), problem))
            }
            Kind::Colon => {
                self.next();
                let step = match self.peek() {
                    Kind::RightBracket => None,
                    _ => {
                        let step = self.positive_duration_or_bracket()?;
                        if self.peek() != Kind::RightBracket {
                            return Err(self.unexpected("subquery selector", "\"]\""));
                        }
                        Some(step)
                    }
                };
                let span = e.span().to(self.next().span);
                Ok(Expr::Subquery(SubqueryExpr { expr: Box::new(e), range, step, offset: None, at: None, span }))
            }
            _ => Err(self.unexpected("subquery or range", "\":\" or \"]\"")),
        }
    }

    fn offset(&mut self, e: &mut Expr) -> Result<()> {
        self.next();
        let offset = self.offset_duration()?;
        let (span, end) = (e.span(), self.last_end());
        // Only after parentheses does upstream read on, to see whether an operator follows.
        let reads_on = matches!(&offset, Duration::Expr(e) if e.wrapped);
        let fail = |p: &Self, message: &str| {
            if reads_on { p.error_after_lookahead(span, message) } else { p.error(span, message) }
        };
        let Some(target) = target(e) else {
            let message =
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(fail(self, message));
        };
        if target.offset.is_some() {
            return Err(fail(self, "offset may not be set multiple times"));
        }
        // An offset of nothing is none, and may be given again.
        *target.offset = if offset == Duration::Fixed(0) { None } else { Some(offset) };
        target.span.end = end.end;
        Ok(())
    }

    fn at_modifier(&mut self, e: &mut Expr) -> Result<()> {
        self.next();
        let span = e.span();
        let expected = |p: &Self| p.unexpected("@", "timestamp");
        let at = match self.peek() {
            Kind::Bound(bound @ (Bound::Start | Bound::End)) => {
                self.next();
                for kind in [Kind::LeftParen, Kind::RightParen] {
                    self.take_if(kind).ok_or_else(|| expected(self))?;
                }
                if bound == Bound::Start { At::Start } else { At::End }
            }
            _ => {
                let seconds = self.signed_number().ok_or_else(|| expected(self))??;
                if !seconds.is_finite() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
                    let shown = if seconds.is_finite() {
                        format!("{seconds:.6}")
                    } else {
                        ferula_model::number::format_f(seconds)
                    };
                    return Err(self.error(span, format!("timestamp out of bounds for @ modifier: {shown}")));
                }
                At::Timestamp((seconds * 1000.0).round() as i64)
            }
        };
        let end = self.last_end();
        let Some(target) = target(e) else {
            let message =
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(self.error(span, message));
        };
        if target.at.is_some() {
            return Err(self.error(span, "@ <timestamp> may not be set multiple times"));
        }
        *target.at = Some(at);
        target.span.end = end.end;
        Ok(())
    }

    /// A number or duration with an optional sign; `None` where there is none.
    fn signed_number(&mut self) -> Option<Result<f64>> {
        let sign = match self.peek() {
            Kind::Operator(BinaryOp::Sub) => -1.0,
            Kind::Operator(BinaryOp::Add) => 1.0,
            _ => 0.0,
        };
        if sign != 0.0 {
            self.next();
        }
        let token = self.token();
        if !matches!(token.kind, Kind::Number | Kind::Duration) {
            return None;
        }
        self.next();
        let value = number::value(token.kind, self.word(token.span)).map_err(|m| self.error(token.span, m));
        Some(value.map(|v| if sign < 0.0 { -v } else { v }))
    }

    fn extension(&mut self, e: &mut Expr, extension: RangeExtension) -> Result<()> {
        self.next();
        let name = if extension == RangeExtension::Anchored { "anchored" } else { "smoothed" };
        let span = e.span();
        if !self.options.extended_range_selectors {
            return Err(self.error(span, format!("{name} modifier is experimental and not enabled")));
        }
        let selector = match e {
            Expr::Vector(v) => v,
            Expr::Matrix(m) => &mut m.selector,
            Expr::Subquery(_) => {
                return Err(self.error(span, format!("{name} modifier is not supported for subqueries")));
            }
            _ => return Err(self.error(span, format!("{name} modifier not implemented"))),
        };
        if selector.extension.is_some_and(|set| set != extension) {
            return Err(self.error(span, "anchored and smoothed modifiers cannot be used together"));
        }
        selector.extension = Some(extension);
        Ok(())
    }

    /// `(a, b)` after `by`, `on`, `group_left` and the like; a comma may end it.
    pub(super) fn label_names(&mut self) -> Result<Vec<String>> {
        const PLACE: &str = "grouping opts";
        self.take_if(Kind::LeftParen).ok_or_else(|| self.unexpected(PLACE, "\"(\""))?;
        let mut names = Vec::new();
        loop {
            if self.take_if(Kind::RightParen).is_some() {
                return Ok(names);
            }
            let token = self.token();
            let name = match token.kind {
                Kind::String => unquote(self.word(token.span)),
                kind if kind.is_label_name() => self.word(token.span).to_owned(),
                _ => return Err(self.unexpected(PLACE, "label")),
            };
            self.next();
            if name.is_empty() {
                return Err(self.error(token.span, format!("invalid label name for grouping: {}", quoted(&name))));
            }
            names.push(name);
            if self.take_if(Kind::Comma).is_none() && self.peek() != Kind::RightParen {
                return Err(self.unexpected(PLACE, "\",\" or \")\""));
            }
        }
    }

    pub(super) fn binary_modifiers(&mut self) -> Result<BinaryModifiers> {
        let return_bool = self.take_if(Kind::Keyword(Keyword::Bool)).is_some();
        let mut matching = VectorMatching {
            cardinality: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_lhs: None,
            fill_rhs: None,
        };
        if let Kind::Keyword(keyword @ (Keyword::On | Keyword::Ignoring)) = self.peek() {
            self.next();
            matching.on = keyword == Keyword::On;
            matching.labels = self.label_names()?;
            if let Kind::Keyword(keyword @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.peek() {
                self.next();
                let left = keyword == Keyword::GroupLeft;
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                let next = self.peek();
                let fills = matches!(next, Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight));
                if next == Kind::LeftParen || !(next.starts_operand() || fills) {
                    matching.include = self.label_names()?;
                }
            }
        }
        self.fill(&mut matching)?;
        Ok(BinaryModifiers { return_bool, matching })
    }

    /// `fill (v)`, or `fill_left (v)` and `fill_right (v)` in any order.
    fn fill(&mut self, matching: &mut VectorMatching) -> Result<()> {
        while let Kind::Keyword(keyword @ (Keyword::Fill | Keyword::FillLeft | Keyword::FillRight)) = self.peek() {
            let both = keyword == Keyword::Fill;
            let (left, right) = (both || keyword == Keyword::FillLeft, both || keyword == Keyword::FillRight);
            if (left && matching.fill_lhs.is_some()) || (right && matching.fill_rhs.is_some()) {
                return Err(self.unexpected_here());
            }
            self.next();
            self.take_if(Kind::LeftParen).ok_or_else(|| self.unexpected_here())?;
            let value = self.signed_number().ok_or_else(|| self.unexpected_here())??;
            self.take_if(Kind::RightParen).ok_or_else(|| self.unexpected_here())?;
            if left {
                matching.fill_lhs = Some(value);
            }
            if right {
                matching.fill_rhs = Some(value);
            }
        }
        Ok(())
    }
}
