//! An interactive transaction on an embedded node: `cargo run -p sqlrep-node --example transaction`.
//!
//! Money goes from one account to another if there is enough. What was read may change before the COMMIT: then it is a
//! conflict, nothing was done, and the whole transaction is run again.

use sqlrep_core::WriteError;
use sqlrep_node::{Mode, Node, NodeOptions};
use sqlrep_service::{QueryOptions, SessionError, SessionOptions};
use sqlrep_sql::{Begin, Outcome, Reply, Request, Value};
use std::error::Error;
use std::path::Path;

/// What can go wrong ends the example.
pub(crate) type Anything = Box<dyn Error + Send + Sync>;

fn integer(reply: &Reply) -> i64 {
    match reply.outcomes.first() {
        Some(Outcome::Rows(rows)) => match rows.values.first().and_then(|row| row.first()) {
            Some(Value::Integer(integer)) => *integer,
            _ => 0,
        },
        _ => 0,
    }
}

/// One attempt; how often this session was disturbed is up to the caller.
async fn transfer(node: &Node, amount: i64, disturb: bool) -> Result<bool, SessionError> {
    let mut session = node.begin(SessionOptions::new(Begin::Deferred)).await?;
    let balance = Request::execute("SELECT balance FROM account WHERE id = 1");
    if integer(&session.run(balance).await?) < amount {
        session.rollback().await?;
        return Ok(false);
    }
    if disturb {
        let other = Request::execute("UPDATE account SET balance = balance - 10 WHERE id = 1");
        node.execute(other).await?;
    }
    for (sign, id) in [("-", 1), ("+", 2)] {
        let sql = format!("UPDATE account SET balance = balance {sign} {amount} WHERE id = {id}");
        session.run(Request::execute(sql)).await?;
    }
    session.commit().await?;
    Ok(true)
}

/// Runs the story in `folder`; conflicts met, and what the second account holds.
pub(crate) async fn transaction(folder: &Path) -> Result<(u32, i64), Anything> {
    let mut options = NodeOptions::new(folder);
    options.mode = Some(Mode::Statement);
    let node = Box::pin(Node::start(options)).await?;
    node.entered().await?;
    for sql in [
        "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)",
        "INSERT INTO account VALUES (1, 100), (2, 0)",
    ] {
        node.execute(Request::execute(sql)).await?;
    }
    let mut conflicts = 0;
    loop {
        match transfer(&node, 60, conflicts == 0).await {
            Ok(_) => break,
            Err(SessionError::Write(WriteError::Conflict)) => conflicts += 1,
            Err(error) => return Err(error.into()),
        }
    }
    let balance = Request::query("SELECT balance FROM account WHERE id = 2");
    let shown = node.query(balance, QueryOptions::linearizable()).await?;
    Box::pin(node.stop()).await;
    Ok((conflicts, integer(&shown.reply)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Anything> {
    let folder = tempfile::tempdir()?;
    let (conflicts, balance) = Box::pin(transaction(folder.path())).await?;
    #[allow(clippy::print_stdout, reason = "an example shows something")]
    {
        println!("after {conflicts} conflict the second account holds {balance}");
    }
    Ok(())
}
