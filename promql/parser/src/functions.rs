//! The 90 functions of PromQL 3.14: names, argument types, result types.
use crate::ast::ValueType;

#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    /// The last one repeats when `variadic` is not 0.
    pub arg_types: &'static [ValueType],
    /// 0: exactly `arg_types`; n > 0: the last argument may be missing or stand up to n times; -1: any number of it.
    pub variadic: i32,
    pub return_type: ValueType,
    /// Needs the feature flag `promql-experimental-functions`.
    pub is_experimental: bool,
}

impl Function {
    /// Fewest arguments.
    pub fn args_min(&self) -> usize {
        self.arg_types.len() - usize::from(self.variadic != 0)
    }
    /// Most arguments; `None`: no bound.
    pub fn args_max(&self) -> Option<usize> {
        match self.variadic {
            0 => Some(self.arg_types.len()),
            n => usize::try_from(n).ok().map(|n| self.arg_types.len() - 1 + n),
        }
    }
}

const fn stable(
    name: &'static str,
    arg_types: &'static [ValueType],
    variadic: i32,
    return_type: ValueType,
) -> Function {
    Function { name, arg_types, variadic, return_type, is_experimental: false }
}

const fn experimental(
    name: &'static str,
    arg_types: &'static [ValueType],
    variadic: i32,
    return_type: ValueType,
) -> Function {
    Function { name, arg_types, variadic, return_type, is_experimental: true }
}

const S: ValueType = ValueType::Scalar;
const V: ValueType = ValueType::Vector;
const M: ValueType = ValueType::Matrix;
const T: ValueType = ValueType::String;

/// All functions in the order of their names.
pub static FUNCTIONS: [Function; 90] = [
    stable("abs", &[V], 0, V),
    stable("absent", &[V], 0, V),
    stable("absent_over_time", &[M], 0, V),
    stable("acos", &[V], 0, V),
    stable("acosh", &[V], 0, V),
    stable("asin", &[V], 0, V),
    stable("asinh", &[V], 0, V),
    stable("atan", &[V], 0, V),
    stable("atanh", &[V], 0, V),
    stable("avg_over_time", &[M], 0, V),
    stable("ceil", &[V], 0, V),
    stable("changes", &[M], 0, V),
    stable("clamp", &[V, S, S], 0, V),
    stable("clamp_max", &[V, S], 0, V),
    stable("clamp_min", &[V, S], 0, V),
    stable("cos", &[V], 0, V),
    stable("cosh", &[V], 0, V),
    stable("count_over_time", &[M], 0, V),
    stable("day_of_month", &[V], 1, V),
    stable("day_of_week", &[V], 1, V),
    stable("day_of_year", &[V], 1, V),
    stable("days_in_month", &[V], 1, V),
    stable("deg", &[V], 0, V),
    stable("delta", &[M], 0, V),
    stable("deriv", &[M], 0, V),
    experimental("double_exponential_smoothing", &[M, S, S], 0, V),
    experimental("end", &[], 0, S),
    stable("exp", &[V], 0, V),
    stable("first_over_time", &[M], 0, V),
    stable("floor", &[V], 0, V),
    stable("histogram_avg", &[V], 0, V),
    stable("histogram_count", &[V], 0, V),
    stable("histogram_fraction", &[S, S, V], 0, V),
    stable("histogram_quantile", &[S, V], 0, V),
    experimental("histogram_quantiles", &[V, T, S, S], 9, V),
    stable("histogram_stddev", &[V], 0, V),
    stable("histogram_stdvar", &[V], 0, V),
    stable("histogram_sum", &[V], 0, V),
    stable("hour", &[V], 1, V),
    stable("idelta", &[M], 0, V),
    stable("increase", &[M], 0, V),
    experimental("info", &[V, V], 1, V),
    stable("irate", &[M], 0, V),
    stable("label_join", &[V, T, T, T], -1, V),
    stable("label_replace", &[V, T, T, T, T], 0, V),
    stable("last_over_time", &[M], 0, V),
    stable("ln", &[V], 0, V),
    stable("log10", &[V], 0, V),
    stable("log2", &[V], 0, V),
    experimental("mad_over_time", &[M], 0, V),
    experimental("max_of", &[S, S], 0, S),
    stable("max_over_time", &[M], 0, V),
    experimental("min_of", &[S, S], 0, S),
    stable("min_over_time", &[M], 0, V),
    stable("minute", &[V], 1, V),
    stable("month", &[V], 1, V),
    stable("pi", &[], 0, S),
    stable("predict_linear", &[M, S], 0, V),
    stable("present_over_time", &[M], 0, V),
    stable("quantile_over_time", &[S, M], 0, V),
    stable("rad", &[V], 0, V),
    experimental("range", &[], 0, S),
    stable("rate", &[M], 0, V),
    stable("resets", &[M], 0, V),
    stable("round", &[V, S], 1, V),
    stable("scalar", &[V], 0, S),
    stable("sgn", &[V], 0, V),
    stable("sin", &[V], 0, V),
    stable("sinh", &[V], 0, V),
    stable("sort", &[V], 0, V),
    experimental("sort_by_label", &[V, T], -1, V),
    experimental("sort_by_label_desc", &[V, T], -1, V),
    stable("sort_desc", &[V], 0, V),
    stable("sqrt", &[V], 0, V),
    experimental("start", &[], 0, S),
    experimental("start_timestamp", &[V], 0, V),
    stable("stddev_over_time", &[M], 0, V),
    stable("stdvar_over_time", &[M], 0, V),
    experimental("step", &[], 0, S),
    stable("sum_over_time", &[M], 0, V),
    stable("tan", &[V], 0, V),
    stable("tanh", &[V], 0, V),
    stable("time", &[], 0, S),
    stable("timestamp", &[V], 0, V),
    experimental("ts_of_first_over_time", &[M], 0, V),
    experimental("ts_of_last_over_time", &[M], 0, V),
    experimental("ts_of_max_over_time", &[M], 0, V),
    experimental("ts_of_min_over_time", &[M], 0, V),
    stable("vector", &[S], 0, V),
    stable("year", &[V], 1, V),
];

/// Names are case-sensitive.
pub fn by_name(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().and_then(|i| FUNCTIONS.get(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_in_order_seventeen_experimental() {
        assert!(FUNCTIONS.windows(2).all(|w| w[0].name < w[1].name));
        assert_eq!(FUNCTIONS.iter().filter(|f| f.is_experimental).count(), 17);
        for f in &FUNCTIONS {
            assert!(std::ptr::eq(by_name(f.name).unwrap(), f));
        }
        assert!(by_name("RATE").is_none());
    }
}
