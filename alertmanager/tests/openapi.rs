//! Our answers against the published OpenAPI file of the API v2: every required field is there, every field has its
//! declared type, format and range of words, and there is no field that the file does not declare.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::collections::BTreeMap;
use std::time::Duration;

use ferula_testkit::{WebhookSink, http_get, http_post};
use lab::Server;
use serde_json::{Value, json};

struct Spec(Value);

/// An object's schema with its references and `allOf`s put together.
#[derive(Default)]
struct Object<'a> {
    properties: BTreeMap<&'a str, &'a Value>,
    required: Vec<&'a str>,
}

impl Spec {
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(r) => self.0.pointer(r.trim_start_matches('#')).unwrap_or_else(|| panic!("no {r}")),
            None => schema,
        }
    }
    fn object<'a>(&'a self, schema: &'a Value, into: &mut Object<'a>) {
        let schema = self.resolve(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.object(part, into);
        }
        into.properties.extend(schema["properties"].as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v)));
        into.required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    /// Complaints go to `wrong`; answers how many required fields were looked at.
    fn check(&self, schema: &Value, v: &Value, at: &str, wrong: &mut Vec<String>) -> usize {
        let schema = self.resolve(schema);
        let is_object = schema["type"] == "object" || schema["allOf"].is_array();
        let fits = match schema["type"].as_str() {
            _ if is_object => v.is_object(),
            Some("array") => v.is_array(),
            Some("string") => v.is_string(),
            Some("boolean") => v.is_boolean(),
            other => panic!("{at}: the checker does not know the type {other:?}"),
        };
        if !fits {
            wrong.push(format!("{at}: {v} is no {}", schema["type"]));
            return 0;
        }
        if let Some(words) = schema["enum"].as_array().filter(|w| !w.contains(v)) {
            wrong.push(format!("{at}: {v} is none of {words:?}"));
        }
        let text = v.as_str().unwrap_or("");
        if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
            wrong.push(format!("{at}: {v} is no time"));
        }
        let items = v.as_array().map_or(&[][..], Vec::as_slice);
        if schema["minItems"].as_u64().is_some_and(|min| (items.len() as u64) < min) {
            wrong.push(format!("{at}: too few items"));
        }
        let mut looked_at = 0;
        for (i, item) in items.iter().enumerate() {
            looked_at += self.check(&schema["items"], item, &format!("{at}[{i}]"), wrong);
        }
        let Some(fields) = v.as_object() else { return looked_at };
        let mut object = Object::default();
        self.object(schema, &mut object);
        for name in &object.required {
            looked_at += 1;
            if !fields.contains_key(*name) {
                wrong.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, field) in fields {
            let declared = object.properties.get(name.as_str()).copied();
            match declared.or(schema.get("additionalProperties")) {
                Some(s) => looked_at += self.check(s, field, &format!("{at}.{name}"), wrong),
                None => wrong.push(format!("{at}: {name} is not declared")),
            }
        }
        looked_at
    }
}

const CONFIG: &str = r#"
route:
  receiver: hook
  group_by: []
  group_wait: 0s
  routes:
  - {matchers: [team=a], receiver: other, continue: true}
receivers:
- name: hook
  webhook_configs: [{url: "HOOK"}]
- name: other
inhibit_rules:
- {source_matchers: [severity=critical], target_matchers: [severity=warning]}
"#;

/// Active, silenced and inhibited alerts; active, pending and expired silences.
fn populated(sink: &WebhookSink) -> (Server, String) {
    let server = Server::start(&CONFIG.replace("HOOK", &sink.url("/")));
    let post = |path: &str, body: Value| {
        let (code, text) = http_post(server.addr, path, "application/json", body.to_string().as_bytes()).unwrap();
        assert_eq!(code, 200, "{text}");
        text
    };
    let silence = |value: &str, start: &str| {
        let answer = post(
            "/api/v2/silences",
            json!({"matchers": [{"name": "alertname", "value": value, "isRegex": true}], "startsAt": start,
                "endsAt": "2099-01-01T00:00:00Z", "createdBy": "me", "comment": "c"}),
        );
        serde_json::from_str::<Value>(&answer).unwrap()["silenceID"].as_str().unwrap().to_owned()
    };
    let id = silence("Silenced.*", "2026-01-01T00:00:00Z");
    silence("Later", "2098-01-01T00:00:00Z");
    let expired = silence("Gone", "2026-01-01T00:00:00Z");
    let delete = format!("DELETE /api/v2/silence/{expired} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(raw(server.addr, &delete).starts_with("HTTP/1.1 200"));
    post(
        "/api/v2/alerts",
        json!([
            {"labels": {"alertname": "Active", "team": "a"}, "annotations": {"s": "t"}, "generatorURL": "http://p/g"},
            {"labels": {"alertname": "Silenced1"}},
            {"labels": {"alertname": "C", "severity": "critical"}},
            {"labels": {"alertname": "W", "severity": "warning"}}
        ]),
    );
    // Told once: the one group has been looked at, with who is muted in it.
    sink.wait_for(1, Duration::from_secs(30));
    (server, id)
}

fn raw(addr: std::net::SocketAddr, request: &str) -> String {
    use std::io::{Read, Write};
    let mut s = std::net::TcpStream::connect(addr).unwrap();
    s.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    s.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn answers_are_as_the_openapi_file_declares_them() {
    let Some(file) = ferula_testkit::corpus("alertmanager openapi", "api/alertmanager/openapi.yaml") else { return };
    let text = std::fs::read_to_string(file).unwrap();
    let spec = Spec(ferula_yaml::from_str("openapi.yaml", &text).unwrap());
    let sink = WebhookSink::start();
    let (server, id) = populated(&sink);
    let (mut answers, mut fields) = (0, 0);
    for (path, operations) in spec.0["paths"].as_object().unwrap() {
        let Some(schema) = operations.pointer("/get/responses/200/schema") else { continue };
        let url = format!("/api/v2{}", path.replace("{silenceID}", &id));
        let (code, text) = http_get(server.addr, &url).unwrap();
        assert_eq!(code, 200, "{url}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let mut wrong = Vec::new();
        fields += spec.check(schema, &answer, path, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}\n{answer:#}");
        answers += 1;
    }
    let (_, alerts) = http_get(server.addr, "/api/v2/alerts").unwrap();
    assert!(alerts.contains(&format!("\"silencedBy\":[\"{id}\"]")) && alerts.contains("suppressed"), "{alerts}");
    assert!(answers == 6 && fields > 100, "{answers} answers, {fields} fields");
    println!("alertmanager openapi: {answers} answers with {fields} required fields are as declared");
}

#[test]
fn the_checker_complains() {
    let spec = Spec(json!({"definitions": {
        "base": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        "full": {"allOf": [{"$ref": "#/definitions/base"}, {"type": "object", "properties": {
            "t": {"type": "string", "format": "date-time"}, "e": {"type": "string", "enum": ["x"]},
            "l": {"type": "array", "minItems": 1, "items": {"type": "boolean"}}}}]}}}));
    let schema = json!({"$ref": "#/definitions/full"});
    let complaint = |v: Value| {
        let mut wrong = Vec::new();
        spec.check(&schema, &v, "", &mut wrong);
        wrong.join("; ")
    };
    assert_eq!(complaint(json!({"a": "1", "t": "2026-11-20T00:00:00Z", "e": "x", "l": [true]})), "");
    for (v, want) in [
        (json!({}), ": a is missing"),
        (json!([]), ": [] is no null"),
        (json!({"a": 1}), ".a: 1 is no \"string\""),
        (json!({"a": "", "t": "now"}), ".t: \"now\" is no time"),
        (json!({"a": "", "e": "y"}), ".e: \"y\" is none of [String(\"x\")]"),
        (json!({"a": "", "l": []}), ".l: too few items"),
        (json!({"a": "", "l": [1]}), ".l[0]: 1 is no \"boolean\""),
        (json!({"a": "", "z": 1}), ": z is not declared"),
    ] {
        assert_eq!(complaint(v), want);
    }
}
