//! The worker that makes the next segment before it is needed and removes the oldest ones.
//!
//! Removal comes first, it makes room; oldest first, each name synced before the next goes, so that a crash leaves
//! no hole. A full disk is noted, and tried again at intervals and whenever somebody is refused.

use crate::log::Shared;
use crate::recover::Ready;
use crate::segment::{self, FOLDER};
use crate::{LogError, LogIdentity};
use sqlrep_disk::{Disk, DiskError, Operation};
use sqlrep_env::{Turn, Worker};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two looks at a full disk.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Space that stays free beside a new segment.
const SPARE_BYTES: u64 = 64 << 10;

pub(crate) struct Files {
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) identity: LogIdentity,
}

impl Worker for Files {
    fn turn(&mut self) -> Turn {
        let (obsolete, wanted) = {
            let mut front = self.shared.front();
            if front.failed.is_some() || front.closing {
                return if front.closing {
                    Turn::Stop
                } else {
                    Turn::Idle
                };
            }
            let obsolete = front.take_obsolete();
            (obsolete, front.wanted())
        };
        let done = match (obsolete, wanted) {
            (Some(number), _) => self.remove(number),
            (None, Some((number, bytes))) => self.obtain(number, bytes),
            (None, None) => return Turn::Idle,
        };
        match done {
            Ok(()) => Turn::Again,
            Err(error @ DiskError::Full { .. }) => {
                self.shared.front().note_full(error);
                Turn::After(RETRY_PAUSE)
            }
            Err(error) => {
                let source = Arc::new(LogError::Disk(error));
                self.shared
                    .fail(sqlrep_core::StorageError::Failed { source });
                self.shared.wake_writer();
                Turn::Idle
            }
        }
    }
}

impl Files {
    fn remove(&self, number: u64) -> Result<(), DiskError> {
        self.disk.remove(&segment::path(number))?;
        self.disk.sync_dir(FOLDER)
    }

    /// Makes segment `number`, or makes it `bytes` long.
    fn obtain(&self, number: u64, bytes: u64) -> Result<(), DiskError> {
        let existing = self.shared.front().files.get(&number).cloned();
        let from = existing.as_ref().map_or(0, |ready| ready.bytes);
        if self.disk.free_bytes()? < (bytes - from).saturating_add(SPARE_BYTES) {
            return Err(DiskError::Full {
                operation: Operation::Write,
                path: segment::path(number),
            });
        }
        let file = if let Some(ready) = existing {
            segment::fill(&*ready.file, from, bytes)?;
            ready.file
        } else {
            segment::create(&*self.disk, self.identity, number, bytes)?
        };
        let mut front = self.shared.front();
        front.files.insert(number, Ready { file, bytes });
        front.full = None;
        drop(front);
        self.shared.wake_writer();
        Ok(())
    }
}
