//! The order of series: storage may give them in any, results have one.
use ferula_promql_parser::{AggregateOp, Expr};

/// Operators whose result depends on the order in which series come.
fn picks(e: &Expr) -> bool {
    matches!(e, Expr::Aggregate(a) if matches!(a.op, AggregateOp::Limitk | AggregateOp::Topk | AggregateOp::Bottomk))
}

fn sorts(e: &Expr) -> bool {
    matches!(e, Expr::Call(c) if c.func.name.starts_with("sort"))
}

/// The starts of all selectors below an operator that picks series, or that sorts and keeps the order of equals.
pub(crate) fn picked_from(expr: &Expr) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![(expr, false)];
    while let Some((e, below)) = open.pop() {
        let below = below || picks(e) || sorts(e);
        match e {
            Expr::Vector(v) if below => found.push(v.span.start),
            Expr::Matrix(m) if below => found.push(m.selector.span.start),
            _ => {}
        }
        open.extend(e.children().into_iter().map(|c| (c, below)));
    }
    found
}

/// Whether an instant vector comes in an order of its own; otherwise it is sorted by labels in the end.
pub(crate) fn defines_order(expr: &Expr) -> bool {
    let mut found = false;
    expr.visit(|e| found |= picks(e) || sorts(e));
    found
}
