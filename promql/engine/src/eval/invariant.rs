//! Which expressions have the same value at every step.
use ferula_promql_parser::Expr;

/// Functions whose value depends on the evaluation time even when their argument does not.
const DEPENDS_ON_TIME: [&str; 12] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
    "start_timestamp",
];

/// Whether every selector inside is pinned by `@` and nothing else looks at the time. Iterative.
pub(crate) fn is_step_invariant(expr: &Expr) -> bool {
    let mut open = vec![expr];
    while let Some(e) = open.pop() {
        match e {
            Expr::Vector(v) if v.at.is_none() => return false,
            Expr::Matrix(m) if m.selector.at.is_none() => return false,
            // Whatever a pinned subquery contains is evaluated on the subquery's own grid.
            Expr::Subquery(s) if s.at.is_some() => continue,
            Expr::Subquery(_) => return false,
            Expr::Call(c) if DEPENDS_ON_TIME.contains(&c.func.name) => return false,
            _ => {}
        }
        open.extend(e.children());
    }
    true
}
