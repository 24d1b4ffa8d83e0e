//! Files in `tmp/` for what their owner has no memory for, such as the pages of a large transaction: never synced,
//! never read by another process, gone with their owner.
//!
//! It doesn't check what it reads back; whoever can't do without that keeps a hash.

use crate::StoreError;
use sqlrep_disk::{Disk, File, OpenMode};
use std::fmt;
use std::sync::Arc;

/// One such file; dropping it gives its room back to the disk.
pub struct ScratchFile {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    path: String,
}

impl ScratchFile {
    pub(crate) fn create(disk: Arc<dyn Disk>, path: String) -> Result<Self, StoreError> {
        let file = disk.open(&path, OpenMode::New)?;
        Ok(Self { disk, file, path })
    }

    /// Writes all of `bytes` at `offset`; a gap behind the end is filled with zeros.
    ///
    /// # Errors
    ///
    /// The disk's: it may be full. The range is unknown then.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        Ok(self.file.write_at(offset, bytes)?)
    }

    /// Reads exactly as many bytes at `offset` as `into` has room for.
    ///
    /// # Errors
    ///
    /// The disk's, or that the file ends before.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        Ok(self.file.read_exact_at(offset, into)?)
    }

    /// Cuts the file.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn set_len(&self, bytes: u64) -> Result<(), StoreError> {
        Ok(self.file.set_len(bytes)?)
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // What stays is removed with everything in `tmp/` at the next start.
        drop(self.disk.remove(&self.path));
    }
}

impl fmt::Debug for ScratchFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScratchFile").field(&self.path).finish()
    }
}
