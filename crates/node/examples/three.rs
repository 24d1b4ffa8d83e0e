//! Three nodes in one process: `cargo run -p sqlrep-node --example three`.
//!
//! The first forms a cluster, the others join it; every node takes writes and reads. The first stops in order and hands
//! leadership over; the second goes on with the third.

use sqlrep_node::{Mode, Node};
use sqlrep_sql::{Outcome, Reply, Request};
use std::error::Error;
use std::path::Path;

/// What can go wrong ends the example.
pub(crate) type Anything = Box<dyn Error + Send + Sync>;

async fn start(folder: &Path, name: &str, join: &[&str]) -> Result<Node, Anything> {
    let node = Node::builder(folder.join(name))
        .mode(Mode::Statement)
        .join(join.iter().copied())
        .start();
    let node = Box::pin(node).await?;
    node.entered().await?;
    Ok(node)
}

fn rows(reply: &Reply) -> usize {
    match reply.outcomes.first() {
        Some(Outcome::Rows(rows)) => rows.values.len(),
        _ => 0,
    }
}

/// Runs the story in `folder` and returns the rows that the last two nodes show.
pub(crate) async fn three(folder: &Path) -> Result<(usize, usize), Anything> {
    let first = start(folder, "one", &[]).await?;
    let second = start(folder, "two", &[first.raft_address()]).await?;
    let third = start(folder, "three", &[first.raft_address()]).await?;
    second
        .execute(Request::execute("CREATE TABLE t (x)"))
        .await?;
    for node in [&first, &second, &third] {
        node.execute(Request::execute("INSERT INTO t VALUES (random())"))
            .await?;
    }
    Box::pin(first.stop()).await;
    second
        .execute(Request::execute("INSERT INTO t VALUES (4)"))
        .await?;
    let all = Request::query("SELECT x FROM t");
    let strict = third
        .query(all.clone(), sqlrep_service::QueryOptions::linearizable())
        .await?;
    let local = second
        .reader()
        .run(&all, &sqlrep_sql::ReadLimits::default())?;
    Box::pin(third.stop()).await;
    Box::pin(second.stop()).await;
    Ok((rows(&strict.reply), rows(&local)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Anything> {
    let folder = tempfile::tempdir()?;
    let (strict, local) = Box::pin(three(folder.path())).await?;
    #[allow(clippy::print_stdout, reason = "an example shows something")]
    {
        println!("the third shows {strict} rows, the second {local}");
    }
    Ok(())
}
