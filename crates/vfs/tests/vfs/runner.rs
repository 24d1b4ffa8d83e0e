//! Runs a script on a store, up to the first error of the disk.

use crate::bed::Bed;
use crate::script::{Ending, Script, Statement, Step, Transaction, schema};
use sqlrep_store::{Checkpoint, Position, Progress, StoreError, Version};
use sqlrep_vfs::{Connection, Refusal};
use std::error::Error;

type Done = Result<(), Box<dyn Error>>;

/// What really happened in a run: a fuzz that never rolled back has tested nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) commits: u32,
    pub(crate) rollbacks: u32,
    pub(crate) refusals: u32,
    pub(crate) aborts: u32,
    pub(crate) entries: u32,
    pub(crate) checkpoints: u32,
    pub(crate) vacuums: u32,
    /// Bytes that went to scratch files.
    pub(crate) scratch_bytes: u64,
}

pub(crate) struct Runner<'a> {
    bed: &'a Bed,
    /// None only while it is opened anew.
    writer: Option<Connection>,
    /// Finished transactions that belong to no entry yet.
    waiting: Vec<Version>,
    checkpoint: Option<Checkpoint>,
    /// The newest position whose checkpoint was done.
    pub(crate) durable: Option<Position>,
    pub(crate) counts: Counts,
}

impl<'a> Runner<'a> {
    /// Opens the writer on an empty database and makes the schema, as the entry 0.
    pub(crate) fn start(bed: &'a Bed) -> Result<Self, Box<dyn Error>> {
        let writer = Connection::open(&bed.store, &bed.env, Bed::WRITER)?;
        schema().run(writer.sqlite())?;
        bed.try_commit_at(bed.store.newest().0)?;
        Ok(Self {
            bed,
            writer: Some(writer),
            waiting: Vec::new(),
            checkpoint: None,
            durable: None,
            counts: Counts::default(),
        })
    }

    fn writer(&self) -> &Connection {
        self.writer.as_ref().expect("it is there between steps")
    }

    /// Runs the script; `after_entry` is called with the index of each entry.
    pub(crate) fn run(&mut self, script: &Script, mut after_entry: impl FnMut(u64)) -> Done {
        for step in &script.steps {
            match step {
                Step::Transaction(transaction) => self.transaction(transaction)?,
                Step::Vacuum => self.vacuum()?,
                Step::Entry { transactions } => after_entry(self.entry(*transactions)?),
                Step::Abort => self.abort()?,
                Step::Checkpoint => self.checkpoint()?,
            }
        }
        while self.checkpoint.is_some() {
            self.checkpoint()?;
        }
        let bytes = self.writer().transaction_bytes();
        assert_eq!(bytes.memory, 0, "a transaction left something behind");
        self.counts.scratch_bytes += bytes.scratch_written;
        Ok(())
    }

    /// The store's own error, if one is behind what SQL says.
    fn failed(&self) -> Option<StoreError> {
        self.writer().take_store_error()
    }

    fn transaction(&mut self, transaction: &Transaction) -> Done {
        let sqlite = self.writer().sqlite();
        let begin = format!(
            "PRAGMA cache_size={}; BEGIN IMMEDIATE",
            transaction.cache_pages
        );
        sqlite.execute_batch(&begin)?;
        for statement in &transaction.statements {
            self.statement(statement)?;
        }
        match transaction.ending {
            Ending::Commit => self.commit(),
            Ending::RollBack => {
                self.counts.rollbacks += 1;
                Ok(self.writer().sqlite().execute_batch("ROLLBACK")?)
            }
            Ending::Refused => self.refused(),
        }
    }

    fn statement(&self, statement: &Statement) -> Done {
        let sqlite = self.writer().sqlite();
        match statement {
            Statement::Plain(sql) => sqlite.execute_batch(sql)?,
            Statement::Undone(sql) => {
                sqlite.execute_batch(&format!("SAVEPOINT s; {sql}; ROLLBACK TO s; RELEASE s"))?;
            }
            Statement::Fails(sql) => {
                let error = sqlite.execute_batch(sql).expect_err("it can't succeed");
                if let Some(store) = self.failed() {
                    return Err(store.into());
                }
                assert!(error.to_string().contains("UNIQUE"), "{error}");
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Done {
        self.writer().sqlite().execute_batch("COMMIT")?;
        self.waiting.push(self.bed.store.newest().0);
        self.counts.commits += 1;
        Ok(())
    }

    fn refused(&mut self) -> Done {
        let writer = self.writer();
        let before = self.bed.store.newest();
        writer.set_transaction_pages_max(0);
        let answer = writer.sqlite().execute_batch("COMMIT");
        writer.set_transaction_pages_max(u32::MAX);
        assert_eq!(self.bed.store.newest(), before);
        let refusal = writer.take_refusal();
        match answer {
            // Nothing was changed.
            Ok(()) => assert_eq!(refusal, None),
            Err(error) => {
                if let Some(store) = self.failed() {
                    return Err(store.into());
                }
                assert!(
                    matches!(refusal, Some(Refusal::TooLarge { .. })),
                    "{error}: {refusal:?}"
                );
                assert!(writer.sqlite().is_autocommit());
                self.counts.refusals += 1;
            }
        }
        Ok(())
    }

    fn vacuum(&mut self) -> Done {
        self.writer().sqlite().execute_batch("VACUUM")?;
        self.waiting.push(self.bed.store.newest().0);
        self.counts.vacuums += 1;
        Ok(())
    }

    fn entry(&mut self, transactions: usize) -> Result<u64, Box<dyn Error>> {
        let taken = transactions.min(self.waiting.len());
        let newest = self.waiting.drain(..taken).next_back();
        let version = newest.unwrap_or_else(|| self.bed.store.committed().version);
        let end = self.bed.try_commit_at(version)?;
        self.counts.entries += 1;
        Ok(end.position.expect("it was given one").index)
    }

    fn abort(&mut self) -> Done {
        self.counts.scratch_bytes += self.writer().transaction_bytes().scratch_written;
        // The writer first: its cache would survive.
        self.writer = None;
        self.bed.store.abort();
        self.waiting.clear();
        self.writer = Some(Connection::open(
            &self.bed.store,
            &self.bed.env,
            Bed::WRITER,
        )?);
        self.counts.aborts += 1;
        Ok(())
    }

    fn checkpoint(&mut self) -> Done {
        let Some(checkpoint) = &mut self.checkpoint else {
            let newest = self.bed.store.committed().position;
            self.checkpoint = self.bed.store.begin_checkpoint(newest);
            return Ok(());
        };
        if let Progress::Done(end) = checkpoint.step()? {
            self.durable = end.position;
            self.checkpoint = None;
            self.counts.checkpoints += 1;
        }
        Ok(())
    }
}
