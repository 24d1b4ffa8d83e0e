//! The io_methods of open files, the main one and the temporary ones: from C to an [`OpenFile`] and back. Unsafe code, nothing
//! else.
//!
//! Version 1 of the methods: no shared memory, so SQLite can't switch to a WAL; no mapped pages.
//!
//! What all functions here rely on (SQLite's contract for `sqlite3_io_methods`): `file` was set up by [`attach`] with an `F`, and
//! `xClose` hasn't run; one thread at a time uses it; pointers to buffers and results are valid for the length of the call.

use crate::code::Code;
use crate::context::Context;
use crate::main_file::MainFile;
use crate::pragma;
use crate::temporary::TemporaryFile;
use rusqlite::ffi;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::Arc;

/// What SQLite calls on an open file, in safe code. Errors are as [`Code`] has them.
pub(crate) trait OpenFile: Sized {
    fn context(&self) -> &Context;

    fn shared_context(&self) -> Arc<Context>;

    fn size_bytes(&self) -> u64;

    /// Fills `buf`; what lies past the end is zeros and a short read.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Code>;

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Code>;

    fn truncate(&mut self, size_bytes: u64) -> Result<(), Code>;

    /// Takes a lock at least as strong as `level`; a file that nobody shares has none.
    fn lock(&mut self, _level: c_int) -> Result<(), Code> {
        Ok(())
    }

    /// Goes back to `level`.
    fn unlock(&mut self, _level: c_int) {}

    /// It was closed, and is gone.
    fn closed(_context: &Context) {}
}

/// What SQLite allocates for an open file: its own part first, then ours.
#[repr(C)]
struct Handle<F> {
    base: ffi::sqlite3_file,
    /// Owned; freed by `xClose`.
    inner: *mut F,
}

/// Bytes that SQLite has to allocate.
pub(crate) const HANDLE_BYTES: usize = size_of::<Handle<MainFile>>();
const _: () = assert!(size_of::<Handle<TemporaryFile>>() == HANDLE_BYTES);

type Control = unsafe extern "C" fn(*mut ffi::sqlite3_file, c_int, *mut c_void) -> c_int;

static MAIN: ffi::sqlite3_io_methods = methods::<MainFile>(x_file_control);
static TEMPORARY: ffi::sqlite3_io_methods = methods::<TemporaryFile>(x_no_file_control);

const fn methods<F: OpenFile>(control: Control) -> ffi::sqlite3_io_methods {
    ffi::sqlite3_io_methods {
        iVersion: 1,
        xClose: Some(x_close::<F>),
        xRead: Some(x_read::<F>),
        xWrite: Some(x_write::<F>),
        xTruncate: Some(x_truncate::<F>),
        xSync: Some(x_sync),
        xFileSize: Some(x_file_size::<F>),
        xLock: Some(x_lock::<F>),
        xUnlock: Some(x_unlock::<F>),
        xCheckReservedLock: Some(x_check_reserved_lock),
        xFileControl: Some(control),
        xSectorSize: Some(x_sector_size),
        xDeviceCharacteristics: Some(x_device_characteristics),
        xShmMap: None,
        xShmLock: None,
        xShmBarrier: None,
        xShmUnmap: None,
        xFetch: None,
        xUnfetch: None,
    }
}

/// Makes `main` the content of `file`.
///
/// # Safety
///
/// As [`attach`].
pub(crate) unsafe fn attach_main(file: *mut ffi::sqlite3_file, main: MainFile) {
    main.context().set_open(true);
    // SAFETY: the caller's promise; the methods are those of a `MainFile`.
    unsafe { attach(file, &MAIN, main) };
}

/// Makes `temporary` the content of `file`.
///
/// # Safety
///
/// As [`attach`].
pub(crate) unsafe fn attach_temporary(file: *mut ffi::sqlite3_file, temporary: TemporaryFile) {
    // SAFETY: the caller's promise; the methods are those of a `TemporaryFile`.
    unsafe { attach(file, &TEMPORARY, temporary) };
}

/// # Safety
///
/// `file` points to at least [`HANDLE_BYTES`] writable bytes, aligned as SQLite aligns an `sqlite3_file`, and isn't open. `methods` are
/// those of an `F`.
unsafe fn attach<F>(
    file: *mut ffi::sqlite3_file,
    methods: &'static ffi::sqlite3_io_methods,
    inner: F,
) {
    let handle = Handle {
        base: ffi::sqlite3_file { pMethods: methods },
        inner: Box::into_raw(Box::new(inner)),
    };
    // SAFETY: the caller gives room for a handle; what was there needs no drop.
    unsafe { file.cast::<Handle<F>>().write(handle) };
}

/// The open file behind `file`.
///
/// # Safety
///
/// As at the head of the module; the reference ends with the call of SQLite that it is made in.
unsafe fn open_file<'call, F>(file: *mut ffi::sqlite3_file) -> &'call mut F {
    // SAFETY: only files that `attach` set up with an `F` have these methods, and it wrote a whole handle there.
    let inner = unsafe { (*file.cast::<Handle<F>>()).inner };
    // SAFETY: `inner` lives until `xClose`, and no other call on this file runs meanwhile.
    unsafe { &mut *inner }
}

/// Runs a method so that a panic doesn't cross into C: the file answers `failure` from then on.
fn run<F: OpenFile>(
    open: &mut F,
    failure: Code,
    method: impl FnOnce(&mut F) -> Result<(), Code>,
) -> c_int {
    if open.context().is_poisoned() {
        return failure.0;
    }
    match catch_unwind(AssertUnwindSafe(|| method(open))) {
        Ok(result) => Code::of(result),
        Err(payload) => {
            open.context().poison(&*payload);
            failure.0
        }
    }
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_close<F: OpenFile>(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: only files that `attach` set up with an `F` have these methods, and it wrote a whole handle there.
    let inner = unsafe { (*file.cast::<Handle<F>>()).inner };
    // SAFETY: it came from `Box::into_raw` in `attach`, and SQLite closes a file once.
    let inner = unsafe { Box::from_raw(inner) };
    let context = inner.shared_context();
    // Dropping it gives pins back to the store, and memory to the connection.
    let closed = catch_unwind(AssertUnwindSafe(move || drop(inner)));
    F::closed(&context);
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
unsafe extern "C" fn x_read<F: OpenFile>(
    file: *mut ffi::sqlite3_file,
    buf: *mut c_void,
    amount: c_int,
    offset: i64,
) -> c_int {
    let (Ok(amount), Ok(offset)) = (usize::try_from(amount), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: `file` is as the head of the module has it.
    let open = unsafe { open_file::<F>(file) };
    // SAFETY: SQLite gives room for `amount` bytes that nobody else uses meanwhile.
    let buf = unsafe { slice::from_raw_parts_mut(buf.cast::<u8>(), amount) };
    run(open, Code::READ, |open| open.read(offset, buf))
}

/// # Safety
///
/// As at the head of the module; `bytes` has `amount` bytes.
unsafe extern "C" fn x_write<F: OpenFile>(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    amount: c_int,
    offset: i64,
) -> c_int {
    let (Ok(amount), Ok(offset)) = (usize::try_from(amount), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: `file` is as the head of the module has it.
    let open = unsafe { open_file::<F>(file) };
    // SAFETY: SQLite gives `amount` bytes that nobody changes meanwhile.
    let bytes = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), amount) };
    run(open, Code::WRITE, |open| open.write(offset, bytes))
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_truncate<F: OpenFile>(
    file: *mut ffi::sqlite3_file,
    size_bytes: i64,
) -> c_int {
    let Ok(size_bytes) = u64::try_from(size_bytes) else {
        return ffi::SQLITE_IOERR_TRUNCATE;
    };
    // SAFETY: `file` is as the head of the module has it.
    let open = unsafe { open_file::<F>(file) };
    run(open, Code::TRUNCATE, |open| open.truncate(size_bytes))
}

/// Nothing to do: pages become durable in the log, and in the base file by the store's checkpoints; temporary files never.
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
unsafe extern "C" fn x_file_size<F: OpenFile>(
    file: *mut ffi::sqlite3_file,
    size_bytes: *mut i64,
) -> c_int {
    // SAFETY: `file` is as the head of the module has it.
    let open = unsafe { open_file::<F>(file) };
    let failure = Code(ffi::SQLITE_IOERR_FSTAT);
    run(open, failure, |open| {
        let size = i64::try_from(open.size_bytes()).map_err(|_| failure)?;
        // SAFETY: SQLite gives room for the result.
        unsafe { size_bytes.write(size) };
        Ok(())
    })
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_lock<F: OpenFile>(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: `file` is as the head of the module has it.
    let open = unsafe { open_file::<F>(file) };
    run(open, Code(ffi::SQLITE_IOERR_LOCK), |open| open.lock(level))
}

/// # Safety
///
/// As at the head of the module.
unsafe extern "C" fn x_unlock<F: OpenFile>(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: `file` is as the head of the module has it.
    let open = unsafe { open_file::<F>(file) };
    run(open, Code(ffi::SQLITE_IOERR_UNLOCK), |open| {
        open.unlock(level);
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
    let main = unsafe { open_file::<MainFile>(file) };
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

/// A temporary file knows none.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_no_file_control(
    _file: *mut ffi::sqlite3_file,
    _operation: c_int,
    _argument: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
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
