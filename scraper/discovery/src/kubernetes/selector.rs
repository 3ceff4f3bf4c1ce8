//! Label and field selectors, read as the API server reads them, so that a mistake is named when the configuration is
//! loaded. Only the verdict is kept: the text itself goes to the API server.
use crate::Error;

/// Refuses a field selector such as `metadata.name` (`key=value`, `key!=value`, `key==value`, by commas).
pub(super) fn check_fields(selector: &str) -> Result<(), Error> {
    for term in terms(selector).into_iter().filter(|t| !t.is_empty()) {
        let Some(value) = value_of(term) else {
            return refuse(format!("invalid selector: '{selector}'; can't understand '{term}'"));
        };
        let mut chars = value.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('\\' | ',' | '=') => {}
                    other => {
                        let other = other.map_or_else(String::new, String::from);
                        return refuse(format!("invalid field selector: invalid escape sequence: \\{other}"));
                    }
                },
                ',' | '=' => {
                    let code = u32::from(c);
                    return refuse(format!("invalid field selector: unescaped character in value: {code}"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn refuse<T>(text: String) -> Result<T, Error> {
    Err(Error::Config(text))
}

/// Between commas that no backslash precedes.
fn terms(selector: &str) -> Vec<&str> {
    let (mut from, mut escaped, mut out) = (0, false, Vec::new());
    for (at, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.extend(selector.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    out.extend(selector.get(from..));
    out
}

/// What follows the first operator.
fn value_of(term: &str) -> Option<&str> {
    let at = term.find('=').into_iter().chain(term.find("!=")).min()?;
    let rest = term.get(at..)?;
    ["!=", "==", "="].iter().find_map(|operator| rest.strip_prefix(operator))
}

/// Refuses a label selector such as `a b` (`key`, `!key`, `key = value`, `key in (x, y)`, `key > 1`, by commas).
pub(super) fn check_labels(selector: &str) -> Result<(), Error> {
    match (Reader { rest: selector }).requirements() {
        Ok(()) => Ok(()),
        Err(why) => refuse(why),
    }
}

/// Reads tokens: `( ) , ! = == != < >`, and words, which are what blanks and those separate. The end reads as `""`.
struct Reader<'a> {
    rest: &'a str,
}

const SPECIAL: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];

fn is_word(token: &str) -> bool {
    !token.is_empty() && !token.starts_with(SPECIAL)
}

impl<'a> Reader<'a> {
    fn peek(&self) -> &'a str {
        let rest = self.rest.trim_start();
        let len = if ["==", "!="].iter().any(|two| rest.starts_with(two)) {
            2
        } else if rest.starts_with(SPECIAL) {
            1
        } else {
            rest.find(|c: char| SPECIAL.contains(&c) || c.is_whitespace()).unwrap_or(rest.len())
        };
        rest.get(..len).unwrap_or("")
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        let rest = self.rest.trim_start();
        self.rest = rest.get(token.len()..).unwrap_or("");
        token
    }

    fn requirements(&mut self) -> Result<(), String> {
        loop {
            match self.peek() {
                "" => return Ok(()),
                token if token == "!" || is_word(token) => {}
                token => return Err(format!("found '{token}', expected: !, identifier, or 'end of string'")),
            }
            self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
            match self.next() {
                "" => return Ok(()),
                "," => {}
                token => return Err(format!("found '{token}', expected: ',' or 'end of string'")),
            }
            let token = self.peek();
            if token != "!" && !is_word(token) {
                return Err(format!("found '{token}', expected: identifier after ','"));
            }
        }
    }

    fn requirement(&mut self) -> Result<(), String> {
        let absent = self.peek() == "!";
        if absent {
            self.next();
        }
        let key = self.word()?;
        check_key(key)?;
        if absent || matches!(self.peek(), "" | ",") {
            return Ok(());
        }
        let operator = self.next();
        let values = match operator {
            "in" | "notin" => self.list()?,
            "=" | "==" | "!=" | "<" | ">" if matches!(self.peek(), "" | ",") => vec![""],
            "=" | "==" | "!=" | "<" | ">" => vec![self.word()?],
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        for (i, value) in values.iter().enumerate() {
            if matches!(operator, "<" | ">") && value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                return Err(format!("values[{i}]: Invalid value: {value:?}: {why}"));
            }
            if value.len() > LEN_MAX {
                return Err(format!(
                    "values[{i}][{key}]: Invalid value: {value:?}: must be no more than 63 characters"
                ));
            }
            if !value.is_empty() && !is_name(value) {
                return Err(format!(
                    "values[{i}][{key}]: Invalid value: {value:?}: a valid label must be an empty string or consist of \
                     alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
                     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                ));
            }
        }
        Ok(())
    }

    fn word(&mut self) -> Result<&'a str, String> {
        let token = self.next();
        if is_word(token) { Ok(token) } else { Err(format!("found '{token}', expected: identifier")) }
    }

    fn list(&mut self) -> Result<Vec<&'a str>, String> {
        let token = self.next();
        if token != "(" {
            return Err(format!("found '{token}' expected: '('"));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                ")" => return Ok(values),
                "," => {} // an empty value, which is valid
                token if is_word(token) => {
                    values.push(token);
                    let token = self.peek();
                    if !matches!(token, "," | ")") {
                        return Err(format!("found '{token}', expected: ',' or ')'"));
                    }
                }
                token => return Err(format!("found '{token}', expected: ',', ')' or identifier")),
            }
        }
    }
}

/// Of a label's value, and of a key's name part.
const LEN_MAX: usize = 63;

/// Letters and digits, with `-`, `_` and `.` between them.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || "-_.".contains(c))
}

fn is_subdomain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.split('.').all(|l| l.starts_with(plain) && l.ends_with(plain) && l.chars().all(|c| plain(c) || c == '-'))
}

fn check_key(key: &str) -> Result<(), String> {
    const FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let why = if name.contains('/') {
        format!("a valid label key {FORM} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")
    } else if prefix.is_some_and(|p| !is_subdomain(p)) {
        "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
         must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .into()
    } else if name.len() > LEN_MAX {
        "name part must be no more than 63 characters".into()
    } else if !is_name(name) {
        format!("name part {FORM}")
    } else {
        return Ok(());
    };
    Err(format!("<nil>: Invalid value: {key:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(check: fn(&str) -> Result<(), Error>, cases: &[(&str, &str)]) {
        for (selector, expected) in cases {
            let got = check(selector).map_or_else(|e| e.to_string(), |()| String::new());
            assert_eq!(got, *expected, "{selector:?}");
        }
    }

    /// Every verdict is the real promtool's (3.5).
    #[test]
    fn fields() {
        verdicts(
            check_fields,
            &[
                ("a=b,c!=d,e==f", ""),
                ("a=", ""),
                ("=b", ""),
                (",,", ""),
                (r"a=b\=c", ""),
                (r"a=b\,c", ""),
                (
                    "metadata.status-Running",
                    "invalid selector: 'metadata.status-Running'; can't understand 'metadata.status-Running'",
                ),
                ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
                (r"a\,x", r"invalid selector: 'a\,x'; can't understand 'a\,x'"),
                ("a=b=c", "invalid field selector: unescaped character in value: 61"),
                (r"a=b\xc", r"invalid field selector: invalid escape sequence: \x"),
                (r"a=b\", r"invalid field selector: invalid escape sequence: \"),
            ],
        );
    }

    #[test]
    fn labels() {
        let good = "a,!b,c in (x,y),d notin (z),e>1,f<2,g=h,i==j,k!=l";
        for good in [good, "", "a =", "a in ()", "a in (,)", "a in (x,,y)", "in in (in)", "a=in", "a=,b"] {
            assert_eq!(check_labels(good).map_err(|e| e.to_string()), Ok(()), "{good:?}");
        }
        verdicts(
            check_labels,
            &[
                ("a,", "found '', expected: identifier after ','"),
                ("a,,b", "found ',', expected: identifier after ','"),
                ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
                ("a!b", "unable to parse requirement: found '!', expected: in, notin, =, ==, !=, gt, lt"),
                ("a in x", "unable to parse requirement: found 'x' expected: '('"),
                ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
                ("a in (x y)", "unable to parse requirement: found 'y', expected: ',' or ')'"),
                ("a in ((x)", "unable to parse requirement: found '(', expected: ',', ')' or identifier"),
                ("a<>b", "unable to parse requirement: found '>', expected: identifier"),
                ("!", "unable to parse requirement: found '', expected: identifier"),
                ("!a=b", "found '=', expected: ',' or 'end of string'"),
                ("a=b=c", "found '=', expected: ',' or 'end of string'"),
                ("a in (x))", "found ')', expected: ',' or 'end of string'"),
                ("(a)", "found '(', expected: !, identifier, or 'end of string'"),
                ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ],
        );
        for (bad, begin) in [
            ("a > x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators"),
            ("-a=b", "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of"),
            ("a=-b", "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be"),
            ("a/b/c=d", "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must"),
            ("A_B.c/d=x", "unable to parse requirement: <nil>: Invalid value: \"A_B.c/d\": prefix part a lowercase"),
        ] {
            let text = check_labels(bad).unwrap_err().to_string();
            assert!(text.starts_with(begin), "{bad}: {text}");
        }
    }
}
