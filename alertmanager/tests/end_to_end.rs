//! Alerts posted over HTTP arrive at a webhook and as mail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::time::Duration;

use ferula_testkit::{Behaviour, Hostile, HttpAnswer, SmtpOptions, SmtpSink, WebhookSink, http_get, http_post};
use lab::Server;

const PATIENCE: Duration = Duration::from_secs(30);

fn config(receiver: &str, group_wait: &str) -> String {
    format!(
        "route:\n  receiver: r\n  group_by: [alertname]\n  group_wait: {group_wait}\n  group_interval: 1s\n  repeat_interval: 1h\n\
         receivers:\n- name: r\n{receiver}\n"
    )
}

fn post(server: &Server, alerts: &str) -> (u16, String) {
    http_post(server.addr, "/api/v2/alerts", "application/json", alerts.as_bytes()).unwrap()
}

fn metric(server: &Server, line: &str) -> f64 {
    let (_, text) = http_get(server.addr, "/metrics").unwrap();
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("{line} not in:\n{text}"));
    found.trim().parse().unwrap()
}

#[test]
fn a_group_arrives_as_one_webhook_of_version_4() {
    let sink = WebhookSink::start();
    let server = Server::start(&config(
        &format!("  webhook_configs:\n  - url: {}\n    max_alerts: 2", sink.url("/hook?a=b")),
        "300ms",
    ));
    let alerts = r#"[
      {"labels":{"alertname":"Disk","job":"n","instance":"b","empty":""},"annotations":{"summary":"<full> & more","runbook":"r"},
       "startsAt":"2026-11-20T18:00:00.5+01:00","endsAt":"2099-01-01T00:00:00Z","generatorURL":"http://prom/graph?g0=1&g1=2"},
      {"labels":{"alertname":"Disk","job":"n","instance":"a"},"annotations":{"summary":"other","runbook":"r"}},
      {"labels":{"alertname":"Disk","instance":"c"}}]"#;
    assert_eq!(post(&server, alerts), (200, String::new()));
    let requests = sink.wait_for(1, PATIENCE);
    let r = &requests[0];
    assert_eq!((r.method.as_str(), r.path.as_str()), ("POST", "/hook?a=b"));
    assert_eq!(r.header("content-type"), Some("application/json"));
    assert!(r.header("user-agent").unwrap().starts_with("Alertmanager/"));
    let body = r.json();
    let mut first = body["alerts"][0].clone();
    assert!(first["startsAt"].as_str().unwrap().ends_with('Z'));
    first["startsAt"] = "now".into();
    assert_eq!(
        first,
        serde_json::json!({"status":"firing","labels":{"alertname":"Disk","job":"n","instance":"a"},
            "annotations":{"summary":"other","runbook":"r"},"startsAt":"now","endsAt":"0001-01-01T00:00:00Z","generatorURL":"",
            "fingerprint":"aedace1a79c92c82"})
    );
    assert_eq!(body["alerts"][1]["startsAt"], "2026-11-20T17:00:00.5Z");
    let mut rest = body.clone();
    rest.as_object_mut().unwrap().remove("alerts");
    assert_eq!(
        rest,
        serde_json::json!({"receiver":"r","status":"firing","notification_reason":"first notification",
            "groupLabels":{"alertname":"Disk"},"commonLabels":{"alertname":"Disk","job":"n"},"commonAnnotations":{"runbook":"r"},
            "externalURL":"http://localhost:9093","version":"4","groupKey":"{}:{alertname=\"Disk\"}","truncatedAlerts":1})
    );

    // Resolved: told at the next interval, with the end.
    assert_eq!(
        post(&server, r#"[{"labels":{"alertname":"Disk","instance":"c"},"endsAt":"2026-11-20T18:00:00Z"}]"#).0,
        200
    );
    let requests = sink.wait_for(2, PATIENCE);
    assert_eq!(requests[1].json()["notification_reason"], "some alerts resolved");
    assert_eq!(metric(&server, r#"alertmanager_notifications_total{integration="webhook"}"#), 2.0);
    assert_eq!(metric(&server, r#"alertmanager_alerts_received_total{status="firing",version="v2"}"#), 3.0);
}

#[test]
fn failures_are_retried_unless_hopeless() {
    let sink = WebhookSink::start();
    sink.answer_next(HttpAnswer::with_body(503, "down"));
    sink.answer_next(HttpAnswer::status(429).header("Retry-After", "1"));
    let server = Server::start(&config(&format!("  webhook_configs:\n  - url: {}", sink.url("/")), "1ms"));
    post(&server, r#"[{"labels":{"alertname":"A"}}]"#);
    assert_eq!(sink.wait_for(3, PATIENCE).len(), 3);
    sink.clear();
    sink.answer_always(HttpAnswer::with_body(400, "no such channel"));
    post(&server, r#"[{"labels":{"alertname":"B"}}]"#);
    // Not retried within the delivery; the group's next interval tries anew.
    sink.wait_for(2, PATIENCE);
    let failed =
        metric(&server, r#"alertmanager_notifications_failed_total{integration="webhook",reason="clientError"}"#);
    assert!(failed >= 1.0);
    assert_eq!(
        metric(&server, r#"alertmanager_notifications_failed_total{integration="webhook",reason="serverError"}"#),
        0.0
    );
}

/// One hangs, one fails for as long as it is asked, one closes the connection: each is tried to its deadline and counted with its
/// reason, and who answers is told at once.
#[test]
fn receivers_that_misbehave_are_tried_to_the_deadline_and_hold_up_nobody() {
    let (good, failing) = (WebhookSink::start(), WebhookSink::start());
    failing.answer_always(HttpAnswer::with_body(500, "out of order"));
    let (hanging, closing) = (Hostile::start(Behaviour::NeverAnswers), Hostile::start(Behaviour::Reset));
    let receiver = format!(
        "  webhook_configs:\n  - url: {}\n  - url: {}\n  - url: {}\n  - url: {}",
        hanging.url(),
        failing.url("/"),
        closing.url(),
        good.url("/")
    );
    let server = Server::start(&config(&receiver, "1ms"));
    post(&server, r#"[{"labels":{"alertname":"A"}}]"#);
    good.wait_for(1, PATIENCE);
    let of = |reason: &str| {
        metric(
            &server,
            &format!(r#"alertmanager_notifications_failed_total{{integration="webhook",reason="{reason}"}}"#),
        )
    };
    assert_eq!([of("contextDeadlineExceeded"), of("serverError"), of("other")], [0.0; 3], "none has given up yet");
    for reason in ["contextDeadlineExceeded", "serverError", "other"] {
        let given_up = std::iter::repeat_with(|| of(reason) >= 1.0).take(1_500).any(|is_over| {
            if !is_over {
                std::thread::sleep(Duration::from_millis(20)); // the deadline is the server's: there is nothing to wait on
            }
            is_over
        });
        assert!(given_up, "{reason}");
    }
    assert!(failing.requests().len() > 3 && closing.connections() > 3, "tried again and again until then");
    assert_eq!(good.requests().len(), 1, "and who was told is not told again");
}

#[test]
fn mail_goes_out_with_starttls_and_auth() {
    for (options, mechanism) in [(vec!["PLAIN", "LOGIN"], "PLAIN"), (vec!["LOGIN"], "LOGIN")] {
        let sink = SmtpSink::start(SmtpOptions {
            credentials: Some(("user".into(), "pa:ss".into())),
            mechanisms: options,
            refuse_first: usize::from(mechanism == "LOGIN"),
            ..SmtpOptions::default()
        });
        let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("ca.pem"), sink.ca_pem()).unwrap();
        std::fs::write(dir.path().join("pw"), "pa:ss\n").unwrap();
        let receiver = format!(
            "  email_configs:\n  - to: 'Ops <ops@example.org>, two@example.org'\n    from: alert@example.org\n    smarthost: {}\n    hello: me.example.org\n    \
             auth_username: user\n    auth_password_file: {d}/pw\n    tls_config: {{ca_file: ca.pem, server_name: localhost}}\n    \
             headers: {{subject: '[{{{{ .Status }}}}] {{{{ .GroupLabels.alertname }}}} für Sie', X-Priority: '1'}}",
            sink.addr(),
            d = dir.path().display()
        );
        let server = Server::start_in(&config(&receiver, "1ms"), dir, |_| {});
        post(
            &server,
            r#"[{"labels":{"alertname":"Disk","instance":"<b>a</b>"},"annotations":{"summary":"disk full"}}]"#,
        );
        let mails = sink.wait_for(1, PATIENCE);
        let mail = &mails[0];
        assert!(mail.over_tls);
        assert_eq!(mail.auth, Some((mechanism.to_owned(), "user".to_owned())));
        assert_eq!((mail.hello.as_str(), mail.from.as_str()), ("me.example.org", "alert@example.org"));
        assert_eq!(mail.to, ["ops@example.org", "two@example.org"]);
        assert_eq!(mail.header("Subject").unwrap(), "=?utf-8?q?=5Bfiring=5D_Disk_f=C3=BCr_Sie?=");
        assert_eq!(mail.header("To").unwrap(), "Ops <ops@example.org>, two@example.org");
        assert_eq!(mail.header("X-Priority").unwrap(), "1");
        assert!(mail.header("Message-Id").unwrap().ends_with("@me.example.org>"));
        assert!(mail.header("Content-Type").unwrap().starts_with("multipart/alternative"));
        let text = mail.readable();
        assert!(text.contains("text/plain") && text.contains("text/html") && text.contains("disk full"), "{text}");
        let (plain, html) = text.split_once("<!DOCTYPE html>").unwrap();
        assert!(
            plain.contains("instance: <b>a</b>") && html.contains("&lt;b&gt;a&lt;/b&gt;") && !html.contains("<b>a"),
            "{text}"
        );
    }
}

#[test]
fn mail_over_tls_from_the_first_byte_and_without_tls() {
    for implicit in [true, false] {
        let sink = SmtpSink::start(SmtpOptions { starttls: false, implicit_tls: implicit, ..SmtpOptions::default() });
        let receiver = format!(
            "  email_configs:\n  - to: a@b.c\n    from: x@y.z\n    smarthost: {}\n    require_tls: false\n    force_implicit_tls: {implicit}\n    \
             tls_config: {{insecure_skip_verify: true}}\n    text: 'only {{{{ len .Alerts }}}}'\n    html: ''",
            sink.addr()
        );
        let server = Server::start(&config(&receiver, "1ms"));
        post(&server, r#"[{"labels":{"alertname":"Disk"}}]"#);
        let mails = sink.wait_for(1, PATIENCE);
        assert_eq!(mails[0].over_tls, implicit);
        let text = mails[0].readable();
        assert!(text.contains("only 1") && !text.contains("text/html"), "{text}");
        assert_eq!(mails[0].header("Subject").unwrap(), "[FIRING:1] Disk");
    }
}

#[test]
fn starttls_is_required_unless_switched_off() {
    let sink = SmtpSink::start(SmtpOptions { starttls: false, ..SmtpOptions::default() });
    let receiver = format!("  email_configs:\n  - to: a@b.c\n    from: x@y.z\n    smarthost: {}", sink.addr());
    let hook = WebhookSink::start();
    let both = format!("{receiver}\n  webhook_configs:\n  - url: {}", hook.url("/"));
    let server = Server::start(&config(&both, "1ms"));
    post(&server, r#"[{"labels":{"alertname":"Disk"}}]"#);
    hook.wait_for(1, PATIENCE); // the other integration is on time
    assert!(sink.mails().is_empty());
}

#[test]
fn a_template_that_fails_does_not_lose_the_page() {
    let sink = SmtpSink::start(SmtpOptions { starttls: false, ..SmtpOptions::default() });
    let receiver = format!(
        "  email_configs:\n  - to: a@b.c\n    from: x@y.z\n    smarthost: {}\n    require_tls: false\n    html: '{{{{ template \"nope\" . }}}}'",
        sink.addr()
    );
    let server = Server::start(&config(&receiver, "1ms"));
    post(&server, r#"[{"labels":{"alertname":"Disk","instance":"a"}}]"#);
    let mails = sink.wait_for(1, PATIENCE);
    assert_eq!(mails[0].header("Subject").unwrap(), "[FIRING] Disk (template failed)");
    let text = mails[0].readable();
    assert!(text.contains("nope") && text.contains("instance=\"a\""), "{text}");
}

#[test]
fn custom_payloads_and_templated_urls() {
    let sink = WebhookSink::start();
    let receiver = format!(
        "  webhook_configs:\n  - url: '{}{{{{ .GroupLabels.alertname }}}}'\n    payload: {{text: '{{{{ .Status }}}} {{{{ len .Alerts }}}}', labels: '{{{{ .CommonLabels | toJson }}}}', n: 1}}",
        sink.url("/x/")
    );
    let server = Server::start(&config(&receiver, "1ms"));
    post(&server, r#"[{"labels":{"alertname":"A"}}]"#);
    let requests = sink.wait_for(1, PATIENCE);
    assert_eq!(requests[0].path, "/x/A");
    assert_eq!(requests[0].json(), serde_json::json!({"text":"firing 1","labels":{"alertname":"A"},"n":1}));
}

#[test]
fn ours_explains_and_tries() {
    let sink = WebhookSink::start();
    let server = Server::start(&config(
        &format!("  webhook_configs:\n  - url: {}\n  - url: http://127.0.0.1:1/", sink.url("/")),
        "1ms",
    ));
    post(&server, r#"[{"labels":{"alertname":"A"}}]"#);
    sink.wait_for(1, PATIENCE);
    let alerts: serde_json::Value = serde_json::from_str(&http_get(server.addr, "/api/v2/alerts").unwrap().1).unwrap();
    let path = format!("/api/v2/alerts/{}/explain", alerts[0]["fingerprint"].as_str().unwrap());
    let explained: serde_json::Value = serde_json::from_str(&http_get(server.addr, &path).unwrap().1).unwrap();
    let route = &explained["routes"][0];
    assert_eq!((&route["receiver"], &route["groupKey"]), (&"r".into(), &"{}:{alertname=\"A\"}".into()));
    assert_eq!(route["integrations"].as_array().unwrap().len(), 2, "{explained}");

    let (code, text) =
        http_post(server.addr, "/api/v2/receivers/r/test", "application/json", br#"{"labels":{"alertname":"Try"}}"#)
            .unwrap();
    let tried: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &tried[0]["isDelivered"], &tried[1]["isDelivered"]),
        (200, &true.into(), &false.into()),
        "{tried}"
    );
    assert!(tried[1]["error"].as_str().unwrap().contains("connection refused"), "{tried}");
    let seen = sink.wait_until(PATIENCE, |r| r.iter().any(|r| r.json()["groupLabels"]["alertname"] == "Try"));
    assert!(!seen.is_empty());

    let render =
        |body: &str| http_post(server.addr, "/api/v2/templates/render", "application/json", body.as_bytes()).unwrap();
    assert_eq!(
        render(r#"{"template":"{{ template \"__subject\" . }}"}"#),
        (200, "{\"text\":\"[FIRING:1] TestNotification\"}\n".to_owned())
    );
    let (code, text) = render(r#"{"template":"{{ range }}"}"#);
    assert!(code == 400 && text.contains("template:"), "{text}");
    let (code, text) =
        render(r#"{"template":"{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}"}"#);
    assert_eq!(code, 400, "a template that calls itself ends: {text}");
}
