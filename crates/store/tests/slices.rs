//! How much of a checkpoint is between two syncs, and who may do what between two of its steps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use model::{Model, Random, check_reopened, install, options, page};
use sqlrep_disk::{Disk, DiskError, File, Loss, OpenMode, SimulatedDisk};
use sqlrep_store::{
    Change, Checkpoint, Finish, Image, Options, PageCount, PinKind, Position, Progress, Side, Store,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const SLICE_BYTES_MAX: u64 = 1 << 20;

/// Bytes written and not synced, by path, and the most of all files together that there ever were.
#[derive(Default)]
struct Unsynced {
    now: BTreeMap<String, u64>,
    most: u64,
}

impl Unsynced {
    fn sum(&self) -> u64 {
        self.now.values().sum()
    }
}

/// A disk that counts what waits for a sync, but for scratch files, which never are.
struct Counting {
    disk: SimulatedDisk,
    unsynced: Arc<Mutex<Unsynced>>,
}

struct CountingFile {
    file: Arc<dyn File>,
    path: String,
    unsynced: Arc<Mutex<Unsynced>>,
}

impl CountingFile {
    fn wrote(&self, bytes: u64) {
        if self.path.starts_with("tmp/") {
            return;
        }
        let mut unsynced = self.unsynced.lock().unwrap();
        *unsynced.now.entry(self.path.clone()).or_default() += bytes;
        unsynced.most = unsynced.most.max(unsynced.sum());
    }
}

impl File for CountingFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.file.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.wrote(bytes.len() as u64);
        self.file.write_at(offset, bytes)
    }
    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len)
    }
    fn preallocate(&self, len: u64) -> Result<(), DiskError> {
        self.wrote(len.saturating_sub(self.file.size()?));
        self.file.preallocate(len)
    }
    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync()?;
        self.unsynced.lock().unwrap().now.remove(&self.path);
        Ok(())
    }
    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }
}

impl Disk for Counting {
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>, DiskError> {
        Ok(Arc::new(CountingFile {
            file: self.disk.open(path, mode)?,
            path: path.to_owned(),
            unsynced: self.unsynced.clone(),
        }))
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path)
    }
    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        self.disk.create_dir(path)
    }
    fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
        self.disk.remove_dir(path)
    }
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.disk.sync_dir(dir)
    }
    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.disk.free_bytes()
    }
    fn lock(&self) -> Result<Box<dyn Send + Sync>, DiskError> {
        self.disk.lock()
    }
}

/// Makes every `step`-th page up to `count` another one, as entry `index` with a side state of `side_bytes`.
fn write(store: &Store, index: u64, (step, count): (usize, u32), side_bytes: usize) {
    let image = Image::from(vec![u8::try_from(index).unwrap(); 4096]);
    let pages = (1..=count).step_by(step);
    let version = store
        .publish(Change {
            pages: pages.map(|number| (page(number), image.clone())).collect(),
            count: PageCount(count),
        })
        .unwrap();
    let side = Side {
        core: vec![7; side_bytes].into(),
        mode: Vec::new().into(),
        ..Side::default()
    };
    store
        .finish(Finish {
            position: Position { term: 1, index },
            version,
            side,
            anchor: true,
        })
        .unwrap();
}

/// Rule 12: a step of a checkpoint writes at most 1 MiB and has synced it when it returns, whether the database
/// grows, changes all over or in places, with the largest side state.
#[test]
fn slices_never_exceed_a_mebibyte_between_syncs() {
    let unsynced = Arc::new(Mutex::new(Unsynced::default()));
    let disk = SimulatedDisk::new(1);
    let counting = Counting {
        disk: disk.clone(),
        unsynced: unsynced.clone(),
    };
    let store = Store::open(Options::new(Arc::new(counting))).unwrap();
    *unsynced.lock().unwrap() = Unsynced::default();
    for (index, pages) in [(1, (1, 3000)), (2, (1, 3000)), (3, (7, 3000)), (4, (1, 1))] {
        write(&store, index, pages, 120 << 10);
        let mut checkpoint = store.begin_checkpoint(None).unwrap();
        let mut steps = 0;
        while let Progress::More = checkpoint.step().unwrap() {
            assert_eq!(unsynced.lock().unwrap().sum(), 0, "step {steps} of {index}");
            steps += 1;
        }
        let (written, changed) = (
            checkpoint.written(),
            pages.1.div_ceil(pages.0.try_into().unwrap()),
        );
        assert_eq!(written.pages, u64::from(changed));
        assert!(written.bytes > 2 * 4096 * u64::from(changed), "{written:?}");
        assert!(
            steps >= written.bytes / SLICE_BYTES_MAX,
            "{steps} steps for {written:?}"
        );
    }
    let most = unsynced.lock().unwrap().most;
    assert!(most <= SLICE_BYTES_MAX, "{most} bytes waited for one sync");
    assert!(
        most > SLICE_BYTES_MAX / 4 * 3,
        "slices are as large as they may be: {most}"
    );
    let again = Store::open(Options::new(Arc::new(disk.crash(Loss::Nothing)))).unwrap();
    assert_eq!(again.durable().checksum, store.durable().checksum);
    assert_eq!(again.verify_pages().unwrap(), []);
}

/// What others do between two steps of a checkpoint.
#[derive(Clone, Copy, Debug)]
enum Others {
    Write,
    Install,
}

/// A run that pauses its second checkpoint.
struct Paused {
    disk: SimulatedDisk,
    model: Model,
    checkpoint: Checkpoint,
    /// The log index that a restart has to reach.
    durable: u64,
}

/// Steps a checkpoint `steps` times and lets the others work; none if it was done by then.
fn paused(others: Others, steps: u32) -> Option<Paused> {
    let (disk, mut random) = (SimulatedDisk::new(u64::from(steps)), Random(11));
    let mut model = Model::new(Store::open(options(&disk, 1 << 20, 1 << 20)).unwrap());
    for _ in 0..12 {
        model.publish(&mut random).unwrap();
        model.finish(true);
    }
    model.pin(PinKind::Sql);
    model::checkpoint(&model.store).unwrap();
    for _ in 0..12 {
        model.publish(&mut random).unwrap();
        model.finish(true);
    }
    let mut checkpoint = model.store.begin_checkpoint(None).unwrap();
    for _ in 0..steps {
        if let Progress::Done(_) = checkpoint.step().unwrap() {
            return None;
        }
    }
    let mut run = Paused {
        disk,
        model,
        checkpoint,
        durable: 12,
    };
    for _ in 0..3 {
        run.model.publish(&mut random).unwrap();
        run.model.finish(true);
        run.model.pin(PinKind::Sql);
    }
    if let Others::Install = others {
        run = run.installed();
    }
    run.model.check_pins();
    run.model.check_newest();
    Some(run)
}

impl Paused {
    /// Lets go of the checkpoint, installs, writes on and begins another one.
    fn installed(self) -> Self {
        let Self {
            disk,
            mut model,
            checkpoint,
            ..
        } = self;
        drop(checkpoint);
        let pages = model.committed().clone();
        model.index += 10;
        let durable = model.index;
        model.ends.insert(durable, (pages.clone(), true));
        install(&model.store, &pages, durable).unwrap();
        (model.newest, model.version) = (pages, model.store.committed().version);
        model.publish(&mut Random(3)).unwrap();
        model.finish(true);
        let mut checkpoint = model.store.begin_checkpoint(None).unwrap();
        checkpoint.step().unwrap();
        Self {
            disk,
            model,
            checkpoint,
            durable,
        }
    }
}

fn reopened(disk: &SimulatedDisk, loss: Loss, model: &Model, at_least: u64) {
    let store = Store::open(options(&disk.crash(loss), 1 << 20, 1 << 20)).unwrap();
    check_reopened(&store, &model.ends, at_least);
}

/// Rules 1, 2 and 12: between any two slices others read, write, end entries and install, and the power goes: a
/// restart finds a recorded end and never less than was durable. Without a crash the checkpoint goes on to its end.
#[test]
fn between_any_two_slices_others_go_on_and_a_crash_leaves_a_recorded_end() {
    let mut pauses = 0;
    for others in [Others::Write, Others::Install] {
        for steps in 0.. {
            let Some(mut run) = paused(others, steps) else {
                break;
            };
            pauses += 1;
            while let Progress::More = run.checkpoint.step().unwrap() {
                run.model.check_pins();
            }
            while model::checkpoint(&run.model.store).unwrap().is_some() {}
            assert_eq!(run.model.store.durable(), run.model.store.committed());
            run.model.check_pins();
            reopened(&run.disk, Loss::Nothing, &run.model, run.model.index);
            for loss in [Loss::Nothing, Loss::Everything, Loss::Random { seed: 3 }] {
                let run = paused(others, steps).unwrap();
                reopened(&run.disk, loss, &run.model, run.durable);
            }
        }
    }
    assert!(pauses > 30, "only {pauses} pauses");
}
