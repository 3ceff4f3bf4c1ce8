//! Just enough XML for answers of web services: elements, attributes, text. No namespaces, no external entities.
//!
//! Reading is iterative, and depth is capped: a document of brackets costs memory in proportion to its bytes, never stack.

/// An element, its attributes left aside but for those asked for by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub text: String,
    pub children: Vec<Element>,
}

/// Deeper answers are nobody's.
const DEPTH_MAX: usize = 64;

impl Element {
    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }
    pub(crate) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |c| c.name == name)
    }
    /// The text at a path of children; nothing where there is no such child.
    pub(crate) fn at(&self, path: &[&str]) -> &str {
        let mut element = Some(self);
        for name in path {
            element = element.and_then(|e| e.child(name));
        }
        element.map_or("", |e| e.text.trim())
    }
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }
}

/// The document's root element.
pub(crate) fn parse(text: &str) -> Result<Element, String> {
    let mut open: Vec<Element> = vec![Element::default()];
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        unescape(before, open.last_mut().map(|e| &mut e.text).ok_or("XML: unbalanced")?);
        let skipped = [("<!--", "-->"), ("<?", "?>"), ("<![CDATA[", "]]>"), ("<!", ">")];
        if let Some((start, end)) = skipped.iter().find(|(start, _)| tag.starts_with(start)) {
            let inner = tag.get(start.len()..).unwrap_or_default();
            let Some(length) = inner.find(end) else { return Err("XML: unexpected end".into()) };
            if *start == "<![CDATA[" {
                let element = open.last_mut().ok_or("XML: unbalanced")?;
                element.text.push_str(inner.get(..length).unwrap_or_default());
            }
            rest = inner.get(length + end.len()..).unwrap_or_default();
            continue;
        }
        let Some(end) = tag_end(tag) else { return Err("XML: unexpected end".into()) };
        let inner = tag.get(1..end).unwrap_or_default();
        rest = tag.get(end + 1..).unwrap_or_default();
        if let Some(name) = inner.strip_prefix('/') {
            let Some(done) = open.pop().filter(|e| e.name == name.trim() && !open.is_empty()) else {
                return Err("XML: unbalanced".into());
            };
            open.last_mut().ok_or("XML: unbalanced")?.children.push(done);
            continue;
        }
        let (inner, is_closed) = inner.strip_suffix('/').map_or((inner, false), |i| (i, true));
        let element = start_tag(inner);
        if is_closed {
            open.last_mut().ok_or("XML: unbalanced")?.children.push(element);
        } else if open.len() > DEPTH_MAX {
            return Err("XML: too deep".into());
        } else {
            open.push(element);
        }
    }
    let mut document = open.pop().filter(|_| open.is_empty()).ok_or("XML: unexpected end")?;
    document.children.pop().ok_or_else(|| "XML: no element".into())
}

/// Where the tag at the start ends: not at a bracket within quotes.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(q), b) if q == b => quote = None,
            _ => {}
        }
    }
    None
}

fn start_tag(inner: &str) -> Element {
    let (name, mut rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let mut element = Element { name: name.to_owned(), ..Element::default() };
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let Some(quote) = after.chars().next().filter(|c| matches!(c, '"' | '\'')) else { break };
        let Some((value, more)) = after.get(1..).and_then(|a| a.split_once(quote)) else { break };
        let mut text = String::new();
        unescape(value, &mut text);
        element.attributes.push((name.trim().to_owned(), text));
        rest = more;
    }
    element
}

/// Appends text with its entities resolved; one that is not known stays as it is.
fn unescape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at..).unwrap_or_default();
        let end = rest.bytes().take(12).position(|b| b == b';');
        let entity = end.and_then(|end| rest.get(1..end));
        let known = match entity {
            Some("amp") => Some('&'),
            Some("lt") => Some('<'),
            Some("gt") => Some('>'),
            Some("quot") => Some('"'),
            Some("apos") => Some('\''),
            Some(number) => number.strip_prefix('#').and_then(|n| {
                let code = n.strip_prefix('x').map_or_else(|| n.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
                code.and_then(char::from_u32)
            }),
            None => None,
        };
        match (known, end) {
            (Some(c), Some(end)) => {
                out.push(c);
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            _ => {
                out.push('&');
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_elements_text_and_attributes() {
        let text =
            "<?xml version='1.0'?><!-- < --><a><b x=\"1 > 0\">t&amp;&#65;&#x42;&odd;</b><c/><d><![CDATA[<x>]]></d></a>";
        let a = parse(text).unwrap();
        assert_eq!((a.at(&["b"]), a.child("b").unwrap().attribute("x"), a.at(&["d"])), ("t&AB&odd;", "1 > 0", "<x>"));
        assert_eq!(a.children.len(), 3);
    }

    #[test]
    fn damage_is_an_error() {
        for text in ["", "<a>", "</a>", "<a></b>", "<a", "<!-- ", "x", "<a><b></a></b>"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"<a>".repeat(100_000)).unwrap_err().contains("too deep"));
    }

    /// Any byte of a document may be another, or the end.
    #[test]
    fn damaged_anywhere_it_ends() {
        let text = "<?xml?><!-- c --><a x=\"1\"><b y='&amp;'>t&#65;</b><c/><d><![CDATA[<x>]]></d></a>";
        for at in 0..text.len() {
            let _ = parse(&text[..at]); // either answer is fine
            for other in "<>&;\"'/=! ]-#xä".chars() {
                let damaged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                if let Ok(root) = parse(&damaged) {
                    assert!(root.children.len() < text.len());
                }
            }
        }
    }
}
