//! The same templates through the real `amtool template render` and through this crate, text and HTML.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use ferula_model::SystemClock;
use ferula_template::{MissingKey, Object, Shape, Templates, Value, functions, time};

const DATA: &str = r#"{"receiver":"mail","status":"firing","alerts":[
 {"status":"firing","labels":{"alertname":"Down","instance":"a:1","sev":"<b>"},"annotations":{"summary":"it's \"down\" & out"},"startsAt":"2024-02-03T04:05:06.789Z","endsAt":"2024-02-03T05:05:06Z","generatorURL":"http://p/graph?g0.expr=up+%3D%3D+0&g0.tab=1","fingerprint":"f1"},
 {"status":"resolved","labels":{"alertname":"Down","instance":"b:2"},"annotations":{},"startsAt":"2024-02-03T04:05:06Z","endsAt":"2024-02-03T05:05:06Z","generatorURL":"javascript:alert(1)","fingerprint":"f2"}],
 "groupLabels":{"alertname":"Down"},"commonLabels":{"alertname":"Down","z":"1"},"commonAnnotations":{},"externalURL":"http://am/x"}"#;

type Pairs = Vec<(&'static str, &'static str)>;

/// `template.KV`
struct Kv(Pairs);

impl Object for Kv {
    fn type_name(&self) -> &str {
        "template.KV"
    }
    fn shape(&self) -> Shape {
        Shape::Map
    }
    fn field(&self, name: &str) -> Option<Value> {
        self.0.iter().find(|(k, _)| *k == name).map(|(_, v)| Value::str(v))
    }
    fn entries(&self) -> Vec<(Arc<str>, Value)> {
        self.0.iter().map(|(k, v)| (Arc::from(*k), Value::str(v))).collect()
    }
    fn zero(&self) -> Value {
        "".into()
    }
    fn text(&self) -> Option<String> {
        Some(self.0.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", "))
    }
    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(match name {
            "Names" => Value::strings(self.0.iter().map(|p| p.0)),
            "Values" => Value::strings(self.0.iter().map(|p| p.1)),
            "Remove" => {
                let gone: Vec<String> = args.first()?.items()?.iter().map(ToString::to_string).collect();
                Value::object(Kv(self.0.iter().filter(|p| !gone.iter().any(|g| g == p.0)).copied().collect()))
            }
            _ => return None,
        }))
    }
}

struct Alert {
    status: &'static str,
    labels: Pairs,
    annotations: Pairs,
    starts_ms: i64,
    url: &'static str,
    fingerprint: &'static str,
}

impl Object for Alert {
    fn type_name(&self) -> &str {
        "template.Alert"
    }
    fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "Status" => self.status.into(),
            "Labels" => Value::object(Kv(self.labels.clone())),
            "Annotations" => Value::object(Kv(self.annotations.clone())),
            "StartsAt" => time::from_ms(self.starts_ms)?.into(),
            "EndsAt" => time::from_ms(1_706_936_706_000)?.into(),
            "GeneratorURL" => self.url.into(),
            "Fingerprint" => self.fingerprint.into(),
            _ => return None,
        })
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        [
            ("status", "Status"),
            ("labels", "Labels"),
            ("annotations", "Annotations"),
            ("startsAt", "StartsAt"),
            ("endsAt", "EndsAt"),
            ("generatorURL", "GeneratorURL"),
            ("fingerprint", "Fingerprint"),
        ]
        .into_iter()
        .filter_map(|(json, go)| Some((json, self.field(go)?)))
        .collect()
    }
}

struct Alerts(&'static str);

fn alerts() -> [Alert; 2] {
    [
        Alert {
            status: "firing",
            labels: vec![("alertname", "Down"), ("instance", "a:1"), ("sev", "<b>")],
            annotations: vec![("summary", "it's \"down\" & out")],
            starts_ms: 1_706_933_106_789,
            url: "http://p/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
            fingerprint: "f1",
        },
        Alert {
            status: "resolved",
            labels: vec![("alertname", "Down"), ("instance", "b:2")],
            annotations: vec![],
            starts_ms: 1_706_933_106_000,
            url: "javascript:alert(1)",
            fingerprint: "f2",
        },
    ]
}

impl Object for Alerts {
    fn type_name(&self) -> &str {
        if self.0.is_empty() { "template.Alerts" } else { "[]template.Alert" }
    }
    fn shape(&self) -> Shape {
        Shape::List
    }
    fn items(&self) -> Vec<Value> {
        alerts().into_iter().filter(|a| self.0.is_empty() || a.status == self.0).map(Value::object).collect()
    }
    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let status = match name {
            "Firing" if self.0.is_empty() => "firing",
            "Resolved" if self.0.is_empty() => "resolved",
            _ => return None,
        };
        if !args.is_empty() {
            return Some(Err(format!("wrong number of args for {name}: want 0 got {}", args.len())));
        }
        Some(Ok(Value::object(Alerts(status))))
    }
}

struct Data;

impl Object for Data {
    fn type_name(&self) -> &str {
        "template.Data"
    }
    fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "Receiver" => "mail".into(),
            "Status" => "firing".into(),
            "Alerts" => Value::object(Alerts("")),
            "GroupLabels" => Value::object(Kv(vec![("alertname", "Down")])),
            "CommonLabels" => Value::object(Kv(vec![("alertname", "Down"), ("z", "1")])),
            "CommonAnnotations" => Value::object(Kv(vec![])),
            "ExternalURL" => "http://am/x".into(),
            _ => return None,
        })
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        [
            ("receiver", "Receiver"),
            ("status", "Status"),
            ("alerts", "Alerts"),
            ("notification_reason", "Empty"),
            ("groupLabels", "GroupLabels"),
            ("commonLabels", "CommonLabels"),
            ("commonAnnotations", "CommonAnnotations"),
            ("externalURL", "ExternalURL"),
        ]
        .into_iter()
        .map(|(json, go)| (json, self.field(go).unwrap_or("".into())))
        .collect()
    }
}

const TEXT: &[&str] = &[
    "{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}",
    "{{ .Foo }}",
    "{{ .Status | }}",
    "{{ | }}",
    "{{ }}",
    "{{ 1 2 }}",
    "{{ .Alerts.Fails }}",
    "{{ len 3 }}",
    "{{ range .Status }}{{end}}",
    "{{ .CommonLabels.x }}|{{ .CommonLabels.z }}",
    "{{ .CommonLabels.x.y }}",
    "{{$x := 1}}{{$x.foo.bar}}",
    "{{ \"a\" | join \"\" }}",
    "{{ join 1 }}",
    "{{ eq \"a\" 1 }}",
    "{{ eq .Alerts 1 }}",
    "{{ index .Alerts 9 }}",
    "{{ index .Alerts nil }}",
    "{{ index .CommonLabels 1 }}",
    "{{ index .CommonLabels \"z\" }}",
    "{{ nil }}",
    "{{ 08x }}",
    "{{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 017 }} {{ 1e2 }} {{ 1.50 }} {{ .5 }} {{ -3 }} {{ +4 }} {{ 1_000 }} {{ 0x1p4 }} {{ 1e100 }}",
    "{{ 'a' }} {{ '\\n' }} {{ '\\x41' }} {{ 'é' }}",
    "{{ .Status@ }}",
    "{{ /* x }}",
    "{{/* x }}",
    "{{/* x */ }}",
    "a {{- /* x */ -}} b{{/* y */}} c",
    "{{ $x, $y := .Alerts }}",
    "{{ \"x\".Foo }}",
    "{{ .Status 1 }}",
    "{{ .Alerts.Firing 1 }}",
    "{{ template \"none\" }}",
    "{{ \"\\x\" }}",
    "{{ 1 | 2 }}",
    "{{ \"abc }}",
    "{{ `abc }}",
    "{{ .GroupLabels.Foo.Bar }}",
    "{{ print 1 | toUpper 1 }}",
    "{{ toUpper }}",
    "{{ toUpper .Alerts }}",
    "{{ . | toUpper }}",
    "{{ if }}x{{end}}",
    "{{if 1}}x{{else}}y{{else}}z{{end}}",
    "{{if 1}}x",
    "{{range 1}}x{{else}}",
    "{{define \"q\"}}x",
    "{{define 1}}x{{end}}",
    "{{template 1}}",
    "{{block \"b\" 1}}<{{.}}>{{end}}",
    "{{else}}",
    "a{{end}}",
    "{{end 1}}",
    "{{range 3}}{{.}}{{end}}",
    "{{range $i := 3}}{{$i}}{{else}}none{{end}}",
    "{{range $i, $v := .Alerts}}{{$i}}{{$v.Status}} {{end}}",
    "{{range $k, $v := .CommonLabels}}{{$k}}={{$v}} {{end}}",
    "{{range .CommonAnnotations}}x{{else}}none{{end}}",
    "{{range $i, $j := 3}}{{end}}",
    "{{range 1, 2}}{{end}}",
    "{{ $x = 1 }}",
    "{{ $x := 1 }}{{ range 3 }}{{ $x = . }}{{ end }}{{ $x }}",
    "{{ .Status",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ () }}",
    "{{ 'ab' }}",
    "{{ 99999999999999999999 }}",
    "{{ 9223372036854775807 }} {{ -9223372036854775808 }}",
    "{{ title \"foo bar-baz o'neil FOO_bar x.y éa\" }}",
    "{{ slice \"abc\" 2 1 }}",
    "{{ slice \"abcdef\" 1 3 }}{{ slice \"abc\" 1 }}{{ slice .Alerts.Names }}",
    "{{ with $x := 1 }}{{end}}{{$x}}",
    "{{ with .CommonLabels.none }}{{ . }}{{ else with .Status }}<{{ . }}>{{ end }}",
    "{{if 1}}a{{else with 1}}{{end}}",
    "{{range 1}}a{{else if 1}}{{end}}",
    "{{define \"y\"}}a{{end}}{{define \"y\"}}b{{end}}",
    "{{define \"y\"}}a{{.}}{{end}}{{template \"y\"}}{{template \"y\" 1}}{{template \"y\" .Status}}",
    "{{ printf \"%d %s\" \"x\" }}",
    "{{ printf \"%5d|%-5d|%05d|%x|%X|%o|%c|%q|%U|%+d\" 42 42 42 255 255 8 65 65 65 7 }}",
    "{{ printf \"%f|%.2f|%e|%g|%8.3f|%+.1f|%v\" 1.5 2.675 123456.789 1e21 3.14159 2.0 1e6 }}",
    "{{ printf \"%s|%10s|%-10s|%.2s|%q|%x|% x\" \"hi\" \"hi\" \"hi\" \"hello\" \"a\\\"b\" \"hi\" \"hi\" }}",
    "{{ printf \"%v %v %t %T %T %T\" .CommonLabels nil true 1 1.5 \"x\" }}",
    "{{ printf \"%d %s %t\" nil 1 \"x\" }}|{{ printf \"%!\" }}|{{ printf \"%z\" 1 }}|{{ printf \"x\" 1 }}|{{ printf \"%\" }}",
    "{{ printf \"%[2]d %[1]d %[3]d\" 1 2 }}|{{ printf \"%*d\" 5 1 }}|{{ printf \"%.*f\" 2 3.14159 }}",
    "{{ printf \"%v %d %s\" (stringSlice \"a\" \"b\") (list 1 2) (stringSlice \"a\") }}",
    "{{ printf \"%q\" (stringSlice \"a\" \"b\") }} {{ printf \"%#v %#v %+v\" \"s\" 1 \"t\" }}",
    "{{ print 1 2 \"a\" 3 nil true }}|{{ println 1 \"a\" }}|{{ print }}|{{ print \"a\" \"b\" }}",
    "{{ \"a\" | printf }}",
    "{{ call nil }}",
    "{{ .Alerts.Firing.Foo }}",
    "{{ (index .Alerts 0).Labels.foo.bar }}",
    "{{ (index .Alerts 0).Labels.sev }} {{ (index .Alerts 0).Labels }}",
    "{{ true.x }}",
    "{{ print (1).x }}",
    "{{ 1.x }}",
    "{{ lt .Alerts 1 }}",
    "{{ lt true false }}",
    "{{ lt 1 2 }} {{ le 2 2 }} {{ gt 1.5 1.0 }} {{ ge \"b\" \"a\" }} {{ ne 1 2 }} {{ eq 1 2 1 }}",
    "{{ eq 1 1.0 }}",
    "{{ eq nil .Status }}|{{ eq .Status nil }}",
    "{{ and 1 0 2 }} {{ or 0 \"\" \"x\" }} {{ not 0 }} {{ and }}",
    "{{break}}",
    "{{range 3}}{{if eq . 1}}{{continue}}{{end}}{{.}}{{end}}",
    "{{ stringSlice \"a\" 1 }}",
    "{{ reReplaceAll \"(a+)(b)\" \"<$2${1}x$1y>\" \"aab ab\" }}",
    "{{ match \"^fo+$\" \"foo\" }} {{ match \"x\" \"foo\" }}",
    "{{ tz \"Nope\" .ExternalURL }}",
    "{{ (index .Alerts 0).StartsAt }}|{{ (index .Alerts 0).StartsAt.Unix }}|{{ (index .Alerts 0).StartsAt.Format \"Mon Jan _2 15:04:05.000 MST 2006\" }}",
    "{{ date \"2006-01-02T15:04:05Z07:00\" (index .Alerts 0).StartsAt }} {{ (index .Alerts 0).StartsAt | tz \"Europe/Paris\" | date \"15:04 MST -0700 Monday January 2 3pm 002\" }}",
    "{{ ((index .Alerts 0).EndsAt.Sub (index .Alerts 0).StartsAt).Seconds }} {{ (index .Alerts 0).EndsAt.Sub (index .Alerts 0).StartsAt }}",
    "{{ (index .Alerts 0).EndsAt.Sub (index .Alerts 0).StartsAt | humanizeDuration }} {{ humanizeDuration 0.0123 }} {{ humanizeDuration \"90061\" }} {{ humanizeDuration \"x\" }}",
    "{{ (index .Alerts 0).StartsAt.Year }} {{ (index .Alerts 0).StartsAt.Month }} {{ (index .Alerts 0).StartsAt.Weekday }} {{ ((index .Alerts 0).StartsAt.AddDate 0 1 0).Format \"2006-01-02\" }}",
    "{{ .CommonLabels.Names | join \",\" }} {{ .CommonLabels.Values | join \"+\" }} {{ (.CommonLabels.Remove (stringSlice \"z\")) }}",
    "{{ join \",\" .GroupLabels }}",
    "{{ trimSpace \" x \" }}|{{ toLower \"ABC\" }}|{{ safeHtml \"<b>\" }}|{{ safeUrl \"a b\" }}|{{ urlUnescape \"a%20b+c\" }}|{{ urlUnescape \"%zz\" }}",
    "{{ toJson (index .Alerts 0) }}",
    "{{ toJson .CommonLabels }} {{ toJson (stringSlice \"<\" \"&\") }} {{ toJson 1.5 }} {{ toJson nil }} {{ toJson \"a\\u2028\" }} {{ toJson 1e21 }}",
    "{{ html \"<a href='x'>\\\"&\" }} {{ js \"it's <x> \\\\ \\u2028 =\" }} {{ urlquery \"a b&c/é~\" }} {{ html 1 2 }}",
    "{{ list 1 \"a\" }} {{ append (list 1) 2 3 }} {{ dict \"a\" 1 \"b\" 2 }} {{ (dict \"a\" 1).a }}",
    "{{ dict \"a\" }}",
    "{{ dict 1 2 }}",
    "{{\n.Status\n| toUpper\n}}\n{{ .Nope }}",
    "{{ .Alerts\n}}x{{ nope }}",
    "{{ \"a\\tb\\u00e9\\\"\" }} {{ `a\\tb` }}",
    "{{- 3 -}} x {{- 4 }}",
    "{{3 -}}  x",
    "{{ . -}}\n\n",
    "{{if and (eq 1 1) (or (gt 2 1) false)}}ok{{end}}",
    "{{ $ | len }}",
    "{{ len $.Alerts }} {{ len \"héé\" }} {{ len .CommonLabels }}",
    "}} {{ 1 }}",
    "{ {{ \"{{\" }} }",
    "{{ . .Status }}",
    "{{ .Status.Foo }}",
    "{{ .Alerts.Firing.Resolved }}",
    "{{ (print \"a\").b }}",
    "{{ print 1 ) }}",
    "{{ print 1, 2 }}",
    "{{ a:b }}",
    "{{ $x := }}",
    "{{ := 1 }}",
    "{{ if .Status }}a{{ else }}b{{ end }}{{ if not .Status }}c{{ else if 1 }}d{{ end }}",
    "{{ not }}",
    "{{ index 1 }}|{{ index \"abc\" 1 }}",
    "{{ index nil 1 }}",
    "{{ template \"a\" \"b\" \"c\" }}",
    "{{ block }}",
];

const HTML: &[&str] = &[
    "<p>{{ (index .Alerts 0).Labels.sev }}</p>",
    "<a href=\"{{ (index .Alerts 0).GeneratorURL }}\">x</a>",
    "<a href='{{ (index .Alerts 1).GeneratorURL }}'>x</a>",
    "<a href={{ (index .Alerts 0).GeneratorURL }}>x</a>",
    "<a href=\"/x?y={{ (index .Alerts 0).GeneratorURL }}&z={{ .Status }}\">x</a>",
    "<a href=\"{{ .ExternalURL }}/#/alerts?receiver={{ .Receiver | urlquery }}\">x</a>",
    "<a title=\"{{ (index .Alerts 0).Annotations.summary }}\" class='{{ (index .Alerts 0).Labels.sev }}'>x</a>",
    "<input value={{ (index .Alerts 0).Annotations.summary }}>",
    "<input value={{ \"\" }}>",
    "<b {{ \"title\" }}=\"x\">{{ \"onclick\" }}</b>",
    "<b {{ \"onclick\" }}=\"x\">y</b>",
    "<script>var x = {{ (index .Alerts 0).Annotations.summary }}; var n = {{ 1 }};</script>",
    "<script>var x = \"{{ (index .Alerts 0).Annotations.summary }}\"; // {{ .Status }}\nvar y = '{{ .Status }}';</script>",
    "<script>var x = {{ stringSlice \"a\" \"</script>\" }};</script>",
    "<style>p { color: {{ \"red\" }}; width: {{ \"expression(1)\" }} }</style>",
    "<p style=\"color: {{ .Status }}; background: {{ \"url(x)\" }}\">{{ .Status }}</p>",
    "<p style=\"color: {{ if eq .Status \"firing\" }}#f00{{ else }}#0f0{{ end }}\">{{ .Status }}</p>",
    "<textarea>{{ \"<b>\" }}</textarea><title>{{ \"a&b\" }}</title>",
    "{{ safeHtml \"<b>bold</b>\" }}{{ \"<b>\" }}",
    "<a title=\"{{ safeHtml \"<b>x</b> & 'y'\" }}\">",
    "<a href=\"{{ safeUrl \"javascript:alert(1)\" }}\">x</a>",
    "<!-- comment {{ .Status }} -->x<!-- y -->",
    "a < b && c > d {{ \"x\" }}<br/>",
    "<!DOCTYPE html><html><body>{{ .Status }}</body></html>",
    "{{ define \"t\" }}<{{ . }}>{{ end }}",
    "{{ define \"t\" }}[{{ . }}]{{ end }}<p>{{ template \"t\" \"<\" }}</p><a href=\"{{ template \"t\" \"a b\" }}\">",
    "{{ if 1 }}<a href=\"{{ end }}",
    "{{ if 1 }}<b>{{ end }}x",
    "{{ range .Alerts }}<li onclick=\"f('{{ .Labels.sev }}', {{ .Status }})\">{{ .Labels.instance }}</li>{{ end }}",
    "{{ .CommonLabels.none }}|{{ .CommonLabels }}|{{ 1.5 }}|{{ true }}|{{ nil | print }}",
    "{{ \"a+b 'c' \\\"d\\\"\" }}",
    "{{ html \"<\" }} {{ \"<\" | html }} {{ print \"<\" | urlquery }}",
    "<a href=\"mailto:{{ \"a b@c\" }}\">{{ \"x\" }}</a><img src=\"{{ \"//h/p?q=a b\" }}\">",
    "<p id=\"{{ \"x\" }}-{{ 1 }}\" data-url=\"{{ \"javascript:x\" }}\">",
    "{{ .Alerts.Nope }}",
    "<a href=\"{{ if 1 }}http://x/?a={{ else }}/y{{ end }}{{ \"a&b c\" }}\">",
];

fn ours(text: &str, html: bool) -> Result<String, String> {
    let set = Templates::new(functions::alertmanager::functions(Arc::new(SystemClock))).missing_key(MissingKey::Zero);
    let data = Value::object(Data);
    if html { set.expand_html(text, &data) } else { set.expand(text, &data) }.map_err(|e| e.to_string())
}

#[test]
fn agrees_with_amtool() {
    let Some(amtool) = std::env::var_os("PEERS").map(|p| PathBuf::from(p).join("amtool")).filter(|p| p.exists()) else {
        println!("SKIPPED template/amtool: PEERS names no amtool");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.json");
    std::fs::write(&data, DATA).unwrap();
    let glob = dir.path().join("empty.tmpl");
    std::fs::write(&glob, "{{ define \"unused\" }}{{ end }}").unwrap();
    let (mut same, mut differ) = (0, Vec::new());
    for (texts, kind) in [(TEXT, "text"), (HTML, "html")] {
        for text in texts {
            let out = Command::new(&amtool)
                .args(["template", "render", "--template.type", kind, "--template.text", text])
                .arg(format!("--template.glob={}", glob.display()))
                .arg(format!("--template.data={}", data.display()))
                .output()
                .unwrap();
            let theirs = if out.status.success() {
                let s = String::from_utf8_lossy(&out.stdout).into_owned();
                Ok(s.strip_suffix('\n').unwrap_or(&s).to_owned())
            } else {
                let s = String::from_utf8_lossy(&out.stderr).into_owned();
                Err(s.trim_start_matches("amtool: error: ").trim_end_matches('\n').to_owned())
            };
            let mine = ours(text, kind == "html");
            if mine == theirs {
                same += 1;
            } else {
                differ.push(format!("{kind} {text:?}\n  amtool: {theirs:?}\n  ours:   {mine:?}"));
            }
        }
    }
    println!("template/amtool: {same} of {} agree", TEXT.len() + HTML.len());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
