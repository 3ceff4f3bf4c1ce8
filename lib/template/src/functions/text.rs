//! Functions on text that both Prometheus and Alertmanager define.
use ferula_regex::Regex;

use super::{Function, Functions, Type, arg, humanize, text_arg};
use crate::exec::Env;
use crate::value::{Safe, Value};

pub(crate) const STR: &[Type] = &[Type::Str];
pub(crate) const STR2: &[Type] = &[Type::Str, Type::Str];
pub(crate) const STR3: &[Type] = &[Type::Str, Type::Str, Type::Str];
pub(crate) const ANY: &[Type] = &[Type::Any];

/// toUpper, toLower, match, reReplaceAll, safeHtml, humanizeDuration.
pub(crate) fn add(functions: &mut Functions) {
    functions
        .add("toUpper", Function::new(STR, |a| Ok(text_arg(a, 0).to_uppercase().into())))
        .add("toLower", Function::new(STR, |a| Ok(text_arg(a, 0).to_lowercase().into())))
        .add("match", Function::new(STR2, |a| matches(text_arg(a, 0), text_arg(a, 1)).map(Value::Bool)))
        .add("reReplaceAll", Function::with_env(STR3, replace_all))
        .add("safeHtml", Function::new(STR, |a| Ok(Value::Safe(Safe::Html, text_arg(a, 0).into()))))
        .add(
            "humanizeDuration",
            Function::new(ANY, |a| Ok(humanize::humanize_duration(humanize::to_float(arg(a, 0))?).into())),
        );
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::plain(pattern).map_err(|e| e.to_string())
}

fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    Ok(compiled(pattern)?.is_match(text))
}

/// `reReplaceAll pattern replacement text`; `$1` and `${name}` as in Go.
fn replace_all(env: &mut Env<'_>, args: &[Value]) -> Result<Value, String> {
    let (pattern, replacement, text) = (text_arg(args, 0), text_arg(args, 1), text_arg(args, 2));
    // An empty match happens between any two characters: this bounds the output before it is made.
    let worst = (text.len() + 1).saturating_mul(replacement.len() + 1);
    if worst > env.bytes_left() {
        env.charge(worst)?;
    }
    let regex = compiled(pattern).map_err(|e| format!("regexp: Compile(`{pattern}`): {e}"))?;
    Ok(regex.replace_all(text, replacement).into())
}

/// Words begin with a capital; `lower` turns the rest of each word to lower case (`cases.Title` without `NoLower`).
pub(crate) fn title(s: &str, lower: bool) -> String {
    let mut out = String::with_capacity(s.len());
    let mut in_word = false;
    for c in s.chars() {
        // An apostrophe inside a word does not begin a new one.
        let word = c.is_alphanumeric() || c == '_' || (in_word && matches!(c, '\'' | '\u{2019}' | '.' | ':'));
        match (word, in_word) {
            (true, false) => out.extend(c.to_uppercase()),
            (true, true) if lower => out.extend(c.to_lowercase()),
            _ => out.push(c),
        }
        in_word = word;
    }
    out
}
