//! The io_methods of the main file: from C to [`MainFile`] and back. Unsafe code, nothing else.
//!
//! Version 1 of the methods: no shared memory, so SQLite can't switch to a WAL; no mapped pages.
//!
//! What all functions here rely on (SQLite's contract for `sqlite3_io_methods`): `file` was set up by [`attach`] and `xClose` hasn't
//! run; one thread at a time uses it; pointers to buffers and results are valid for the length of the call.

use crate::code::Code;
use crate::main_file::MainFile;
use crate::pragma;
use rusqlite::ffi;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

/// What SQLite allocates for an open main file: its own part first, then ours.
#[repr(C)]
pub(crate) struct Handle {
    base: ffi::sqlite3_file,
    /// Owned; freed by `xClose`.
    main: *mut MainFile,
}

/// Bytes that SQLite has to allocate.
pub(crate) const HANDLE_BYTES: usize = size_of::<Handle>();

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_unlock),
    xCheckReservedLock: Some(x_check_reserved_lock),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Makes `main` the content of `file`.
///
/// # Safety
///
/// `file` points to at least [`HANDLE_BYTES`] writable bytes, aligned as SQLite aligns an `sqlite3_file`, and isn't open.
pub(crate) unsafe fn attach(file: *mut ffi::sqlite3_file, main: MainFile) {
    main.context().set_open(true);
    let handle = Handle {
        base: ffi::sqlite3_file {
            pMethods: &raw const METHODS,
        },
        main: Box::into_raw(Box::new(main)),
    };
    // SAFETY: the caller gives room for a handle; what was there needs no drop.
    unsafe { file.cast::<Handle>().write(handle) };
}

/// The main file behind `file`.
///
/// # Safety
///
/// As at the head of the module; the reference ends with the call of SQLite that it is made in.
unsafe fn main_file<'call>(file: *mut ffi::sqlite3_file) -> &'call mut MainFile {
    // SAFETY: only files that `attach` set up have these methods, and it wrote a whole handle there.
    let main = unsafe { (*file.cast::<Handle>()).main };
    // SAFETY: `main` lives until `xClose`, and no other call on this file runs meanwhile.
    unsafe { &mut *main }
}

/// Runs a method so that a panic doesn't cross into C: the file answers `failure` from then on.
fn run(
    main: &mut MainFile,
    failure: Code,
    method: impl FnOnce(&mut MainFile) -> Result<(), Code>,
) -> c_int {
    if main.context().is_poisoned() {
        return failure.0;
    }
    match catch_unwind(AssertUnwindSafe(|| method(main))) {
        Ok(result) => Code::of(result),
        Err(payload) => {
            main.context().poison(&*payload);
            failure.0
        }
    }
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: only files that `attach` set up have these methods, and it wrote a whole handle there.
    let main = unsafe { (*file.cast::<Handle>()).main };
    // SAFETY: it came from `Box::into_raw` in `attach`, and SQLite closes a file once.
    let main = unsafe { Box::from_raw(main) };
    let context = main.shared_context();
    // Dropping it gives pins back to the store.
    let closed = catch_unwind(AssertUnwindSafe(move || drop(main)));
    context.set_open(false);
    closed.map_or_else(
        |payload| {
            context.poison(&*payload);
            ffi::SQLITE_IOERR_CLOSE
        },
        |()| ffi::SQLITE_OK,
    )
}

/// # Safety
///
/// As at the head of the module; `buf` has room for `amount` bytes.
unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    buf: *mut c_void,
    amount: c_int,
    offset: i64,
) -> c_int {
    let (Ok(amount), Ok(offset)) = (usize::try_from(amount), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: `file` is as the head of the module has it.
    let main = unsafe { main_file(file) };
    // SAFETY: SQLite gives room for `amount` bytes that nobody else uses meanwhile.
    let buf = unsafe { slice::from_raw_parts_mut(buf.cast::<u8>(), amount) };
    run(main, Code::READ, |main| main.read(offset, buf))
}

/// # Safety
///
/// As at the head of the module; `bytes` has `amount` bytes.
unsafe extern "C" fn x_write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    amount: c_int,
    offset: i64,
) -> c_int {
    let (Ok(amount), Ok(offset)) = (usize::try_from(amount), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: `file` is as the head of the module has it.
    let main = unsafe { main_file(file) };
    // SAFETY: SQLite gives `amount` bytes that nobody changes meanwhile.
    let bytes = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), amount) };
    run(main, Code::WRITE, |main| main.write(offset, bytes))
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, size_bytes: i64) -> c_int {
    let Ok(size_bytes) = u64::try_from(size_bytes) else {
        return ffi::SQLITE_IOERR_TRUNCATE;
    };
    // SAFETY: `file` is as the head of the module has it.
    let main = unsafe { main_file(file) };
    run(main, Code::TRUNCATE, |main| main.truncate(size_bytes))
}

/// Nothing to do: pages become durable in the log, and in the base file by the store's checkpoints.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_sync(_file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    ffi::SQLITE_OK
}

/// # Safety
///
/// As at the head of the module; `size_bytes` can be written.
unsafe extern "C" fn x_file_size(file: *mut ffi::sqlite3_file, size_bytes: *mut i64) -> c_int {
    // SAFETY: `file` is as the head of the module has it.
    let main = unsafe { main_file(file) };
    let failure = Code(ffi::SQLITE_IOERR_FSTAT);
    run(main, failure, |main| {
        let size = i64::try_from(main.size_bytes()).map_err(|_| failure)?;
        // SAFETY: SQLite gives room for the result.
        unsafe { size_bytes.write(size) };
        Ok(())
    })
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: `file` is as the head of the module has it.
    let main = unsafe { main_file(file) };
    run(main, Code(ffi::SQLITE_IOERR_LOCK), |main| main.lock(level))
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: `file` is as the head of the module has it.
    let main = unsafe { main_file(file) };
    run(main, Code(ffi::SQLITE_IOERR_UNLOCK), |main| {
        main.unlock(level);
        Ok(())
    })
}

/// Nobody else's lock is ever seen: versions isolate.
///
/// # Safety
///
/// `reserved` can be written.
unsafe extern "C" fn x_check_reserved_lock(
    _file: *mut ffi::sqlite3_file,
    reserved: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for the result.
    unsafe { reserved.write(0) };
    ffi::SQLITE_OK
}

/// # Safety
///
/// As at the head of the module; `argument` is what SQLite documents for `operation`.
unsafe extern "C" fn x_file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: `file` is as the head of the module has it.
    let main = unsafe { main_file(file) };
    match operation {
        ffi::SQLITE_FCNTL_SYNC => run(main, Code::COMMIT, |main| main.judge()),
        ffi::SQLITE_FCNTL_COMMIT_PHASETWO => run(main, Code::COMMIT, MainFile::commit),
        ffi::SQLITE_FCNTL_PRAGMA => {
            // SAFETY: with this operation SQLite passes an array that begins with these three strings.
            let strings = unsafe { &mut *argument.cast::<PragmaStrings>() };
            run(main, Code(ffi::SQLITE_ERROR), |main| {
                // SAFETY: they are that array's.
                unsafe { judge_pragma(main, strings) }
            })
        }
        _ => ffi::SQLITE_NOTFOUND,
    }
}

/// Room for a message, the pragma's name, its value or null.
type PragmaStrings = [*mut c_char; 3];

/// # Safety
///
/// `strings` is the array of `SQLITE_FCNTL_PRAGMA`.
unsafe fn judge_pragma(main: &MainFile, strings: &mut PragmaStrings) -> Result<(), Code> {
    let [message, name, value] = strings;
    // SAFETY: a name is always there, ends with a zero and lives as long as the call.
    let name = unsafe { CStr::from_ptr(*name) }.to_string_lossy();
    let value = if value.is_null() {
        None
    } else {
        // SAFETY: it isn't null, so it ends with a zero and lives as long as the call.
        Some(unsafe { CStr::from_ptr(*value) }.to_string_lossy())
    };
    let Some(text) = pragma::refusal(&name, value.as_deref(), main.page_size()) else {
        return Err(Code::NOT_FOUND);
    };
    let text = CString::new(text).expect("no zero: SQLite's strings have none, nor have ours");
    // SAFETY: the format takes one string, and gets one that ends with a zero. SQLite frees the copy.
    *message = unsafe { ffi::sqlite3_mprintf(c"%s".as_ptr(), text.as_ptr()) };
    Err(Code(ffi::SQLITE_ERROR))
}

/// One sector never spans two pages, or SQLite would write neighbours of changed pages.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    512
}

/// Parts of overflow pages may be read past the page cache; writing a page harms no neighbour.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_SUBPAGE_READ | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}
