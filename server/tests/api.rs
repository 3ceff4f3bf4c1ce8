//! The HTTP API on a whole server: shapes, errors, limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::sync::Arc;

use ferula_net::client::Request;
use serde_json::json;
use support::{CONFIG, Server, with_data};

#[tokio::test(flavor = "multi_thread")]
async fn queries_answer_in_upstreams_shapes() {
    let s = with_data().await;
    let v = s.ask("/api/v1/query", &[("query", "up")]).await;
    assert_eq!(v.headers["content-type"], "application/json");
    assert_eq!(v.headers["x-content-type-options"], "nosniff");
    let mut result = v.data()["result"].as_array().unwrap().clone();
    result.sort_by_key(|r| r["metric"]["instance"].to_string());
    assert_eq!(
        json!(result),
        json!([
            {"metric": {"__name__": "up", "instance": "h1", "job": "a"}, "value": [1_700_000_000, "1"]},
            {"metric": {"__name__": "up", "instance": "h2", "job": "a"}, "value": [1_700_000_000, "0"]},
        ])
    );
    let scalar = s.ask("/api/v1/query", &[("query", "1+1"), ("time", "1.5")]).await;
    assert_eq!(scalar.text, r#"{"status":"success","data":{"resultType":"scalar","result":[1.500,"2"]}}"#);
    let text = s.ask("/api/v1/query", &[("query", "'x'"), ("time", "0")]).await;
    assert_eq!(text.data(), json!({"resultType": "string", "result": [0, "x"]}));
    let matrix = s.ask("/api/v1/query", &[("query", "c_total[1m]")]).await;
    assert_eq!(matrix.data()["result"][0]["values"], json!([[1_699_999_970, "30"], [1_700_000_000, "60"]]));
    let params = [("query", "rate(c_total[1m])"), ("start", "1699999940"), ("end", "1700000000"), ("step", "30")];
    let range = s.ask("/api/v1/query_range", &params).await;
    assert_eq!(
        range.data(),
        json!({"resultType": "matrix", "result": [{"metric": {"job": "b"}, "values": [[1_699_999_970, "0.5"], [1_700_000_000, "1"]]}]})
    );
    let form = "query=sum(up)&time=1700000000";
    let posted = s.post("/api/v1/query", "application/x-www-form-urlencoded", form).await;
    assert_eq!(posted.data()["result"], json!([{"metric": {}, "value": [1_700_000_000, "1"]}]));
    let stats = s.ask("/api/v1/query", &[("query", "up"), ("stats", "all")]).await.data()["stats"].clone();
    assert_eq!(stats["samples"]["totalQueryableSamples"], 2);
    assert!(stats["timings"]["evalTotalTime"].is_f64());
    let limited = s.ask("/api/v1/query", &[("query", "up"), ("limit", "1")]).await.json();
    assert_eq!(limited["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(limited["warnings"], json!(["results truncated due to limit"]));
    let noted = s.ask("/api/v1/query", &[("query", "rate(up[5m])")]).await.json();
    assert!(noted["infos"][0].as_str().unwrap().contains("metric might not be a counter"), "{noted}");
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_upstreams_status_type_and_text() {
    let s = with_data().await;
    let eleven =
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
    let duplicate = "found duplicate series for the match group {job=\"a\"} on the right hand-side of the operation: [";
    for (path, status, kind, text) in [
        (
            "query?query=up&time=foo",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"foo\" to a valid timestamp",
        ),
        (
            "query?query=up&time=9223372036854775807",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"9223372036854775807\" to a valid timestamp",
        ),
        (
            "query?query=up&timeout=foo",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"foo\" to a valid duration",
        ),
        (
            "query?query=up&timeout=1e30",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"1e30\" to a valid duration. It overflows int64",
        ),
        (
            "query?query=up&limit=x",
            400,
            "bad_data",
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ("query?query=up&limit=-1", 400, "bad_data", "invalid parameter \"limit\": limit must be non-negative"),
        (
            "query?query=up&lookback_delta=x",
            400,
            "bad_data",
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        (
            "query?query=up%7B",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:4: parse error: unexpected end of input inside braces",
        ),
        (
            "query?query=rate(up)",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("query?query=up%2Bon(job)%7B__name__%3D~%22up%7Cx%22%7D", 422, "execution", duplicate),
        (
            "query_range?query=up&start=1&end=0&step=1",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "query_range?query=up&start=1&end=2&step=foo",
            400,
            "bad_data",
            "invalid parameter \"step\": cannot parse \"foo\" to a valid duration",
        ),
        (
            "query_range?query=up&start=1&end=2",
            400,
            "bad_data",
            "invalid parameter \"step\": cannot parse \"\" to a valid duration",
        ),
        (
            "query_range?query=up&end=2&step=1",
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        ("query_range?query=up&start=0&end=11001&step=1", 400, "bad_data", eleven),
        (
            "query_range?query=up[5m]&start=0&end=10&step=1",
            400,
            "bad_data",
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        (
            "query_range?query=%22s%22&start=0&end=10&step=1",
            400,
            "bad_data",
            "invalid parameter \"query\": invalid expression type \"string\" for range query, must be Scalar or instant Vector",
        ),
        ("query_exemplars?query=up&start=2&end=1", 400, "bad_data", "end timestamp must not be before start timestamp"),
        ("query_exemplars?query=(", 400, "bad_data", "1:2: parse error: unclosed left parenthesis"),
        (
            "format_query?query=a%2B",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:3: parse error: unexpected end of input",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        (
            "series?match[]=%7B",
            400,
            "bad_data",
            "invalid parameter \"match[]\": 1:2: parse error: unexpected end of input inside braces",
        ),
        (
            "series?match[]=%7Ba=%22%22%7D",
            400,
            "bad_data",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        (
            "series?match[]=up&start=foo",
            400,
            "bad_data",
            "invalid parameter \"start\": invalid time value for 'start': cannot parse \"foo\" to a valid timestamp",
        ),
        ("labels?match[]=%zz", 400, "bad_data", "error parsing form values: invalid URL escape \"%zz\""),
        ("labels?match[]=%7B", 400, "bad_data", "1:2: parse error: unexpected end of input inside braces"),
        ("labels?match[]=%7B%7D", 400, "bad_data", "match[] must contain at least one non-empty matcher"),
        ("label/%FFa/values", 400, "bad_data", "invalid label name: \"\\xffa\""),
        ("label/U__/values", 400, "bad_data", "invalid label name: \"\""),
        ("status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("status/tsdb?limit=x", 400, "bad_data", "limit must be a positive number"),
    ] {
        let answer = s.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        let body = answer.json();
        assert_eq!((body["status"].as_str(), body["errorType"].as_str()), (Some("error"), Some(kind)), "{path}");
        let got = body["error"].as_str().unwrap();
        assert!(got == text || (text == duplicate && got.starts_with(text)), "{path}: {got}");
    }
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_series() {
    let s = with_data().await;
    assert_eq!(s.get("/api/v1/labels").await.data(), json!(["__name__", "a.b", "instance", "job"]));
    assert_eq!(s.get("/api/v1/labels?match[]=c_total").await.data(), json!(["__name__", "job"]));
    let cut = s.get("/api/v1/labels?limit=1").await.json();
    assert_eq!((&cut["data"], &cut["warnings"]), (&json!(["__name__"]), &json!(["results truncated due to limit"])));
    assert_eq!(s.get("/api/v1/label/instance/values").await.data(), json!(["h1", "h2"]));
    assert_eq!(s.get("/api/v1/label/instance/values?match[]=up&match[]=c_total").await.data(), json!(["h1", "h2"]));
    assert_eq!(s.get("/api/v1/label/U__a_2e_b/values").await.data(), json!(["v"]));
    assert_eq!(s.get("/api/v1/label/a.b/values").await.data(), json!(["v"]));
    assert_eq!(s.get("/api/v1/label/none/values").await.data(), json!([]));
    let both =
        s.get("/api/v1/series?match[]=up{instance=%22h1%22}&match[]=c_total&match[]=up{instance=%22h1%22}").await;
    assert_eq!(
        both.data(),
        json!([{"__name__": "c_total", "job": "b"}, {"__name__": "up", "instance": "h1", "job": "a"}])
    );
    let cut = s.get("/api/v1/series?match[]=up&limit=1").await.json();
    assert_eq!(cut["data"].as_array().unwrap().len(), 1);
    assert_eq!(cut["warnings"], json!(["results truncated due to limit"]));
    assert_eq!(s.get("/api/v1/series?match[]=up&start=9&end=8").await.data(), json!([]));
    assert_eq!(s.get("/api/v1/query_exemplars?query=up").await.data(), json!([]));
    assert_eq!(s.get("/api/v1/query_exemplars?query=1").await.status, 204);
    assert_eq!(s.get("/api/v1/format_query?query=a%2Bb").await.data(), json!("a + b"));
    assert_eq!(s.get("/api/v1/parse_query?query=1").await.data(), json!({"type": "numberLiteral", "val": "1"}));
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_pages() {
    let s = with_data().await;
    let tsdb = s.get("/api/v1/status/tsdb?limit=1000000000").await.data();
    assert_eq!(tsdb["headStats"]["numSeries"], 4, "{tsdb}");
    assert_eq!(tsdb["seriesCountByMetricName"][0], json!({"name": "up", "value": 2}));
    assert_eq!(s.get("/api/v1/status/flags").await.data(), json!({"config.file": "test.yml"}));
    let build = s.get("/api/v1/status/buildinfo").await.data();
    assert!(build.get("features").is_none() && build["version"].as_str().unwrap().starts_with("3."));
    let runtime = s.get("/api/v1/status/runtimeinfo").await.data();
    assert_eq!(
        (&runtime["reloadConfigSuccess"], &runtime["startTime"]),
        (&json!(true), &json!("2023-11-14T22:13:20Z"))
    );
    let yaml = s.get("/api/v1/status/config").await.data()["yaml"].as_str().unwrap().to_owned();
    assert!(yaml.starts_with("global:\n  scrape_interval: 1m\n") && yaml.contains("dc: x"), "{yaml}");
    assert_eq!(s.get("/api/v1/status/walreplay").await.status, 200);
    assert_eq!(s.get("/api/v1/alertmanagers").await.data()["activeAlertmanagers"], json!([]));
    let metrics = s.get("/metrics").await.text;
    for name in [
        "prometheus_build_info{",
        "prometheus_ready 1",
        "prometheus_config_last_reload_successful 1",
        "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/status/tsdb\"} 1",
        "prometheus_notifications_queue_capacity 10000",
        "prometheus_tsdb_head_series 4",
        "prometheus_engine_queries_concurrent_max 4",
        "process_start_time_seconds ",
    ] {
        assert!(metrics.lines().any(|l| l.starts_with(name)), "{name} is not on the page:\n{metrics}");
    }
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_beside_the_api() {
    let s = with_data().await;
    for (path, status, text) in [
        ("/-/healthy", 200, "Prometheus Server is Healthy.\n"),
        ("/-/ready", 200, "Prometheus Server is Ready.\n"),
        ("/-/reload", 405, "Only POST or PUT requests allowed"),
        ("/nope", 404, "404 page not found\n"),
        ("/api/v1/nope", 404, "404 page not found\n"),
        ("/api/v1/../../../etc/passwd", 404, "404 page not found\n"),
        ("/api/v1/label/..%2f..%2fetc%2fpasswd/values", 200, r#"{"status":"success","data":[]}"#),
        ("/federate?match[]=%7B", 400, "1:2: parse error: unexpected end of input inside braces\n"),
    ] {
        let answer = s.get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, text), "{path}");
    }
    let page = s.get("/").await;
    assert!(page.text.contains("/api/v1/targets") && page.headers.contains_key("content-security-policy"));
    let graph = s.get("/graph?g0.expr=up%0d%0aX: y").await;
    assert_eq!((graph.status, graph.headers["location"].to_str().unwrap()), (302, "/query?g0.expr=up%0d%0aX:%20y"));
    let federated = s.get("/federate?match[]=c_total&match[]=up").await;
    assert_eq!(
        federated.text,
        "# TYPE c_total untyped\nc_total{dc=\"x\",job=\"b\"} 60 1700000000000\n# TYPE up untyped\n\
         up{dc=\"x\",instance=\"h1\",job=\"a\"} 1 1700000000000\nup{dc=\"x\",instance=\"h2\",job=\"a\"} 0 1700000000000\n"
    );
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_all_or_nothing() {
    let s = Server::start(CONFIG).await;
    let file = s.dir.path().join("prometheus.yml");
    let yaml = async || s.get("/api/v1/status/config").await.data()["yaml"].as_str().unwrap().to_owned();
    std::fs::write(&file, "global:\n  external_labels: {dc: z}\n  nonsense: 1\n").unwrap();
    let refused = s.post("/-/reload", "text/plain", "").await;
    assert_eq!(refused.status, 500);
    assert!(refused.text.contains("prometheus.yml:3:3: global: unknown field \"nonsense\""), "{}", refused.text);
    assert!(yaml().await.contains("dc: x"));
    let metrics = s.get("/metrics").await.text;
    assert!(metrics.contains("\nprometheus_config_last_reload_successful 0\n"));
    std::fs::write(&file, "global:\n  external_labels: {dc: z}\n").unwrap();
    assert_eq!(s.post("/-/reload", "text/plain", "").await.status, 200);
    assert!(yaml().await.contains("dc: z"));
    assert!(s.get("/metrics").await.text.contains("\nprometheus_config_last_reload_successful 1\n"));
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_survives_a_restart_and_flags_close_doors() {
    let s = with_data().await;
    let dir = s.stop().await;
    let s = Server::start_in(dir, |o| {
        o.web.enable_lifecycle = false;
        o.web.enable_remote_write = false;
    })
    .await;
    assert_eq!(s.get("/api/v1/query?query=sum(up)").await.data()["result"][0]["value"][1], "1");
    assert_eq!(s.post("/-/reload", "text/plain", "").await.text, "Lifecycle API is not enabled.");
    assert_eq!(s.get("/-/quit").await.status, 403);
    assert_eq!(s.post("/api/v1/write", "application/x-protobuf", "").await.status, 404);
    let second = Server::refused(Arc::clone(&s.dir)).await;
    assert!(second.contains("is used by another process"), "{second}");
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_stands_before_everything() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("prometheus.yml"), CONFIG).unwrap();
    let s = Server::start_in(dir, |o| o.web.route_prefix = "/p".to_owned()).await;
    assert_eq!(s.get("/p/api/v1/query?query=1").await.status, 200);
    assert_eq!(s.get("/api/v1/query?query=1").await.status, 404);
    let root = s.get("/").await;
    assert_eq!((root.status, root.headers["location"].to_str().unwrap()), (302, "/p/"));
    assert_eq!(s.get("/p/").await.status, 200);
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_other_origins_are_told() {
    let s = Server::start_with(CONFIG, |o| {
        o.web.cors_origin = Some(ferula_regex::Regex::anchored("https?://(a|b)").unwrap());
    })
    .await;
    for (origin, allowed) in [("http://a", true), ("http://abc", false)] {
        for method in [http::Method::GET, http::Method::OPTIONS] {
            let mut request = Request::get(s.url("/api/v1/query?query=1"));
            request.method = method.clone();
            request.headers.insert("origin", http::HeaderValue::from_static(origin));
            let answer = s.send(request).await;
            assert_eq!(answer.status, if method == http::Method::GET { 200 } else { 204 });
            assert_eq!(answer.headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
        }
    }
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_less_than_a_second_with_a_query_running() {
    let s = with_data().await;
    let endless = "quantile_over_time(0.5, count_over_time(vector(1)[1d:1s])[1d:1s])";
    let url = s.url("/api/v1/query");
    let asked = tokio::spawn(async move {
        let client = ferula_net::client::Client::new(&ferula_net::client::ClientConfig::default()).unwrap();
        let mut url = url;
        url.query_pairs_mut().append_pair("query", endless);
        drop(client.send(Request::get(url)).await);
    });
    // (On a fast machine it may be done before it is seen; then there is only less to stop.)
    while !asked.is_finished() && !s.get("/metrics").await.text.contains("\nprometheus_engine_queries 1\n") {
        tokio::task::yield_now().await;
    }
    s.stop().await; // the drain is bounded; the test would hang here otherwise
    asked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_what_is_switched_on() {
    for (flags, expect) in [("", false), ("exemplar-storage,created-timestamp-zero-ingestion", true)] {
        let s = Server::start_with("", |o| {
            o.web.flags.insert("enable-feature".to_owned(), flags.to_owned());
        })
        .await;
        let data = s.get("/api/v1/features").await.data();
        assert_eq!(data["scrape"]["start_timestamp_zero_ingestion"], expect);
        let providers = data["service_discovery_providers"].as_object().unwrap();
        assert!(providers.len() >= 19 && providers["kubernetes"] == true && providers["static"] == true);
        s.stop().await;
    }
}
