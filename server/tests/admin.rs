//! The admin API and what a reload does to the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use serde_json::json;
use support::{CONFIG, Server};

const FORM: &str = "application/x-www-form-urlencoded";

async fn server() -> Server {
    let s = Server::start_with(CONFIG, |o| o.web.enable_admin_api = true).await;
    s.store(&[(&[("__name__", "up"), ("i", "1")], &[(60, 1.0), (0, 2.0)])]).await;
    s.store(&[(&[("__name__", "up"), ("i", "2")], &[(0, 3.0)])]).await;
    s
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_is_off_unless_asked_for() {
    let s = Server::start(CONFIG).await;
    for action in ["delete_series", "clean_tombstones", "snapshot"] {
        let a = s.post(&format!("/api/v1/admin/tsdb/{action}"), FORM, "").await;
        assert_eq!(a.status, 500);
        let want = json!({"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"});
        assert_eq!(a.json(), want);
    }
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_deleted_and_snapshots_made() {
    let s = server().await;
    for (form, status, text) in [
        ("", 400, "no match[] parameter provided"),
        ("match[]={", 400, "invalid parameter \"match[]\": "),
        ("match[]=up&start=x", 400, "invalid parameter \"start\": invalid time value for 'start'"),
    ] {
        let a = s.post("/api/v1/admin/tsdb/delete_series", FORM, form).await;
        assert_eq!((a.status, a.json()["errorType"].as_str()), (status, Some("bad_data")), "{form}");
        assert!(a.json()["error"].as_str().unwrap().starts_with(text), "{}", a.text);
    }
    let a = s.post("/api/v1/admin/tsdb/delete_series", FORM, "match[]=up{i=\"1\"}").await;
    assert_eq!((a.status, a.text.as_str()), (204, ""));
    let left = s.ask("/api/v1/query", &[("query", "up")]).await.data()["result"].clone();
    assert_eq!(left, json!([{"metric": {"__name__": "up", "i": "2"}, "value": [1_700_000_000, "3"]}]));
    let a = s.post("/api/v1/admin/tsdb/clean_tombstones", FORM, "").await;
    assert_eq!(a.status, 204, "{}", a.text);
    let a = s.post("/api/v1/admin/tsdb/snapshot", FORM, "skip_head=maybe").await;
    assert_eq!(
        (a.status, a.json()["error"].as_str().unwrap()),
        (
            400,
            "invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"maybe\": invalid syntax"
        )
    );
    let name = s.post("/api/v1/admin/tsdb/snapshot", FORM, "").await.data()["name"].as_str().unwrap().to_owned();
    let (time, random) = name.split_once('-').unwrap();
    assert_eq!((time, random.len()), ("20231114T221320Z", 16));
    let folder = s.dir.path().join("data/snapshots").join(&name);
    let blocks: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
    assert_eq!(blocks.len(), 1, "the head as a block");
    // A block that appears is served.
    assert_eq!(s.ask("/api/v1/status/tsdb/blocks", &[]).await.data(), json!({"blocks": []}));
    let ulid = blocks[0].file_name().into_string().unwrap();
    std::fs::rename(folder.join(&ulid), s.dir.path().join("data").join(&ulid)).unwrap();
    let dir = s.stop().await;
    let s = Server::start_in(dir, |_| {}).await;
    let listed = s.ask("/api/v1/status/tsdb/blocks", &[]).await.data();
    assert_eq!(
        (listed["blocks"][0]["ulid"].as_str().unwrap(), listed["blocks"][0]["version"].as_i64()),
        (&*ulid, Some(1))
    );
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_retention_and_the_late_window() {
    let s = server().await;
    let late: [support::Written<'_>; 1] = [(&[("__name__", "up"), ("i", "2")], &[(1200, 9.0)])];
    assert_eq!(s.try_store(&late).await.status, 400, "no late samples at first");
    let file = s.dir.path().join("prometheus.yml");
    let more = "storage:\n  tsdb:\n    out_of_order_time_window: 1h\n    retention:\n      time: 3d\n";
    std::fs::write(&file, format!("{CONFIG}\n{more}")).unwrap();
    assert_eq!(s.post("/-/reload", FORM, "").await.status, 200);
    assert!(s.try_store(&late).await.status < 300, "late samples now");
    assert!(s.get("/metrics").await.text.contains("prometheus_tsdb_retention_limit_seconds 259200"));
    s.stop().await;
}
