//! Clients beside a node: registers, ids, a bank and a counter, all from the seed, every call in the history.
//!
//! Each value, id and transfer is used once in a simulation, so that whoever reads one knows which call it is from.
//! A client dies with its node; what it waited for then stays open in the history.

mod session;

use crate::draw::Draw;
use crate::history::{Ask, Ending, Told, Way};
use crate::machine::{Machine, name};
use crate::world::{Act, World};
use sqlrep_core::{IdempotencyKey, ReadBound, ReadError, ReadLevel, Retry, WriteError};
use sqlrep_node::Node;
use sqlrep_service::{Database, QueryOptions, WriteOptions};
use sqlrep_sql::{Outcome, Reply, Request, Shape, Statement, Value};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use session::{HOW_SESSIONS_END, Lent};

/// Registers, numbered from 0.
pub(crate) const REGISTERS: u64 = 3;
/// Accounts, numbered from 0.
pub(crate) const ACCOUNTS: u64 = 4;
/// What each account begins with.
pub(crate) const BALANCE: i64 = 100;

/// A call answers within its own limit and this much.
const GRACE: Duration = Duration::from_secs(5);

/// So often is a write sent again whose outcome nobody knows.
const REPETITIONS: usize = 2;

/// One client.
pub(crate) struct Client {
    world: World,
    machine: Machine,
    database: Arc<dyn Database>,
    draw: Draw,
    name: String,
    first: bool,
    ballast_bytes: usize,
    /// What each register was last seen to hold.
    seen: Vec<u64>,
}

impl Client {
    pub(crate) fn new(
        world: &World,
        machine: &Machine,
        node: &Node,
        boot: u64,
        number: u64,
    ) -> Self {
        let name = format!("{}.{boot}.{number}", name(machine.number));
        Self {
            world: world.clone(),
            machine: machine.clone(),
            database: node.database(),
            draw: Draw::new(world.seed, &format!("client {name}")),
            name,
            first: number == 0,
            ballast_bytes: machine.shape.ballast_bytes,
            seen: (0..REGISTERS).map(|_| 0).collect(),
        }
    }

    /// Works until the story is over.
    pub(crate) async fn run(mut self) {
        self.set_up().await;
        self.world.set_formed();
        while self.world.act() != Act::Quiet {
            if self.first && self.world.act() == Act::Healed && !self.machine.served() {
                self.serve().await;
            }
            self.work().await;
            tokio::time::sleep(self.draw.millis(0, 40)).await;
        }
        if self.first {
            self.read_all().await;
            self.machine.set_read();
        }
    }

    /// One call, or the rest of a session that another client left.
    async fn work(&mut self) {
        if let Some(lent) = self.world.borrow() {
            return self.take_over(lent).await;
        }
        match self.next() {
            ask @ (Ask::Count { ending }
            | Ask::Transfer {
                way: Way::Session(ending),
                ..
            }) => self.session(ask, ending).await,
            ask => drop(self.call(ask).await),
        }
    }

    /// Makes the tables; every client tries, until it was told that they are there.
    async fn set_up(&self) {
        let mut sql = vec![
            "CREATE TABLE IF NOT EXISTS registers (id INTEGER PRIMARY KEY, v INT)".to_owned(),
            "CREATE TABLE IF NOT EXISTS ids (id INT, at TEXT DEFAULT CURRENT_TIMESTAMP, pad BLOB \
             DEFAULT (randomblob(40)))"
                .to_owned(),
            "CREATE TABLE IF NOT EXISTS one (x INT UNIQUE)".to_owned(),
            "INSERT OR IGNORE INTO one VALUES (1)".to_owned(),
            "CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, balance INT CHECK (balance \
             >= 0))"
                .to_owned(),
            "CREATE TABLE IF NOT EXISTS transfers (number INT)".to_owned(),
            "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, v INT)".to_owned(),
            "INSERT OR IGNORE INTO counter VALUES (1, 0)".to_owned(),
        ];
        for register in 0..REGISTERS {
            sql.push(format!(
                "INSERT OR IGNORE INTO registers VALUES ({register}, 0)"
            ));
        }
        for account in 0..ACCOUNTS {
            sql.push(format!(
                "INSERT OR IGNORE INTO accounts VALUES ({account}, {BALANCE})"
            ));
        }
        while !matches!(self.execute(&sql, Shape::Execute, None).await, Ok(reply) if failed(&reply).is_none())
        {
            tokio::time::sleep(self.draw.millis(10, 200)).await;
        }
    }

    fn next(&self) -> Ask {
        let draw = &self.draw;
        let level = *draw.pick(&[
            ReadLevel::Linearizable,
            ReadLevel::Linearizable,
            ReadLevel::Weak,
            ReadLevel::Strong,
            ReadLevel::None,
        ]);
        let register = draw.below(REGISTERS);
        let ids = || (0..=draw.below(3)).map(|_| self.world.unique()).collect();
        match draw.below(120) {
            0..15 => Ask::Write {
                register,
                value: self.world.unique(),
            },
            15..30 => Ask::Compare {
                register,
                old: self.seen[usize::try_from(register).expect("a small number")],
                new: self.world.unique(),
            },
            30..50 => Ask::Read { register, level },
            50..65 => Ask::Insert { ids: ids() },
            65..70 => Ask::InsertRefused { ids: ids() },
            70..75 => Ask::Ids { level },
            75..90 => self.transfer(Way::Request),
            90..100 => Ask::Bank { level },
            100..109 => self.transfer(Way::Session(self.ending())),
            109..117 => Ask::Count {
                ending: self.ending(),
            },
            _ => Ask::Counter,
        }
    }

    fn ending(&self) -> Ending {
        *self.draw.pick(&[
            Ending::Commit,
            Ending::Commit,
            Ending::Commit,
            Ending::Lend,
            Ending::RollBack,
            Ending::Abandon,
        ])
    }

    fn transfer(&self, way: Way) -> Ask {
        let from = self.draw.below(ACCOUNTS);
        Ask::Transfer {
            number: self.world.unique(),
            from,
            to: (from + 1 + self.draw.below(ACCOUNTS - 1)) % ACCOUNTS,
            amount: i64::try_from(1 + self.draw.below(60)).expect("a small number"),
            way,
        }
    }

    /// Notes that a call begins; answers its number.
    fn begins(&self, ask: &Ask) -> usize {
        let now = self.world.now();
        self.world.history.begin(&self.name, ask.clone(), now)
    }

    /// Notes how it ended.
    fn ends(&self, number: usize, ask: &Ask, told: &Told) {
        let now = self.world.now();
        self.world.history.end(number, now, told.clone());
        self.world
            .note(format_args!("{} {ask:?} {told:?}", self.name));
    }

    async fn call(&mut self, ask: Ask) -> Told {
        let number = self.begins(&ask);
        let told = self.asked(&ask).await;
        self.ends(number, &ask, &told);
        if let (Ask::Compare { register, .. } | Ask::Read { register, .. }, Told::Value(value)) =
            (&ask, &told)
        {
            self.seen[usize::try_from(*register).expect("a small number")] = *value;
        }
        told
    }

    async fn asked(&self, ask: &Ask) -> Told {
        match ask {
            Ask::Write { register, value } => {
                let sql = format!("UPDATE registers SET v = {value} WHERE id = {register}");
                self.write(&[sql]).await
            }
            Ask::Compare { register, old, new } => {
                let sql = [
                    format!("UPDATE registers SET v = {new} WHERE id = {register} AND v = {old}"),
                    format!("SELECT v FROM registers WHERE id = {register}"),
                ];
                self.executed(&sql, Shape::Request, |reply| {
                    Told::Value(numbers(&reply.outcomes[1])[0])
                })
                .await
            }
            Ask::Read { register, level } => {
                let sql = [format!("SELECT v FROM registers WHERE id = {register}")];
                self.read(&sql, *level, |reply| {
                    Told::Value(numbers(&reply.outcomes[0])[0])
                })
                .await
            }
            Ask::Insert { ids } => self.write(&inserts(ids, self.ballast_bytes)).await,
            Ask::InsertRefused { ids } => {
                let mut sql = inserts(ids, self.ballast_bytes);
                sql.push("INSERT INTO one VALUES (1)".to_owned());
                self.write(&sql).await
            }
            Ask::Ids { level } => {
                let sql = ["SELECT id FROM ids ORDER BY id".to_owned()];
                self.read(&sql, *level, |reply| Told::Ids(numbers(&reply.outcomes[0])))
                    .await
            }
            Ask::Transfer {
                number,
                from,
                to,
                amount,
                way: _,
            } => {
                let sql = [
                    format!("UPDATE accounts SET balance = balance - {amount} WHERE id = {from}"),
                    format!("UPDATE accounts SET balance = balance + {amount} WHERE id = {to}"),
                    format!("INSERT INTO transfers VALUES ({number})"),
                ];
                self.write(&sql).await
            }
            Ask::Bank { level } => {
                // One statement: each of a query's statements may see a newer state.
                let sql = [
                    "SELECT balance FROM accounts UNION ALL SELECT number FROM (SELECT number \
                            FROM transfers ORDER BY number)"
                        .to_owned(),
                ];
                self.read(&sql, *level, |reply| bank(&reply.outcomes[0]))
                    .await
            }
            Ask::Counter => self.counter().await,
            Ask::Count { .. } => unreachable!("it takes a session"),
        }
    }

    async fn write(&self, sql: &[String]) -> Told {
        self.executed(sql, Shape::Execute, |_| Told::Done).await
    }

    async fn executed(
        &self,
        sql: &[String],
        shape: Shape,
        read: impl FnOnce(&Reply) -> Told,
    ) -> Told {
        match self.repeated(sql, shape).await {
            Ok(reply) => match failed(&reply) {
                Some(message) => Told::Refused(message),
                None => read(&reply),
            },
            Err(error) if error.retry() == Retry::Ambiguous => Told::Unknown(error.to_string()),
            // Done, but what came of it isn't known any more.
            Err(error @ WriteError::ReplyNotKept { .. }) => Told::Unknown(error.to_string()),
            Err(error) => Told::Refused(error.to_string()),
        }
    }

    /// Half of the writes carry a key, and are sent again under it while nobody knows what became of them. Then only a
    /// reply ends the doubt: a repetition that was refused says nothing of the first one.
    async fn repeated(&self, sql: &[String], shape: Shape) -> Result<Reply, WriteError> {
        let key = self.draw.chance(50).then(|| self.world.unique());
        let key = key.map(|number| IdempotencyKey::new(&number.to_string()).expect("digits"));
        let first = self.execute(sql, shape, key.clone()).await;
        let ambiguous = |error: &WriteError| error.retry() == Retry::Ambiguous;
        let Err(mut doubt) = first else { return first };
        if key.is_none() || !ambiguous(&doubt) {
            return Err(doubt);
        }
        for _ in 0..REPETITIONS {
            match self.execute(sql, shape, key.clone()).await {
                Err(error) if ambiguous(&error) => doubt = error,
                Err(_) => {}
                replied => return replied,
            }
        }
        Err(doubt)
    }

    /// One transaction.
    async fn execute(
        &self,
        sql: &[String],
        shape: Shape,
        key: Option<IdempotencyKey>,
    ) -> Result<Reply, WriteError> {
        let request = Request {
            statements: sql.iter().map(Statement::text).collect(),
            transaction: true,
            shape,
            qualify_columns: false,
            replay: None,
        };
        let wait_max = self.draw.millis(300, 6_000);
        let options = WriteOptions {
            wait_max: Some(wait_max),
            key,
        };
        let executing = self.database.execute(request, options);
        let executed = self.in_time("write", wait_max, executing).await;
        executed.map(|answer| answer.reply)
    }

    async fn read(
        &self,
        sql: &[String],
        level: ReadLevel,
        read: impl FnOnce(&Reply) -> Told,
    ) -> Told {
        let wait_max = self.draw.millis(300, 6_000);
        let options = QueryOptions {
            level,
            bound: ReadBound {
                wait_max: Some(wait_max),
                ..ReadBound::default()
            },
            run_max: Some(Duration::from_secs(1)),
        };
        let request = Request {
            statements: sql.iter().map(Statement::text).collect(),
            shape: Shape::Query,
            ..Request::default()
        };
        let asking = self.database.query(request, options);
        let answer: Result<_, ReadError> = self.in_time("read", wait_max, asking).await;
        match answer {
            Ok(answer) => match failed(&answer.reply) {
                Some(message) => Told::Refused(message),
                None => read(&answer.reply),
            },
            Err(error) => {
                // Other levels may tell what the leader said of itself.
                if level == ReadLevel::None && matches!(error, ReadError::Quarantined) {
                    self.machine.out_of_service();
                }
                Told::Refused(error.to_string())
            }
        }
    }

    /// Waits for an answer; one that comes too late, or not at all, is a broken promise.
    async fn in_time<T>(&self, what: &str, limit: Duration, work: impl Future<Output = T>) -> T {
        let mut work = Box::pin(work);
        if let Ok(done) = tokio::time::timeout(limit + GRACE, &mut work).await {
            return done;
        }
        self.world.problem(format_args!(
            "{}: a {what} that may wait {limit:?} isn't answered {GRACE:?} later",
            self.name
        ));
        work.await
    }

    /// A write and a strict read of everything, tried until both are served.
    async fn serve(&mut self) {
        let register = self.draw.below(REGISTERS);
        loop {
            let value = self.world.unique();
            if self.call(Ask::Write { register, value }).await == Told::Done {
                break;
            }
            tokio::time::sleep(self.draw.millis(10, 100)).await;
        }
        self.read_all().await;
        self.machine.set_served();
    }

    /// Strict reads of everything, each tried until it is answered.
    async fn read_all(&mut self) {
        let level = ReadLevel::Linearizable;
        let mut asks: Vec<Ask> = vec![Ask::Ids { level }, Ask::Bank { level }, Ask::Counter];
        asks.extend((0..REGISTERS).map(|register| Ask::Read { register, level }));
        for ask in asks {
            while matches!(self.call(ask.clone()).await, Told::Refused(_)) {
                tokio::time::sleep(self.draw.millis(10, 100)).await;
            }
        }
    }
}

/// One statement per id. The ballast makes entries large.
fn inserts(ids: &[u64], ballast_bytes: usize) -> Vec<String> {
    let ballast = "-".repeat(ballast_bytes);
    let insert = |id| format!("INSERT INTO ids (id) VALUES ({id}) -- {ballast}");
    ids.iter().map(insert).collect()
}

/// The first error, if there is one.
fn failed(reply: &Reply) -> Option<String> {
    reply.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Failed(error) => Some(error.message.clone()),
        _ => None,
    })
}

/// A column of numbers.
fn numbers(outcome: &Outcome) -> Vec<u64> {
    integers(outcome)
        .into_iter()
        .map(|value| u64::try_from(value).expect("only counted numbers are written"))
        .collect()
}

fn integers(outcome: &Outcome) -> Vec<i64> {
    let Outcome::Rows(rows) = outcome else {
        panic!("a query without error has rows: {outcome:?}");
    };
    let integer = |row: &Vec<Value>| match row[0] {
        Value::Integer(value) => value,
        ref other => panic!("only integers are written: {other:?}"),
    };
    rows.values.iter().map(integer).collect()
}

fn bank(outcome: &Outcome) -> Told {
    let mut balances = integers(outcome);
    let accounts = usize::try_from(ACCOUNTS).expect("a small number");
    let transfers = balances.split_off(accounts.min(balances.len()));
    let number = |value| u64::try_from(value).expect("only counted numbers are written");
    Told::Bank(balances, transfers.into_iter().map(number).collect())
}
