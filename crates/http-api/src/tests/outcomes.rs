//! Every outcome's status, text and header.

use super::mock::{Mock, answer, failed, node, written};
use sqlrep_core::{ClusterId, ReadError, Retry, WriteError};
use sqlrep_service::{AdminError, Role};
use sqlrep_sql::Outcome;
use std::time::Duration;

fn write_errors() -> Vec<(WriteError, u16)> {
    let text = |text: &str| text.to_owned();
    vec![
        (WriteError::NotLeader { leader: None }, 503),
        (WriteError::NotDone, 503),
        (WriteError::Overloaded, 429),
        (
            WriteError::Expired {
                waited: Duration::from_secs(1),
            },
            503,
        ),
        (
            WriteError::TooLarge {
                bytes: 2,
                limit_bytes: 1,
            },
            413,
        ),
        (WriteError::DiskFull, 503),
        (WriteError::Conflict, 409),
        (WriteError::KeyExpired, 200),
        (WriteError::KeyReused, 422),
        (
            WriteError::Unknown {
                cause: text("the leadership changed"),
            },
            200,
        ),
        (WriteError::Stopped, 503),
        (
            WriteError::Failed {
                what: text("out of memory"),
            },
            503,
        ),
        (
            WriteError::Unsupported {
                what: text("not here"),
            },
            400,
        ),
    ]
}

/// What may have happened is never a 5xx, and what certainly hasn't is never a 200.
#[tokio::test]
async fn a_write_without_reply_tells_whether_it_may_have_happened() {
    for (error, status) in write_errors() {
        let mock = Mock {
            write: Err(error.clone()),
            ..Mock::new()
        };
        let came = mock.served().post("/db/execute", "[\"x\"]").await;
        assert_eq!(came.status, status, "{error:?}");
        let ambiguous = error.retry() == Retry::Ambiguous;
        assert_eq!(ambiguous, came.status == 200);
        let outcome = if ambiguous { "unknown" } else { "refused" };
        assert_eq!(came.header("x-sqlrep-outcome"), Some(outcome));
        assert_eq!(
            came.header("retry-after").is_some(),
            matches!(status, 429 | 503)
        );
        let body = if ambiguous {
            format!("{{\"results\":[],\"error\":\"{error}\"}}")
        } else {
            format!("{error}\n")
        };
        assert_eq!(came.body, body);
        assert_eq!(came.header("x-rqlite-served-by"), None);
    }
}

#[tokio::test]
async fn a_read_without_reply_may_be_sent_again() {
    for (error, status) in [
        (ReadError::NotLeader { leader: None }, 503),
        (ReadError::Stale, 200),
        (
            ReadError::Timeout {
                waited: Duration::from_secs(1),
            },
            503,
        ),
        (
            ReadError::OtherCluster {
                ours: ClusterId(1),
                theirs: ClusterId(2),
            },
            409,
        ),
        (ReadError::Quarantined, 503),
        (ReadError::Overloaded, 429),
        (ReadError::Stopped, 503),
    ] {
        let mock = Mock {
            read: Err(error.clone()),
            ..Mock::new()
        };
        let came = mock.served().get("/db/query?q=x").await;
        assert_eq!(came.status, status, "{error:?}");
        assert_eq!(came.header("x-sqlrep-outcome"), Some("refused"));
        if error == ReadError::Stale {
            assert_eq!(came.body, r#"{"results":[],"error":"stale read"}"#);
        }
    }
}

#[tokio::test]
async fn a_reply_tells_whether_anything_was_done() {
    let both = || -> Vec<Outcome> { vec![written(1, 1), failed("x")] };
    for (outcomes, parameters, expected) in [
        (vec![written(1, 1)], "", "committed"),
        (both(), "", "committed"),
        (both(), "?transaction", "failed"),
        (vec![failed("x"), failed("y")], "", "failed"),
        (vec![], "", "committed"),
        (vec![], "?transaction", "committed"),
    ] {
        let came = Mock::writing(outcomes)
            .served()
            .post(&format!("/db/execute{parameters}"), "[\"x\"]")
            .await;
        assert_eq!(came.header("x-sqlrep-outcome"), Some(expected));
    }
}

fn follower() -> Mock {
    let mut mock = Mock::new();
    mock.status.role = Role::Follower;
    mock.leader = Some(node(2, true));
    mock
}

#[tokio::test]
async fn redirect_goes_to_the_leader_with_the_query_unchanged() {
    for (method, target, body) in [
        ("POST", "/db/execute?redirect&timings", "[\"x\"]"),
        ("POST", "/db/request?redirect", "[\"x\"]"),
        ("GET", "/db/query?q=SELECT+%31&redirect", ""),
        ("DELETE", "/remove?redirect", "{\"id\":\"1\"}"),
        ("POST", "/leader?redirect", ""),
    ] {
        let served = follower().served();
        let came = served.send(method, target, "", body).await;
        assert_eq!((came.status, came.body.as_str()), (301, ""), "{target}");
        assert_eq!(
            came.header("location"),
            Some(format!("http://n2:4001{target}").as_str())
        );
        assert!(served.asked().is_empty());
    }
    for (target, on) in [
        ("/db/query?q=x&redirect&level=none", follower()),
        ("/db/query?q=x", follower()),
        ("/db/query?q=x&redirect", Mock::new()),
    ] {
        assert_eq!(on.served().get(target).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn redirect_to_nowhere_is_refused() {
    let mut nobody = follower();
    nobody.leader = None;
    let came = nobody
        .served()
        .post("/db/execute?redirect", "[\"x\"]")
        .await;
    assert_eq!(
        (came.status, came.body.as_str()),
        (503, "leader not found\n")
    );
    let mut silent = follower();
    silent.leader.as_mut().unwrap().http_address = None;
    let came = silent
        .served()
        .post("/db/execute?redirect", "[\"x\"]")
        .await;
    assert_eq!(
        (came.status, came.body.as_str()),
        (500, "leader not found\n")
    );
    let mut split = follower();
    split.leader.as_mut().unwrap().http_address = Some("a\r\nb".into());
    assert_eq!(
        split
            .served()
            .post("/db/execute?redirect", "[\"x\"]")
            .await
            .status,
        500
    );
}

#[tokio::test]
async fn administration_fails_with_rqlite_s_texts() {
    for (error, status, text) in [
        (AdminError::NoLeader, 503, "leader not found\n"),
        (
            AdminError::AlreadyLeader,
            500,
            "stepdown: cannot step down to the current Leader\n",
        ),
        (
            AdminError::UnknownNode("9".into()),
            500,
            "stepdown: node not found in cluster\n",
        ),
        (AdminError::Refused("no".into()), 500, "stepdown: no\n"),
    ] {
        let mock = Mock {
            admin: Err(error),
            ..Mock::new()
        };
        let came = mock.served().post("/leader", "{\"id\":\"9\"}").await;
        assert_eq!((came.status, came.body.as_str()), (status, text));
    }
    let mut mock = Mock::new();
    mock.leader = None;
    let came = mock.served().get("/leader").await;
    assert_eq!(
        (came.status, came.body.as_str()),
        (503, "leader not found\n")
    );
}

#[tokio::test]
async fn a_read_s_answer_has_no_outcome_of_a_write() {
    let mock = Mock {
        read: Ok(answer(vec![failed("x")])),
        ..Mock::new()
    };
    assert_eq!(
        mock.served()
            .get("/db/query?q=x")
            .await
            .header("x-sqlrep-outcome"),
        None
    );
}
