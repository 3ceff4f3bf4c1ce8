//! Label sets: an owned, packed form and the view storage hands out.
//!
//! Cost: a [`Labels`] is one allocation of `sum(len) + 2..6` bytes per label and a 16-byte handle; a clone is a
//! reference count. Readers walk it; nothing is unpacked into a vector of strings.
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh64::Xxh64;

pub const METRIC_NAME: &str = "__name__";
/// Type and unit of the series' metric family, where the server makes labels of them.
pub const METRIC_TYPE: &str = "__type__";
pub const METRIC_UNIT: &str = "__unit__";
pub const ALERT_NAME: &str = "alertname";
pub const BUCKET: &str = "le";
pub const INSTANCE: &str = "instance";
pub const JOB: &str = "job";
pub const QUANTILE: &str = "quantile";

/// One label as owned strings, where a caller really needs them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub name: String,
    pub value: String,
}

/// A label set one can look at without owning it: sorted by name, names unique, no empty values.
///
/// Storage hands these out (`Arc<dyn LabelView>`); a head series implements it over its interned symbols.
pub trait LabelView: Send + Sync {
    /// Number of labels.
    fn len(&self) -> usize;
    /// The `i`-th pair in name order; `i < len()`.
    fn pair(&self, i: usize) -> (&str, &str);

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The value of `name`, if the label is there.
    fn get(&self, name: &str) -> Option<&str> {
        for i in 0..self.len() {
            let (n, v) = self.pair(i);
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }
    /// Calls `f` for every pair in name order. Implementations that walk faster than by index override it.
    fn each(&self, f: &mut dyn FnMut(&str, &str)) {
        for i in 0..self.len() {
            let (n, v) = self.pair(i);
            f(n, v);
        }
    }
    /// xxh64, seed 0, over `name 0xff value 0xff` of all pairs: the same on every machine and over restarts.
    fn stable_hash(&self) -> u64 {
        let mut h = Xxh64::new(0);
        self.each(&mut |n, v| hash_pair(&mut h, n, v));
        h.digest()
    }
    /// Interned ids `(name, value)` of all pairs and the identity of their symbol table, where the store has them:
    /// equal ids under one table mean equal strings, so grouping need not read the text.
    fn interned(&self) -> Option<(u64, &[(u32, u32)])> {
        None
    }
    /// The packed form, where the view is one: it is quick to walk and slow to index.
    fn packed(&self) -> Option<&Labels> {
        None
    }
    /// An owned copy; cheap where the view already is one.
    fn to_labels(&self) -> Labels {
        let mut w = PackedWriter::default();
        self.each(&mut |n, v| w.push(n, v));
        w.finish()
    }
}

fn hash_pair(h: &mut Xxh64, name: &str, value: &str) {
    h.update(name.as_bytes());
    h.update(&[0xff]);
    h.update(value.as_bytes());
    h.update(&[0xff]);
}

impl fmt::Debug for dyn LabelView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `{a="1", b="2"}` with Go's quoting, the form upstream prints in errors; the name is a label like any other.
impl fmt::Display for dyn LabelView + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labels(f, self)
    }
}

fn write_labels<L: LabelView + ?Sized>(f: &mut fmt::Formatter<'_>, labels: &L) -> fmt::Result {
    f.write_str("{")?;
    for i in 0..labels.len() {
        let (n, v) = labels.pair(i);
        if i > 0 {
            f.write_str(", ")?;
        }
        if is_legacy_label_name(n) {
            f.write_str(n)?;
        } else {
            write_quoted(f, n)?;
        }
        f.write_str("=")?;
        write_quoted(f, v)?;
    }
    f.write_str("}")
}

/// Go's `strconv.Quote`: printable text stays, quotes, backslashes and control characters are escaped.
pub fn write_quoted(f: &mut impl fmt::Write, s: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in s.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            '\u{7}' => f.write_str("\\a")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{b}' => f.write_str("\\v")?,
            '\u{c}' => f.write_str("\\f")?,
            c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{ad}' | '\u{a0}') => {
                write!(f, "\\u{:04x}", c as u32)?
            }
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// [`write_quoted`] into a new string.
pub fn quoted(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    let _ = write_quoted(&mut out, s); // a String never fails
    out
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`: a label name that needs no quotes.
pub fn is_legacy_label_name(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty() && !b[0].is_ascii_digit() && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_')
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`: a metric name that needs no quotes.
pub fn is_legacy_metric_name(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty() && !b[0].is_ascii_digit() && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_' || *c == b':')
}

/// An owned, immutable, sorted label set in one shared allocation.
///
/// The text holds, per pair, both lengths and both strings. Lengths are base-64 varints whose bytes are all ASCII, so
/// that the whole remains valid UTF-8 and borrowed strings need no check and no `unsafe`.
#[derive(Clone)]
pub struct Labels {
    packed: Arc<str>,
}

impl Labels {
    /// No labels. Allocates nothing after the first call.
    pub fn empty() -> Labels {
        static EMPTY: std::sync::OnceLock<Arc<str>> = std::sync::OnceLock::new();
        Labels { packed: Arc::clone(EMPTY.get_or_init(|| Arc::from(""))) }
    }

    /// From pairs in any order. Empty values are dropped (an absent label and an empty one are the same); of repeated
    /// names the last one stays.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut b = LabelsBuilder::new();
        for (n, v) in pairs {
            b.set(n.as_ref(), v.as_ref());
        }
        b.labels()
    }

    /// From pairs already sorted by name, unique, and without empty values (checked only in debug builds).
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        // Room for what series mostly have: growing would copy it a few times.
        let mut w = PackedWriter { text: String::with_capacity(256), ..PackedWriter::default() };
        for (n, v) in pairs {
            w.push(n, v);
        }
        w.finish()
    }

    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.packed }
    }

    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The metric name, or "".
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Bytes held by the shared allocation.
    pub fn size_bytes(&self) -> usize {
        self.packed.len()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl LabelView for Labels {
    fn len(&self) -> usize {
        Labels::len(self)
    }
    fn pair(&self, i: usize) -> (&str, &str) {
        self.iter().nth(i).unwrap_or(("", ""))
    }
    fn get(&self, name: &str) -> Option<&str> {
        Labels::get(self, name)
    }
    fn each(&self, f: &mut dyn FnMut(&str, &str)) {
        for (n, v) in self.iter() {
            f(n, v);
        }
    }
    fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }
    fn packed(&self) -> Option<&Labels> {
        Some(self)
    }
    fn to_labels(&self) -> Labels {
        self.clone()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.packed, &other.packed) || self.packed == other.packed
    }
}
impl Eq for Labels {}
impl std::hash::Hash for Labels {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.packed.hash(state);
    }
}
/// Upstream's order: pair by pair, name then value, a shorter set first.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}
impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
/// Upstream's order of label sets ([`Labels`]'s `Ord`) for any two views.
pub fn compare(a: &dyn LabelView, b: &dyn LabelView) -> Ordering {
    match (a.packed(), b.packed()) {
        (Some(a), Some(b)) => return a.cmp(b),
        (Some(a), None) => return compare_packed(a, b),
        (None, Some(b)) => return compare_packed(b, a).reverse(),
        (None, None) => {}
    }
    let (la, lb) = (a.len(), b.len());
    for i in 0..la.min(lb) {
        match a.pair(i).cmp(&b.pair(i)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    la.cmp(&lb)
}
fn compare_packed(a: &Labels, b: &dyn LabelView) -> Ordering {
    let n = b.len();
    let mut i = 0;
    for pair in a {
        if i == n {
            return Ordering::Greater;
        }
        match pair.cmp(&b.pair(i)) {
            Ordering::Equal => i += 1,
            unequal => return unequal,
        }
    }
    i.cmp(&n)
}
impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labels(f, self)
    }
}
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labels(f, self)
    }
}
impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;
    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

/// Walks the packed pairs in name order.
#[derive(Clone, Debug)]
pub struct LabelsIter<'a> {
    rest: &'a str,
}

impl<'a> LabelsIter<'a> {
    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        let first = *self.rest.as_bytes().first()?;
        // Nearly all strings are shorter than 64 bytes: one byte of length.
        let (len, used) = if first & 0x40 == 0 { (usize::from(first), 1) } else { self.long_length()? };
        let (head, rest) = self.rest.split_at_checked(used + len)?;
        self.rest = rest;
        head.get(used..)
    }

    #[cold]
    fn long_length(&self) -> Option<(usize, usize)> {
        let (mut len, mut shift) = (0usize, 0u32);
        for (i, b) in self.rest.bytes().enumerate() {
            len |= usize::from(b & 0x3f) << shift;
            if b & 0x40 == 0 {
                return Some((len, i + 1));
            }
            shift += 6;
        }
        None
    }
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let n = self.string()?;
        Some((n, self.string()?))
    }
}

#[derive(Default)]
struct PackedWriter {
    text: String,
    #[cfg(debug_assertions)]
    last: String,
}

impl PackedWriter {
    fn push(&mut self, name: &str, value: &str) {
        #[cfg(debug_assertions)]
        {
            debug_assert!(self.text.is_empty() || self.last.as_str() < name, "labels out of order at {name:?}");
            debug_assert!(!value.is_empty(), "empty value for {name:?}");
            self.last = name.to_owned();
        }
        self.string(name);
        self.string(value);
    }
    fn string(&mut self, s: &str) {
        let mut len = s.len();
        while len > 0x3f {
            self.text.push(char::from(0x40 | (len & 0x3f) as u8));
            len >>= 6;
        }
        self.text.push(char::from(len as u8));
        self.text.push_str(s);
    }
    fn finish(self) -> Labels {
        if self.text.is_empty() { Labels::empty() } else { Labels { packed: Arc::from(self.text) } }
    }
}

/// Changes a label set: sets and deletes by name, then builds. Kept sorted, so that building is one pass. All strings are in
/// one text, which only grows until [`LabelsBuilder::clear`]: a new series costs two allocations here, not two a label.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    text: String,
    pairs: Vec<(Place, Place)>,
}

/// Where a string lies in the builder's text: start and length.
#[derive(Clone, Copy, Debug)]
struct Place(u32, u32);

impl Place {
    fn of(self, text: &str) -> &str {
        text.get(self.0 as usize..self.0 as usize + self.1 as usize).unwrap_or("")
    }
}

impl LabelsBuilder {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn from_view(labels: &dyn LabelView) -> Self {
        let mut b = LabelsBuilder::new();
        labels.each(&mut |n, v| {
            let pair = (b.put(n), b.put(v));
            b.pairs.push(pair);
        });
        b
    }
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.pairs.clear();
        self.text.clear();
    }
    fn put(&mut self, s: &str) -> Place {
        let start = self.text.len() as u32; // labels come from lines and requests of some MiB
        self.text.push_str(s);
        Place(start, s.len() as u32)
    }
    fn find(&self, name: &str) -> Result<usize, usize> {
        // Names mostly come in order.
        match self.pairs.last() {
            Some((last, _)) if last.of(&self.text) < name => Err(self.pairs.len()),
            _ => self.pairs.binary_search_by(|(n, _)| n.of(&self.text).cmp(name)),
        }
    }
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|i| self.pairs[i].1.of(&self.text))
    }
    /// Sets `name` to `value`; an empty value deletes.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match (self.find(name), value.is_empty()) {
            (Ok(i), true) => {
                self.pairs.remove(i);
            }
            (Ok(i), false) => self.pairs[i].1 = self.put(value),
            (Err(_), true) => {}
            (Err(i), false) => {
                let pair = (self.put(name), self.put(value));
                self.pairs.insert(i, pair);
            }
        }
        self
    }
    pub fn del(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        let text = &self.text;
        self.pairs.retain(|(n, v)| keep(n.of(text), v.of(text)));
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.of(&self.text), v.of(&self.text)))
    }
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
    pub fn labels(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packs_sorts_and_drops_empty_values() {
        let l = Labels::from_pairs([("job", "node"), ("__name__", "up"), ("gone", ""), ("job", "n2")]);
        assert_eq!(l.to_string(), r#"{__name__="up", job="n2"}"#);
        assert_eq!((l.get("job"), l.get("gone"), l.len()), (Some("n2"), None, 2));
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quoted("a\"b\\\n\u{1}é\u{a0}"), "\"a\\\"b\\\\\\n\\x01é\\u00a0\"");
    }

    #[test]
    fn hash_is_upstreams() {
        // xxh64 of "__name__\xffup\xff"
        let mut bytes = b"__name__".to_vec();
        bytes.push(0xff);
        bytes.extend(b"up");
        bytes.push(0xff);
        assert_eq!(Labels::from_pairs([("__name__", "up")]).stable_hash(), xxhash_rust::xxh64::xxh64(&bytes, 0));
    }

    proptest! {
        #[test]
        fn round_trips(map in proptest::collection::btree_map(".{1,90}", ".{1,5000}", 0..8)) {
            let l = Labels::from_pairs(map.iter());
            prop_assert_eq!(l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>(),
                map.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(LabelsBuilder::from_view(&l).labels(), l);
        }

        #[test]
        fn builds_what_a_map_would(changes in proptest::collection::vec(("[a-e]{0,2}", "[x-z]{0,3}"), 0..40), drop in "[a-e]") {
            let (mut b, mut map) = (LabelsBuilder::new(), std::collections::BTreeMap::new());
            for (name, value) in &changes {
                b.set(name, value);
                if value.is_empty() { map.remove(name) } else { map.insert(name.clone(), value.clone()) };
                prop_assert_eq!(b.get(name), map.get(name).map(String::as_str));
            }
            b.retain(|n, _| !n.starts_with(&drop));
            map.retain(|n, _| !n.starts_with(&drop));
            prop_assert_eq!((b.len(), b.labels()), (map.len(), Labels::from_pairs(map.iter())));
        }
    }
}
