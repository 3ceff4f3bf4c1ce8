//! Explaining a query: its expressions as a tree, and what each of them cost.
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ferula_promql_parser::Expr;
use hashbrown::HashMap;

use crate::eval::{Common, is_step_invariant};

/// Nodes that are listed at most; texts are cut to [`TEXT_BYTES_MAX`].
const NODES_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 300;

/// One expression of a query. A plan lists them with each parent before its children.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanNode {
    /// 0 for the whole query, one more for each level below it.
    pub depth: usize,
    /// `aggregation`, `function`, `operator`, `selector`, `range selector`, `subquery`, `number`, `string`.
    pub kind: &'static str,
    /// The expression in canonical form, cut if it is long.
    pub expr: String,
    /// What the engine makes of it: `once for all steps`, `shared with an equal expression`.
    pub notes: Vec<&'static str>,
    /// After evaluation only; absent for what its parent reads by itself (range selectors, subqueries).
    pub measured: Option<Measured>,
}

/// What an expression cost, its children included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Evaluations: more than one where results of different times were needed.
    pub evaluations: u64,
    /// Series that came out of it.
    pub series: u64,
    /// Samples of these series.
    pub samples: u64,
    /// Bytes of these series while they were passed on.
    pub bytes: u64,
    /// Samples that storage decoded for it.
    pub samples_decoded: u64,
    pub time: Duration,
}

/// Measurements of a running query, by where in the text an expression stands.
#[derive(Debug, Default)]
pub(crate) struct Analysis(Mutex<HashMap<(u32, u32), Measured>>);

impl Analysis {
    pub fn add(&self, expr: (u32, u32), m: Measured) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = all.entry(expr).or_default();
        sum.evaluations += m.evaluations;
        sum.series += m.series;
        sum.samples += m.samples;
        sum.bytes += m.bytes;
        sum.samples_decoded += m.samples_decoded;
        sum.time += m.time;
    }
    fn get(&self, expr: (u32, u32)) -> Option<Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&expr).copied()
    }
}

/// The tree of `expr`. Parentheses are left out.
pub(crate) fn plan(expr: &Expr, common: &Common, analysis: Option<&Analysis>) -> Vec<PlanNode> {
    let (mut nodes, mut open) = (Vec::new(), vec![(expr, 0, false)]);
    while let Some((e, depth, below_invariant)) = open.pop() {
        let e = e.without_parens();
        if nodes.len() == NODES_MAX {
            break;
        }
        let constant = matches!(e, Expr::Number(_) | Expr::String(_));
        let invariant = !constant && is_step_invariant(e);
        let mut notes = Vec::new();
        if invariant && !below_invariant {
            notes.push("once for all steps");
        }
        if common.id_of(e).is_some() {
            notes.push("shared with an equal expression");
        }
        let span = (e.span().start, e.span().end);
        nodes.push(PlanNode {
            depth,
            kind: kind(e),
            expr: cut(e.to_string()),
            notes,
            measured: analysis.and_then(|a| a.get(span)),
        });
        open.extend(e.children().into_iter().rev().map(|c| (c, depth + 1, invariant)));
    }
    nodes
}

fn kind(e: &Expr) -> &'static str {
    match e {
        Expr::Aggregate(_) => "aggregation",
        Expr::Call(_) => "function",
        Expr::Binary(_) | Expr::Unary(_) => "operator",
        Expr::Vector(_) => "selector",
        Expr::Matrix(_) => "range selector",
        Expr::Subquery(_) => "subquery",
        Expr::Number(_) => "number",
        Expr::String(_) => "string",
        Expr::Paren(_) => "parentheses",
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
