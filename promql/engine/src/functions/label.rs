//! `label_replace` and `label_join`.
use ferula_model::labels::METRIC_NAME;
use ferula_regex::Regex;

use super::Args;
use crate::column::{Stream, map};
use crate::error::QueryError;
use crate::eval::merge::{Duplicates, always_unique};
use crate::grid::Grid;
use crate::identity::Identity;
use crate::query::Query;

pub(super) fn replace<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let (dst, replacement) = (args.string(q, 1)?, args.string(q, 2)?);
    let (src, pattern) = (args.string(q, 3)?, args.string(q, 4)?);
    let regex = Regex::anchored(&pattern)
        .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
    let literal = args.expr(1)?.without_parens().span();
    q.check_label_name(&dst, literal, "invalid destination label name in label_replace():")?;
    let out = map(args.vector(q, 0, grid)?, move |c| {
        if let Some(captures) = regex.captures(c.id.get(&src)) {
            let mut text = String::new();
            ferula_regex::expand(&replacement, &captures, &mut text);
            let mut b = c.id.builder();
            b.set(&dst, &text);
            c.id = Identity::owned(b.labels());
            if dst == METRIC_NAME {
                c.drop_name = false;
            }
        }
        Ok(())
    });
    Ok(always_unique(q, out, Duplicates::Merge))
}

pub(super) fn join<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let (dst, separator) = (args.string(q, 1)?, args.string(q, 2)?);
    let sources = (3..args.len()).map(|i| args.string(q, i)).collect::<Result<Vec<_>, _>>()?;
    for (i, source) in sources.iter().enumerate() {
        let literal = args.expr(i + 3)?.without_parens().span();
        q.check_label_name(source, literal, "invalid source label name in label_join():")?;
    }
    let literal = args.expr(1)?.without_parens().span();
    q.check_label_name(&dst, literal, "invalid destination label name in label_join():")?;
    let out = map(args.vector(q, 0, grid)?, move |c| {
        let text = sources.iter().map(|s| c.id.get(s)).collect::<Vec<_>>().join(&separator);
        let mut b = c.id.builder();
        b.set(&dst, &text);
        c.id = Identity::owned(b.labels());
        if dst == METRIC_NAME {
            c.drop_name = false;
        }
        Ok(())
    });
    Ok(always_unique(q, out, Duplicates::Merge))
}
