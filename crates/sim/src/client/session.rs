//! Interactive transactions: what is read in one is computed with here, and what follows is written in it.
//!
//! ```text
//!   open ─► SELECT ─► (think) ─► UPDATE what was computed ─► (think) ─► COMMIT, ROLLBACK, or nothing more
//!                        └─ or another client goes on, through its own node
//! ```
//!
//! So an update is lost, or a value given twice, wherever two of them weren't one after the other. Only a COMMIT that was sent
//! can have an effect; one that nobody knows the outcome of is asked for again under the session's name.

use super::{Client, REPETITIONS, failed, integers, numbers};
use crate::history::{Ask, Ending, Told};
use sqlrep_core::{ReadBound, ReadLevel, Retry, WriteError};
use sqlrep_node::WRITE_WAIT_MAX;
use sqlrep_service::{Committed, End, SessionError, SessionId, SessionOptions};
use sqlrep_sql::{Begin, Reply, Request, Statement};
use std::time::Duration;

/// How sessions end, as they are counted.
pub(crate) const HOW_SESSIONS_END: [&str; 5] = [
    "sessions committed",
    "sessions committed by another client",
    "sessions in conflict",
    "sessions rolled back",
    "sessions abandoned",
];

/// A session under way that another client may go on with.
pub(crate) struct Lent {
    open: Open,
    ask: Ask,
    call: usize,
}

/// A session that has read.
struct Open {
    id: SessionId,
    total_max: Duration,
    /// What is to be written.
    writes: Vec<String>,
    /// What its client is told once this is committed.
    done: Told,
}

/// What a session reads first.
fn reads(ask: &Ask) -> Vec<String> {
    match ask {
        Ask::Transfer { from, to, .. } => [from, to]
            .map(|account| format!("SELECT balance FROM accounts WHERE id = {account}"))
            .into(),
        Ask::Count { .. } => vec!["SELECT v FROM counter".to_owned()],
        other => unreachable!("no work for a session: {other:?}"),
    }
}

/// What it writes then, and what that means.
fn writes(ask: &Ask, shown: &[i64]) -> (Vec<String>, Told) {
    match (ask, shown) {
        (
            Ask::Transfer {
                number,
                from,
                to,
                amount,
                ..
            },
            [left, right],
        ) => {
            let (left, right) = (left - amount, right + amount);
            let sql = vec![
                format!("UPDATE accounts SET balance = {left} WHERE id = {from}"),
                format!("UPDATE accounts SET balance = {right} WHERE id = {to}"),
                format!("INSERT INTO transfers VALUES ({number})"),
            ];
            (sql, Told::Done)
        }
        (Ask::Count { .. }, [count]) => {
            let next = count + 1;
            let value = u64::try_from(next).expect("it counts from zero");
            let sql = vec![format!("UPDATE counter SET v = {next}")];
            (sql, Told::Value(value))
        }
        other => unreachable!("one row for each query: {other:?}"),
    }
}

fn refused(why: &impl ToString) -> Told {
    Told::Refused(why.to_string())
}

impl Client {
    /// A transfer or an increment.
    pub(super) async fn session(&self, ask: Ask, ending: Ending) {
        let call = self.begins(&ask);
        let told = match self.opened(&ask).await {
            Err(told) => told,
            Ok(open) if ending == Ending::Lend => {
                return self.world.lend(Lent { open, ask, call });
            }
            Ok(open) => self.finish(open, ending).await,
        };
        self.ends(call, &ask, &told);
    }

    /// Goes on with a session that another client left.
    pub(super) async fn take_over(&self, lent: Lent) {
        let told = self.finish(lent.open, Ending::Lend).await;
        self.ends(lent.call, &lent.ask, &told);
    }

    /// Opens a session and reads; the error is what its client is told.
    async fn opened(&self, ask: &Ask) -> Result<Open, Told> {
        let begin = *self.draw.pick(&[Begin::Deferred, Begin::Immediate]);
        let level = *self
            .draw
            .pick(&[ReadLevel::Linearizable, ReadLevel::Weak, ReadLevel::None]);
        let (id, total_max) = self.begin(begin, level).await?;
        let shown = self.run_in(id, total_max, &reads(ask)).await;
        let shown = match shown {
            Ok(reply) => reply.outcomes.iter().flat_map(integers).collect::<Vec<_>>(),
            Err(why) => return Err(self.give_up(id, total_max, why).await),
        };
        self.think().await;
        let (writes, done) = writes(ask, &shown);
        Ok(Open {
            id,
            total_max,
            writes,
            done,
        })
    }

    async fn begin(&self, begin: Begin, level: ReadLevel) -> Result<(SessionId, Duration), Told> {
        let (wait_max, total_max) = (
            self.draw.millis(300, 6_000),
            self.draw.millis(1_000, 10_000),
        );
        let options = SessionOptions {
            level,
            bound: ReadBound {
                wait_max: Some(wait_max),
                ..ReadBound::default()
            },
            idle_max: self.draw.millis(300, 3_000),
            total_max,
            ..SessionOptions::new(begin)
        };
        let opening = self.database.open(options);
        match self.in_time("session's begin", wait_max, opening).await {
            Ok(id) => Ok((id, total_max)),
            Err(error) => Err(refused(&error)),
        }
    }

    async fn think(&self) {
        tokio::time::sleep(self.draw.millis(0, 60)).await;
    }

    /// Writes, and ends it.
    async fn finish(&self, open: Open, ending: Ending) -> Told {
        if let Err(why) = self.run_in(open.id, open.total_max, &open.writes).await {
            return self.give_up(open.id, open.total_max, why).await;
        }
        self.think().await;
        match ending {
            Ending::Commit => self.commit(open, "sessions committed").await,
            Ending::Lend => {
                self.commit(open, "sessions committed by another client")
                    .await
            }
            Ending::RollBack => {
                self.world.count("sessions rolled back");
                let why = "rolled back".to_owned();
                self.give_up(open.id, open.total_max, why).await
            }
            Ending::Abandon => {
                self.world.count("sessions abandoned");
                refused(&"abandoned")
            }
        }
    }

    /// Runs statements; the error is that of the call, or of the first statement that failed.
    async fn run_in(
        &self,
        id: SessionId,
        total_max: Duration,
        sql: &[String],
    ) -> Result<Reply, String> {
        let request = Request {
            statements: sql.iter().map(Statement::text).collect(),
            ..Request::default()
        };
        let running = self.database.run(id, request);
        let ran = self
            .in_time("session's statement", total_max, running)
            .await;
        let reply = ran.map_err(|error| error.to_string())?;
        failed(&reply).map_or(Ok(reply), Err)
    }

    /// Rolls back what was never to be committed.
    async fn give_up(&self, id: SessionId, total_max: Duration, why: String) -> Told {
        let rolling = self.database.rollback(id);
        let back = self.in_time("session's rollback", total_max, rolling).await;
        if let Err(SessionError::Ended(end @ (End::Committed(_) | End::Unknown(_)))) = back {
            self.world.problem(format_args!(
                "{}: a session without a COMMIT ended otherwise: {end}",
                self.name
            ));
        }
        Told::Refused(why)
    }

    /// Commits. While nobody knows what became of that, it is asked for again: what has ended the session says it.
    async fn commit(&self, open: Open, counted: &'static str) -> Told {
        let mut doubt = match self.committed(&open).await {
            Err(error) if error.retry() == Retry::Ambiguous => error,
            Err(error) => {
                if error == SessionError::Write(WriteError::Conflict) {
                    self.world.count("sessions in conflict");
                }
                return refused(&error);
            }
            Ok(_) => {
                self.world.count(counted);
                return open.done;
            }
        };
        for _ in 0..REPETITIONS {
            match self.committed(&open).await {
                Ok(_) | Err(SessionError::Ended(End::Committed(_))) => return open.done,
                Err(SessionError::Ended(end)) if end.retry() == Retry::Safe => {
                    return refused(&end);
                }
                Err(error) => doubt = error,
            }
        }
        Told::Unknown(doubt.to_string())
    }

    async fn committed(&self, open: &Open) -> Result<Committed, SessionError> {
        let limit = open.total_max + WRITE_WAIT_MAX;
        let committing = self.database.commit(open.id);
        self.in_time("session's COMMIT", limit, committing).await
    }

    /// Reads the counter twice in one session: it stands still there.
    pub(super) async fn counter(&self) -> Told {
        let (id, total_max) = match self.begin(Begin::Read, ReadLevel::Linearizable).await {
            Ok(begun) => begun,
            Err(told) => return told,
        };
        let sql = ["SELECT v FROM counter".to_owned()];
        let first = self.run_in(id, total_max, &sql).await;
        self.think().await;
        let again = self.run_in(id, total_max, &sql).await;
        let told = self.give_up(id, total_max, "rolled back".to_owned()).await;
        let value = |reply: &Reply| numbers(&reply.outcomes[0])[0];
        match (first.as_ref().map(value), again.as_ref().map(value)) {
            (Ok(first), Ok(again)) if first != again => {
                self.world.problem(format_args!(
                    "{}: a session that reads saw {first} and then {again}",
                    self.name
                ));
                told
            }
            (Ok(value), _) => Told::Value(value),
            (Err(why), _) => Told::Refused(why.clone()),
        }
    }
}
