//! What storage is told about the use of a selection.
use ferula_promql_parser::Expr;
use hashbrown::HashMap;

/// The innermost function or aggregation around a selector, and the labels of an aggregation right above it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Use {
    pub function: &'static str,
    pub grouping: Vec<String>,
    pub by: bool,
}

/// By where selectors start.
pub(crate) fn uses(expr: &Expr) -> HashMap<u32, Use> {
    let mut found = HashMap::new();
    let mut open = vec![(expr, Use::default())];
    while let Some((e, outer)) = open.pop() {
        let here = match e {
            Expr::Vector(v) => {
                found.insert(v.span.start, outer);
                continue;
            }
            Expr::Matrix(m) => {
                found.insert(m.selector.span.start, outer);
                continue;
            }
            Expr::Aggregate(a) => {
                Use { function: a.op.as_str(), grouping: a.grouping.clone(), by: !a.without && !a.grouping.is_empty() }
            }
            Expr::Call(c) => Use { function: c.func.name, ..Use::default() },
            // A binary operator ends the path: its sides are used differently.
            Expr::Binary(_) => Use::default(),
            _ => outer,
        };
        open.extend(e.children().into_iter().map(|c| (c, here.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_innermost() {
        let e = ferula_promql_parser::parse_expr("sum by (a) (rate(x[5m])) / max without (b) (y) + z").unwrap();
        let uses = uses(&e);
        let mut all: Vec<_> = uses.iter().map(|(at, u)| (*at, u.function, u.grouping.len(), u.by)).collect();
        all.sort_unstable();
        assert_eq!(all, [(17, "rate", 0, false), (44, "max", 1, false), (49, "", 0, false)]);
    }
}
