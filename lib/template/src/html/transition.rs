//! How text moves the context on. One call consumes at least one byte or changes the state.
use super::context::{Attr, Comment, Context, Delim, Element, State, UrlPart};

/// The context after a first piece of `s`, and how long that piece is.
pub(super) fn after_text(c: Context, s: &str) -> Result<(Context, usize), String> {
    if c.delim == Delim::None {
        let end = special_tag_end(c, s);
        if end == Some(0) {
            return Ok((Context::default(), 0));
        }
        return step(c, &s[..end.unwrap_or(s.len())]);
    }
    let ends: &[char] = match c.delim {
        Delim::Double => &['"'],
        Delim::Single => &['\''],
        _ => &[' ', '\t', '\n', '\x0c', '\r', '>'],
    };
    let end = s.find(ends).unwrap_or(s.len());
    if c.delim == Delim::SpaceOrTagEnd
        && let Some(at) = s[..end].find(['"', '\'', '<', '=', '`'])
    {
        let bad = &s[at..at + 1];
        return Err(format!("{bad:?} in unquoted attr: {:?}", &s[..end]));
    }
    if end == s.len() {
        // The value goes on after an action: see it as its language does.
        let decoded = unescape(s);
        let (mut c, mut rest) = (c, decoded.as_str());
        while !rest.is_empty() {
            let (next, used) = step(c, rest)?;
            (c, rest) = (next, &rest[used..]);
        }
        return Ok((c, s.len()));
    }
    let mut element = c.element;
    if c.attr == Attr::ScriptType && !is_js_type(&s[..end]) {
        element = Element::None;
    }
    let used = end + usize::from(c.delim != Delim::SpaceOrTagEnd);
    Ok((Context { state: State::Tag, element, ..Context::default() }, used))
}

/// Where `</script` and the like end the content of a special element.
fn special_tag_end(c: Context, s: &str) -> Option<usize> {
    if c.element == Element::None
        || matches!(c.state, State::Tag | State::AttrName | State::AfterName | State::BeforeValue)
    {
        return None;
    }
    let (lower, marker) = (s.to_ascii_lowercase(), format!("</{}", c.element.name()));
    let mut from = 0;
    while let Some(at) = lower[from..].find(&marker).map(|at| at + from) {
        let after = at + marker.len();
        match lower.as_bytes().get(after) {
            Some(b' ' | b'\t' | b'\n' | b'\x0c' | b'\r' | b'/' | b'>') => return Some(at),
            _ => from = after,
        }
    }
    None
}

fn is_js_type(value: &str) -> bool {
    let kind = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    matches!(
        kind.as_str(),
        "" | "module"
            | "text/javascript"
            | "application/javascript"
            | "application/ecmascript"
            | "text/ecmascript"
            | "application/json"
            | "application/ld+json"
    )
}

fn step(c: Context, s: &str) -> Result<(Context, usize), String> {
    let all = s.len();
    Ok(match c.state {
        State::Text => text(c, s),
        State::Tag => return tag(c, s),
        State::AttrName => {
            let end = attr_name(s)?;
            (Context { state: if end == all { State::AttrName } else { State::AfterName }, ..c }, end)
        }
        State::AfterName => {
            let at = spaces(s);
            match s.as_bytes().get(at) {
                None => (c, all),
                Some(b'=') => (Context { state: State::BeforeValue, ..c }, at + 1),
                Some(_) => (Context { state: State::Tag, ..c }, at),
            }
        }
        State::BeforeValue => {
            let at = spaces(s);
            let (delim, used) = match s.as_bytes().get(at) {
                None => return Ok((c, all)),
                Some(b'"') => (Delim::Double, at + 1),
                Some(b'\'') => (Delim::Single, at + 1),
                Some(_) => (Delim::SpaceOrTagEnd, at),
            };
            (Context { state: c.attr.value(), delim, js_regexp: c.attr == Attr::Script, ..c }, used)
        }
        State::HtmlComment => match s.find("-->") {
            Some(at) => (Context::default(), at + 3),
            None => (c, all),
        },
        State::Rcdata | State::Attr => (c, all),
        State::Url => {
            let url = if s.contains(['#', '?']) {
                UrlPart::QueryOrFragment
            } else if spaces(s) != all && c.url == UrlPart::None {
                UrlPart::PreQuery
            } else {
                c.url
            };
            (Context { url, ..c }, all)
        }
        State::Js => script(c, s),
        State::JsString(quote) => string(c, s, quote, Context { state: State::Js, js_regexp: false, ..c }),
        State::JsRegexp => string(c, s, '/', Context { state: State::Js, js_regexp: false, ..c }),
        State::JsComment(Comment::Block) => until(c, s, "*/", State::Js),
        State::JsComment(Comment::Line) => match s.find(['\n', '\r', '\u{2028}', '\u{2029}']) {
            Some(at) => (Context { state: State::Js, ..c }, at),
            None => (c, all),
        },
        State::Css => style(c, s),
        State::CssString(quote) => string(c, s, quote, Context { state: State::Css, ..c }),
        State::CssUrl => match s.find(')') {
            Some(at) => (Context { state: State::Css, url: UrlPart::None, ..c }, at + 1),
            None => (c, all),
        },
        State::CssComment => until(c, s, "*/", State::Css),
    })
}

fn until(c: Context, s: &str, end: &str, then: State) -> (Context, usize) {
    match s.find(end) {
        Some(at) => (Context { state: then, ..c }, at + end.len()),
        None => (c, s.len()),
    }
}

fn string(c: Context, s: &str, quote: char, then: Context) -> (Context, usize) {
    let mut chars = s.char_indices();
    while let Some((at, ch)) = chars.next() {
        if ch == '\\' {
            chars.next();
        } else if ch == quote {
            return (then, at + quote.len_utf8());
        }
    }
    (c, s.len())
}

fn text(c: Context, s: &str) -> (Context, usize) {
    let mut from = 0;
    while let Some(at) = s[from..].find('<').map(|at| at + from) {
        if s[at..].starts_with("<!--") {
            return (Context { state: State::HtmlComment, ..Context::default() }, at + 4);
        }
        let (end_tag, name_at) = match s.as_bytes().get(at + 1) {
            Some(b'/') => (true, at + 2),
            _ => (false, at + 1),
        };
        let name = tag_name(&s[name_at.min(s.len())..]);
        if name > 0 {
            let element = if end_tag { Element::None } else { Element::of(&s[name_at..name_at + name]) };
            return (Context { state: State::Tag, element, ..Context::default() }, name_at + name);
        }
        from = name_at.min(s.len());
    }
    (c, s.len())
}

fn tag(c: Context, s: &str) -> Result<(Context, usize), String> {
    let at = spaces(s);
    if at == s.len() {
        return Ok((c, at));
    }
    if s.as_bytes().get(at) == Some(&b'>') {
        let state = c.element.content();
        return Ok((
            Context { state, element: c.element, js_regexp: state == State::Js, ..Context::default() },
            at + 1,
        ));
    }
    let end = at + attr_name(&s[at..])?;
    if end == at {
        return Err(format!("expected space, attr name, or end of tag, but got {:?}", &s[at..]));
    }
    let attr = Attr::of(&s[at..end], c.element);
    let state = if end == s.len() { State::AttrName } else { State::AfterName };
    Ok((Context { state, attr, element: c.element, ..Context::default() }, end))
}

fn spaces(s: &str) -> usize {
    s.bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')).count()
}

fn tag_name(s: &str) -> usize {
    if !s.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return 0;
    }
    let mut end = s.find(|c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '-')).unwrap_or(s.len());
    while s[..end].ends_with([':', '-']) {
        end -= 1;
    }
    end
}

fn attr_name(s: &str) -> Result<usize, String> {
    for (at, c) in s.char_indices() {
        match c {
            ' ' | '\t' | '\n' | '\x0c' | '\r' | '=' | '>' => return Ok(at),
            '\'' | '"' | '<' => {
                let shown: String = s.chars().take(32).collect();
                return Err(format!("{:?} in attribute name: {shown:?}", c.to_string()));
            }
            _ => {}
        }
    }
    Ok(s.len())
}

fn script(c: Context, s: &str) -> (Context, usize) {
    let Some(at) = s.find(['"', '\'', '`', '/']) else {
        return (Context { js_regexp: regexp_may_follow(s, c.js_regexp), ..c }, s.len());
    };
    let before = regexp_may_follow(&s[..at], c.js_regexp);
    let (state, used) = match (&s[at..at + 1], s.as_bytes().get(at + 1)) {
        ("/", Some(b'/')) => (State::JsComment(Comment::Line), 2),
        ("/", Some(b'*')) => (State::JsComment(Comment::Block), 2),
        ("/", _) if before => (State::JsRegexp, 1),
        ("/", _) => return (Context { js_regexp: true, ..c }, at + 1),
        ("\"", _) => (State::JsString('"'), 1),
        ("'", _) => (State::JsString('\''), 1),
        _ => (State::JsString('`'), 1),
    };
    (Context { state, js_regexp: before, ..c }, at + used)
}

/// Whether a slash after `s` would begin a regular expression: after most punctuation and after some keywords.
fn regexp_may_follow(s: &str, before: bool) -> bool {
    let s = s.trim_end();
    let Some(last) = s.chars().next_back() else { return before };
    if last.is_alphanumeric() || matches!(last, '_' | '$') {
        let word = s.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).next().unwrap_or("");
        return matches!(
            word,
            "break"
                | "case"
                | "continue"
                | "delete"
                | "do"
                | "else"
                | "finally"
                | "in"
                | "instanceof"
                | "return"
                | "throw"
                | "try"
                | "typeof"
                | "void"
        );
    }
    if s.ends_with("++") || s.ends_with("--") {
        return false;
    }
    !matches!(last, ')' | ']' | '}' | '.')
}

fn style(c: Context, s: &str) -> (Context, usize) {
    let Some(at) = s.find(['"', '\'', '/', '(']) else { return (c, s.len()) };
    match (&s[at..at + 1], s.as_bytes().get(at + 1)) {
        ("\"", _) => (Context { state: State::CssString('"'), ..c }, at + 1),
        ("'", _) => (Context { state: State::CssString('\''), ..c }, at + 1),
        ("/", Some(b'*')) => (Context { state: State::CssComment, ..c }, at + 2),
        ("(", _) if s[..at].trim_end().to_ascii_lowercase().ends_with("url") => {
            let rest = &s[at + 1..];
            let quoted = rest.trim_start();
            let skipped = rest.len() - quoted.len();
            match quoted.chars().next() {
                Some(q @ ('"' | '\'')) => (Context { state: State::CssString(q), ..c }, at + 1 + skipped + 1),
                _ => (Context { state: State::CssUrl, ..c }, at + 1 + skipped),
            }
        }
        _ => (c, at + 1),
    }
}

/// The entities that matter to what is inside an attribute.
fn unescape(s: &str) -> String {
    if !s.contains('&') {
        return s.to_owned();
    }
    let mut out = String::with_capacity(s.len());
    let mut rest = s;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').filter(|e| *e <= 10);
        let decoded = end.and_then(|end| match &rest[1..end] {
            "quot" => Some('"'),
            "apos" => Some('\''),
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            n => n.strip_prefix('#').and_then(|n| {
                match n.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => n.parse().ok(),
                }
                .and_then(char::from_u32)
            }),
        });
        match (decoded, end) {
            (Some(c), Some(end)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
