//! Sixteen bytes change anywhere in a file of the log: it opens with everything that is proven, or names file and offset.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::{Model, Run, Step, open, script};
use proptest::prelude::*;
use sqlrep_disk::SimulatedDisk;
use sqlrep_raft_log::LogError;

/// A disk after the script, what it holds, and how many of its last entries no later batch proves.
fn aged() -> (SimulatedDisk, Model, usize) {
    let disk = SimulatedDisk::new(1);
    let mut run = Run::start(open(&disk).unwrap(), Model::default(), 0);
    for step in script() {
        run.step(&step);
    }
    for _ in 0..3 {
        run.step(&Step::Append {
            count: 2,
            bytes: 700,
        });
        run.step(&Step::Run);
    }
    assert!(!run.failed());
    let model = run.now().clone();
    run.opened.die(&disk);
    (disk.crash(sqlrep_disk::Loss::Nothing), model, 2)
}

fn changed(file: &str, at: usize, bytes: [u8; 16]) {
    let (disk, model, unproven) = aged();
    let mut content = disk.read_file(file).unwrap();
    let at = at % content.len();
    let end = (at + 16).min(content.len());
    content[at..end].copy_from_slice(&bytes[..end - at]);
    disk.write_file(file, &content);
    let found = match open(&disk) {
        Ok(opened) => opened.model(),
        Err(error) => {
            let named = match &error {
                LogError::Corrupt { file: named, .. } | LogError::Foreign { file: named, .. } => {
                    named == file
                }
                LogError::VoteLost { .. } => file == "log/vote",
                _ => false,
            };
            assert!(named, "{file} at {at}: {error}");
            return;
        }
    };
    let found = found.unwrap();
    assert_eq!((found.purged, found.vote), (model.purged, model.vote));
    let proven = model.entries.len() - unproven;
    assert!(
        found.entries.len() >= proven,
        "{file} at {at} lost proven entries"
    );
    assert_eq!(found.entries[..], model.entries[..found.entries.len()]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_change_is_a_torn_tail_or_named(which: prop::sample::Index, at in 0usize..8192, bytes: [u8; 16], zeros in proptest::bool::weighted(0.2)) {
        let files = aged().0.list_all();
        changed(&files[which.index(files.len())], at, if zeros { [0; 16] } else { bytes });
    }
}

/// Every place of the file that holds the oldest entries, by one flip each.
#[test]
fn no_place_of_a_segment_hides_damage() {
    let (disk, ..) = aged();
    let files = disk.list_all();
    let file = files.iter().find(|file| file.ends_with(".seg")).unwrap();
    let content = disk.read_file(file).unwrap();
    for at in (0..content.len()).step_by(7) {
        let mut bytes = [0; 16];
        let end = (at + 16).min(content.len());
        bytes[..end - at].copy_from_slice(&content[at..end]);
        bytes[0] ^= 0x10;
        changed(file, at, bytes);
    }
}

/// A lost segment is missed, by its name.
#[test]
fn a_lost_file_is_named() {
    let (disk, ..) = aged();
    let files = disk.list_all();
    let used: Vec<_> = files.iter().filter(|name| name.ends_with(".seg")).collect();
    for lost in &used[..used.len() - 2] {
        let (disk, ..) = aged();
        sqlrep_disk::Disk::remove(&disk, lost).unwrap();
        let error = open(&disk).map(drop).unwrap_err();
        assert!(
            matches!(&error, LogError::Missing { .. }),
            "{lost}: {error}"
        );
    }
}
