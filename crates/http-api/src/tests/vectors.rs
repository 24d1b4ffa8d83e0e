//! Exact bodies, most of them from rqlite's own tests.

use super::mock::{Mock, answer, entry, failed, node, rows, text, written};
use sqlrep_service::{Answer, Role};
use sqlrep_sql::{Outcome, Value};
use std::time::Duration;

fn fiona() -> Outcome {
    rows(
        &["id:integer", "name:text"],
        vec![vec![Value::Integer(1), text("fiona")]],
    )
}

fn nobody() -> Outcome {
    rows(&["id:integer", "name:text"], vec![])
}

#[tokio::test]
async fn writes_have_rqlite_s_bodies() {
    for (outcomes, parameters, body) in [
        (vec![written(0, 0)], "", r#"{"results":[{}]}"#),
        (
            vec![written(1, 1)],
            "",
            r#"{"results":[{"last_insert_id":1,"rows_affected":1}]}"#,
        ),
        (
            vec![failed("near \"blah\": syntax error")],
            "",
            r#"{"results":[{"error":"near \"blah\": syntax error"}]}"#,
        ),
        (
            vec![failed("a")],
            "?associative",
            r#"{"results":[{"error":"a"}]}"#,
        ),
        (
            vec![failed("a")],
            "?codes",
            r#"{"results":[{"error":"a","code":1555}]}"#,
        ),
        (
            vec![written(99, 1)],
            "?associative",
            r#"{"results":[{"last_insert_id":99,"rows_affected":1,"rows":null}]}"#,
        ),
        (
            vec![written(0, 0)],
            "?associative",
            r#"{"results":[{"rows":null}]}"#,
        ),
        (
            vec![fiona()],
            "",
            r#"{"results":[{"columns":["id","name"],"types":["integer","text"],"values":[[1,"fiona"]]}]}"#,
        ),
        (
            vec![fiona(), written(5, 1)],
            "",
            r#"{"results":[{"columns":["id","name"],"types":["integer","text"],"values":[[1,"fiona"]]},{"last_insert_id":5,"rows_affected":1}]}"#,
        ),
        (
            vec![rows(&["name:text"], vec![])],
            "?associative",
            r#"{"results":[{"types":{"name":"text"},"rows":[]}]}"#,
        ),
        (
            vec![written(2, 1), failed("UNIQUE constraint failed: foo.id")],
            "?transaction",
            r#"{"results":[{"last_insert_id":2,"rows_affected":1},{"error":"UNIQUE constraint failed: foo.id"}]}"#,
        ),
        (vec![], "", r#"{"results":[]}"#),
        (
            vec![written(1, 1)],
            "?pretty",
            "{\n    \"results\": [\n        {\n            \"last_insert_id\": 1,\n            \"rows_affected\": 1\n        }\n    ]\n}",
        ),
    ] {
        let came = Mock::writing(outcomes)
            .served()
            .post(&format!("/db/execute{parameters}"), "[\"x\"]")
            .await;
        assert_eq!((came.status, came.body.as_str()), (200, body));
        assert_eq!(
            came.header("content-type"),
            Some("application/json; charset=utf-8")
        );
    }
}

#[tokio::test]
async fn reads_have_rqlite_s_bodies() {
    for (outcomes, parameters, body) in [
        (
            vec![fiona()],
            "",
            r#"{"results":[{"columns":["id","name"],"types":["integer","text"],"values":[[1,"fiona"]]}]}"#,
        ),
        (
            vec![nobody()],
            "",
            r#"{"results":[{"columns":["id","name"],"types":["integer","text"]}]}"#,
        ),
        (
            vec![fiona()],
            "&associative",
            r#"{"results":[{"types":{"id":"integer","name":"text"},"rows":[{"id":1,"name":"fiona"}]}]}"#,
        ),
        (
            vec![nobody()],
            "&associative",
            r#"{"results":[{"types":{"id":"integer","name":"text"},"rows":[]}]}"#,
        ),
        (
            vec![failed("no such table: bar")],
            "&associative",
            r#"{"results":[{"rows":[],"error":"no such table: bar"}]}"#,
        ),
        (
            vec![failed("no such table: bar")],
            "",
            r#"{"results":[{"error":"no such table: bar"}]}"#,
        ),
        (vec![], "", r#"{"results":[]}"#),
        (
            vec![rows(
                &["b:", "a:int", "b:text"],
                vec![vec![Value::Integer(1), Value::Null, text("last")]],
            )],
            "&associative",
            r#"{"results":[{"types":{"a":"int","b":"text"},"rows":[{"a":null,"b":"last"}]}]}"#,
        ),
    ] {
        let came = Mock::reading(outcomes)
            .served()
            .get(&format!("/db/query?q=x{parameters}"))
            .await;
        assert_eq!((came.status, came.body.as_str()), (200, body));
        assert_eq!(came.header("x-sqlrep-outcome"), None);
    }
}

#[tokio::test]
async fn values_show_by_class_and_declared_type() {
    let blob = || Value::Blob(vec![0xde, 0xad, 0xbe, 0xef]);
    for (declared, value, shown) in [
        ("", Value::Integer(60), r#""integer"],"values":[[60"#),
        ("", Value::Real(17.1), r#""real"],"values":[[17.1"#),
        ("", Value::Real(0.0), r#""real"],"values":[[0"#),
        ("", Value::Null, r#"""],"values":[[null"#),
        (
            "",
            Value::Blob(b"SQL".to_vec()),
            r#""text"],"values":[["SQL""#,
        ),
        (
            "integer",
            Value::Integer(i64::MIN),
            r#""integer"],"values":[[-9223372036854775808"#,
        ),
        ("real", Value::Real(1.0), r#""real"],"values":[[1"#),
        (
            "real",
            Value::Real(f64::INFINITY),
            r#""real"],"values":[[9.0e+999"#,
        ),
        (
            "boolean",
            Value::Integer(2),
            r#""boolean"],"values":[[true"#,
        ),
        (
            "boolean",
            Value::Integer(-1),
            r#""boolean"],"values":[[false"#,
        ),
        ("boolean", text("yes"), r#""boolean"],"values":[["yes""#),
        (
            "date",
            text("2004-02-14"),
            r#""date"],"values":[["2004-02-14T00:00:00Z""#,
        ),
        (
            "timestamp",
            text("2004-02-14 07:15:00"),
            r#""timestamp"],"values":[["2004-02-14T07:15:00Z""#,
        ),
        (
            "datetime",
            text("2021-10-22 19:39:32.016087"),
            r#""datetime"],"values":[["2021-10-22T19:39:32.016087Z""#,
        ),
        (
            "datetime",
            Value::Integer(0),
            r#""datetime"],"values":[["1970-01-01T00:00:00Z""#,
        ),
        (
            "datetime",
            Value::Real(0.5),
            r#""datetime"],"values":[[0.5"#,
        ),
        (
            "datetime(6)",
            text("2004-02-14"),
            r#""datetime(6)"],"values":[["2004-02-14""#,
        ),
        ("blob", text("fiona"), r#""blob"],"values":[["fiona""#),
        ("blob", blob(), r#""blob"],"values":[["3q2+7w==""#),
        (
            "varchar(36)",
            Value::Blob(b"a<b".to_vec()),
            r#""varchar(36)"],"values":[["a\u003cb""#,
        ),
        ("foo", Value::Blob(vec![]), r#""foo"],"values":[["""#),
    ] {
        let column = format!("c:{declared}");
        let outcomes = vec![rows(&[&column], vec![vec![value]])];
        let came = Mock::reading(outcomes).served().get("/db/query?q=x").await;
        let expected = format!(r#"{{"results":[{{"columns":["c"],"types":[{shown}]]}}]}}"#);
        assert_eq!(came.body, expected);
    }
    let both = vec![rows(&["c:blob"], vec![vec![text("fiona")], vec![blob()]])];
    let came = Mock::reading(both)
        .served()
        .get("/db/query?q=x&blob_array")
        .await;
    assert!(
        came.body
            .contains(r#""values":[["fiona"],[[222,173,190,239]]]"#)
    );
}

#[tokio::test]
async fn timings_index_and_server_are_told_when_asked() {
    let mock = Mock {
        write: Ok(Answer {
            entry: entry(42),
            served_by: Some("n2:4002".into()),
            ..answer(vec![written(1, 1), fiona()])
        }),
        ..Mock::new()
    };
    let served = mock.served();
    let came = served.post("/db/execute?raft_index", "[\"x\"]").await;
    assert!(
        came.body.ends_with(r#"],"raft_index":42}"#),
        "{}",
        came.body
    );
    assert_eq!(came.header("x-rqlite-served-by"), Some("n2:4002"));
    assert_eq!(came.header("x-sqlrep-index"), Some("42"));
    let came = served.post("/db/execute?timings", "[\"x\"]").await;
    assert!(
        came.body.contains(r#""rows_affected":1,"time":0.003},"#),
        "{}",
        came.body
    );
    assert!(
        came.body.contains(r#"]],"time":0.002}],"time":"#),
        "{}",
        came.body
    );
    let came = Mock::reading(vec![]).served().get("/db/query").await;
    assert_eq!(came.header("x-rqlite-served-by"), Some("n1:4001"));
}

#[tokio::test]
async fn qualified_columns_carry_their_table() {
    let Outcome::Rows(mut found) = fiona() else {
        unreachable!()
    };
    found.tables = Some(vec![Some("foo".into()), None]);
    let served = Mock::reading(vec![Outcome::Rows(found)]).served();
    let came = served.get("/db/query?q=x&qualify_columns").await;
    assert!(
        came.body.contains(r#""columns":["foo.id","name"]"#),
        "{}",
        came.body
    );
    let came = served
        .get("/db/query?q=x&qualify_columns&associative")
        .await;
    assert!(
        came.body
            .contains(r#""rows":[{"foo.id":1,"name":"fiona"}]"#),
        "{}",
        came.body
    );
}

#[tokio::test]
async fn nodes_come_in_two_forms() {
    let mut mock = Mock::new();
    let mut gone = node(3, false);
    (gone.reachable, gone.http_address, gone.version, gone.took) = (false, None, None, None);
    gone.error = Some("connection refused".into());
    let mut learner = node(10, false);
    learner.voter = false;
    mock.status.members = vec![gone, learner, node(1, true)];
    let served = mock.served();
    let one = r#"{"id":"1","api_addr":"http://n1:4001","addr":"n1:4002","version":"v10.2.7","voter":true,"reachable":true,"leader":true,"time":0.0015,"time_s":"1.5ms"}"#;
    let three = r#"{"id":"3","addr":"n3:4002","version":"","voter":true,"reachable":false,"leader":false,"error":"connection refused"}"#;
    let came = served.get("/nodes").await;
    assert_eq!(came.body, format!(r#"{{"1":{one},"3":{three}}}"#));
    let came = served.get("/nodes?ver=2").await;
    assert_eq!(came.body, format!(r#"{{"nodes":[{one},{three}]}}"#));
    let came = served.get("/nodes?ver=2&nonvoters").await;
    assert!(came.body.contains(r#""id":"10""#));
    let came = served.get("/leader").await;
    assert_eq!(came.body, one);
}

#[tokio::test]
async fn ready_tells_each_point() {
    let lines = |health: fn(&mut sqlrep_service::Health)| {
        let mut mock = Mock::new();
        health(&mut mock.health);
        mock.served()
    };
    for (served, status, body) in [
        (
            lines(|_| {}),
            200,
            "[+]node ok\n[+]leader ok\n[+]store ok\n[+]db ok",
        ),
        (
            lines(|h| h.leader = false),
            503,
            "[+]node ok\n[+]leader does not exist",
        ),
        (
            lines(|h| h.leader_contact = Err("x".into())),
            503,
            "[+]node ok\n[+]leader not contactable: x",
        ),
        (
            lines(|h| h.store = false),
            503,
            "[+]node ok\n[+]leader ok\n[+]store not ready",
        ),
        (
            lines(|h| h.sync = Some(Ok(()))),
            200,
            "[+]node ok\n[+]leader ok\n[+]store ok\n[+]sync ok\n[+]db ok",
        ),
        (
            lines(|h| h.sync = Some(Err("late".into()))),
            503,
            "[+]node ok\n[+]leader ok\n[+]store ok\n[+]sync late",
        ),
        (
            lines(|h| h.database = Err("x".into())),
            503,
            "[+]node ok\n[+]leader ok\n[+]store ok\n[+]db not ok: (x)",
        ),
    ] {
        let came = served.get("/readyz").await;
        assert_eq!((came.status, came.body.as_str()), (status, body));
    }
    let came = lines(|h| h.leader = false).get("/readyz?noleader").await;
    assert_eq!((came.status, came.body.as_str()), (200, "[+]node ok"));
    assert_eq!(came.header("x-sqlrep-index"), Some("11"));
    assert_eq!(came.header("x-sqlrep-cluster"), Some("00000000000000c1"));
}

#[tokio::test]
async fn status_has_what_clients_read() {
    let served = Mock::new().served();
    let whole: serde_json::Value = serde_json::from_str(&served.get("/status").await.body).unwrap();
    assert_eq!(whole["store"]["leader"]["node_id"], "1");
    assert_eq!(whole["store"]["leader"]["addr"], "n1:4002");
    assert_eq!(whole["store"]["raft"]["state"], "Leader");
    assert_eq!(whole["store"]["raft"]["voter"], true);
    assert_eq!(whole["store"]["raft"]["num_peers"], 1);
    assert_eq!(whole["store"]["raft"]["commit_index"], 11);
    assert_eq!(whole["store"]["raft"]["fsm_pending"], 3);
    assert_eq!(whole["store"]["db_applied_index"], 11);
    assert_eq!(whole["store"]["fsm_index"], 11);
    assert_eq!(
        whole["store"]["sqlite3"]["pragmas"]["rw"]["foreign_keys"],
        "0"
    );
    assert_eq!(
        whole["store"]["snapshot_store"]["snapshots"],
        serde_json::json!(["2-7"])
    );
    assert_eq!(
        whole["store"]["raft"]["latest_configuration"],
        "[{Suffrage:Voter ID:1 Address:n1:4002} {Suffrage:Voter ID:2 Address:n2:4002}]"
    );
    assert_eq!(whole["store"]["raft"]["log_size_friendly"], "4.0 kB");
    let pragmas = |mode| serde_json::json!({ "foreign_keys": "0", "journal_mode": mode });
    assert_eq!(
        whole["store"]["sqlite3"],
        serde_json::json!({
            "path": "/data/db/1/main.db", "version": "3.54.1", "compile_options": [],
            "db_size": 12288, "db_size_friendly": "12 kB", "size": 8192, "wal_size": 700,
            "conn_pool_stats": {
                "ro": { "max_open_connections": 4, "in_use": 1, "idle": 3 },
                "rw": { "max_open_connections": 1 },
            },
            "mem_stats": { "page_count": 3, "page_size": 4096 },
            "pragmas": { "ro": pragmas("delete"), "rw": pragmas("memory") },
        })
    );
    assert_eq!(whole["node"]["start_time"], "2004-08-19T18:51:06Z");
    assert_eq!(whole["node"]["uptime"], "1m1.5s");
    assert_eq!(whole["http"]["bind_addr"], "127.0.0.1:4001");
    assert_eq!(
        served.get("/status?key=store.leader.node_id").await.body,
        "\"1\""
    );
    assert_eq!(
        served.get("/status?key=store.nothing.here").await.body,
        "{}"
    );

    let mut mock = Mock::new();
    (mock.status.leader, mock.status.role) = (None, Role::Follower);
    mock.status.last_contact = Some(Duration::from_millis(12));
    let served = mock.served();
    assert_eq!(
        served.get("/status?key=store.leader").await.body,
        r#"{"node_id":"","addr":""}"#
    );
    assert_eq!(
        served.get("/status?key=store.raft.last_contact").await.body,
        "\"12ms\""
    );
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let came = Mock::new().served().get("/metrics").await;
    for line in [
        "sqlrep_raft_state{state=\"leader\"} 1\n",
        "sqlrep_raft_state{state=\"follower\"} 0\n",
        "sqlrep_raft_commit_index 11\n",
        "sqlrep_raft_applied_index 11\n",
        "# TYPE sqlrep_proposals_total counter\nsqlrep_proposals_total 5\n",
        "# TYPE sqlrep_queue_length gauge\nsqlrep_queue_length 0.5\n",
        "# TYPE sqlrep_sync_seconds histogram\nsqlrep_sync_seconds_bucket{le=\"0.0025\"} 3\n\
         sqlrep_sync_seconds_bucket{le=\"10\"} 4\nsqlrep_sync_seconds_bucket{le=\"+Inf\"} 5\n\
         sqlrep_sync_seconds_sum 12.5\nsqlrep_sync_seconds_count 5\n",
    ] {
        assert!(came.body.contains(line), "{line} in {}", came.body);
    }
    assert!(
        came.body
            .lines()
            .all(|line| line.starts_with("# TYPE sqlrep_") || line.starts_with("sqlrep_"))
    );
}

#[tokio::test]
async fn a_check_tells_what_is_known_of_each_node() {
    let served = Mock::new().served();
    let came = served.get("/v1/check?timeout=3s").await;
    assert_eq!(came.status, 200);
    let told: serde_json::Value = serde_json::from_str(&came.body).unwrap();
    assert_eq!(
        told.to_string(),
        r#"{"index":11,"equal":null,"nodes":[{"id":"1","checksum":"00000000000000c5","in_service":true},{"id":"2","checksum":null,"in_service":null}]}"#
    );
    let asked = served.asked();
    assert!(
        matches!(asked[..], [super::mock::Asked::Compare(wait)] if wait == Duration::from_secs(3))
    );
    assert_eq!(served.post("/v1/check", "").await.status, 405);
    assert_eq!(served.get("/v1/checks").await.status, 404);
}
