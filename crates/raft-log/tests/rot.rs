//! Sixteen bytes change anywhere in a file of the log: it opens with everything that is proven, or names file and offset.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::{Model, Run, Step, identity, open, script};
use proptest::prelude::*;
use sqlrep_disk::{Disk, OverlayDisk, SimulatedDisk};
use sqlrep_raft_log::{LogError, LogFound, VoteFound, inspect};
use std::sync::Arc;

/// What looking at it finds, which must leave every byte as it is.
fn inspected(disk: &SimulatedDisk) -> (Result<LogFound, LogError>, Result<VoteFound, LogError>) {
    let bytes = || -> Vec<_> {
        let all = disk.list_all().into_iter();
        all.map(|file| (disk.read_file(&file), file)).collect()
    };
    let before = bytes();
    let over = OverlayDisk::new(Arc::new(disk.clone()) as Arc<dyn Disk>, 1 << 20);
    let found = inspect(&over, identity());
    assert_eq!(bytes(), before);
    found
}

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
    let (log, votes) = inspected(&disk);
    let found = match open(&disk) {
        Ok(opened) => {
            let (log, votes) = (log.unwrap(), votes.unwrap());
            let found = opened.model();
            if let Ok(found) = &found {
                let entries = found.entries.first().zip(found.entries.last());
                assert_eq!(log.first, entries.map(|(first, _)| first.id.index));
                assert_eq!(log.last, entries.map(|(_, last)| last.id).or(found.purged));
                assert_eq!((log.purged, votes.vote), (found.purged, found.vote));
            }
            found
        }
        Err(error) => {
            let told = [log.err(), votes.err()].into_iter().flatten();
            let told: Vec<String> = told.map(|error| error.to_string()).collect();
            assert!(told.contains(&error.to_string()), "{error}: {told:?}");
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

/// One slot of the vote is enough, and a look at it says that it is the only one.
#[test]
fn a_single_vote_is_told() {
    let (disk, model, _) = aged();
    let (log, vote) = inspected(&disk);
    assert_eq!((log.unwrap().torn_bytes, vote.unwrap().single), (0, false));
    disk.flip("log/vote", 4096 + 16, 1);
    let vote = inspected(&disk).1.unwrap();
    assert_eq!((vote.vote, vote.single), (model.vote, true));
    disk.remove("log/vote").unwrap();
    let (log, vote) = inspected(&disk);
    assert!(log.is_ok(), "the segments are looked at all the same");
    assert!(vote.unwrap_err().to_string().contains("log/vote"));
}

/// A lost segment is missed, by its name.
#[test]
fn a_lost_file_is_named() {
    let (disk, ..) = aged();
    let files = disk.list_all();
    let used: Vec<_> = files.iter().filter(|name| name.ends_with(".seg")).collect();
    for lost in &used[..used.len() - 2] {
        let (disk, ..) = aged();
        disk.remove(lost).unwrap();
        let error = open(&disk).map(drop).unwrap_err();
        assert!(
            matches!(&error, LogError::Missing { .. }),
            "{lost}: {error}"
        );
    }
}
