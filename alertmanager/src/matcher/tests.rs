use super::*;

#[test]
fn both_grammars_and_the_printed_form() {
    for (input, printed) in [
        ("{}", "{}"),
        ("", "{}"),
        ("a=b", r#"{a="b"}"#),
        (r#"{a="b"}"#, r#"{a="b"}"#),
        (r#"{ a = "b" , c=~"d.*",}"#, r#"{a="b",c=~"d.*"}"#),
        (r#"a!=b,c!~"x|y""#, r#"{a!="b",c!~"x|y"}"#),
        (r#"{"any name"="🙂"}"#, r#"{"any name"="🙂"}"#),
        ("foo.bar=1", r#"{foo.bar="1"}"#),
        (r#"a="x\n\"y\\""#, r#"{a="x\n\"y\\"}"#),
        // Only the classic grammar reads these.
        ("a=", r#"{a=""}"#),
        ("a=b c", r#"{a="b c"}"#),
        ("a==b", r#"{a="=b"}"#),
        (r"a=x\d", r#"{a="x\\d"}"#),
        ("{a=", r#"{a=""}"#),
    ] {
        assert_eq!(print_set(&parse_matchers(input, "test").unwrap()), printed, "{input}");
    }
}

#[test]
fn refuses() {
    for input in ["a", "=b", r#"a="b"#, r#"{a="b" c="d"}"#, "a=~(", "{a=\"b\"}}", "1a!b"] {
        assert!(parse_matchers(input, "test").is_err(), "{input}");
    }
    assert_eq!(parse_matcher("{a=", "test").unwrap_err().to_string(), "unexpected open or close brace: {a=");
}

#[test]
fn a_dot_does_not_match_a_newline() {
    let m = parse_matcher("a=~x.y", "test").unwrap();
    assert!(m.matches("x-y") && !m.matches("x\ny") && !m.matches("x-yz"));
}

#[test]
fn hostile_input_only_fails() {
    for input in
        ["{".repeat(100_000), "\"".repeat(9_999), "a=\\".repeat(50_000), ",".repeat(100_000), "\u{0}=\u{0}".into()]
    {
        let _ = parse_matchers(&input, "test");
        let _ = parse_matcher(&input, "test");
    }
}
