//! Random scripts with crashes, against a model that knows only what must and what may survive.
//!
//! The model has no list of changes: per name it keeps the set of files that may be found there, per byte the set of
//! values. A sync leaves one of each. So it shares no idea with the simulation that it checks.
#![allow(clippy::unwrap_used, reason = "an error fails the test")]

use proptest::prelude::*;
use sqlrep_disk::{Disk, Fault, Loss, OpenMode, Operation, SimulatedDisk};
use std::collections::{BTreeMap, BTreeSet};

/// No script writes behind this; bytes there are zeros.
const SPAN: usize = 1600;

const PATHS: [&str; 5] = ["a", "b", "c", "d/a", "d/b"];

#[derive(Clone, Debug)]
enum Step {
    Write(&'static str, usize, Vec<u8>),
    SetLen(&'static str, usize),
    Preallocate(&'static str, usize),
    Sync(&'static str),
    FailSync(&'static str),
    SyncDir(&'static str),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    Crash(Loss),
}

fn step() -> impl Strategy<Value = Step> {
    let path = prop::sample::select(&PATHS[..]);
    let bytes = (1..255_u8, 1..700_usize).prop_map(|(byte, count)| vec![byte; count]);
    let loss = prop_oneof![
        1 => Just(Loss::Nothing),
        1 => Just(Loss::Everything),
        4 => any::<u64>().prop_map(|seed| Loss::Random { seed }),
    ];
    prop_oneof![
        6 => (path.clone(), 0..900_usize, bytes).prop_map(|(path, at, bytes)| Step::Write(path, at, bytes)),
        1 => (path.clone(), 0..SPAN).prop_map(|(path, len)| Step::SetLen(path, len)),
        1 => (path.clone(), 0..SPAN).prop_map(|(path, len)| Step::Preallocate(path, len)),
        3 => path.clone().prop_map(Step::Sync),
        1 => path.clone().prop_map(Step::FailSync),
        3 => prop::sample::select(&["", "d"][..]).prop_map(Step::SyncDir),
        3 => (path.clone(), path.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => path.prop_map(Step::Remove),
        2 => loss.prop_map(Step::Crash),
    ]
}

#[derive(Clone)]
struct ModelFile {
    current: Vec<u8>,
    /// What is left if everything unsynced is lost; unknown once a sync has failed.
    durable: Option<Vec<u8>>,
    may_hold: Vec<BTreeSet<u8>>,
    may_be_long: (usize, usize),
    /// Positions written since a sync failed, which the next sync covers; none if no sync failed.
    since_failure: Option<BTreeSet<usize>>,
}

fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

impl ModelFile {
    fn durable(bytes: Vec<u8>) -> Self {
        Self {
            may_hold: (0..SPAN).map(|at| [byte_at(&bytes, at)].into()).collect(),
            may_be_long: (bytes.len(), bytes.len()),
            durable: Some(bytes.clone()),
            current: bytes,
            since_failure: None,
        }
    }

    /// Books that `changed` positions have new values and perhaps the length.
    fn note(&mut self, changed: std::ops::Range<usize>) {
        let (shortest, longest) = self.may_be_long;
        let len = self.current.len();
        self.may_be_long = (shortest.min(len), longest.max(len));
        for at in changed {
            self.may_hold[at].insert(byte_at(&self.current, at));
            if let Some(written) = &mut self.since_failure {
                written.insert(at);
            }
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        self.current.resize(self.current.len().max(end), 0);
        self.current[at..end].copy_from_slice(bytes);
        self.note(at..end);
    }

    fn set_len(&mut self, len: usize) {
        self.current.resize(len, 0);
        self.note(len..SPAN);
    }

    fn sync(&mut self) {
        let Some(written) = self.since_failure.take() else {
            *self = Self::durable(self.current.clone());
            return;
        };
        for at in written {
            self.may_hold[at] = [byte_at(&self.current, at)].into();
        }
        self.since_failure = Some(BTreeSet::new());
    }

    fn fail_sync(&mut self) {
        self.durable = None;
        self.since_failure = Some(BTreeSet::new());
    }

    fn allows(&self, found: &[u8]) -> bool {
        let (shortest, longest) = self.may_be_long;
        (shortest..=longest).contains(&found.len())
            && found
                .iter()
                .zip(&self.may_hold)
                .all(|(byte, may)| may.contains(byte))
    }
}

/// Files by number; a name stands for a number.
#[derive(Default)]
struct Model {
    files: Vec<ModelFile>,
    current: BTreeMap<&'static str, usize>,
    durable: BTreeMap<&'static str, usize>,
    may_be: BTreeMap<&'static str, BTreeSet<Option<usize>>>,
}

impl Model {
    fn name(&mut self, path: &'static str, file: Option<usize>) {
        let before = self.current.get(path).copied();
        self.may_be
            .entry(path)
            .or_insert([before].into())
            .insert(file);
        match file {
            Some(file) => self.current.insert(path, file),
            None => self.current.remove(path),
        };
    }

    fn open(&mut self, path: &'static str) -> &mut ModelFile {
        if !self.current.contains_key(path) {
            self.files.push(ModelFile::durable(Vec::new()));
            self.name(path, Some(self.files.len() - 1));
        }
        &mut self.files[self.current[path]]
    }

    fn sync_dir(&mut self, dir: &str) {
        for path in PATHS {
            if path.starts_with("d/") == (dir == "d") {
                self.may_be.remove(path);
                self.durable.remove(path);
                if let Some(file) = self.current.get(path) {
                    self.durable.insert(path, *file);
                }
            }
        }
    }

    /// Checks what a crash left and goes on from there.
    fn crash(&mut self, loss: Loss, after: &SimulatedDisk) {
        for path in PATHS {
            let found = after.read_file(path);
            match loss {
                Loss::Nothing => {
                    let file = self
                        .current
                        .get(path)
                        .map(|file| &self.files[*file].current);
                    assert!(found.as_ref() == file, "{path} after a process died");
                }
                Loss::Everything => self.check_least(path, found.as_deref()),
                Loss::Random { .. } => {}
            }
            let may = self.may_be.get(path).cloned();
            let may = may.unwrap_or([self.current.get(path).copied()].into());
            let allowed = may.iter().any(|file| match (file, &found) {
                (Some(file), Some(found)) => self.files[*file].allows(found),
                (file, found) => file.is_none() && found.is_none(),
            });
            assert!(allowed, "{path} holds what nobody left there");
        }
        if loss != Loss::Nothing {
            self.restart(after);
        }
    }

    fn check_least(&self, path: &str, found: Option<&[u8]>) {
        let Some(file) = self.durable.get(path) else {
            assert!(found.is_none(), "{path} has no synced name");
            return;
        };
        let found = found.expect("a synced name survives");
        if let Some(bytes) = &self.files[*file].durable {
            assert!(found == bytes, "{path} is not as it was synced");
        }
    }

    fn restart(&mut self, after: &SimulatedDisk) {
        *self = Self::default();
        for path in PATHS {
            if let Some(bytes) = after.read_file(path) {
                self.current.insert(path, self.files.len());
                self.files.push(ModelFile::durable(bytes));
            }
        }
        self.durable = self.current.clone();
    }

    fn rename(&mut self, from: &'static str, to: &'static str) -> bool {
        let Some(file) = self.current.get(from).copied() else {
            return false;
        };
        if from != to {
            self.name(to, Some(file));
            self.name(from, None);
        }
        true
    }
}

/// Runs one step on both; returns the disk to go on with.
fn run(step: &Step, disk: SimulatedDisk, model: &mut Model) -> SimulatedDisk {
    let open = |path: &str| disk.open(path, OpenMode::Create).unwrap();
    match step {
        Step::Write(path, at, bytes) => {
            open(path).write_at(*at as u64, bytes).unwrap();
            model.open(path).write(*at, bytes);
        }
        Step::SetLen(path, len) => {
            open(path).set_len(*len as u64).unwrap();
            model.open(path).set_len(*len);
        }
        Step::Preallocate(path, len) => {
            open(path).preallocate(*len as u64).unwrap();
            let file = model.open(path);
            if file.current.len() < *len {
                file.set_len(*len);
            }
        }
        Step::Sync(path) => {
            open(path).sync().unwrap();
            model.open(path).sync();
        }
        Step::FailSync(path) => {
            let injected = disk.injected();
            disk.inject(Fault::io(1).only(Operation::Sync));
            open(path).sync().unwrap_err();
            assert_eq!(disk.injected(), injected + 1);
            model.open(path).fail_sync();
        }
        Step::SyncDir(dir) => {
            disk.sync_dir(dir).unwrap();
            model.sync_dir(dir);
        }
        Step::Rename(from, to) => {
            assert_eq!(disk.rename(from, to).is_ok(), model.rename(from, to));
        }
        Step::Remove(path) => {
            disk.remove(path).unwrap();
            model.name(path, None);
        }
        Step::Crash(loss) => {
            let after = disk.crash(*loss);
            model.crash(*loss, &after);
            return after;
        }
    }
    for path in PATHS {
        let file = model
            .current
            .get(path)
            .map(|file| &model.files[*file].current);
        assert!(
            disk.read_file(path).as_ref() == file,
            "{path} as the process sees it"
        );
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]
    #[test]
    fn what_must_survive_does_and_nothing_else_appears(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut disk, mut model) = (SimulatedDisk::new(seed), Model::default());
        disk.create_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        for step in steps.iter().chain([&Step::Crash(Loss::Random { seed })]) {
            disk = run(step, disk, &mut model);
        }
    }
}
