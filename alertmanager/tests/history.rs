//! What became of an alert is remembered over restarts and found; silences are made and ended on the page, and only there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::time::{Duration, Instant};

use ferula_testkit::{HttpAnswer, WebhookSink, http_get, http_post};
use lab::Server;
use serde_json::Value;

const FORM: &str = "application/x-www-form-urlencoded";

fn config(sink: &WebhookSink) -> String {
    format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 1ms, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: '{}'}}]}}]\n\
         inhibit_rules: [{{source_matchers: [severity=critical], target_matchers: [severity=warning]}}]\n",
        sink.url("/")
    )
}

fn history(server: &Server, query: &str) -> Vec<Value> {
    let (code, text) = http_get(server.addr, &format!("/api/v2/history?{query}")).unwrap();
    assert_eq!(code, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Asks until it is written; the group decides when.
fn until(server: &Server, query: &str, n: usize) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let events = history(server, query);
        if events.len() >= n {
            return events;
        }
        assert!(Instant::now() < end, "{query}: {events:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn post(server: &Server, path: &str, kind: &str, body: &str) -> (u16, String) {
    http_post(server.addr, path, kind, body.as_bytes()).unwrap()
}

#[test]
fn an_alert_is_followed_from_its_begin_to_the_message() {
    let sink = WebhookSink::start();
    sink.answer_next(HttpAnswer::status(500));
    let server = Server::start(&config(&sink));
    let alerts = r#"[{"labels":{"alertname":"Loud","severity":"critical"}},{"labels":{"alertname":"Quiet","severity":"warning"}}]"#;
    assert_eq!(post(&server, "/api/v2/alerts", "application/json", alerts).0, 200);
    let told = until(&server, "kind=notified", 1);
    assert_eq!((told[0]["isDelivered"].as_bool(), told[0]["attempts"].as_i64()), (Some(true), Some(2)), "{told:?}");
    let quiet = until(&server, "filter=alertname=Quiet", 2);
    let kinds: Vec<&str> = quiet.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["suppressed", "began"]);
    assert_eq!((quiet[0]["why"].as_str(), quiet[1]["receivers"][0].as_str()), (Some("inhibition"), Some("r")));
    // A restart forgets nothing.
    let server = Server::start_in(&config(&sink), server.stop(), |_| {});
    let ended = r#"[{"labels":{"alertname":"Loud","severity":"critical"},"endsAt":"2026-11-20T00:00:00Z","startsAt":"2026-11-20T00:00:00Z"}]"#;
    assert_eq!(post(&server, "/api/v2/alerts", "application/json", ended).0, 200);
    until(&server, "filter=alertname=Quiet&kind=notified", 1);
    let loud = until(&server, "filter=alertname=Loud&kind=notified", 2);
    assert_eq!(loud[0]["reason"], "all alerts resolved");
    let fingerprint =
        until(&server, "filter=alertname=Quiet&kind=began", 1)[0]["fingerprint"].as_str().unwrap().to_owned();
    let explained = http_get(server.addr, &format!("/api/v2/alerts/{fingerprint}/explain")).unwrap().1;
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert!(explained["history"].as_array().unwrap().len() >= 3, "{explained}");
    assert_eq!(history(&server, "receiver=nobody"), Vec::<Value>::new());
    assert_eq!(http_get(server.addr, "/api/v2/history?limit=x").unwrap().0, 400);
    let page = http_get(server.addr, &format!("/history?alert={fingerprint}")).unwrap().1;
    assert!(page.contains("suppressed") && page.contains("inhibition") && page.contains("delivered"), "{page}");
}

#[test]
fn silences_are_made_and_ended_on_the_page_but_not_by_other_sites() {
    let server = Server::start("route: {receiver: r}\nreceivers: [{name: r}]\n");
    let labels = "filter=%7Balertname%3D%22%3Cb%3E%22%7D";
    let page = http_get(server.addr, &format!("/new-silence?{labels}")).unwrap().1;
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
    let token = page.split("name=token value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let fields = format!("{labels}&duration=2h&createdBy=me&comment=why");
    assert_eq!(post(&server, "/new-silence", FORM, &fields).0, 403, "no token");
    assert_eq!(post(&server, "/new-silence", FORM, &format!("{fields}&token=0")).0, 403);
    let (code, text) =
        post(&server, "/new-silence", FORM, &format!("filter=%7B&duration=2h&createdBy=a&comment=b&token={token}"));
    assert!(code == 400 && text.contains("class=e"), "{code} {text}");
    assert_eq!(post(&server, "/new-silence", FORM, &format!("{fields}&token={token}")).0, 303);
    let silences: Vec<Value> = serde_json::from_str(&http_get(server.addr, "/api/v2/silences").unwrap().1).unwrap();
    assert_eq!(
        (silences[0]["createdBy"].as_str(), silences[0]["matchers"][0]["value"].as_str()),
        (Some("me"), Some("<b>"))
    );
    assert!(http_get(server.addr, "/").unwrap().1.contains("expire-silence"));
    let id = silences[0]["id"].as_str().unwrap();
    assert_eq!(post(&server, "/expire-silence", FORM, &format!("id={id}")).0, 403);
    assert_eq!(post(&server, "/expire-silence", FORM, &format!("id={id}&token={token}")).0, 303);
    let silences = http_get(server.addr, "/api/v2/silences").unwrap().1;
    assert!(silences.contains("\"expired\""), "{silences}");
    assert_eq!(history(&server, "kind=silence").len(), 2);
}
