//! The machine's own files. The only module of the workspace that knows the operating system.
//!
//! Promise: the fsync rules, as far as the kernel and the drive keep them. Files are made with mode 0600 and folders
//! with 0700, since they hold users' data. What differs between systems stands in the small functions of [`system`].
//!
//! It doesn't do: retries after errors (only interrupted calls are made again), caching, direct I/O.

use crate::{Disk, DiskError, File, LOCK_FILE, OpenMode, Operation, check_inner_path, check_path};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of one write of [`File::preallocate`].
const PREALLOCATE_SLICE_BYTES: u64 = 1 << 20;

/// A directory of this machine.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    writable: bool,
}

impl RealDisk {
    /// Takes `directory` as the data directory and makes it, and what is missing above it, if it doesn't exist.
    ///
    /// # Errors
    ///
    /// As the machine says.
    pub fn open(directory: &Path) -> Result<Self, DiskError> {
        let shown = directory.display().to_string();
        system::folder_builder()
            .recursive(true)
            .create(directory)
            .map_err(|source| DiskError::from_io(Operation::CreateDir, &shown, source))?;
        Ok(Self {
            directory: directory.to_owned(),
            writable: true,
        })
    }

    /// Takes an existing `directory` to read from: files are opened for reading, and nothing is ever made, changed or
    /// removed in it. Its lock is taken if its file is there; where there is none, no process has ever had it.
    ///
    /// # Errors
    ///
    /// [`DiskError::NotFound`] if there is no such directory; else as the machine says.
    pub fn read_only(directory: &Path) -> Result<Self, DiskError> {
        let shown = directory.display().to_string();
        fs::read_dir(directory).map_err(failed(Operation::List, &shown))?;
        Ok(Self {
            directory: directory.to_owned(),
            writable: false,
        })
    }

    /// Refuses to change a directory that is only read from.
    fn check_writable(&self, operation: Operation, path: &str) -> Result<(), DiskError> {
        if self.writable {
            return Ok(());
        }
        let source = io::ErrorKind::ReadOnlyFilesystem.into();
        Err(DiskError::from_io(operation, path, source))
    }

    fn open_to_read(&self, path: &str) -> Result<Arc<dyn File>, DiskError> {
        let open = || {
            let file = fs::File::open(self.full(path))?;
            // Systems let folders be opened for reading.
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(file)
        };
        let file = open().map_err(failed(Operation::Open, path))?;
        let path = path.to_owned();
        Ok(Arc::new(RealFile { file, path }))
    }

    /// The file of the lock; none if there is none and this disk makes nothing.
    fn lock_file(&self) -> io::Result<Option<fs::File>> {
        let path = self.full(LOCK_FILE);
        if self.writable {
            return system::open_options().create(true).open(path).map(Some);
        }
        match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn full(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.directory.clone()
        } else {
            self.directory.join(path)
        }
    }
}

/// Turns the machine's error into one that names the operation and the path.
fn failed(operation: Operation, path: &str) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::from_io(operation, path, source)
}

/// Success also if what should be removed was never there.
fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>, DiskError> {
        check_inner_path(path)?;
        if !self.writable && mode == OpenMode::Existing {
            return self.open_to_read(path);
        }
        self.check_writable(Operation::Open, path)?;
        let mut options = system::open_options();
        options
            .create(mode == OpenMode::Create)
            .create_new(mode == OpenMode::New);
        let file = options
            .open(self.full(path))
            .map_err(failed(Operation::Open, path))?;
        Ok(Arc::new(RealFile {
            file,
            path: path.to_owned(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check_inner_path(from)?;
        check_inner_path(to)?;
        self.check_writable(Operation::Rename, from)?;
        let source = self.full(from);
        let kind = fs::symlink_metadata(&source).map_err(failed(Operation::Rename, from))?;
        if kind.is_dir() {
            let error = io::ErrorKind::IsADirectory.into();
            return Err(DiskError::from_io(Operation::Rename, from, error));
        }
        fs::rename(source, self.full(to)).map_err(|error| {
            // `from` was there just now, so what is missing is the folder around `to`.
            let missing = error.kind() == io::ErrorKind::NotFound;
            DiskError::from_io(Operation::Rename, if missing { to } else { from }, error)
        })
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        check_inner_path(path)?;
        self.check_writable(Operation::Remove, path)?;
        absent_is_fine(fs::remove_file(self.full(path))).map_err(failed(Operation::Remove, path))
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        check_path(path)?;
        self.check_writable(Operation::CreateDir, path)?;
        let full = self.full(path);
        match system::folder_builder().create(&full) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && full.is_dir() => Ok(()),
            other => other.map_err(failed(Operation::CreateDir, path)),
        }
    }

    fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
        check_inner_path(path)?;
        self.check_writable(Operation::Remove, path)?;
        absent_is_fine(fs::remove_dir_all(self.full(path))).map_err(failed(Operation::Remove, path))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        check_path(dir)?;
        let mut names: Vec<String> = fs::read_dir(self.full(dir))
            .and_then(|entries| entries.map(|entry| name_of(&entry?)).collect())
            .map_err(failed(Operation::List, dir))?;
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        check_path(dir)?;
        system::sync_folder(&self.full(dir)).map_err(failed(Operation::SyncDir, dir))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        system::free_bytes(&self.directory).map_err(failed(Operation::FreeBytes, ""))
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>, DiskError> {
        let opened = self.lock_file();
        let Some(file) = opened.map_err(failed(Operation::Open, LOCK_FILE))? else {
            return Ok(Box::new(()));
        };
        match file.try_lock() {
            // Closing the file, by drop or by the end of the process, gives the lock back.
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(DiskError::Locked {
                directory: self.directory.display().to_string(),
            }),
            Err(fs::TryLockError::Error(source)) => {
                Err(DiskError::from_io(Operation::Lock, LOCK_FILE, source))
            }
        }
    }
}

fn name_of(entry: &fs::DirEntry) -> io::Result<String> {
    entry.file_name().into_string().map_err(|name| {
        let told = format!("the name {name:?} is not UTF-8: it is none of ours, move it away");
        io::Error::new(io::ErrorKind::InvalidData, told)
    })
}

struct RealFile {
    file: fs::File,
    path: String,
}

impl RealFile {
    fn failed(&self, operation: Operation) -> impl FnOnce(io::Error) -> DiskError {
        failed(operation, &self.path)
    }
}

impl File for RealFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset.saturating_add(filled as u64);
            // No file reaches to where an offset has no place in the kernel's signed type.
            let room = usize::try_from(OFFSET_MAX.saturating_sub(at)).unwrap_or(usize::MAX);
            let rest = &mut buf[filled..];
            let count = rest.len().min(room);
            match system::read_at(&self.file, &mut rest[..count], at.min(OFFSET_MAX)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(Operation::Read)(error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        system::write_all_at(&self.file, bytes, offset).map_err(self.failed(Operation::Write))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file
            .set_len(len)
            .map_err(self.failed(Operation::SetLen))
    }

    fn preallocate(&self, len: u64) -> Result<(), DiskError> {
        let mut end = self.size()?;
        let mut zeros = Vec::new();
        while end < len {
            let slice = PREALLOCATE_SLICE_BYTES.min(len - end);
            zeros.resize(usize::try_from(slice).expect("a MiB fits"), 0);
            self.write_at(end, &zeros)?;
            end += slice;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        // Data only: a changed length is part of what fdatasync makes durable, times of change are not needed.
        self.file.sync_data().map_err(self.failed(Operation::Sync))
    }

    fn size(&self) -> Result<u64, DiskError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(self.failed(Operation::Size))?.len())
    }
}

/// The last offset that kernels take.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// What POSIX calls it.
#[cfg(unix)]
mod system {
    use std::fs;
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
    use std::path::Path;

    pub(super) fn open_options() -> fs::OpenOptions {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }

    pub(super) fn folder_builder() -> fs::DirBuilder {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        builder
    }

    pub(super) fn read_at(file: &fs::File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    pub(super) fn write_all_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(folder)?;
        // What is kept back for root is not ours.
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// What Windows calls it.
#[cfg(windows)]
mod system {
    use std::fs;
    use std::io;
    use std::os::windows::fs::FileExt;
    use std::path::Path;

    pub(super) fn open_options() -> fs::OpenOptions {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true);
        options
    }

    pub(super) fn folder_builder() -> fs::DirBuilder {
        fs::DirBuilder::new()
    }

    pub(super) fn read_at(file: &fs::File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buf, offset)
    }

    pub(super) fn write_all_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match file.seek_write(&bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// NTFS journals names itself and has no call to sync a folder.
    pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
        fs::metadata(folder).map(drop)
    }

    /// The standard library can't tell, so callers learn of a full disk from their writes.
    pub(super) fn free_bytes(_folder: &Path) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
