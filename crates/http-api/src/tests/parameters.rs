//! What parameters and bodies ask of the database, and the order of checks before it is asked at all.

use super::mock::{Asked, Mock, Served};
use sqlrep_core::{ClusterId, LogIndex, NodeId, ReadLevel};
use sqlrep_service::{QueryOptions, WriteOptions};
use sqlrep_sql::{Request, Shape, Statement};
use std::time::Duration;

fn read(served: &Served) -> (Request, QueryOptions) {
    match served.asked().pop() {
        Some(Asked::Read(request, options)) => (request, options),
        other => panic!("a read, not {other:?}"),
    }
}

fn write(served: &Served) -> (Request, WriteOptions) {
    match served.asked().pop() {
        Some(Asked::Write(request, options)) => (request, options),
        other => panic!("a write, not {other:?}"),
    }
}

#[tokio::test]
async fn a_write_is_one_request() {
    let served = Mock::new().served();
    let came = served
        .post(
            "/db/execute?transaction&timeout=2s&noparse&norwrandom&norwtime&qualify_columns",
            r#"["A",["B",1]]"#,
        )
        .await;
    assert_eq!(came.status, 200);
    let (request, options) = write(&served);
    assert_eq!(request.statements.len(), 2);
    assert!(request.transaction && !request.qualify_columns);
    assert_eq!(request.shape, Shape::Execute);
    assert_eq!(options.wait_max, Some(Duration::from_secs(2)));
    let came = served
        .send(
            "POST",
            "/db/execute",
            "text/plain; charset=utf-8",
            "INSERT 1",
        )
        .await;
    assert_eq!(came.status, 200);
    assert_eq!(write(&served).0, Request::execute("INSERT 1"));
    assert_eq!(write(&served).1.wait_max, None);
}

#[tokio::test]
async fn a_read_carries_its_level_and_bounds() {
    let served = Mock::reading(vec![]).served();
    served.get("/db/query?q=SELECT+1&level=Linearizable&linearizable_timeout=3s&timeout=9s&db_timeout=50ms&qualify_columns").await;
    let (request, options) = read(&served);
    assert_eq!(request.statements, [Statement::text("SELECT 1")]);
    assert!(request.qualify_columns);
    assert_eq!(request.shape, Shape::Query);
    assert_eq!(options.level, ReadLevel::Linearizable);
    assert_eq!(options.bound.wait_max, Some(Duration::from_secs(3)));
    assert_eq!(options.run_max, Some(Duration::from_millis(50)));
    for (text, level) in [
        ("none", ReadLevel::None),
        ("STRONG", ReadLevel::Strong),
        ("auto", ReadLevel::Auto),
        ("what", ReadLevel::Weak),
    ] {
        served
            .post(
                &format!("/db/query?level={text}&freshness=1s&freshness_strict"),
                "[\"x\"]",
            )
            .await;
        let (_, options) = read(&served);
        assert_eq!(options.level, level);
        assert_eq!(options.bound.freshness, Some(Duration::from_secs(1)));
        assert!(options.bound.freshness_strict);
    }
    served.get("/db/query?freshness=0").await;
    let (request, options) = read(&served);
    assert_eq!(
        (request.statements, options.bound.freshness),
        (vec![Statement::text("")], None)
    );
}

/// Rule 43: an index that a read waits for names its cluster; the client's word for it counts.
#[tokio::test]
async fn an_index_is_asked_for_with_its_cluster() {
    let served = Mock::reading(vec![]).served();
    served.get("/db/query?q=x&level=none&min_index=7").await;
    assert_eq!(
        read(&served).1.bound.at_least,
        Some((ClusterId(0xc1), LogIndex(7)))
    );
    served
        .get("/db/query?q=x&level=none&min_index=7&cluster=00000000000000bb")
        .await;
    assert_eq!(
        read(&served).1.bound.at_least,
        Some((ClusterId(0xbb), LogIndex(7)))
    );
}

#[tokio::test]
async fn a_request_reads_unless_something_writes() {
    let served = Mock::reading(vec![]).served();
    served.post("/db/request?level=strong", "[\"x\"]").await;
    let (request, options) = read(&served);
    assert_eq!(
        (request.shape, options.level),
        (Shape::Request, ReadLevel::Strong)
    );
    let served = Mock::new().served();
    served.post("/db/request?qualify_columns", "[\"x\"]").await;
    assert!(write(&served).0.qualify_columns);
    let came = served
        .send("POST", "/db/request", "text/plain", "INSERT 1")
        .await;
    assert_eq!(
        (came.status, came.body.as_str()),
        (400, "invalid JSON body\n")
    );
}

#[tokio::test]
async fn checks_come_in_rqlite_s_order() {
    let served = Mock::new().served();
    for (method, target, status, body) in [
        ("OPTIONS", "/nowhere?timeout=x", 200, ""),
        (
            "GET",
            "/nowhere?timeout=x",
            400,
            "timeout is not a valid duration\n",
        ),
        ("GET", "/nowhere", 404, ""),
        ("GET", "/", 404, ""),
        ("GET", "/db/execute", 405, ""),
        ("PUT", "/db/query", 405, ""),
        ("GET", "/db/request", 405, ""),
        ("POST", "/status", 405, ""),
        ("POST", "/nodes", 405, ""),
        ("GET", "/remove", 405, ""),
        ("PUT", "/leader", 405, ""),
        ("GET", "/leader/", 404, ""),
        (
            "POST",
            "/db/execute?queue",
            400,
            "queue is not supported: queued writes can be lost without anybody being told\n",
        ),
        ("POST", "/db/execute", 400, "invalid JSON body\n"),
        ("GET", "/db/query?q=", 400, "query parameter not set\n"),
        (
            "GET",
            "/db/backup",
            404,
            "/db/backup is not available in this release of sqlrep\n",
        ),
        (
            "POST",
            "/boot",
            404,
            "/boot is not available in this release of sqlrep\n",
        ),
        ("GET", "/db/executes", 405, ""),
    ] {
        let came = served.send(method, target, "", "").await;
        assert_eq!(
            (came.status, came.body.as_str()),
            (status, body),
            "{method} {target}"
        );
        assert_eq!(came.header("x-rqlite-version"), Some("v10.2.7"));
        assert_eq!(
            came.header("access-control-allow-methods"),
            Some("OPTIONS, GET, POST")
        );
        assert_eq!(came.header("access-control-allow-origin"), None);
        if status == 400 {
            assert_eq!(
                came.header("content-type"),
                Some("text/plain; charset=utf-8")
            );
            assert_eq!(came.header("x-content-type-options"), Some("nosniff"));
        }
    }
    assert!(served.asked().is_empty());
}

#[tokio::test]
async fn an_origin_is_allowed_by_name() {
    let mut mock = Mock::new();
    mock.options.allow_origin = Some("https://a".into());
    let came = mock.served().send("OPTIONS", "/db/query", "", "").await;
    assert_eq!(
        came.header("access-control-allow-origin"),
        Some("https://a")
    );
}

#[tokio::test]
async fn members_are_named_in_the_body() {
    let served = Mock::new().served();
    let two = NodeId::new(2).unwrap();
    for (method, target, kind, body, status) in [
        ("DELETE", "/remove", "", r#"{"id":"2"}"#, 200),
        ("DELETE", "/remove", "", r#"{"id":"nobody"}"#, 200),
        ("DELETE", "/remove", "", r#"{"id":"2","x":"y"}"#, 400),
        ("DELETE", "/remove", "", r#"{"id":2}"#, 400),
        ("DELETE", "/remove", "", "", 400),
        ("POST", "/leader", "application/json", r#"{"id":"2"}"#, 200),
        ("POST", "/leader", "application/json", "{}", 400),
        (
            "POST",
            "/leader",
            "application/json; charset=utf-8",
            r#"{"id":"2"}"#,
            200,
        ),
        ("POST", "/leader?wait", "", "", 200),
    ] {
        let came = served.send(method, target, kind, body).await;
        assert_eq!(
            (came.status, came.body.as_str()),
            (status, ""),
            "{target} {body}"
        );
    }
    let asked = served.asked();
    assert!(
        matches!(asked[..], [Asked::Remove(a), Asked::StepDown(Some(b)), Asked::StepDown(None), Asked::StepDown(None)] if a == two && b == two)
    );
    let came = served.post("/leader", r#"{"id":"x"}"#).await;
    assert_eq!(came.status, 500);
}

#[tokio::test]
async fn members_are_waited_for_as_long_as_asked() {
    let served = Mock::new().served();
    served.get("/nodes?timeout=5s&retries=2").await;
    served.get("/nodes").await;
    served.get("/readyz?sync").await;
    let asked = served.asked();
    assert!(
        matches!(asked[..], [Asked::Nodes(a), Asked::Nodes(b), Asked::Health(true)] if a.as_secs() == 5 && b.as_secs() == 30)
    );
}
