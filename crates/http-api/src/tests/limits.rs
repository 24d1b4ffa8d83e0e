//! Bodies of any content and size.

use super::mock::Mock;
use proptest::prelude::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let mut mock = Mock::new();
    mock.options.body_bytes_max = 10;
    mock.options.items_max = 2;
    let served = mock.served();
    let came = served.post("/db/execute", "[\"1234567\"]").await;
    assert_eq!(
        (came.status, came.body.as_str()),
        (413, "the body is longer than 10 bytes\n")
    );
    let came = served.post("/db/execute", "[\"123456\"]").await;
    assert_eq!(came.status, 200);
    let came = served.post("/db/execute", "[[\"a\",1]]").await;
    assert_eq!(came.status, 200);
    let came = served.post("/db/execute", "[[\"\",1,2]").await;
    assert_eq!(came.status, 400, "broken JSON counts first");
    let came = served.post("/db/execute", "[\"\",\"\",\"\"]").await;
    assert_eq!(came.status, 413);
}

proptest! {
    #[test]
    fn any_request_is_answered(
        method in prop::sample::select(vec!["GET", "POST", "DELETE", "OPTIONS", "PATCH"]),
        path in prop::sample::select(vec!["/db/execute", "/db/query", "/db/request", "/leader", "/remove", "/status", "/nodes", "/readyz", "/x"]),
        query in "[a-z_%=&0-9+;]{0,30}",
        kind in prop::sample::select(vec!["", "application/json", "text/plain"]),
        body in ".{0,60}",
    ) {
        let served = Mock::new().served();
        let came = runtime().block_on(served.send(method, &format!("{path}?{query}"), kind, &body));
        prop_assert!(matches!(came.status, 200 | 301 | 400 | 404 | 405 | 500));
    }
}
