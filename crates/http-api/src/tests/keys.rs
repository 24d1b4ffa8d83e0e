//! Writes under an idempotency key.

use super::mock::{Asked, Came, Mock, Served, answer, entry, written};
use sqlrep_core::{EntryId, IdempotencyKey, LogIndex, WriteError};
use sqlrep_service::Answer;

async fn post(served: &Served, path: &str, headers: &[(&str, &str)]) -> Came {
    served.send_with("POST", path, headers, "[\"x\"]").await
}

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey::new(name).unwrap()
}

#[tokio::test]
async fn a_key_and_its_index_reach_the_database() {
    let long = "x".repeat(64);
    for (headers, expected) in [
        (vec![], None),
        (vec![("Idempotency-Key", "order 17")], Some(key("order 17"))),
        (vec![("idempotency-key", &long)], Some(key(&long))),
        (
            vec![("Idempotency-Key", "k"), ("Idempotency-Index", "42")],
            Some(key("k").known_at(LogIndex(42))),
        ),
    ] {
        for path in ["/db/execute", "/db/request"] {
            let served = Mock::new().served();
            let came = post(&served, path, &headers).await;
            assert_eq!(came.status, 200, "{headers:?}: {}", came.body);
            let asked = served.asked();
            let [Asked::Write(_, options)] = &asked[..] else {
                panic!("{asked:?}");
            };
            assert_eq!(options.key, expected);
        }
    }
}

/// A request whose table is gone meanwhile only reads, as far as its text tells: with a key it is looked up all the same.
#[tokio::test]
async fn a_request_with_a_key_goes_through_the_log() {
    let served = Mock::reading(vec![]).served();
    post(&served, "/db/request", &[("Idempotency-Key", "k")]).await;
    post(&served, "/db/request", &[]).await;
    post(&served, "/db/query", &[("Idempotency-Key", "k")]).await;
    let asked = served.asked();
    assert!(
        matches!(
            &asked[..],
            [Asked::Write(..), Asked::Read(..), Asked::Read(..)]
        ),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_refused_and_nothing_is_written() {
    let long = "x".repeat(65);
    let key = ("Idempotency-Key", "k");
    for (headers, says) in [
        (vec![("Idempotency-Key", "")], "1 to 64 printable ASCII"),
        (vec![("Idempotency-Key", &*long)], "1 to 64 printable ASCII"),
        (vec![("Idempotency-Key", "ä")], "1 to 64 printable ASCII"),
        (vec![("Idempotency-Key", "a\tb")], "1 to 64 printable ASCII"),
        (
            vec![key, ("Idempotency-Key", "l")],
            "idempotency-key is given twice",
        ),
        (
            vec![("Idempotency-Index", "7")],
            "Idempotency-Key, which is missing",
        ),
        (vec![key, ("Idempotency-Index", "x")], "is not a log index"),
        (vec![key, ("Idempotency-Index", "-1")], "is not a log index"),
        (
            vec![key, ("Idempotency-Index", "9223372036854775808")],
            "is not a log index",
        ),
    ] {
        let served = Mock::new().served();
        let came = post(&served, "/db/execute", &headers).await;
        assert_eq!(came.status, 400, "{headers:?}");
        assert!(came.body.contains(says), "{headers:?}: {}", came.body);
        assert_eq!(came.header("x-sqlrep-outcome"), Some("refused"));
        assert!(served.asked().is_empty());
    }
}

/// Rule 29: a retry's answer is the first one and says so; a reply that wasn't kept is told by its index.
#[tokio::test]
async fn a_retry_is_told_apart() {
    let replayed = |write| Mock {
        write,
        ..Mock::new()
    };
    let first = Answer {
        entry: entry(42),
        replayed: true,
        ..answer(vec![written(7, 1)])
    };
    let served = replayed(Ok(first)).served();
    let came = post(&served, "/db/execute", &[("Idempotency-Key", "k")]).await;
    let body = r#"{"results":[{"last_insert_id":7,"rows_affected":1}],"replayed":true}"#;
    assert_eq!(came.body, body);
    assert_eq!(came.header("x-sqlrep-outcome"), Some("committed"));
    assert_eq!(came.header("x-sqlrep-index"), Some("42"));

    let at: EntryId = entry(42).unwrap();
    let served = replayed(Err(WriteError::ReplyNotKept { at })).served();
    let came = post(&served, "/db/execute", &[("Idempotency-Key", "k")]).await;
    let body = r#"{"results":[],"error":"done at index 42, reply not kept","replayed":true}"#;
    assert_eq!((came.status, &*came.body), (200, body));
    assert_eq!(came.header("x-sqlrep-outcome"), Some("committed"));
    assert_eq!(came.header("x-sqlrep-index"), Some("42"));
}

/// Rule 28: expired is unknown, and another request under the key is certainly not done.
#[tokio::test]
async fn expired_and_reused_keys_have_answers_of_their_own() {
    for (error, status, outcome, says) in [
        (
            WriteError::KeyExpired,
            200,
            "unknown",
            "outcome of its request is unknown",
        ),
        (
            WriteError::KeyReused,
            422,
            "refused",
            "belongs to another request",
        ),
    ] {
        let mock = Mock {
            write: Err(error),
            ..Mock::new()
        };
        let came = post(&mock.served(), "/db/execute", &[("Idempotency-Key", "k")]).await;
        assert_eq!(came.status, status);
        assert_eq!(came.header("x-sqlrep-outcome"), Some(outcome));
        assert!(came.body.contains(says), "{}", came.body);
    }
}
