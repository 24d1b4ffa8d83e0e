//! A store with one writer, whose requests are entries of one each.

use sqlrep_disk::{Fault, Operation, SimulatedDisk};
use sqlrep_env::{Env, UnixMillis};
use sqlrep_sql::{
    Counters, Outcome, ReadLimits, Reader, Reply, Request, Rows, Scene, SqlError, SqlFailure,
    SqlSettings, Statement, Value, Writer, Written,
};
use sqlrep_store::{Checksum, Finish, Options, PageSize, Position, Progress, Side, Store};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Bed {
    pub(crate) env: Env,
    disk: Arc<SimulatedDisk>,
    pub(crate) store: Arc<Store>,
    pub(crate) settings: SqlSettings,
    pub(crate) writer: Writer,
    pub(crate) counters: Counters,
    requests: u64,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(SqlSettings::default())
    }

    pub(crate) fn with(settings: SqlSettings) -> Self {
        let disk = Arc::new(SimulatedDisk::new(7));
        let options = Options {
            page_size: PageSize::new(4096),
            ..Options::new(disk.clone())
        };
        let store = Store::open(options).unwrap();
        let env = Env::inline(7);
        let writer = Writer::open(&store, &env, &settings).unwrap();
        Self {
            env,
            disk,
            store,
            settings,
            writer,
            counters: Counters::default(),
            requests: 0,
        }
    }

    /// As at a reset point.
    pub(crate) fn reopen(&mut self) {
        self.writer = Writer::open(&self.store, &self.env, &self.settings).unwrap();
    }

    /// Moves all pages into the file.
    pub(crate) fn checkpoint(&self) {
        let mut checkpoint = self.store.begin_checkpoint(None).unwrap();
        while !matches!(checkpoint.step().unwrap(), Progress::Done(_)) {}
    }

    /// Nothing can be read from the file any more.
    pub(crate) fn break_pages(&self) {
        self.disk
            .inject(Fault::io(1).only(Operation::Read).forever());
    }

    /// Takes back the numbers of the last `requests`, as if they had never been made.
    pub(crate) fn repeat_number(&mut self, requests: u64) {
        self.requests -= requests;
    }

    pub(crate) fn try_write(&mut self, request: &Request) -> Result<Reply, SqlFailure> {
        self.requests += 1;
        let scene = Scene {
            now: UnixMillis(1_767_225_600_000 + self.requests * 1_234),
            seed: self.requests,
        };
        let reply = self.writer.run(request, scene, &mut self.counters)?;
        self.finish();
        Ok(reply)
    }

    pub(crate) fn write(&mut self, request: &Request) -> Reply {
        self.try_write(request).unwrap()
    }

    /// One statement that writes.
    pub(crate) fn execute(&mut self, sql: &str) -> Outcome {
        only(self.write(&Request::execute(sql)))
    }

    /// One text that writes and has to succeed.
    pub(crate) fn run(&mut self, sql: &str) -> Written {
        match self.execute(sql) {
            Outcome::Written(written) => written,
            other => panic!("{sql}: {other:?}"),
        }
    }

    pub(crate) fn error(&mut self, sql: &str) -> SqlError {
        match self.execute(sql) {
            Outcome::Failed(error) => error,
            other => panic!("{sql}: {other:?}"),
        }
    }

    pub(crate) fn finish(&mut self) {
        let last = self.store.committed().position;
        let position = Position {
            term: 1,
            index: last.map_or(0, |position| position.index + 1),
        };
        let finish = Finish {
            position,
            version: self.store.newest().0,
            side: Side::default(),
            anchor: true,
        };
        self.store.finish(finish).unwrap();
    }

    pub(crate) fn checksum(&self) -> Checksum {
        self.store.committed().checksum
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.store, &self.env, &self.settings).unwrap()
    }

    pub(crate) fn read(&self, request: &Request) -> Reply {
        let reply = self.reader().run(request, &ReadLimits::default());
        reply.unwrap()
    }

    pub(crate) fn query(&self, sql: &str) -> Outcome {
        only(self.read(&Request::query(sql)))
    }

    pub(crate) fn query_error(&self, sql: &str) -> SqlError {
        match self.query(sql) {
            Outcome::Failed(error) => error,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// All values.
    pub(crate) fn values(&self, sql: &str) -> Vec<Vec<Value>> {
        table(self.query(sql)).values
    }

    /// The first value as text.
    pub(crate) fn text(&self, sql: &str) -> String {
        match &self.values(sql)[0][0] {
            Value::Text(text) => text.clone(),
            Value::Integer(integer) => integer.to_string(),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

pub(crate) fn only(mut reply: Reply) -> Outcome {
    assert_eq!(reply.outcomes.len(), 1, "{reply:?}");
    reply.outcomes.remove(0)
}

pub(crate) fn table(outcome: Outcome) -> Rows {
    match outcome {
        Outcome::Rows(rows) => rows,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn transaction(statements: &[&str]) -> Request {
    Request {
        statements: statements.iter().map(|sql| Statement::text(*sql)).collect(),
        transaction: true,
        ..Request::default()
    }
}

/// A reply without what differs from run to run.
pub(crate) fn untimed(mut reply: Reply) -> Reply {
    for outcome in &mut reply.outcomes {
        match outcome {
            Outcome::Written(written) => written.took = Duration::ZERO,
            Outcome::Rows(rows) => rows.took = Duration::ZERO,
            Outcome::Failed(_) => {}
        }
    }
    reply
}
