//! The `sqlite3_vfs` of one connection: registering it, and what SQLite calls on it. Unsafe code, nothing else.
//!
//! Ours are the main file and, of a connection that writes, its journal and its temporary files; a reader's temporary files go to
//! the machine's own VFS: they may be as large as the answer to any question, and have no business in the data directory. SQLite takes the time of a statement from its
//! connection's VFS, which is why there is one for each.
//!
//! What all functions here rely on (SQLite's contract for `sqlite3_vfs`): `vfs` is registered by [`Registration::new`] and not
//! yet freed; strings end with a zero; pointers to results are valid for the length of the call. Sorter threads call, too.

use crate::context::Context;
use crate::error::VfsError;
use crate::file;
use crate::main_file::{MainFile, Role};
use crate::temporary::TemporaryFile;
use rusqlite::ffi;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The name of the main file: the only one that this VFS opens. It is what `PRAGMA database_list` shows.
pub(crate) const MAIN_FILE: &CStr = c"main";

/// Bytes of a path, with the `-journal` that SQLite appends and room to spare.
const PATH_BYTES_MAX: c_int = 64;

/// Numbers the VFS objects: SQLite finds them by name.
static NAMES: AtomicU64 = AtomicU64::new(1);

/// What the callbacks of one VFS work on.
struct Shared {
    context: Arc<Context>,
    /// What the main file will be; taken when SQLite opens it, so there is one.
    role: Mutex<Option<Role>>,
    writes: bool,
    /// The machine's VFS, for temporary files of readers. SQLite never frees it.
    machine: *mut ffi::sqlite3_vfs,
}

/// A registered VFS.
///
/// Invariants:
/// 1. `vfs`, `name` and `shared` are owned, and stay where they are until no SQLite connection uses the VFS.
/// 2. While registered, only SQLite writes to `*vfs` (it links it into its list).
pub(crate) struct Registration {
    vfs: *mut ffi::sqlite3_vfs,
    name: *mut c_char,
    shared: *mut Shared,
}

// SAFETY: SQLite's list of VFS objects has a mutex, so any thread may unregister; `Shared` is made of types that
// threads may share (asserted below), but for `machine`, which SQLite itself uses from all threads.
unsafe impl Send for Registration {}

const fn shared_by_threads<T: Send + Sync>() {}
const _: () = shared_by_threads::<(Arc<Context>, Mutex<Option<Role>>)>();

impl Registration {
    /// Registers a VFS whose main file plays `role`.
    pub(crate) fn new(context: Arc<Context>, role: Role) -> Result<Self, VfsError> {
        // SAFETY: a null name asks for the default VFS, the one of the machine; SQLite initializes itself if need be.
        let machine = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        if machine.is_null() {
            return Err(VfsError::Register {
                code: ffi::SQLITE_ERROR,
            });
        }
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        let name = CString::new(format!("sqlrep-{number}")).expect("a number has no zero byte");
        let name = name.into_raw();
        let shared = Box::into_raw(Box::new(Shared {
            context,
            writes: matches!(role, Role::Writer(_)),
            role: Mutex::new(Some(role)),
            machine,
        }));
        // SAFETY: SQLite's VFS objects live as long as the process, and their sizes don't change.
        let machine_handle_bytes = unsafe { (*machine).szOsFile };
        let vfs = Box::into_raw(Box::new(vfs(name, shared, machine_handle_bytes)));
        let registration = Self { vfs, name, shared };
        // SAFETY: `vfs` is whole and lives until `drop` unregisters it.
        let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        if code == ffi::SQLITE_OK {
            Ok(registration)
        } else {
            Err(VfsError::Register { code })
        }
    }

    /// The name to open with.
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: it came from a `CString` and lives as long as `self`.
        unsafe { CStr::from_ptr(self.name) }
    }
}

impl Drop for Registration {
    /// Frees the VFS, unless its main file is still open: then somebody kept SQLite's connection (by swapping it out of ours, or by
    /// leaking a statement of it), and freeing would pull the VFS away under it.
    fn drop(&mut self) {
        // SAFETY: `shared` came from `Box::into_raw` and isn't freed before the end of this function.
        let open = unsafe { &*self.shared }.context.is_open();
        if open {
            return;
        }
        // SAFETY: `vfs` is a whole VFS object; unregistering one that isn't in the list does nothing.
        let code = unsafe { ffi::sqlite3_vfs_unregister(self.vfs) };
        assert!(code == ffi::SQLITE_OK, "SQLite always unregisters");
        // SAFETY: it came from `Box::into_raw`, and no connection uses it any more.
        drop(unsafe { Box::from_raw(self.vfs) });
        // SAFETY: it came from `CString::into_raw`, and the VFS that pointed to it is gone.
        drop(unsafe { CString::from_raw(self.name) });
        // SAFETY: it came from `Box::into_raw`, and the VFS that pointed to it is gone.
        drop(unsafe { Box::from_raw(self.shared) });
    }
}

fn vfs(name: *const c_char, shared: *mut Shared, machine_handle_bytes: c_int) -> ffi::sqlite3_vfs {
    let handle_bytes = c_int::try_from(file::HANDLE_BYTES).expect("a handle is two pointers");
    ffi::sqlite3_vfs {
        iVersion: 2,
        // Temporary files are opened in the same allocation.
        szOsFile: handle_bytes.max(machine_handle_bytes),
        mxPathname: PATH_BYTES_MAX,
        pNext: ptr::null_mut(),
        zName: name,
        pAppData: shared.cast::<c_void>(),
        xOpen: Some(x_open),
        xDelete: Some(x_delete),
        xAccess: Some(x_access),
        xFullPathname: Some(x_full_pathname),
        xDlOpen: Some(x_dl_open),
        xDlError: Some(x_dl_error),
        xDlSym: Some(x_dl_sym),
        xDlClose: Some(x_dl_close),
        xRandomness: Some(x_randomness),
        xSleep: Some(x_sleep),
        xCurrentTime: Some(x_current_time),
        xGetLastError: Some(x_get_last_error),
        xCurrentTimeInt64: Some(x_current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

/// # Safety
///
/// As at the head of the module; the reference ends with the call of SQLite that it is made in.
unsafe fn shared<'call>(vfs: *mut ffi::sqlite3_vfs) -> &'call Shared {
    // SAFETY: `vfs` is one of ours, so `pAppData` is its `Shared`, which lives as long.
    let shared = unsafe { (*vfs).pAppData }.cast::<Shared>();
    // SAFETY: as above; everybody only ever has shared references to it.
    unsafe { &*shared }
}

/// Runs a callback so that a panic doesn't cross into C.
fn run(context: &Context, failure: c_int, call: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        context.poison(&*payload);
        failure
    })
}

/// # Safety
///
/// As at the head of the module; `file` has `szOsFile` bytes; `out_flags` is null or can be written.
unsafe extern "C" fn x_open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: `vfs` is as the head of the module has it.
    let shared = unsafe { shared(vfs) };
    if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        // SAFETY: these are SQLite's arguments for a main file.
        return unsafe { open_main(shared, file, flags, out_flags) };
    }
    // SAFETY: a null `pMethods` says that the file isn't open, should the machine's VFS be gone.
    unsafe { (*file).pMethods = ptr::null() };
    let temporary = ffi::SQLITE_OPEN_TEMP_DB
        | ffi::SQLITE_OPEN_TRANSIENT_DB
        | ffi::SQLITE_OPEN_TEMP_JOURNAL
        | ffi::SQLITE_OPEN_SUBJOURNAL;
    if shared.writes && flags & (temporary | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0 {
        // SAFETY: these are SQLite's arguments for a file that nobody else sees.
        return unsafe { open_temporary(shared, file, flags, out_flags) };
    }
    if flags & temporary == 0 {
        // A reader's journal, or a WAL: there is none.
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: SQLite's VFS objects live as long as the process.
    let Some(open) = (unsafe { (*shared.machine).xOpen }) else {
        return ffi::SQLITE_CANTOPEN;
    };
    // SAFETY: SQLite's own arguments, for a VFS whose `szOsFile` is at most ours.
    unsafe { open(shared.machine, name, file, flags, out_flags) }
}

/// # Safety
///
/// As [`x_open`], for a main file.
unsafe fn open_main(
    shared: &Shared,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: `file` is SQLite's room for an open file; null says that it isn't open yet.
    unsafe { (*file).pMethods = ptr::null() };
    let role = shared.role.lock();
    let Some(role) = role.unwrap_or_else(PoisonError::into_inner).take() else {
        // A second main file would be an attached one.
        return ffi::SQLITE_CANTOPEN;
    };
    let main = MainFile::new(shared.context.clone(), role);
    let read_only = main.is_read_only();
    // SAFETY: `szOsFile` has room for a handle, and the file isn't open.
    unsafe { file::attach_main(file, main) };
    if !out_flags.is_null() {
        let access = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_READWRITE;
        let granted = if read_only {
            ffi::SQLITE_OPEN_READONLY
        } else {
            ffi::SQLITE_OPEN_READWRITE
        };
        // SAFETY: it isn't null, so it can be written.
        unsafe { out_flags.write(flags & !access | granted) };
    }
    ffi::SQLITE_OK
}

/// # Safety
///
/// As [`x_open`], for a journal or a temporary file of a connection that writes.
unsafe fn open_temporary(
    shared: &Shared,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let temporary = TemporaryFile::new(shared.context.clone());
    // SAFETY: `szOsFile` has room for a handle, and the file isn't open.
    unsafe { file::attach_temporary(file, temporary) };
    if !out_flags.is_null() {
        // SAFETY: it isn't null, so it can be written.
        unsafe { out_flags.write(flags) };
    }
    ffi::SQLITE_OK
}

/// Nothing is left to delete: a journal went when SQLite closed it.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_delete(
    _vfs: *mut ffi::sqlite3_vfs,
    _name: *const c_char,
    _sync_dir: c_int,
) -> c_int {
    ffi::SQLITE_OK
}

/// No journal is ever hot, and no WAL exists: what a transaction left undone is dropped with its layer.
///
/// # Safety
///
/// `exists` can be written.
unsafe extern "C" fn x_access(
    _vfs: *mut ffi::sqlite3_vfs,
    _name: *const c_char,
    _flags: c_int,
    exists: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for the result.
    unsafe { exists.write(0) };
    ffi::SQLITE_OK
}

/// The main file is the only name there is: attaching another ends here.
///
/// # Safety
///
/// As at the head of the module; `out` has room for `out_bytes`.
unsafe extern "C" fn x_full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    out_bytes: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` ends with a zero.
    let name = unsafe { CStr::from_ptr(name) };
    let bytes = MAIN_FILE.to_bytes_with_nul();
    let room = usize::try_from(out_bytes).unwrap_or(0);
    if name != MAIN_FILE || bytes.len() > room {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: there is room for as many bytes, and SQLite's buffer isn't our constant.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast::<u8>(), bytes.len()) };
    ffi::SQLITE_OK
}

/// Extensions are never loaded by name; a null means that.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_dl_open(
    _vfs: *mut ffi::sqlite3_vfs,
    _filename: *const c_char,
) -> *mut c_void {
    ptr::null_mut()
}

/// # Safety
///
/// `message` has room for `message_bytes`.
unsafe extern "C" fn x_dl_error(
    _vfs: *mut ffi::sqlite3_vfs,
    message_bytes: c_int,
    message: *mut c_char,
) {
    let text = c"extensions can't be loaded into a replicated database".to_bytes_with_nul();
    if usize::try_from(message_bytes).is_ok_and(|room| room >= text.len()) {
        // SAFETY: there is room for as many bytes, and SQLite's buffer isn't our constant.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), message.cast::<u8>(), text.len()) };
    }
}

type Symbol = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *mut c_void, *const c_char);

/// Never called: nothing was loaded.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_dl_sym(
    _vfs: *mut ffi::sqlite3_vfs,
    _library: *mut c_void,
    _symbol: *const c_char,
) -> Option<Symbol> {
    None
}

/// Never called: nothing was loaded.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_dl_close(_vfs: *mut ffi::sqlite3_vfs, _library: *mut c_void) {}

/// SQLite seeds the one generator of the process from its default VFS, so it hardly calls this; what SQL sees as random is
/// set by `random`.
///
/// # Safety
///
/// As at the head of the module; `out` has room for `out_bytes`.
unsafe extern "C" fn x_randomness(
    vfs: *mut ffi::sqlite3_vfs,
    out_bytes: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `vfs` is as the head of the module has it.
    let context = unsafe { shared(vfs) }.context.as_ref();
    let bytes = usize::try_from(out_bytes).unwrap_or(0);
    // SAFETY: SQLite gives room for as many bytes.
    let out = unsafe { slice::from_raw_parts_mut(out.cast::<u8>(), bytes) };
    run(context, 0, || {
        context.random().fill(out);
        out_bytes
    })
}

/// Nothing here is ever busy, so nothing waits.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_sleep(_vfs: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    microseconds
}

/// # Safety
///
/// As at the head of the module; `now` can be written.
unsafe extern "C" fn x_current_time(vfs: *mut ffi::sqlite3_vfs, now: *mut f64) -> c_int {
    // SAFETY: `vfs` is as the head of the module has it.
    let context = unsafe { shared(vfs) }.context.as_ref();
    run(context, ffi::SQLITE_ERROR, || {
        let days = context.now_julian_days();
        // SAFETY: SQLite gives room for the result.
        unsafe { now.write(days) };
        ffi::SQLITE_OK
    })
}

/// # Safety
///
/// As at the head of the module; `now` can be written.
unsafe extern "C" fn x_current_time_int64(vfs: *mut ffi::sqlite3_vfs, now: *mut i64) -> c_int {
    // SAFETY: `vfs` is as the head of the module has it.
    let context = unsafe { shared(vfs) }.context.as_ref();
    run(context, ffi::SQLITE_ERROR, || {
        let ms = context.now_julian_ms();
        // SAFETY: SQLite gives room for the result.
        unsafe { now.write(ms) };
        ffi::SQLITE_OK
    })
}

/// No call of ours leaves an error of the operating system behind.
///
/// # Safety
///
/// None needed: it touches nothing.
unsafe extern "C" fn x_get_last_error(
    _vfs: *mut ffi::sqlite3_vfs,
    _bytes: c_int,
    _message: *mut c_char,
) -> c_int {
    0
}
