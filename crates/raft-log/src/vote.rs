//! `log/vote`: the newest vote, in two slots (safety rule 6).
//!
//! A vote is written to both slots, one after the other, each synced, the slot of the newest valid one last, so one whole copy
//! is on disk at every instant. The newest valid one counts.
//!
//! | offset in slot | size | field, little-endian |
//! | ---: | ---: | --- |
//! | 0 | 4 | `vote` |
//! | 4 | 1 | format version, 1 |
//! | 5 | 1 | whether a quorum granted it |
//! | 6 | 1 | whether a node follows |
//! | 7 | 1 | zero |
//! | 8 | 8 | sequence: counts the votes written |
//! | 16 | 8 | term |
//! | 24 | 8 | node |
//! | 32 | 8 | owner: node id |
//! | 40 | 8 | owner: directory id |
//! | 48 | 4 | crc32 over everything before |
//!
//! The second slot stands at 4096.

use crate::{LogError, LogIdentity};
use sqlrep_core::{NodeId, Term, Vote};
use sqlrep_disk::{Disk, File, OpenMode};
use std::sync::Arc;

/// Path of the file.
pub(crate) const PATH: &str = "log/vote";
/// A page of the drive, so that no write touches both slots.
const SLOT_BYTES: u64 = 4096;
const RECORD_BYTES: usize = 52;
const MAGIC: [u8; 4] = *b"vote";
const FORMAT: u8 = 1;

/// What one slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Damaged,
    Foreign,
    Format(u8),
    Valid(u64, Vote),
}

impl Slot {
    fn sequence(self) -> u64 {
        match self {
            Self::Valid(sequence, _) => sequence,
            _ => 0,
        }
    }
}

pub(crate) struct VoteFile {
    file: Arc<dyn File>,
    identity: LogIdentity,
    sequence: u64,
    /// Which slot holds the newest valid vote; it is overwritten last.
    newest: u64,
}

impl VoteFile {
    /// A new file without a vote, synced; its name is the caller's to sync.
    pub(crate) fn create(disk: &dyn Disk, identity: LogIdentity) -> Result<Self, LogError> {
        let file = disk.open(PATH, OpenMode::New)?;
        file.preallocate(2 * SLOT_BYTES)?;
        file.sync()?;
        Ok(Self {
            file,
            identity,
            sequence: 0,
            newest: 1,
        })
    }

    /// The newest whole vote, durable in both slots; none if there never was one.
    ///
    /// # Errors
    ///
    /// No slot is whole though a vote was complete once; or `log_term`, the highest term of an entry, proves that a newer
    /// vote was lost.
    pub(crate) fn open(
        disk: &dyn Disk,
        identity: LogIdentity,
        log_term: Option<Term>,
    ) -> Result<(Self, Option<Vote>), LogError> {
        let file = disk.open(PATH, OpenMode::Existing)?;
        let slots = [
            read(&*file, identity, 0)?,
            read(&*file, identity, SLOT_BYTES)?,
        ];
        for slot in slots {
            refuse(slot)?;
        }
        let newest = u64::from(slots[1].sequence() >= slots[0].sequence());
        let sequence = slots[0].sequence().max(slots[1].sequence());
        let mut votes = Self {
            file,
            identity,
            sequence,
            newest,
        };
        let vote = match slots {
            [first @ Slot::Valid(_, vote), second] if first == second => Some(vote),
            // One is torn or rotten, or the two are of different age.
            [Slot::Valid(..), _] | [_, Slot::Valid(..)] => {
                let Slot::Valid(_, vote) = slots[usize::from(newest == 1)] else {
                    unreachable!("the newest of them is valid");
                };
                proven(Some(vote), log_term)?;
                votes.record(vote)?;
                return Ok((votes, Some(vote)));
            }
            // The second slot is written once the first is synced: the very first vote was torn.
            [_, Slot::Empty] => None,
            _ => {
                return Err(LogError::Corrupt {
                    file: PATH.to_owned(),
                    offset: 0,
                    what: "neither of the two votes is whole".to_owned(),
                });
            }
        };
        if vote.is_none() {
            proven(None, log_term)?;
        }
        Ok((votes, vote))
    }

    /// Whether both slots hold the same whole vote, or neither ever held one.
    pub(crate) fn is_doubled(disk: &dyn Disk, identity: LogIdentity) -> Result<bool, LogError> {
        let file = disk.open(PATH, OpenMode::Existing)?;
        let slots = [
            read(&*file, identity, 0)?,
            read(&*file, identity, SLOT_BYTES)?,
        ];
        Ok(slots[0] == slots[1] && matches!(slots[0], Slot::Valid(..) | Slot::Empty))
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_blank(disk: &dyn Disk) -> Result<bool, LogError> {
        let file = disk.open(PATH, OpenMode::Existing)?;
        let mut bytes = vec![0; 2 * usize::try_from(SLOT_BYTES).expect("a few KiB")];
        file.read_at(0, &mut bytes)?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }

    /// Makes `vote` durable: two writes, two syncs.
    pub(crate) fn record(&mut self, vote: Vote) -> Result<(), LogError> {
        self.sequence += 1;
        let bytes = encode(self.identity, self.sequence, vote);
        for number in [1 - self.newest, self.newest] {
            self.file.write_at(number * SLOT_BYTES, &bytes)?;
            self.file.sync()?;
        }
        Ok(())
    }
}

/// Rule 6: an entry of a term was written after a vote of that term.
fn proven(vote: Option<Vote>, log_term: Option<Term>) -> Result<(), LogError> {
    let vote = vote.map_or(Term(0), |vote| vote.term);
    match log_term {
        Some(log) if log > vote => Err(LogError::VoteLost { vote, log }),
        _ => Ok(()),
    }
}

fn refuse(slot: Slot) -> Result<(), LogError> {
    let file = PATH.to_owned();
    match slot {
        Slot::Format(found) => Err(LogError::Format {
            file,
            found,
            known: FORMAT,
        }),
        Slot::Foreign => Err(LogError::Foreign {
            file,
            found: "another node or directory".to_owned(),
            expected: "the node of the log".to_owned(),
        }),
        _ => Ok(()),
    }
}

fn encode(identity: LogIdentity, sequence: u64, vote: Vote) -> Vec<u8> {
    let mut out = Vec::from(MAGIC);
    let (granted, node) = (u8::from(vote.committed), u8::from(vote.node.is_some()));
    out.extend([FORMAT, granted, node, 0]);
    out.extend(sequence.to_le_bytes());
    out.extend(vote.term.0.to_le_bytes());
    out.extend(vote.node.map_or(0, NodeId::get).to_le_bytes());
    out.extend(identity.node.get().to_le_bytes());
    out.extend(identity.directory.0.to_le_bytes());
    let crc = crc32fast::hash(&out);
    out.extend(crc.to_le_bytes());
    out
}

fn read(file: &dyn File, identity: LogIdentity, offset: u64) -> Result<Slot, LogError> {
    let mut bytes = [0; RECORD_BYTES];
    let found = file.read_at(offset, &mut bytes)?;
    Ok(decode(identity, &bytes[..found]))
}

fn decode(identity: LogIdentity, bytes: &[u8]) -> Slot {
    if bytes.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    let Ok(bytes) = <&[u8; RECORD_BYTES]>::try_from(bytes) else {
        return Slot::Damaged;
    };
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if bytes[48..] != crc32fast::hash(&bytes[..48]).to_le_bytes() || bytes[..4] != MAGIC {
        return Slot::Damaged;
    }
    if bytes[4] != FORMAT {
        return Slot::Format(bytes[4]);
    }
    if (long(32), long(40)) != (identity.node.get(), identity.directory.0) {
        return Slot::Foreign;
    }
    let (Ok(term), Some(node)) = (Term::try_from(long(16)), NodeId::new(long(24))) else {
        return Slot::Damaged;
    };
    if i64::try_from(long(8)).is_err() {
        return Slot::Damaged; // no node writes that many votes
    }
    let vote = Vote {
        term,
        node: (bytes[6] == 1).then_some(node),
        committed: bytes[5] == 1,
    };
    Slot::Valid(long(8), vote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_core::DirectoryId;
    use sqlrep_disk::{Loss, SimulatedDisk};

    fn identity() -> LogIdentity {
        LogIdentity {
            node: NodeId::new(1).unwrap(),
            directory: DirectoryId(2),
        }
    }

    fn vote(term: u64) -> Vote {
        Vote {
            term: Term(term),
            node: NodeId::new(1),
            committed: term.is_multiple_of(2),
        }
    }

    fn disk(votes: &[u64]) -> (SimulatedDisk, VoteFile) {
        let disk = SimulatedDisk::new(1);
        disk.create_dir("log").unwrap();
        disk.sync_dir("").unwrap();
        let mut file = VoteFile::create(&disk, identity()).unwrap();
        disk.sync_dir("log").unwrap();
        votes
            .iter()
            .for_each(|term| file.record(vote(*term)).unwrap());
        (disk, file)
    }

    fn open(disk: &SimulatedDisk, log: u64) -> Result<Option<Vote>, LogError> {
        VoteFile::open(disk, identity(), Some(Term(log))).map(|(_, vote)| vote)
    }

    /// Rule 6: rot in one slot is survived, rot in both is named, and a lone old vote that the log disproves is refused.
    #[test]
    fn one_rotten_slot_is_survived_and_two_are_named() {
        for slot in [0, SLOT_BYTES] {
            let (rotten, _) = disk(&[3, 4]);
            rotten.flip(PATH, slot + 20, 1);
            assert_eq!(open(&rotten, 4).unwrap(), Some(vote(4)));
            assert_eq!(
                rotten.read_file(PATH).unwrap()[..52],
                rotten.read_file(PATH).unwrap()[4096..4148],
                "both are whole again"
            );
        }
        let (both, _) = disk(&[3, 4]);
        both.flip(PATH, 20, 1);
        both.flip(PATH, SLOT_BYTES + 20, 1);
        let error = open(&both, 4).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
        let (old, _) = disk(&[3]);
        old.flip(PATH, 20, 1);
        let error = open(&old, 4).unwrap_err();
        let lost = LogError::VoteLost {
            vote: Term(3),
            log: Term(4),
        };
        assert_eq!(error.to_string(), lost.to_string());
        let (none, _) = disk(&[]);
        let error = open(&none, 1).unwrap_err();
        assert!(matches!(error, LogError::VoteLost { .. }), "{error}");
        assert_eq!(open(&none, 0).unwrap(), None);
    }

    /// Rule 6: at every call of a vote, and of the opening after a crash in it, power loss leaves a whole vote.
    #[test]
    fn a_crash_at_every_call_leaves_a_whole_vote() {
        for nth in 1.. {
            let (disk, mut file) = disk(&[1]);
            disk.crash_at(nth);
            let done = file.record(vote(2)).is_ok();
            for seed in 0..6 {
                for again in 1..6 {
                    let after = disk.crash(Loss::Random { seed });
                    after.crash_at(again);
                    let first = open(&after, 0);
                    let found = open(&after.crash(Loss::Random { seed: seed + 9 }), 0)
                        .unwrap()
                        .unwrap();
                    assert!(
                        found == vote(2) || (found == vote(1) && !done),
                        "{nth}: {found:?}"
                    );
                    if let Ok(first) = first {
                        assert_eq!(first, Some(found), "what an opening saw isn't taken back");
                    }
                }
            }
            if done {
                assert_eq!(nth, 5);
                return;
            }
        }
    }

    /// Rule 6: the very first vote, torn, is none, also if the file was opened before.
    #[test]
    fn a_torn_first_vote_is_none() {
        for seed in 0..20 {
            let (disk, _) = disk(&[]);
            let (mut file, _) = VoteFile::open(&disk, identity(), None).unwrap();
            disk.crash_at(1 + seed % 4);
            assert!(file.record(vote(1)).is_err());
            let found = open(&disk.crash(Loss::Random { seed }), 0).unwrap();
            assert!(found.is_none_or(|found| found == vote(1)));
        }
    }

    /// The bytes of `docs/formats.md`, "`log/vote`".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let (disk, _) = disk(&[3, 4]);
        let expected = b"vote\x01\x01\x01\0\x02\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\
            \x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x3d\xc3\x89\xbe";
        let file = disk.read_file(PATH).unwrap();
        assert_eq!(file[..52], *expected);
        assert_eq!(file[4096..4096 + 52], *expected);
        assert_eq!(file.len(), 8192);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_a_flip_is_found(bytes in proptest::collection::vec(any::<u8>(), 0..60), term in 0..1u64 << 60, at in 0..RECORD_BYTES, bit in 0u8..8) {
            decode(identity(), &bytes);
            let mut bytes = encode(identity(), 7, vote(term));
            prop_assert_eq!(decode(identity(), &bytes), Slot::Valid(7, vote(term)));
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(identity(), &bytes), Slot::Damaged);
        }
    }
}
