//! The database file as SQLite sees it: locks, offsets and file controls in, pages out. Safe code; `file` calls it.

use crate::code::Code;
use crate::context::Context;
use crate::file::OpenFile;
use crate::reader::Reader;
use crate::writer::Writer;
use rusqlite::ffi;
use sqlrep_store::{PageCount, PageNumber, PageSize};
use std::ffi::c_int;
use std::sync::Arc;

/// What a connection may do with the file.
pub(crate) enum Role {
    /// See a version.
    Reader(Reader),
    /// Make versions, published or private.
    Writer(Writer),
}

/// One open main file. It has no lock that others see: versions isolate, the lock says only where SQLite stands.
pub(crate) struct MainFile {
    context: Arc<Context>,
    /// One of `SQLITE_LOCK_NONE` to `SQLITE_LOCK_EXCLUSIVE`, which SQLite orders by number.
    lock: c_int,
    role: Role,
}

impl MainFile {
    pub(crate) fn new(context: Arc<Context>, role: Role) -> Self {
        Self {
            context,
            lock: ffi::SQLITE_LOCK_NONE,
            role,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.role, Role::Reader(_))
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.context.page_size()
    }

    fn count(&self) -> PageCount {
        match &self.role {
            Role::Reader(reader) => reader.count(&self.context),
            Role::Writer(writer) => writer.count(&self.context),
        }
    }

    /// The page at `offset` and the offset in it.
    fn locate(&self, offset: u64) -> Option<(PageNumber, usize)> {
        let page_bytes = self.context.page_bytes_u64();
        let index = u32::try_from(offset / page_bytes).ok()?;
        let page = PageNumber::new(index.checked_add(1)?)?;
        Some((page, usize::try_from(offset % page_bytes).ok()?))
    }

    /// `FCNTL_SYNC`: everything is written, the file isn't cut yet.
    pub(crate) fn judge(&self) -> Result<(), Code> {
        match &self.role {
            Role::Reader(_) => Ok(()),
            Role::Writer(writer) => writer.judge(&self.context),
        }
    }

    /// `FCNTL_COMMIT_PHASETWO`: the file is cut, the transaction is complete.
    pub(crate) fn commit(&mut self) -> Result<(), Code> {
        match &mut self.role {
            Role::Reader(_) => Ok(()),
            Role::Writer(writer) => writer.commit(&self.context),
        }
    }
}

impl OpenFile for MainFile {
    fn context(&self) -> &Context {
        &self.context
    }

    fn shared_context(&self) -> Arc<Context> {
        self.context.clone()
    }

    fn size_bytes(&self) -> u64 {
        u64::from(self.count().0) * self.context.page_bytes_u64()
    }

    /// Any part of one page: SQLite reads 16 bytes of page 1 to test its cache, and parts of overflow pages.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Code> {
        let (page, within) = self.locate(offset).ok_or(Code::READ)?;
        if within + buf.len() > self.context.page_bytes() {
            return Err(Code::READ);
        }
        match &self.role {
            Role::Reader(reader) => reader.read(&self.context, page, within, buf),
            Role::Writer(writer) => writer.read(&self.context, page, within, buf),
        }
    }

    /// Whole pages only, and only under EXCLUSIVE: anything else isn't what the pager does.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Code> {
        let (page, within) = self.locate(offset).ok_or(Code::WRITE)?;
        let Role::Writer(writer) = &mut self.role else {
            return Err(Code::READ_ONLY);
        };
        let whole = within == 0 && bytes.len() == self.context.page_bytes();
        if !whole || self.lock != ffi::SQLITE_LOCK_EXCLUSIVE {
            return Err(Code::WRITE);
        }
        writer.write(&self.context, page, bytes)
    }

    fn truncate(&mut self, size_bytes: u64) -> Result<(), Code> {
        let page_bytes = self.context.page_bytes_u64();
        let count = u32::try_from(size_bytes / page_bytes).map_err(|_| Code::TRUNCATE)?;
        let Role::Writer(writer) = &mut self.role else {
            return Err(Code::READ_ONLY);
        };
        if !size_bytes.is_multiple_of(page_bytes) || self.lock != ffi::SQLITE_LOCK_EXCLUSIVE {
            return Err(Code::TRUNCATE);
        }
        writer.resize(&self.context, PageCount(count));
        Ok(())
    }

    /// Takes a lock at least as strong as `level`.
    fn lock(&mut self, level: c_int) -> Result<(), Code> {
        if level <= self.lock {
            return Ok(());
        }
        if level > ffi::SQLITE_LOCK_SHARED && self.is_read_only() {
            return Err(Code::READ_ONLY);
        }
        if self.lock == ffi::SQLITE_LOCK_NONE {
            match &mut self.role {
                Role::Reader(reader) => reader.share(&self.context),
                Role::Writer(writer) => writer.share(&self.context),
            }
        }
        if self.lock <= ffi::SQLITE_LOCK_SHARED && level > ffi::SQLITE_LOCK_SHARED {
            self.context.forget_refusal();
        }
        self.lock = level;
        Ok(())
    }

    /// Goes back to `level`, SHARED or NONE.
    fn unlock(&mut self, level: c_int) {
        if level >= self.lock {
            return;
        }
        self.lock = level;
        match &mut self.role {
            Role::Reader(reader) => reader.release(),
            Role::Writer(writer) => {
                writer.roll_back();
                if level == ffi::SQLITE_LOCK_NONE {
                    writer.release();
                }
            }
        }
    }

    fn closed(context: &Context) {
        context.set_open(false);
    }
}
