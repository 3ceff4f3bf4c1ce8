//! What Go's engine says to patterns where the two dialects differ; verdicts and texts are those of a real Prometheus.
use super::*;

fn whole(pattern: &str) -> Regex {
    Regex::anchored(pattern).unwrap_or_else(|e| panic!("{:.99}: {:.99}", pattern, e.0))
}

#[test]
fn reads_as_go() {
    for (pattern, matching, other) in [
        (r"[[]", "[", "]"),
        (r"[^[]+", "abc", "a["),
        (r"[]a]+", "]a", "b"),
        (r"[^]a]", "b", "]"),
        (r"\Qa.b\E", "a.b", "axb"),
        (r"\Qa.b", "a.b", "axb"),
        (r"a\Q*\E+", "a**", "aa"),
        (r"\123", "S", "3"),
        (r"\0", "\0", "0"),
        (r"\08", "\08", "8"),
        (r"\x41", "A", "x41"),
        (r"\x{1F600}", "😀", "x"),
        (r"{", "{", ""),
        (r"a{2", "a{2", "aa"),
        (r"a{,2}", "a{,2}", "aa"),
        (r"a{02}", "a{02}", "aa"),
        (r"x{a}", "x{a}", "xa"),
        (r"a}", "a}", "a"),
        (r"a]", "a]", "a"),
        (r"[\d-z]+", "5-z", "y"),
        (r"[a&&b]+", "a&b", "c"),
        (r"[~~x]+", "~x", "y"),
        (r"[+--]+", "+,-", "."),
        (r"[a-]+", "a-", "b"),
        (r"\d", "5", "\u{663}"),
        (r"\w", "a", "é"),
        (r"\W", "é", "a"),
        (r"\s", "\n", "\u{b}"),
        (r"\S", "\u{b}", "\n"),
        (r"[\s]", " ", "\u{a0}"),
        (r"[^\W]", "a", "é"),
        (r"\<a", "<a", "a"),
        (r"a\b{start}", "a{start}", "a"),
        (r"é\bx", "éx", "é x"),
        (r"a.b", "a\nb", "ab"),
        (r"(?-s)a.b", "axb", "a\nb"),
        (r"(?i)straSSe", "STRASSE", "straße"),
        (r"(?i)k", "\u{212a}", "c"),
        (r"(?i:a)b", "Ab", "AB"),
        (r"(?)a", "a", "b"),
        (r"(?U)a+", "aa", "b"),
        (r"(?m)a$", "a", "a\n"),
        (r"a$", "a", "a\n"),
        (r"\Aa\z", "a", "ba"),
        (r"^a$", "a", "ab"),
        (r"a|^b$|c", "b", "bc"),
        (r"\p{Greek}+", "αβ", "ab"),
        (r"\pL", "é", "1"),
        (r"\PL", "1", "é"),
        (r"\p{^L}", "1", "é"),
        (r"[\p{Lu}\d]+", "A1", "a"),
        (r"[[:alpha:][:^ascii:]]+", "aé", "1"),
        (r"(?P<1x>a)", "a", "b"),
        (r"(?<n>a)", "a", "b"),
        (r"()*", "", "a"),
        (r"", "", "a"),
        (r"a|", "", "b"),
        (r"[^\x{0}-\x{10FFFF}]|a", "a", ""),
        (r"[\x{D7FF}-\x{E000}]", "\u{e000}", "a"),
        (r"#\ a", "# a", "a"),
        (r"a(?i)*B", "aab", "Ab"),
        (r"ab*(?i)?", "abb", "AB"),
        (r"(?ii)a(?i-i)b", "Ab", "AB"),
        (r"\-\!\/\%\#", "-!/%#", ""),
    ] {
        let re = whole(pattern);
        assert!(re.is_match(matching), "{pattern} must match {matching:?}");
        assert!(!re.is_match(other), "{pattern} must not match {other:?}");
    }
}

#[test]
fn refuses_as_go() {
    for (pattern, want) in [
        (r"*", "missing argument to repetition operator: `*`"),
        (r"(*)", "missing argument to repetition operator: `*`"),
        (r"a|+?", "missing argument to repetition operator: `+?`"),
        (r"a**", "invalid nested repetition operator: `**`"),
        (r"a*+", "invalid nested repetition operator: `*+`"),
        (r"a??*", "invalid nested repetition operator: `??*`"),
        (r"a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        (r"a{1001}", "invalid repeat count: `{1001}`"),
        (r"a{3,2}", "invalid repeat count: `{3,2}`"),
        (r"(a{100}){11}", "invalid repeat count: `{11}`"),
        (r"((a{10}b){10}){11}", "invalid repeat count: `{11}`"),
        (r"(abc", "missing closing ): `(abc`"),
        (r"abc)", "unexpected ): `abc)`"),
        (r"a)(b", "unexpected ): `a)(b`"),
        (r"x[a-z", "missing closing ]: `[a-z`"),
        (r"[", "missing closing ]: `[`"),
        (r"[z-a]", "invalid character class range: `z-a`"),
        (r"[a--z]", "invalid character class range: `a--`"),
        (r"[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"[a-\d]", "invalid escape sequence: `\\d`"),
        (r"abc\", "trailing backslash at end of expression: ``"),
        (r"\1", "invalid escape sequence: `\\1`"),
        (r"\8", "invalid escape sequence: `\\8`"),
        (r"\C", "invalid escape sequence: `\\C`"),
        (r"\Z", "invalid escape sequence: `\\Z`"),
        (r"\u{61}", "invalid escape sequence: `\\u`"),
        (r"\é", "invalid escape sequence: `\\é`"),
        (r"\p{greek}", "invalid character class range: `\\p{greek}`"),
        (r"\p{Script=Greek}", "invalid character class range: `\\p{Script=Greek}`"),
        (r"(?x)", "invalid or unsupported Perl syntax: `(?x`"),
        (r"(?R)", "invalid or unsupported Perl syntax: `(?R`"),
        (r"(?-u:a)", "invalid or unsupported Perl syntax: `(?-u`"),
        (r"(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        (r"(?<=a)", "invalid named capture: `(?<=a)`"),
        (r"(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        (r"[[:alpha:]", "missing closing ]: `[[:alpha:]`"),
    ] {
        let e = Regex::anchored(pattern).map(|_| ()).unwrap_err().to_string();
        assert_eq!(e, format!("error parsing regexp: {want}"), "{pattern}");
        assert!(Regex::plain(pattern).is_err());
    }
}

#[test]
fn limits_hold_on_a_small_stack() {
    let check = || {
        for n in [99, 100, 101, 10_000, 1_000_000] {
            for (open, close) in [("(", ")"), ("(?:", ")"), ("(?i:", ")"), ("(a|", ")"), ("(", ")*"), ("(", ")+b")] {
                let text = format!("{}a{}", open.repeat(n), close.repeat(n));
                match Regex::anchored(&text) {
                    Ok(re) => assert!(n <= 100 && re.is_match("a") != close.contains('b')),
                    Err(e) => assert!(n > 100, "{e}"),
                }
            }
        }
        for bomb in [r"(\pL{30}){30}", r"((\pL{10}){10}){10}", r"(?i)(\w{30}){33}"] {
            let _ = Regex::anchored(bomb); // refused or built, but within the memory limit
        }
    };
    std::thread::Builder::new().stack_size(256 * 1024).spawn(check).unwrap().join().unwrap();
}

#[test]
fn finds_literals() {
    let texts = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let exact = |list: &[&str]| Literals::Exact(texts(list));
    for (pattern, want) in [
        ("foo", exact(&["foo"])),
        ("foo|bar", exact(&["bar", "foo"])),
        ("^foo$", exact(&["foo"])),
        ("(prod|staging)-(eu|us)", exact(&["prod-eu", "prod-us", "staging-eu", "staging-us"])),
        ("[a-c]x?", exact(&["a", "ax", "b", "bx", "c", "cx"])),
        ("a{3}", exact(&["aaa"])),
        ("", exact(&[""])),
        ("(?i)ab", exact(&["AB", "Ab", "aB", "ab"])),
        ("foo.*", Literals::Prefix(texts(&["foo"]))),
        ("foo.+bar", Literals::Prefix(texts(&["foo"]))),
        ("(foo|bar)[0-9]+", Literals::Prefix(texts(&["bar", "foo"]))),
        (".*foo", Literals::Contains("foo".into())),
        (".*foo.*", Literals::Contains("foo".into())),
        (".+foo[0-9]+ba.*", Literals::Contains("foo".into())),
        (".*", Literals::None),
        (".+", Literals::None),
        (r"(a|\d)+", Literals::None),
        (r"\bfoo\b", Literals::Prefix(texts(&["foo"]))),
    ] {
        let got = whole(pattern).literals().clone();
        assert_eq!(got, want, "{pattern}");
    }
}

#[test]
fn long_lists_are_looked_up() {
    let list: Vec<String> = (0..50_000).map(|i| format!("host-{i}\\.example\\.org")).collect();
    let re = whole(&list.join("|"));
    assert!(re.inner.automaton.get().is_none());
    assert!(re.is_match("host-49999.example.org") && !re.is_match("host-50000.example.org"));
}

#[test]
fn says_what_it_cost() {
    assert_eq!(whole("a|b").states() + whole("a.*").states() + whole("a.c").states(), 0);
    let small = whole("a[0-9]+b").states();
    assert!((5..20).contains(&small), "{small}");
    assert!(whole(r"(\pL{30}){5}").states() > 100_000);
}

#[test]
fn lists_with_dots_are_looked_up() {
    let list: Vec<String> = (0..20_000).map(|i| format!("10.0.{}.{}:9100", i / 250, i % 250)).collect();
    let re = whole(&list.join("|"));
    assert!(re.inner.automaton.get().is_none());
    assert!(re.is_match("10.0.79.249:9100") && re.is_match("10x0y7z9:9100") && re.is_match("10\n0é7.9:9100"));
    assert!(!re.is_match("10.0.80.1:9100") && !re.is_match("10.0.7.9:9101") && !re.is_match(""));
    assert_eq!(re.literals(), &Literals::Prefix(vec!["10".into()]));
    assert!(!whole("a.c|a\u{10ffff}").is_match("a\u{10ffff}\u{10ffff}"));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The short ways to match agree with the automaton.
        #[test]
        fn shapes_agree_with_the_automaton(
            pattern in r"[ab.]{0,2}(\(a\|b\)|\[ab\]|\.\*|\.\+|a\?|b\{1,2\}|\^|\$)[ab|]{0,3}(\.\*|\.\+|)",
            text in "[ab\n]{0,6}",
        ) {
            let Ok(re) = Regex::anchored(&pattern) else { return Ok(()) };
            let automaton = re.automaton().unwrap();
            prop_assert_eq!(re.is_match(&text), automaton.is_match(&text), "{}", pattern);
            if re.is_match(&text) {
                match re.literals() {
                    Literals::Exact(set) => prop_assert!(set.contains(&text)),
                    Literals::Prefix(set) => prop_assert!(set.iter().any(|p| text.starts_with(p.as_str()))),
                    Literals::Contains(part) => prop_assert!(text.contains(part.as_str())),
                    Literals::None => {}
                }
            }
        }

        /// Any text is translated or refused, never a fault.
        #[test]
        fn never_fails_otherwise(pattern in r"[\[\](){}*+?|\\^$.:\-=<>a-dQEPpxLs0-9&~ é]{0,14}") {
            if let Err(e) = Regex::plain(&pattern) {
                prop_assert!(e.0.starts_with("error parsing regexp: "));
                prop_assert!(!e.0.contains("regex parse error"), "{} {}", pattern, e);
            }
        }
    }
}
