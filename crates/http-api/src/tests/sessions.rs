//! Sessions over HTTP: paths, bodies, status codes.

use super::mock::{Asked, Came, Mock, Served, failed, rows, session, written};
use sqlrep_core::{LogIndex, ReadError, ReadLevel, WriteError};
use sqlrep_service::{End, SessionError};
use sqlrep_sql::{Begin, Reply, Shape, SqlError, Value};
use std::time::Duration;

fn path(what: &str) -> String {
    format!("/v1/sessions/{}{what}", session().token())
}

async fn delete(served: &Served, target: &str) -> Came {
    served.send("DELETE", target, "", "").await
}

#[tokio::test]
async fn a_session_is_opened_as_its_body_says() {
    let served = Mock::new().served();
    let came = served.post("/v1/sessions", "").await;
    let token = "2-000000000000000000000000000000ab";
    assert_eq!(came.status, 201);
    assert_eq!(came.body, format!("{{\"session\":\"{token}\"}}"));
    let body = r#"{"begin":"immediate","level":"none","idle_ms":1,"total_ms":3600000}"#;
    assert_eq!(
        served.post("/v1/sessions?min_index=4", body).await.status,
        201
    );
    let asked = served.asked();
    let [Asked::Open(plain), Asked::Open(full)] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(
        (plain.begin, plain.level),
        (Begin::Deferred, ReadLevel::Weak)
    );
    let seconds = (plain.idle_max.as_secs(), plain.total_max.as_secs());
    assert_eq!(seconds, (5, 30));
    assert_eq!(
        (full.begin, full.level),
        (Begin::Immediate, ReadLevel::None)
    );
    assert_eq!(full.idle_max, Duration::from_millis(1));
    assert_eq!(full.total_max, Duration::from_secs(3600));
    assert_eq!(
        full.bound.at_least.map(|(_, index)| index),
        Some(LogIndex(4))
    );
}

#[tokio::test]
async fn a_bad_body_is_told_what_it_may_be() {
    let served = Mock::new().served();
    for (body, says) in [
        ("{", "invalid JSON body"),
        ("[]", "has to be an object"),
        (r#"{"begin":"exclusive"}"#, "deferred"),
        (r#"{"level":"high"}"#, "linearizable"),
        (r#"{"idle_ms":0}"#, "idle_ms has to be"),
        (r#"{"idle_ms":-1}"#, "idle_ms has to be"),
        (r#"{"total_ms":3600001}"#, "1 to 3600000"),
        (r#"{"total_ms":"5s"}"#, "milliseconds"),
        (r#"{"ttl":1}"#, "known are begin, level, idle_ms, total_ms"),
    ] {
        let came = served.post("/v1/sessions", body).await;
        assert_eq!(came.status, 400, "{body}");
        assert!(came.body.contains(says), "{body}: {}", came.body);
    }
    assert!(served.asked().is_empty());
}

#[tokio::test]
async fn statements_come_and_go_as_those_of_a_request() {
    let outcomes = vec![
        written(3, 1),
        rows(&["a:integer"], vec![vec![Value::Integer(1)]]),
        failed("no such table: u"),
    ];
    let served = Mock {
        session: Ok(Reply { outcomes }),
        ..Mock::new()
    }
    .served();
    let body = r#"[["INSERT INTO t VALUES (?)", 1], "SELECT a FROM t", "SELECT * FROM u"]"#;
    let came = served
        .post(&path("/statements?qualify_columns"), body)
        .await;
    assert_eq!(came.status, 200);
    assert_eq!(
        came.body,
        "{\"results\":[{\"last_insert_id\":3,\"rows_affected\":1},\
         {\"columns\":[\"a\"],\"types\":[\"integer\"],\"values\":[[1]]},\
         {\"error\":\"no such table: u\"}]}"
    );
    let asked = served.asked();
    let [Asked::Run(of, request)] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!((*of, request.shape), (session(), Shape::Request));
    assert!(request.qualify_columns && request.statements.len() == 3);
    let came = served.post(&path("/statements?transaction"), body).await;
    assert_eq!(came.status, 400);
    assert!(came.body.contains("SAVEPOINT"), "{}", came.body);
    assert_eq!(served.post(&path("/statements"), "[]").await.status, 400);
}

#[tokio::test]
async fn a_transaction_ends_by_commit_rollback_or_delete() {
    let served = Mock::new().served();
    let came = served.post(&path("/commit"), "").await;
    assert_eq!(
        (came.status, came.body.as_str()),
        (200, "{\"raft_index\":9}")
    );
    assert_eq!(came.header("x-sqlrep-index"), Some("9"));
    assert_eq!(came.header("x-sqlrep-outcome"), Some("committed"));
    let came = served.post(&path("/rollback"), "").await;
    assert_eq!((came.status, came.body.as_str()), (200, "{}"));
    let came = delete(&served, &path("")).await;
    assert_eq!((came.status, came.body.as_str()), (204, ""));
    let asked = served.asked();
    let expected = [
        matches!(asked[0], Asked::Commit(of) if of == session()),
        matches!(asked[1], Asked::Rollback(of) if of == session()),
        matches!(asked[2], Asked::Rollback(_)),
    ];
    assert_eq!(expected, [true; 3]);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let served = Mock::new().served();
    let token = session().token();
    for (method, target, status) in [
        ("GET", "/v1/sessions".to_owned(), 405),
        ("DELETE", "/v1/sessions".to_owned(), 405),
        ("POST", path(""), 405),
        ("DELETE", path("/commit"), 405),
        ("POST", path("/undo"), 404),
        ("POST", "/v1/sessionsx".to_owned(), 404),
        ("POST", "/v1/sessions/2-ab/commit".to_owned(), 404),
        ("DELETE", format!("/v1/sessions/0{token}"), 404),
    ] {
        let came = served.send(method, &target, "", "").await;
        assert_eq!(came.status, status, "{method} {target}");
    }
    assert!(served.asked().is_empty());
}

fn errors() -> Vec<(SessionError, u16, &'static str)> {
    let text = || "why".to_owned();
    let error = SqlError {
        code: 787,
        message: text(),
    };
    let over = SessionError::Ended;
    vec![
        (SessionError::NotFound, 404, "refused"),
        (over(End::Idle), 410, "refused"),
        (over(End::Total), 410, "refused"),
        (over(End::LeaderChanged), 410, "refused"),
        (over(End::NodeStopped), 410, "refused"),
        (over(End::Committed(Some(LogIndex(3)))), 410, "committed"),
        (over(End::Unknown(text())), 410, "unknown"),
        (SessionError::ReadOnly, 409, "refused"),
        (SessionError::Outdated, 409, "refused"),
        (SessionError::Open(error), 409, "refused"),
        (SessionError::Full { limit: 256 }, 429, "refused"),
        (
            SessionError::TooLong {
                what: text(),
                limit: 1,
            },
            413,
            "refused",
        ),
        (SessionError::Unreachable(text()), 503, "refused"),
        (WriteError::Conflict.into(), 409, "refused"),
        (
            WriteError::NotLeader { leader: None }.into(),
            503,
            "refused",
        ),
        (WriteError::Unknown { cause: text() }.into(), 200, "unknown"),
        (
            WriteError::Unsupported { what: text() }.into(),
            400,
            "refused",
        ),
        (ReadError::NotLeader { leader: None }.into(), 503, "refused"),
    ]
}

/// Rule 41: each way to have no answer has its code; what may have happened is never a 5xx.
#[tokio::test]
async fn every_error_has_its_status() {
    for (error, status, outcome) in errors() {
        let served = Mock {
            session: Err(error.clone()),
            ..Mock::new()
        }
        .served();
        let all = [
            served.post("/v1/sessions", "").await,
            served.post(&path("/statements"), "[\"x\"]").await,
            served.post(&path("/commit"), "").await,
            served.post(&path("/rollback"), "").await,
            delete(&served, &path("")).await,
        ];
        for came in all {
            assert_eq!(came.status, status, "{error:?}");
            assert_eq!(came.header("x-sqlrep-outcome"), Some(outcome), "{error:?}");
            assert!(came.body.contains(&error.to_string()), "{}", came.body);
        }
    }
    let idle = SessionError::Ended(End::Idle).to_string();
    assert!(idle.contains("(idle)"), "{idle}");
}
