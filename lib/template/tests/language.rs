//! The language against Go's behaviour, one line per fact.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use ferula_template::{Function, Functions, MissingKey, Object, Shape, Templates, Type, Value};

struct Alerts(Vec<&'static str>);

impl Object for Alerts {
    fn type_name(&self) -> &str {
        "template.Alerts"
    }
    fn shape(&self) -> Shape {
        Shape::List
    }
    fn items(&self) -> Vec<Value> {
        self.0.iter().map(|s| Value::object(Alert(s))).collect()
    }
    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        match (name, args.len()) {
            ("Firing", 0) => {
                Some(Ok(Value::object(Alerts(self.0.iter().copied().filter(|s| *s == "firing").collect()))))
            }
            ("Firing", n) => Some(Err(format!("wrong number of args for Firing: want 0 got {n}"))),
            ("Fails", _) => Some(Err("on purpose".into())),
            _ => None,
        }
    }
}

struct Alert(&'static str);

impl Object for Alert {
    fn type_name(&self) -> &str {
        "template.Alert"
    }
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Status" => Some(self.0.into()),
            "Labels" => Some(Value::string_map([("a", "1"), ("b", "2")])),
            _ => None,
        }
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![("Status", self.0.into())]
    }
}

fn data() -> Value {
    Value::map([
        ("Name", "world".into()),
        ("N", Value::Int(3)),
        ("F", Value::Float(1e6)),
        ("Yes", Value::Bool(true)),
        ("No", Value::Bool(false)),
        ("Empty", "".into()),
        ("List", Value::strings(["a", "b", "c"])),
        ("None", Value::list(vec![])),
        ("Labels", Value::string_map([("job", "node"), ("zone", "eu")])),
        ("Alerts", Value::object(Alerts(vec!["firing", "resolved"]))),
        ("Nil", Value::Nil),
    ])
}

fn functions() -> Functions {
    let mut f = Functions::new();
    f.add("toUpper", Function::new(&[Type::Str], |a| Ok(a[0].to_string().to_uppercase().into())));
    f.add(
        "half",
        Function::new(&[Type::Float], |a| match a[0] {
            Value::Float(f) => Ok(Value::Float(f / 2.0)),
            _ => Err("not a float".into()),
        }),
    );
    f.add("fails", Function::new(&[], |_| Err("no way".into())));
    f.add("give", Function::new(&[], |_| Ok(Value::Function(Function::new(&[Type::Int], |a| Ok(a[0].clone()))))));
    f
}

fn run(text: &str) -> Result<String, String> {
    let mut t = Templates::new(functions());
    t.parse("t", text).map_err(|e| e.to_string())?;
    t.execute("t", &data()).map_err(|e| e.to_string())
}

#[test]
fn output_as_go() {
    for (text, out) in [
        ("plain", "plain"),
        ("{{.Name}}", "world"),
        (
            "{{ .F }} {{ .N }} {{ .Yes }} {{ 1.0 }} {{ 1e3 }} {{ 0x10 }} {{ 'a' }} {{ 1_000 }}",
            "1e+06 3 true 1 1000 16 97 1000",
        ),
        ("a {{- 1 -}} b", "a1b"),
        ("a {{- /* c */ -}} b", "ab"),
        ("a{{/* c */}} b", "a b"),
        ("{{- \"x\" -}}\n\n  y", "xy"),
        ("{{`raw\\n`}} {{\"q\\tq\\u00e9\\x41\"}}", "raw\\n q\tqéA"),
        ("{{if .Yes}}y{{else}}n{{end}}{{if .No}}y{{else}}n{{end}}", "yn"),
        ("{{if .No}}1{{else if .Empty}}2{{else if .N}}3{{else}}4{{end}}", "3"),
        ("{{with .Name}}<{{.}}>{{end}}{{with .Empty}}x{{else}}none{{end}}", "<world>none"),
        ("{{with .Empty}}x{{else with .Name}}{{.}}{{else}}none{{end}}", "world"),
        ("{{with $x := .Name}}{{$x}}{{$.N}}{{end}}", "world3"),
        ("{{range .List}}[{{.}}]{{end}}", "[a][b][c]"),
        ("{{range $i, $e := .List}}{{$i}}={{$e}};{{end}}", "0=a;1=b;2=c;"),
        ("{{range $e := .List}}{{$e}}{{end}}", "abc"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "job=node zone=eu "),
        ("{{range .None}}x{{else}}empty{{end}}", "empty"),
        ("{{range .Nil}}x{{else}}empty{{end}}", "empty"),
        ("{{range 3}}{{.}}{{end}}{{range $i := 2}}{{$i}}{{end}}", "01201"),
        ("{{range .List}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{$x := 1}}{{if .Yes}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if .Yes}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{$x := .Labels}}{{$x.job}}", "node"),
        ("{{.Labels.job | printf \"%s-%s\" \"a\"}}", "a-node"),
        ("{{ .Name | toUpper | printf \"%q\" }}", "\"WORLD\""),
        ("{{ (printf \"%d\" 3) | len }}", "1"),
        (
            "{{ (index .Labels \"job\") }}{{ index .List 1 }}{{ index .Labels \"none\" }}|{{ index \"abc\" 1 }}",
            "nodeb|98",
        ),
        ("{{ slice .List 1 2 }} {{ slice \"hello\" 1 3 }} {{ slice .List 1 }}", "[b] el [b c]"),
        ("{{ .Alerts | len }} {{ .Alerts.Firing | len }} {{ len .Alerts.Firing }}", "2 1 1"),
        ("{{ range .Alerts.Firing }}{{ .Status }}{{ .Labels.a }}{{ end }}", "firing1"),
        ("{{ (index .Alerts 0).Status }}", "firing"),
        ("{{ .Alerts }}", "[{firing} {resolved}]"),
        ("{{ .Missing }} {{ .Missing.Deeper }}", "<no value> <no value>"),
        ("{{ printf \"%v\" .Nil }} {{ print nil }}", "<nil> <nil>"),
        ("{{ .List }} {{ .Labels }}", "[a b c] map[job:node zone:eu]"),
        (
            "{{ and .Yes .Name }} {{ and .No .Name }} {{ or .Empty .Name }} {{ or .No .Empty }}|{{ not .No }}",
            "world false world |true",
        ),
        ("{{ and .No (index .List 99) }}{{ or .Yes (index .List 99) }}", "falsetrue"),
        (
            "{{ eq 1 1 }} {{ eq .Name \"x\" \"world\" }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt \"b\" \"a\" }} {{ ge 1.5 2.5 }}",
            "true true true true true true false",
        ),
        ("{{ eq .Nil nil }}", "true"),
        ("{{ print 1 2 \"a\" 3 }}|{{ println \"a\" 1 }}", "1 2a3|a 1\n"),
        (
            "{{ html \"<a href='x'>\" }} {{ js \"it's\" }} {{ urlquery \"a b&c\" }}",
            "&lt;a href=&#39;x&#39;&gt; it\\'s a+b%26c",
        ),
        ("{{ call give 7 }}", "7"),
        ("{{ half 3 }} {{ half 3.5 }}", "1.5 1.75"),
        ("{{define \"T\"}}<{{.}}>{{end}}{{template \"T\" .Name}}{{template \"T\"}}", "<world><<no value>>"),
        ("{{block \"B\" .Name}}[{{.}}]{{end}}", "[world]"),
        ("{{define \"T\"}}{{$}}{{end}}{{template \"T\" 1}}", "1"),
        ("{{ true }} {{ false }}", "true false"),
        ("{{ 3 | printf \"%d\" }}", "3"),
        ("{{\n  .Name\n  | toUpper\n}}", "WORLD"),
        ("{{ \"a\" | printf \"%s%s\" \"b\" }}", "ba"),
        (
            "{{ $ }}{{ $.Name }}",
            "map[Alerts:[{firing} {resolved}] Empty: F:1e+06 Labels:map[job:node zone:eu] List:[a b c] N:3 Name:world Nil:<nil> No:false None:[] Yes:true]world",
        ),
    ] {
        assert_eq!(run(text).as_deref(), Ok(out), "{text}");
    }
}

#[test]
fn errors_as_go() {
    for (text, message) in [
        ("{{.Name.Foo}}", "template: t:1:7: executing \"t\" at <.Name.Foo>: can't evaluate field Foo in type string"),
        ("\n {{.N.Foo}}", "template: t:2:5: executing \"t\" at <.N.Foo>: can't evaluate field Foo in type int"),
        ("{{nope}}", "template: t:1: function \"nope\" not defined"),
        ("{{$x}}", "template: t:1: undefined variable \"$x\""),
        ("{{if}}x{{end}}", "template: t:1: missing value for if"),
        ("{{if .Yes}}x", "template: t:1: unexpected EOF"),
        ("{{end}}", "template: t:1: unexpected {{end}}"),
        ("x{{else}}", "template: t:1: unexpected {{else}}"),
        ("{{", "template: t:1: unclosed action"),
        ("{{ .Name }", "template: t:1: unexpected \"}\" in operand"),
        ("{{ \"abc }}", "template: t:1: unterminated quoted string"),
        ("{{ `abc }}", "template: t:1: unterminated raw quoted string"),
        ("{{ | }}", "template: t:1: unexpected \"|\" in command"),
        ("{{if 1}}a{{else with 1}}{{end}}", "template: t:1: unexpected <with> in input"),
        (
            "{{ (index .Alerts 0).Labels.a.b }}",
            "template: t:1:18: executing \"t\" at <0>: can't evaluate field b in type string",
        ),
        ("{{ $x = 1 }}", "template: t:1:8: executing \"t\" at <1>: undefined variable: $x"),
        ("{{ }}", "template: t:1: missing value for command"),
        ("{{ (1 }}", "template: t:1: unclosed left paren"),
        ("{{ 1) }}", "template: t:1: unexpected right paren"),
        ("{{ 1 | 2 }}", "template: t:1: non executable command in pipeline stage 2"),
        ("{{ \"x\".Foo }}", "template: t:1: unexpected . after term \"\\\"x\\\"\""),
        ("{{ break }}", "template: t:1: {{break}} outside {{range}}"),
        (
            "{{ template \"none\" }}",
            "template: t:1:12: executing \"t\" at <{{template \"none\"}}>: template \"none\" not defined",
        ),
        ("{{ fails }}", "template: t:1:3: executing \"t\" at <fails>: error calling fails: no way"),
        (
            "{{ toUpper }}",
            "template: t:1:3: executing \"t\" at <toUpper>: wrong number of args for toUpper: want 1 got 0",
        ),
        ("{{ toUpper 1 }}", "template: t:1:11: executing \"t\" at <1>: expected string; found 1"),
        (
            "{{ toUpper .N }}",
            "template: t:1:11: executing \"t\" at <.N>: wrong type for value; expected string; got int",
        ),
        (
            "{{ .N | toUpper }}",
            "template: t:1:8: executing \"t\" at <toUpper>: wrong type for value; expected string; got int",
        ),
        (
            "{{ eq \"a\" 1 }}",
            "template: t:1:3: executing \"t\" at <eq \"a\" 1>: error calling eq: incompatible types for comparison: string and int",
        ),
        (
            "{{ lt .List 1 }}",
            "template: t:1:3: executing \"t\" at <lt .List 1>: error calling lt: invalid type for comparison",
        ),
        (
            "{{ index .List 9 }}",
            "template: t:1:3: executing \"t\" at <index .List 9>: error calling index: index out of range: 9",
        ),
        ("{{ len 3 }}", "template: t:1:3: executing \"t\" at <len 3>: error calling len: len of type int"),
        ("{{ nil }}", "template: t:1:3: executing \"t\" at <nil>: nil is not a command"),
        ("{{ .Name 1 }}", "template: t:1:3: executing \"t\" at <.Name>: Name is not a method but has arguments"),
        ("{{ 1 2 }}", "template: t:1:3: executing \"t\" at <1>: can't give argument to non-function 1"),
        ("{{ range .N.X }}{{end}}", "template: t:1:11: executing \"t\" at <.N.X>: can't evaluate field X in type int"),
        ("{{ range .Name }}{{end}}", "template: t:1:9: executing \"t\" at <.Name>: range can't iterate over world"),
        (
            "{{ .Alerts.Firing 1 }}",
            "template: t:1:10: executing \"t\" at <.Alerts.Firing>: wrong number of args for Firing: want 0 got 1",
        ),
        (
            "{{ .Alerts.Fails }}",
            "template: t:1:10: executing \"t\" at <.Alerts.Fails>: error calling Fails: on purpose",
        ),
        (
            "{{ .Alerts.None }}",
            "template: t:1:10: executing \"t\" at <.Alerts.None>: can't evaluate field None in type template.Alerts",
        ),
        (
            "{{define \"a\"}}1{{end}}{{define \"a\"}}2{{end}}",
            "template: t:1: template: multiple definition of template \"a\"",
        ),
        ("{{ 08x }}", "template: t:1: bad number syntax: \"08x\""),
        ("{{ .Name@ }}", "template: t:1: bad character U+0040 '@'"),
        ("{{ /* x }}", "template: t:1: unexpected \"/\" in command"),
        ("{{/* x }}", "template: t:1: unclosed comment"),
        ("{{ $x, $y := .List }}", "template: t:1: too many declarations in command"),
    ] {
        assert_eq!(run(text).unwrap_err(), message, "{text}");
    }
}

#[test]
fn missing_keys_follow_the_option() {
    let labels = Value::string_map([("a", "1")]);
    let any = Value::map([("a", Value::Int(1))]);
    let run = |option, data: &Value, text: &str| {
        let mut t = Templates::new(Functions::new()).missing_key(option);
        t.parse("t", text).unwrap();
        t.execute("t", data).map_err(|e| e.message().to_owned())
    };
    assert_eq!(run(MissingKey::Default, &labels, "{{.b}}").unwrap(), "<no value>");
    assert_eq!(run(MissingKey::Zero, &labels, "{{.b}}|{{.a}}").unwrap(), "|1");
    assert_eq!(run(MissingKey::Zero, &any, "{{.b}}").unwrap(), "<no value>");
    assert_eq!(run(MissingKey::Error, &any, "{{.b}}").unwrap_err(), "map has no entry for key \"b\"");
    assert_eq!(run(MissingKey::Zero, &any, "{{.b.c}}").unwrap_err(), "nil pointer evaluating interface {}.c");
}

#[test]
fn what_loops_or_nests_is_bounded() {
    // On the smallest stack a thread of the product has.
    let body = || {
        for (text, message) in [
            (
                "{{range 100000000}}{{range 100000000}}x{{end}}{{end}}",
                "template execution budget exceeded (2000000 steps)",
            ),
            (
                "{{define \"t2\"}}{{template \"t2\" .}}{{end}}{{template \"t2\" .}}",
                "exceeded maximum template depth (56)",
            ),
            (
                "{{define \"t2\"}}{{if 1}}{{with 1}}{{range 1}}{{template \"t2\" .}}{{end}}{{end}}{{end}}{{end}}{{template \"t2\" .}}",
                "exceeded maximum template depth (56)",
            ),
            (
                "{{$x := \"aaaaaaaa\"}}{{range 100}}{{$x = print $x $x}}{{end}}",
                "error calling print: template output budget exceeded (67108864 bytes)",
            ),
            ("{{range 1000}}{{printf \"%999999d\" 1}}{{end}}", "template output budget exceeded (67108864 bytes)"),
        ] {
            let got = run(text).unwrap_err();
            assert!(got.ends_with(message) || got.ends_with(&message.replace("error calling print: ", "")), "{got}");
        }
        for text in ["(".repeat(100_000), "{{if 1}}".repeat(100_000), "{{range 1}}".repeat(51)] {
            let text = if text.starts_with('(') { format!("{{{{{text}") } else { text };
            let got = run(&text).unwrap_err();
            assert!(got.ends_with("nested too deeply (more than 50 levels)"), "{got}");
        }
        let nested = format!("{}x{}", "{{if 1}}".repeat(48), "{{end}}".repeat(48));
        assert_eq!(run(&nested).unwrap(), "x");
        let mut t = Templates::new(functions());
        t.parse("t", &nested).unwrap();
        assert_eq!(t.execute_html("t", &data()).unwrap(), "x");
        for i in 0..40 {
            let inner = format!("{}{{{{template \"n{}\"}}}}{}", "{{if 1}}".repeat(5), i + 1, "{{end}}".repeat(5));
            t.parse(&format!("n{i}"), &inner).unwrap();
        }
        assert!(
            t.execute_html("n0", &data()).unwrap_err().to_string().ends_with("nested too deeply (more than 60 levels)")
        );
        let parens = format!("{{{{ {}1{} }}}}", "(".repeat(16), ")".repeat(16));
        assert_eq!(run(&parens).unwrap(), "1");
        let many = format!("{{{{if .No}}}}{}{{{{end}}}}", "{{else if .No}}".repeat(5_000));
        assert_eq!(run(&many).unwrap(), "");
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(body).unwrap().join().unwrap();
}

#[test]
fn templates_of_a_set_call_each_other() {
    let mut t = Templates::new(functions()).missing_key(MissingKey::Zero);
    t.parse("a.tmpl", "{{define \"x\"}}X{{.}}{{end}}{{define \"y\"}}Y{{template \"x\" .}}{{end}}").unwrap();
    t.parse("b.tmpl", "{{define \"x\"}}Z{{.}}{{end}}").unwrap();
    t.parse("c.tmpl", "{{define \"x\"}} {{end}}").unwrap(); // an empty one replaces nothing
    assert_eq!(t.expand("{{template \"y\" \"1\"}}", &Value::Nil).unwrap(), "YZ1");
    assert_eq!(t.expand("{no action}", &Value::Nil).unwrap(), "{no action}");
    assert!(t.execute("none", &Value::Nil).is_err());
    let shared: Arc<str> = Arc::from("v");
    assert_eq!(t.expand("{{.}}", &Value::Str(shared)).unwrap(), "v");
}

#[test]
fn functions_of_one_execution_override() {
    let mut base = Functions::new();
    base.add("now", Function::new(&[], |_| Err("not now".into())));
    let mut t = Templates::new(base);
    t.parse("t", "{{now}}").unwrap();
    assert!(t.execute("t", &Value::Nil).is_err());
    let mut over = Functions::new();
    over.add("now", Function::new(&[], |_| Ok(Value::Int(5))));
    assert_eq!(t.execute_with("t", &Value::Nil, &over).unwrap(), "5");
}
