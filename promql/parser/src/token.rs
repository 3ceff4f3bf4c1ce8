//! Tokens and how error messages name them.
use ferula_model::labels::quoted;

use crate::ast::{AggregateOp, BinaryOp, Span};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Eof,
    /// Lexing ended here; the lexer holds the message.
    Error,
    Identifier,
    /// An identifier with a colon in it.
    MetricIdentifier,
    Number,
    Duration,
    /// Still with quotes and escapes.
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Equal,
    /// `=~`
    EqualRegex,
    /// `!~`
    NotEqualRegex,
    At,
    Operator(BinaryOp),
    Aggregator(AggregateOp),
    Keyword(Keyword),
    /// `start end step range`
    Bound(Bound),
    /// `min_of` and `max_of` within brackets; outside they are identifiers.
    MinOf,
    MaxOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Start,
    End,
    Step,
    Range,
}

#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub kind: Kind,
    pub span: Span,
}

/// The keyword a word is, regardless of case.
pub fn keyword(word: &str) -> Option<Kind> {
    use AggregateOp as A;
    use BinaryOp as B;
    use Keyword as K;
    // The longest keyword has 12 letters: longer words need no lower-casing.
    if word.len() > 12 {
        return None;
    }
    Some(match word.to_ascii_lowercase().as_str() {
        "and" => Kind::Operator(B::And),
        "or" => Kind::Operator(B::Or),
        "unless" => Kind::Operator(B::Unless),
        "atan2" => Kind::Operator(B::Atan2),
        "sum" => Kind::Aggregator(A::Sum),
        "avg" => Kind::Aggregator(A::Avg),
        "count" => Kind::Aggregator(A::Count),
        "min" => Kind::Aggregator(A::Min),
        "max" => Kind::Aggregator(A::Max),
        "group" => Kind::Aggregator(A::Group),
        "stddev" => Kind::Aggregator(A::Stddev),
        "stdvar" => Kind::Aggregator(A::Stdvar),
        "topk" => Kind::Aggregator(A::Topk),
        "bottomk" => Kind::Aggregator(A::Bottomk),
        "count_values" => Kind::Aggregator(A::CountValues),
        "quantile" => Kind::Aggregator(A::Quantile),
        "limitk" => Kind::Aggregator(A::Limitk),
        "limit_ratio" => Kind::Aggregator(A::LimitRatio),
        "offset" => Kind::Keyword(K::Offset),
        "smoothed" => Kind::Keyword(K::Smoothed),
        "anchored" => Kind::Keyword(K::Anchored),
        "by" => Kind::Keyword(K::By),
        "without" => Kind::Keyword(K::Without),
        "on" => Kind::Keyword(K::On),
        "ignoring" => Kind::Keyword(K::Ignoring),
        "group_left" => Kind::Keyword(K::GroupLeft),
        "group_right" => Kind::Keyword(K::GroupRight),
        "fill" => Kind::Keyword(K::Fill),
        "fill_left" => Kind::Keyword(K::FillLeft),
        "fill_right" => Kind::Keyword(K::FillRight),
        "bool" => Kind::Keyword(K::Bool),
        "start" => Kind::Bound(Bound::Start),
        "end" => Kind::Bound(Bound::End),
        "step" => Kind::Bound(Bound::Step),
        "range" => Kind::Bound(Bound::Range),
        "inf" | "nan" => Kind::Number,
        _ => return None,
    })
}

impl Kind {
    /// May stand where a metric name may: names and most keywords.
    pub fn is_metric_name(self) -> bool {
        use BinaryOp as B;
        use Keyword as K;
        match self {
            Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregator(_) | Kind::Bound(_) => true,
            Kind::Operator(op) => matches!(op, B::And | B::Or | B::Unless),
            Kind::Keyword(k) => matches!(
                k,
                K::By | K::Offset | K::Without | K::Anchored | K::Smoothed | K::Fill | K::FillLeft | K::FillRight
            ),
            _ => false,
        }
    }

    /// May begin an expression.
    pub fn starts_operand(self) -> bool {
        use BinaryOp::{Add, Sub};
        let literal = matches!(self, Kind::Number | Kind::Duration | Kind::String);
        let other = matches!(self, Kind::LeftParen | Kind::LeftBrace | Kind::Operator(Add | Sub));
        literal || other || self.is_metric_name()
    }

    /// May stand as a label name in `by (...)`, `on (...)` and the like.
    pub fn is_label_name(self) -> bool {
        match self {
            Kind::Operator(BinaryOp::Atan2) => true,
            Kind::Keyword(k) => k != Keyword::Without,
            k => k.is_metric_name(),
        }
    }

    /// How a message names the token whose text is `word`.
    pub fn describe(self, word: &str) -> String {
        let shown = || {
            let short: String = word.chars().take(10).collect();
            if word.len() > 10 { format!("{}...", quoted(&short)) } else { quoted(word) }
        };
        match self {
            Kind::Eof => "end of input".to_owned(),
            Kind::Error => "error".to_owned(),
            Kind::Identifier => format!("identifier {}", quoted(word)),
            Kind::MetricIdentifier => format!("metric identifier {}", quoted(word)),
            Kind::Number => format!("number {}", shown()),
            Kind::Duration => format!("duration {}", shown()),
            Kind::String => format!("string {}", shown()),
            Kind::Operator(_) | Kind::At | Kind::EqualRegex | Kind::NotEqualRegex => format!("<op:{word}>"),
            Kind::Aggregator(_) => format!("<aggr:{word}>"),
            Kind::Keyword(_) => format!("<{word}>"),
            _ => shown(),
        }
    }
}
