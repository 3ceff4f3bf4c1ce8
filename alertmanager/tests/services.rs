//! Chat and incident services against a recording server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::time::Duration;

use ferula_testkit::{HttpAnswer, HttpRequest, WebhookSink, http_get, http_post};
use lab::Server;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts with one receiver section, fires one alert, resolves it, and answers both requests as path, authorization, body.
fn told(section: &str, sink: &WebhookSink) -> Vec<(String, Option<String>, Value)> {
    let requests = requests(section, sink);
    requests.iter().map(|r| (r.path.clone(), r.header("authorization").map(str::to_owned), r.json())).collect()
}

fn requests(section: &str, sink: &WebhookSink) -> Vec<HttpRequest> {
    let config = format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 1ms, group_interval: 1s}}\nreceivers:\n- name: r\n{section}\n"
    );
    let server = Server::start(&config);
    let post = |body: &str| http_post(server.addr, "/api/v2/alerts", "application/json", body.as_bytes()).unwrap();
    post(
        r#"[{"labels":{"alertname":"Disk","severity":"critical","host":"<h>"},"annotations":{"summary":"full & more"},"generatorURL":"http://g"}]"#,
    );
    sink.wait_for(1, PATIENCE);
    post(
        r#"[{"labels":{"alertname":"Disk","severity":"critical","host":"<h>"},"startsAt":"2026-11-20T09:00:00Z","endsAt":"2026-11-20T10:00:00Z"}]"#,
    );
    let requests = sink.wait_for(2, PATIENCE);
    // Nothing a receiver is told may show on the status page.
    let (_, status) = http_get(server.addr, "/api/v2/status").unwrap();
    assert!(!status.contains("hush"), "{status}");
    requests
}

#[test]
fn victorops_webex_and_incidentio() {
    let sink = WebhookSink::start();
    let ops = told(
        &format!(
            "  victorops_configs:\n  - api_key: hush\n    api_url: {}\n    routing_key: team\n    message_type: '{{{{ .CommonLabels.severity | toUpper }}}}'\n    custom_fields: {{host: '{{{{ .CommonLabels.host }}}}'}}",
            sink.url("/alert/")
        ),
        &sink,
    );
    assert_eq!(ops[0].0, "/alert/hush/team");
    assert_eq!((&ops[0].2["message_type"], &ops[1].2["message_type"]), (&"CRITICAL".into(), &"RECOVERY".into()));
    assert_eq!((&ops[0].2["entity_id"], &ops[0].2["host"]), (&ops[1].2["entity_id"], &"<h>".into()));

    let sink = WebhookSink::start();
    let webex = told(
        &format!(
            "  webex_configs:\n  - api_url: {}\n    room_id: room\n    http_config: {{authorization: {{credentials: hush}}}}",
            sink.url("/v1/messages")
        ),
        &sink,
    );
    assert_eq!((webex[0].1.as_deref(), &webex[0].2["roomId"]), (Some("Bearer hush"), &"room".into()));
    assert!(webex[0].2["markdown"].as_str().unwrap().contains("full & more"), "{webex:?}");

    let sink = WebhookSink::start();
    let incident = told(
        &format!(
            "  incidentio_configs:\n  - url: {}\n    alert_source_token: hush\n    metadata: {{team: '{{{{ .Receiver }}}}'}}",
            sink.url("/v2/alert_events")
        ),
        &sink,
    );
    assert_eq!((incident[0].1.as_deref(), &incident[0].2["version"]), (Some("Bearer hush"), &"4".into()));
    assert_eq!((&incident[0].2["metadata"]["team"], &incident[1].2["status"]), (&"r".into(), &"resolved".into()));
}

#[test]
fn rocketchat_and_mattermost() {
    let sink = WebhookSink::start();
    sink.answer_always(HttpAnswer::with_body(200, r#"{"success":true}"#));
    let section = format!(
        "  rocketchat_configs:\n  - api_url: {}\n    channel: '#ops'\n    token: hush\n    token_id: hush2\n    fields: [{{title: Host, value: '{{{{ .CommonLabels.host }}}}'}}]",
        sink.url("/")
    );
    let rocket = requests(&section, &sink);
    let attachment = &rocket[0].json()["attachments"][0];
    assert_eq!((rocket[0].path.as_str(), rocket[0].header("x-auth-token")), ("/api/v1/chat.postMessage", Some("hush")));
    assert_eq!((&attachment["color"], &attachment["title"]), (&"red".into(), &"[FIRING:1] Disk (<h> critical)".into()));
    assert_eq!(attachment["fields"][0], serde_json::json!({"title": "Host", "value": "<h>", "short": false}));

    let sink = WebhookSink::start();
    let section = format!(
        "  mattermost_configs:\n  - webhook_url: {}\n    channel: ops\n    text: hello\n    title: '{{{{ .CommonLabels.host }}}}'",
        sink.url("/hooks/hush")
    );
    let matter = told(&section, &sink);
    assert_eq!((&matter[0].2["channel"], &matter[0].2["text"]), (&"ops".into(), &"hello".into()));
    assert_eq!(matter[0].2["attachments"][0]["title"], "<h>");
}

#[test]
fn wechat_asks_for_a_token_first() {
    let sink = WebhookSink::start();
    sink.answer_always(HttpAnswer::with_body(200, r#"{"errcode":0,"access_token":"T"}"#));
    let section = format!(
        "  wechat_configs:\n  - send_resolved: true\n    api_url: {}\n    api_secret: hush\n    corp_id: c\n    to_user: '@all'\n    agent_id: '7'",
        sink.url("/cgi-bin/")
    );
    let seen = requests(&section, &sink);
    let paths: Vec<&str> = seen.iter().take(2).map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["/cgi-bin/gettoken?corpid=c&corpsecret=hush", "/cgi-bin/message/send?access_token=T"]);
    let body = seen[1].json();
    assert_eq!((&body["touser"], &body["agentid"], &body["msgtype"]), (&"@all".into(), &"7".into(), &"text".into()));
    assert!(body["text"]["content"].as_str().unwrap().contains("Disk"), "{body}");
}

#[test]
fn text_messages_go_to_any_gateway() {
    let sink = WebhookSink::start();
    let section = format!(
        "  sms_configs:\n  - webhook_url: {}\n    to: ['+4912', '+4934']\n    to_param: recipients\n    text_chars_max: 20\n    params: {{from: Ferula, ref: '{{{{ .CommonLabels.alertname }}}}'}}",
        sink.url("/send?key=hush")
    );
    let told = requests(&section, &sink);
    let body = String::from_utf8(told[0].body.clone()).unwrap();
    let fields: std::collections::BTreeMap<String, String> =
        url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    assert_eq!(
        (fields["recipients"].as_str(), fields["from"].as_str(), fields["ref"].as_str()),
        ("+4912,+4934", "Ferula", "Disk")
    );
    assert_eq!(
        (fields["text"].chars().count(), told[0].header("content-type")),
        (20, Some("application/x-www-form-urlencoded"))
    );
}

#[test]
fn slack() {
    let sink = WebhookSink::start();
    let section = format!(
        "  slack_configs:\n  - send_resolved: true\n    api_url: {}\n    channel: '#ops'\n    fields: [{{title: Host, value: '{{{{ .CommonLabels.host }}}}'}}]\n    text: '{{{{ .CommonAnnotations.summary }}}}'",
        sink.url("/hush")
    );
    let told = told(&section, &sink);
    let attachment = &told[0].2["attachments"][0];
    assert_eq!((told[0].0.as_str(), &told[0].2["channel"]), ("/hush", &Value::from("#ops")));
    assert_eq!(attachment["title"], "[FIRING:1] Disk (<h> critical)");
    assert_eq!(attachment["fields"], serde_json::json!([{"title": "Host", "value": "<h>", "short": false}]));
    assert_eq!((&attachment["color"], &attachment["text"]), (&"danger".into(), &"full & more".into()));
    assert_eq!(told[1].2["attachments"][0]["color"], "good");
}

#[test]
fn slack_with_an_app_token_reads_the_verdict() {
    let sink = WebhookSink::start();
    sink.answer_next(HttpAnswer::with_body(200, r#"{"ok":false,"error":"ratelimited"}"#));
    sink.answer_always(HttpAnswer::with_body(200, r#"{"ok":true}"#));
    let section = format!(
        "  slack_configs:\n  - send_resolved: true\n    app_token: hush\n    app_url: {}\n    channel: C1\n    message_text: hello",
        sink.url("/api/chat.postMessage")
    );
    let told = told(&section, &sink);
    assert_eq!(told[0].1.as_deref(), Some("Bearer hush"));
    assert_eq!(told[1].2["text"], "hello");
    assert_eq!(told[1].2["attachments"][0]["color"], "danger", "the first one was tried again");
}

#[test]
fn slack_changes_its_message_over_a_restart_and_makes_a_new_one_where_it_cannot() {
    let sink = WebhookSink::start();
    let ok = |ts: &str| HttpAnswer::with_body(200, format!(r#"{{"ok":true,"channel":"C9","ts":"{ts}"}}"#));
    let config = format!(
        "route: {{receiver: r, group_by: [job], group_wait: 1ms, group_interval: 1s}}\nreceivers:\n- name: r\n  \
         slack_configs: [{{send_resolved: true, api_url: {}, channel: '#ops', update_message: true}}]\n",
        sink.url("/api/chat.postMessage")
    );
    let alert = |server: &Server, name: &str, end: &str| {
        let body = format!(r#"[{{"labels":{{"alertname":"{name}"}},"startsAt":"2026-11-20T09:00:00Z"{end}}}]"#);
        http_post(server.addr, "/api/v2/alerts", "application/json", body.as_bytes()).unwrap();
    };
    let later = r#","endsAt":"2099-01-01T00:00:00Z""#;
    let server = Server::start(&config);
    sink.answer_next(ok("1.1"));
    sink.answer_next(ok("1.1"));
    alert(&server, "A", later);
    sink.wait_for(1, PATIENCE);
    alert(&server, "B", later);
    sink.wait_for(2, PATIENCE);
    // The snapshot is upstream's file, and has upstream's names.
    let dir = server.stop();
    let log = std::fs::read(dir.path().join("data/nflog")).unwrap();
    let has = |text: &str| log.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has("threadTs") && has("channelId") && has("C9"));

    let server = Server::start_in(&config, dir, |_| {});
    sink.answer_next(HttpAnswer::with_body(200, r#"{"ok":false,"error":"message_not_found"}"#));
    sink.answer_next(ok("2.2"));
    sink.answer_next(ok("2.2"));
    alert(&server, "C", later);
    sink.wait_for(4, PATIENCE);
    let end = r#","endsAt":"2026-11-20T10:00:00Z""#;
    ["A", "B", "C"].iter().for_each(|name| alert(&server, name, end));
    let told = sink.wait_until(PATIENCE, |all| all.iter().any(|r| r.text().contains("RESOLVED")));
    let seen: Vec<(String, Value, Value)> =
        told.iter().map(|r| (r.path.clone(), r.json()["ts"].clone(), r.json()["channel"].clone())).collect();
    let is = |i: usize, path: &str, ts: Value, channel: &str| {
        assert_eq!(seen[i], (format!("/api/chat.{path}"), ts, channel.into()), "{seen:?}");
    };
    is(0, "postMessage", Value::Null, "#ops");
    is(1, "update", "1.1".into(), "C9");
    is(2, "update", "1.1".into(), "C9"); // it is gone, so:
    is(3, "postMessage", Value::Null, "#ops");
    is(seen.len() - 1, "update", "2.2".into(), "C9");
}

#[test]
fn sns_publishes_a_signed_form() {
    let sink = WebhookSink::start();
    let section = format!(
        "  sns_configs:\n  - api_url: {}\n    topic_arn: 'arn:aws:sns:eu-west-1:1:alerts.fifo'\n    sigv4: {{access_key: AKID, secret_key: hush}}\n    message: '{{{{ .CommonAnnotations.summary }}}}'\n    attributes: {{host: '{{{{ .CommonLabels.host }}}}'}}",
        sink.url("/")
    );
    let told = requests(&section, &sink);
    let form: std::collections::BTreeMap<String, String> =
        url::form_urlencoded::parse(&told[0].body).into_owned().collect();
    let has = |name: &str| form.get(name).map_or("", String::as_str);
    assert_eq!((has("Action"), has("Version")), ("Publish", "2010-03-31"));
    assert_eq!((has("TopicArn"), has("Message")), ("arn:aws:sns:eu-west-1:1:alerts.fifo", "full & more"));
    assert_eq!(has("Subject"), "[FIRING:1] Disk (<h> critical)");
    assert_eq!(
        (has("MessageAttributes.entry.1.Name"), has("MessageAttributes.entry.1.Value.StringValue")),
        ("host", "<h>")
    );
    assert_eq!((has("MessageGroupId").len(), has("MessageGroupId")), (64, has("MessageDeduplicationId")));
    let signature = told[0].header("authorization").unwrap();
    assert!(
        signature.starts_with("AWS4-HMAC-SHA256 Credential=AKID/")
            && signature.contains("/eu-west-1/sns/aws4_request,")
    );
    assert!(signature.contains("SignedHeaders=content-type;host;user-agent;x-amz-date, Signature="), "{signature}");
}

#[test]
fn pagerduty_opens_and_closes_one_incident() {
    let sink = WebhookSink::start();
    sink.answer_always(HttpAnswer::status(202));
    let section = format!(
        "  pagerduty_configs:\n  - routing_key: hush\n    url: {}\n    severity: '{{{{ .CommonLabels.severity }}}}'\n    details: {{host: '{{{{ .CommonLabels.host }}}}'}}",
        sink.url("/v2/enqueue")
    );
    let told = told(&section, &sink);
    let (open, close) = (&told[0].2, &told[1].2);
    assert_eq!((&open["event_action"], &close["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!(open["dedup_key"], close["dedup_key"]);
    assert_eq!(open["payload"]["severity"], "critical");
    assert_eq!(open["payload"]["custom_details"]["num_firing"], "1");
    assert_eq!(open["payload"]["custom_details"]["host"], "<h>");
    assert!(open["payload"]["custom_details"]["firing"].as_str().unwrap().contains(" - alertname = Disk"));
}

#[test]
fn opsgenie_opens_and_closes_one_alert() {
    let sink = WebhookSink::start();
    sink.answer_always(HttpAnswer::status(202));
    let section = format!(
        "  opsgenie_configs:\n  - api_key: hush\n    api_url: {}\n    tags: 'a, {{{{ .CommonLabels.severity }}}}'",
        sink.url("/")
    );
    let told = told(&section, &sink);
    assert_eq!((told[0].0.as_str(), told[0].1.as_deref()), ("/v2/alerts", Some("GenieKey hush")));
    assert_eq!(
        (&told[0].2["tags"], &told[0].2["details"]["host"]),
        (&serde_json::json!(["a", "critical"]), &"<h>".into())
    );
    let alias = told[0].2["alias"].as_str().unwrap();
    assert_eq!(told[1].0, format!("/v2/alerts/{alias}/close?identifierType=alias"));
}

#[test]
fn telegram_escapes_html() {
    let sink = WebhookSink::start();
    let section = format!(
        "  telegram_configs:\n  - bot_token: hush\n    chat_id: -12\n    api_url: {}\n    message: '<b>{{{{ .CommonLabels.host }}}}</b>'",
        sink.url("")
    );
    let told = told(&section, &sink);
    assert_eq!(told[0].0, "/bothush/sendMessage");
    assert_eq!(
        (&told[0].2["text"], &told[0].2["chat_id"], &told[0].2["parse_mode"]),
        (&"<b>&lt;h&gt;</b>".into(), &(-12).into(), &"HTML".into())
    );
}

#[test]
fn teams_and_discord() {
    for (kind, pointer) in
        [("msteams", "/title"), ("msteamsv2", "/attachments/0/content/body/0/text"), ("discord", "/embeds/0/title")]
    {
        let sink = WebhookSink::start();
        let told = told(&format!("  {kind}_configs:\n  - webhook_url: {}", sink.url("/hush")), &sink);
        assert_eq!(told[0].2.pointer(pointer).unwrap(), "[FIRING:1] Disk (<h> critical)", "{kind}");
        assert_eq!(told[1].2.pointer(pointer).unwrap(), "[RESOLVED] Disk (<h> critical)", "{kind}");
    }
}

#[test]
fn dingtalk_and_feishu_sign() {
    let sink = WebhookSink::start();
    sink.answer_next(HttpAnswer::with_body(200, r#"{"errcode":130101,"errmsg":"too fast"}"#));
    sink.answer_always(HttpAnswer::with_body(200, r#"{"errcode":0}"#));
    let section = format!(
        "  dingtalk_configs:\n  - webhook_url: {}\n    secret: hush\n    at_mobiles: ['1']",
        sink.url("/robot/send?access_token=t")
    );
    let ding = told(&section, &sink);
    assert!(
        ding[0].0.starts_with("/robot/send?access_token=t&timestamp=") && ding[0].0.contains("&sign="),
        "{}",
        ding[0].0
    );
    assert_eq!(ding[0].2["msgtype"], "markdown");
    assert!(ding[1].2["markdown"]["text"].as_str().unwrap().contains("full & more"), "tried again after the limit");

    let sink = WebhookSink::start();
    sink.answer_always(HttpAnswer::with_body(200, r#"{"code":0}"#));
    let told = told(&format!("  feishu_configs:\n  - webhook_url: {}\n    secret: hush", sink.url("/hook")), &sink);
    assert_eq!(told[0].2["card"]["header"]["template"], "red");
    assert_eq!(told[0].2["sign"].as_str().unwrap().len(), 44);
    assert_eq!(told[1].2["card"]["header"]["template"], "green");
}

#[test]
fn a_failing_template_is_told_in_plain_words() {
    let sink = WebhookSink::start();
    let told = told(
        &format!(
            "  discord_configs:\n  - webhook_url: {}\n    title: '{{{{ template \"nope\" . }}}}'",
            sink.url("/hush")
        ),
        &sink,
    );
    let text = told[0].2["embeds"][0]["title"].as_str().unwrap();
    assert!(text.contains("template failed") && text.contains("nope"), "{text}");
}
