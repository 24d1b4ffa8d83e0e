//! The one worker that writes frames and votes: drain the queue, one write, one sync, then all callbacks.
//!
//! Invariants: 1. a write of batch n+1 is issued only after the sync of batch n returned (safety rule 13). 2. A
//! batch lies in one segment. 3. A segment is sealed, in a batch of its own, once the next one exists. 4. After a
//! failure nothing is written and everything is answered with it.

use crate::frame::{Batch, Record, Seed};
use crate::front::{Front, Op, What};
use crate::log::Shared;
use crate::recover::{End, Ready};
use crate::segment::HEADER_BYTES;
use crate::vote::VoteFile;
use crate::{LogError, LogIdentity};
use sqlrep_core::{StorageError, Vote};
use sqlrep_env::{Clock, Turn, Worker};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) identity: LogIdentity,
    pub(crate) votes: VoteFile,
    pub(crate) end: End,
    pub(crate) batch_bytes_max: usize,
}

/// What a turn does.
enum Work {
    Nothing,
    /// The next segment isn't ready.
    Blocked,
    Stop(Vec<Op>),
    Fail(StorageError, Vec<Op>),
    Vote(Vote, Op),
    Seal(Ready),
    Batch(Ready, Vec<Op>),
}

/// What failed, and who waits for it.
type Done = Result<(), (LogError, Vec<Op>)>;

impl Worker for Writer {
    fn turn(&mut self) -> Turn {
        let work = self.next_work();
        let done = match work {
            Work::Nothing => return Turn::Idle,
            Work::Blocked => {
                self.shared.wake_files();
                return Turn::Idle;
            }
            Work::Stop(ops) => {
                answer(ops, &Err(LogError::Closed.into()));
                self.shared.stopped();
                return Turn::Stop;
            }
            Work::Fail(error, ops) => {
                answer(ops, &Err(error));
                return Turn::Again;
            }
            Work::Vote(vote, op) => self.vote(vote, op),
            Work::Seal(ready) => self.seal(&ready),
            Work::Batch(ready, ops) => self.batch(&ready, ops),
        };
        if let Err((error, ops)) = done {
            // Whatever goes wrong in a segment that was prepared is final, a full disk too. The log fails
            // first, so that no callback sees one that goes on.
            let source = Arc::new(error);
            let error = StorageError::Failed { source };
            self.shared.fail(error.clone());
            answer(ops, &Err(error));
        }
        Turn::Again
    }
}

impl Writer {
    fn next_work(&self) -> Work {
        let mut front = self.shared.front();
        let work = self.choose(&mut front);
        front.writing = matches!(work, Work::Vote(..) | Work::Seal(_) | Work::Batch(..));
        work
    }

    fn choose(&self, front: &mut Front) -> Work {
        if let Some(error) = front.failed.clone().filter(|_| !front.queue.is_empty()) {
            return Work::Fail(error, front.drain());
        }
        let Some(op) = front.queue.front() else {
            return if front.closing {
                Work::Stop(Vec::new())
            } else {
                Work::Nothing
            };
        };
        if let What::Vote(vote) = op.what {
            let op = front.queue.pop_front().expect("it was just seen");
            return Work::Vote(vote, op);
        }
        let ready = front.files.get(&op.segment).cloned();
        let Some(ready) = ready.filter(|ready| op.offset + op.bytes <= ready.bytes) else {
            return if front.closing {
                Work::Stop(front.drain())
            } else {
                Work::Blocked
            };
        };
        if op.segment == self.end.segment {
            let ops = self.gather(front, ready.bytes);
            return Work::Batch(ready, ops);
        }
        Work::Seal(front.files[&self.end.segment].clone())
    }

    /// The operations of the next batch, at least one.
    fn gather(&self, front: &mut Front, segment_bytes: u64) -> Vec<Op> {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        while let Some(op) = front.queue.front() {
            let fits = op.segment == self.end.segment && op.offset + op.bytes <= segment_bytes;
            let vote = matches!(op.what, What::Vote(_));
            if !fits || vote || bytes >= self.batch_bytes_max as u64 {
                break;
            }
            bytes += op.bytes;
            ops.extend(front.queue.pop_front());
        }
        ops
    }

    fn open_batch(&self) -> Batch {
        let seed = Seed::new(self.identity, self.end.segment);
        let End {
            offset,
            batch,
            chain,
            ..
        } = self.end;
        Batch::new(seed, batch + 1, offset, chain)
    }

    fn batch(&mut self, ready: &Ready, ops: Vec<Op>) -> Done {
        let mut batch = self.open_batch();
        for op in &ops {
            assert_eq!(batch.end(), op.offset, "invariant 1 of the front");
            match &op.what {
                What::Entries(entries) => entries.iter().for_each(|entry| batch.push_entry(entry)),
                What::Record(record) => batch.push(record),
                What::Vote(_) => unreachable!("votes aren't gathered"),
            }
        }
        match self.write(ready, batch) {
            Ok(()) => {
                self.complete(ops);
                Ok(())
            }
            Err(error) => Err((error, ops)),
        }
    }

    /// Ends the current segment; the next one exists.
    fn seal(&mut self, ready: &Ready) -> Done {
        let mut batch = self.open_batch();
        batch.push(&Record::Seal);
        self.write(ready, batch)
            .map_err(|error| (error, Vec::new()))?;
        self.end.segment += 1;
        self.end.offset = HEADER_BYTES;
        Ok(())
    }

    /// One write, one sync.
    fn write(&mut self, ready: &Ready, batch: Batch) -> Result<(), LogError> {
        let end = batch.end();
        let (bytes, chain) = batch.finish();
        ready.file.write_at(self.end.offset, &bytes)?;
        let began = self.clock.now();
        ready.file.sync()?;
        let took = self.clock.now().since(began);
        self.end = End {
            segment: self.end.segment,
            offset: end,
            batch: self.end.batch + 1,
            chain,
        };
        self.note(bytes.len() as u64, took);
        Ok(())
    }

    fn note(&self, bytes: u64, took: Duration) {
        let mut front = self.shared.front();
        front.synced_segment = self.end.segment;
        front.stats.batches += 1;
        front.stats.syncs += 1;
        front.stats.bytes_written += bytes;
        front.stats.last_sync = took;
        drop(front);
        self.shared.syncs.observe(took);
    }

    fn vote(&mut self, vote: Vote, op: Op) -> Done {
        match self.votes.record(vote) {
            Ok(()) => {
                self.shared.front().stats.syncs += 2;
                self.complete(vec![op]);
                Ok(())
            }
            Err(error) => Err((error, vec![op])),
        }
    }

    fn complete(&self, ops: Vec<Op>) {
        let files = {
            let mut front = self.shared.front();
            front.complete(&ops);
            front.has_file_work()
        };
        answer(ops, &Ok(()));
        if files {
            self.shared.wake_files();
        }
    }
}

fn answer(ops: Vec<Op>, result: &Result<(), StorageError>) {
    for done in ops.into_iter().filter_map(|op| op.done) {
        done(result.clone());
    }
}
