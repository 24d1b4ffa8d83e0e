//! The example's own loads, small: copies end byte-identical, and a transaction takes what it should.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../examples/page_set_bytes.rs"]
#[allow(dead_code, reason = "the example's table isn't printed here")]
mod page_set_bytes;

use page_set_bytes::{Load, Scale, run};
use sqlrep_env::Env;

fn bytes(load: Load) -> f64 {
    let scale = Scale {
        rows: 4000,
        sets: 4,
        transactions_per_set: 64,
        random_bytes: 50,
    };
    let figures = run(load, scale, &Env::inline(1)).unwrap();
    assert_eq!(figures.transactions, 256);
    figures.bytes_per_transaction()
}

/// A quarter to a half above what it took on a table of this size.
#[test]
fn a_transaction_of_one_row_takes_few_bytes() {
    let (insert, update) = (bytes(Load::Insert), bytes(Load::Update));
    assert!(insert < 80.0, "INSERT: {insert}");
    assert!(update < 80.0, "UPDATE: {update}");
    let random = bytes(Load::InsertRandomIndex);
    assert!(random < 300.0, "INSERT with a random index: {random}");
}
