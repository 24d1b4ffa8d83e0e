//! Entries that are no longer in memory, read back from their files and checked.

use crate::LogError;
use crate::LogIdentity;
use crate::frame::{Frame, Record, Seed};
use crate::front::Read;
use crate::index::Place;
use crate::log::Shared;
use crate::segment;
use sqlrep_core::{Entry, LogIndex, StorageError};
use sqlrep_disk::File;
use sqlrep_env::{Turn, Worker};
use std::sync::Arc;

pub(crate) struct Reader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: LogIdentity,
}

impl Worker for Reader {
    fn turn(&mut self) -> Turn {
        let read = {
            let mut front = self.shared.front();
            match front.reads.pop_front() {
                Some(read) => read,
                None if front.closing => return Turn::Stop,
                None => return Turn::Idle,
            }
        };
        serve(&self.shared, self.identity, read);
        Turn::Again
    }
}

/// Reads and answers.
pub(crate) fn serve(shared: &Shared, identity: LogIdentity, read: Read) {
    let entries = read.entries.iter();
    let found: Result<Vec<Entry>, LogError> = entries
        .map(|(index, number, file, place)| entry(identity, *index, *number, &**file, *place))
        .collect();
    let found = found.map_err(StorageError::from);
    match &found {
        Ok(entries) => shared.front().stats.entries_read += entries.len() as u64,
        // A drive that can't be read won't keep what is written to it.
        Err(error @ StorageError::Failed { .. }) => shared.fail(error.clone()),
        Err(_) => {}
    }
    (read.done)(found);
}

fn entry(
    identity: LogIdentity,
    index: LogIndex,
    number: u64,
    file: &dyn File,
    place: Place,
) -> Result<Entry, LogError> {
    let offset = u64::from(place.offset);
    let length = usize::try_from(place.bytes).expect("a frame is smaller than memory");
    let mut bytes = vec![0; length];
    file.read_exact_at(offset, &mut bytes)?;
    let frame = Frame::decode(&Seed::new(identity, number), offset, &bytes);
    match frame.and_then(|frame| frame.record()) {
        Some(Record::Entry(entry)) if entry.id.index == index => Ok(entry),
        _ => Err(LogError::Corrupt {
            file: segment::path(number),
            offset,
            what: format!("the frame of entry {index} reads back wrong"),
        }),
    }
}
