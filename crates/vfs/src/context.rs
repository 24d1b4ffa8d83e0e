//! What a connection and its VFS callbacks share: store, time, and the notes that SQLite's result codes have no room for.

use crate::code::Code;
use crate::error::Refusal;
use crate::random::Random;
use crate::room::Room;
use crate::time;
use sqlrep_env::{Clock, Env, UnixMillis};
use sqlrep_store::{PageSize, Store, StoreError, Version};
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared between a [`Connection`](crate::Connection) and the callbacks that SQLite makes for it.
///
/// Nearly always used by one thread at a time; the locks are for SQLite's sorter threads, which ask for the time.
pub(crate) struct Context {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    random: Random,
    /// Memory for its transactions.
    room: Arc<Room>,
    /// None: the clock's reading.
    stamp: Mutex<Option<UnixMillis>>,
    notes: Mutex<Notes>,
    /// Distinct pages that one transaction may change.
    transaction_pages_max: AtomicU32,
    /// The main file is open, so SQLite may call the VFS.
    open: AtomicBool,
    /// A callback panicked: its state is unknown, every later call fails.
    poisoned: AtomicBool,
}

/// What callbacks leave for the connection's owner.
#[derive(Default)]
struct Notes {
    published: Option<Version>,
    pages_committed: u64,
    refusal: Option<Refusal>,
    /// The first since it was taken: later ones follow from it.
    store_error: Option<StoreError>,
    panic: Option<String>,
}

impl Context {
    pub(crate) fn new(store: &Arc<Store>, env: &Env) -> Self {
        Self {
            store: store.clone(),
            clock: env.clock.clone(),
            random: Random::new(env.entropy.clone()),
            room: Arc::new(Room::new(store.transaction_bytes_max())),
            stamp: Mutex::new(None),
            notes: Mutex::default(),
            transaction_pages_max: AtomicU32::new(u32::MAX),
            open: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
        }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.store.page_size()
    }

    pub(crate) fn page_bytes(&self) -> usize {
        usize::try_from(self.page_size().bytes()).expect("a page has at most 64 KiB")
    }

    pub(crate) fn page_bytes_u64(&self) -> u64 {
        u64::from(self.page_size().bytes())
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // No code that can panic runs under this lock.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_time(&self, stamp: Option<UnixMillis>) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// What 'now' is.
    pub(crate) fn now(&self) -> UnixMillis {
        let stamp = *self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        stamp.unwrap_or_else(|| self.clock.wall())
    }

    pub(crate) fn now_julian_days(&self) -> f64 {
        time::julian_days(self.now())
    }

    pub(crate) fn now_julian_ms(&self) -> i64 {
        time::julian_ms(self.now())
    }

    /// What SQL sees as random.
    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    pub(crate) fn set_transaction_pages_max(&self, pages_max: u32) {
        self.transaction_pages_max
            .store(pages_max, Ordering::Relaxed);
    }

    pub(crate) fn transaction_pages_max(&self) -> u32 {
        self.transaction_pages_max.load(Ordering::Relaxed)
    }

    /// Notes the store's error and says `code` to SQLite.
    pub(crate) fn failed(&self, error: StoreError, code: Code) -> Code {
        self.notes().store_error.get_or_insert(error);
        code
    }

    pub(crate) fn published(&self, version: Version) {
        self.notes().published = Some(version);
    }

    pub(crate) fn committed(&self, pages: u64) {
        self.notes().pages_committed += pages;
    }

    /// Notes why a commit is refused and says `code` to SQLite.
    pub(crate) fn refused(&self, refusal: Refusal, code: Code) -> Code {
        self.notes().refusal = Some(refusal);
        code
    }

    /// A write transaction begins: the refusal of the one before is history.
    pub(crate) fn forget_refusal(&self) {
        self.notes().refusal = None;
    }

    pub(crate) fn take_published(&self) -> Option<Version> {
        self.notes().published.take()
    }

    pub(crate) fn take_pages_committed(&self) -> u64 {
        std::mem::take(&mut self.notes().pages_committed)
    }

    pub(crate) fn take_refusal(&self) -> Option<Refusal> {
        self.notes().refusal.take()
    }

    pub(crate) fn take_store_error(&self) -> Option<StoreError> {
        self.notes().store_error.take()
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Notes what a callback panicked with. From here on the connection does nothing more.
    pub(crate) fn poison(&self, payload: &(dyn Any + Send)) {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "a panic without a message".to_owned());
        self.notes().panic.get_or_insert(text);
        self.poisoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    pub(crate) fn panic_message(&self) -> Option<String> {
        self.notes().panic.clone()
    }
}
