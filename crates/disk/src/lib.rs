//! Files as storage code sees them: the machine's, and simulated ones that lose power.
//!
//! Knows no file format. POSIX and Windows calls stay in here; store and raft-log see a [`Disk`] (one data
//! directory) and its [`File`]s, from their first line on, so that every crash and every failed call can be tried.
//!
//! # The fsync rules
//!
//! Numbered, because storage code cites them.
//! 1. Bytes survive power loss only after [`File::sync`] of their file.
//! 2. A name (a creation, a rename, a removal) survives only after [`Disk::sync_dir`] of its folder; until
//!    then any subset of the changed names may survive.
//! 3. [`Disk::rename`] replaces atomically: after power loss there is the old file or the new one, whole if it was synced.
//! 4. What wasn't synced may survive wholly, partly (512-byte sectors, in any order) or not at all.
//! 5. An error of a sync is final. The kernel may have dropped the dirty pages and call the next sync a
//!    success (Rebello et al., ATC 2020): the caller stops the process and never syncs again.
//! 6. A full disk is [`DiskError::Full`] and leaves the range as it was or partly written; every other
//!    write error is as final as a failed sync.
//!
//! Paths are relative to the directory, with `/` between names and without `..`; [`valid_path`] says so.
//!
//! # How to write a crash test
//!
//! Run the code on a [`SimulatedDisk`] and let it die in each of its calls; each death is tried with several losses.
//! Code takes `&dyn Disk` or `Arc<dyn Disk>`, so that it runs on a [`RealDisk`] unchanged.
//!
//! ```
//! use sqlrep_disk::{Disk, DiskError, Loss, OpenMode, SimulatedDisk};
//!
//! /// What is tested: replaces a file so that power loss leaves the old one or the new one.
//! fn replace(disk: &dyn Disk, bytes: &[u8]) -> Result<(), DiskError> {
//!     let file = disk.open("value.new", OpenMode::Create)?;
//!     file.set_len(0)?;
//!     file.write_at(0, bytes)?;
//!     file.sync()?;
//!     disk.rename("value.new", "value")?;
//!     disk.sync_dir("")
//! }
//!
//! for call in 1.. {
//!     let disk = SimulatedDisk::new(call);
//!     disk.write_file("value", b"old");
//!     disk.crash_at(call);
//!     if replace(&disk, b"new").is_ok() {
//!         assert_eq!(disk.injected(), 0); // the script is over: every call has been tried
//!         assert_eq!(call, 7);
//!         break;
//!     }
//!     for loss in (0..50).map(|seed| Loss::Random { seed }).chain([Loss::Nothing, Loss::Everything]) {
//!         let after = disk.crash(loss); // the disk that the next process finds
//!         let value = after.read_file("value").unwrap();
//!         assert!(value == b"old" || value == b"new", "call {call}, {loss:?}: {value:?}");
//!         replace(&after, b"again").unwrap(); // and it goes on from there
//!     }
//! }
//! ```
//!
//! Errors instead of a death come from [`SimulatedDisk::inject`], a disk that fills from
//! [`SimulatedDisk::set_free_bytes`], rot from [`SimulatedDisk::flip`]. A test asserts that
//! [`SimulatedDisk::injected`] has grown, or it may have tested nothing.
//!
//! An [`OverlayDisk`] shows another disk and keeps what is written in memory: a data directory is checked on it, with
//! the code that opens one, and stays as it is.
//!
//! It doesn't do: formats, caching, checksums, retries.

#![forbid(unsafe_code)]

mod error;
mod floor;
mod overlay;
mod real;
mod simulated;

pub use error::{DiskError, Operation};
pub use floor::{SyncFloor, SyncFloorDisk};
pub use overlay::OverlayDisk;
pub use real::RealDisk;
pub use simulated::{Fault, Loss, SimulatedDisk};

use std::sync::Arc;

/// The smallest unit that a power loss tears, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// Name of the file whose lock says that a process has the data directory.
const LOCK_FILE: &str = "lock";

/// What [`Disk::open`] expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file exists.
    Existing,
    /// The file is made if it is missing.
    Create,
    /// The file is made and mustn't exist.
    New,
}

/// One data directory.
///
/// Duties of an implementation: 1. The fsync rules of the crate's front page. 2. A path that fails
/// [`valid_path`] is an error, never a file elsewhere. 3. Every operation that fails names its path.
pub trait Disk: Send + Sync {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] or [`DiskError::Exists`] as `mode` has it; else as the machine says.
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>, DiskError>;

    /// Renames `from` over `to`, which may exist. Files only.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] if there is no `from`.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file; no error if there is none.
    ///
    /// # Errors
    ///
    /// As the machine says.
    fn remove(&self, path: &str) -> Result<(), DiskError>;

    /// Makes a folder; no error if it exists. Its parent must exist.
    ///
    /// # Errors
    ///
    /// As the machine says.
    fn create_dir(&self, path: &str) -> Result<(), DiskError>;

    /// Removes a folder with everything in it; no error if there is none.
    ///
    /// # Errors
    ///
    /// As the machine says; some of the content may be gone then.
    fn remove_dir(&self, path: &str) -> Result<(), DiskError>;

    /// Names in the folder `dir`, sorted; `""` is the data directory itself. Files and folders alike.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] if there is no such folder.
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError>;

    /// Makes creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    ///
    /// Final: fsync rule 5.
    fn sync_dir(&self, dir: &str) -> Result<(), DiskError>;

    /// Bytes that are left for new data.
    ///
    /// # Errors
    ///
    /// As the machine says.
    fn free_bytes(&self) -> Result<u64, DiskError>;

    /// Takes the directory for this process, by a lock on the file `lock`, until the value is dropped.
    ///
    /// # Errors
    ///
    /// [`DiskError::Locked`] if another process has it.
    fn lock(&self) -> Result<Box<dyn Send + Sync>, DiskError>;
}

/// One open file. Positions are explicit, so a handle is shared between threads.
///
/// Duties: 1. `write_at` writes all or errs; after an error the written range is unknown. 2. `read_at` is
/// short only at the end of the file. 3. `preallocate` really writes zeros: allocated but unwritten blocks
/// would make the first sync over them as slow as on a growing file. 4. `sync` covers data and length.
/// 5. A file that was renamed or removed stays readable and writable through its handles.
pub trait File: Send + Sync {
    /// Reads at `offset` into `buf` and returns the bytes read.
    ///
    /// # Errors
    ///
    /// As the machine says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes all of `bytes` at `offset`; a gap behind the end is filled with zeros.
    ///
    /// # Errors
    ///
    /// [`DiskError::Full`], else final: fsync rule 6.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Cuts the file, or grows it by zeros.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    fn set_len(&self, len: u64) -> Result<(), DiskError>;

    /// Writes zeros from the end up to `len`; nothing if the file is that long already.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at).
    fn preallocate(&self, len: u64) -> Result<(), DiskError>;

    /// Makes everything written so far durable, data and length.
    ///
    /// # Errors
    ///
    /// Final: fsync rule 5.
    fn sync(&self) -> Result<(), DiskError>;

    /// The file's length in bytes.
    ///
    /// # Errors
    ///
    /// As the machine says.
    fn size(&self) -> Result<u64, DiskError>;

    /// Reads exactly `buf.len()` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`DiskError::Short`] if the file ends before; else as [`read_at`](Self::read_at).
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let wanted = buf.len();
        let read = self.read_at(offset, buf)?;
        if read == wanted {
            Ok(())
        } else {
            Err(DiskError::Short {
                offset,
                wanted,
                read,
            })
        }
    }
}

/// Whether `path` stays inside a data directory: names of letters, digits, `.`, `-` and `_` with `/`
/// between them, no name of dots alone. `""` is the directory itself.
#[must_use]
pub fn valid_path(path: &str) -> bool {
    let name_ok = |name: &str| {
        !name.trim_matches('.').is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
    };
    path.is_empty() || path.split('/').all(name_ok)
}

/// Refuses what [`valid_path`] refuses.
fn check_path(path: &str) -> Result<(), DiskError> {
    if valid_path(path) {
        Ok(())
    } else {
        Err(DiskError::InvalidPath {
            path: path.to_owned(),
        })
    }
}

/// Like [`check_path`], for calls on something in the data directory, which `""` is not.
fn check_inner_path(path: &str) -> Result<(), DiskError> {
    if path.is_empty() {
        return Err(DiskError::InvalidPath {
            path: path.to_owned(),
        });
    }
    check_path(path)
}
