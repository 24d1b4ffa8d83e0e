//! The file `identity`: whose data directory this is.
//!
//! ```text
//!   sqlrep identity 1
//!   node 7
//!   directory 0123456789abcdef
//!   mode statement
//!   cluster 0000000000000000
//!   proposed fedcba9876543210
//!   settings {"page_bytes":4096,…}
//!   checksum 0011223344556677
//! ```
//!
//! `directory` is drawn when the directory is made, so that an emptied disk is told from the one that the cluster knows. A
//! copied directory has it too: it is refused beside its original, and can't be told from it in its place. `cluster` is zero until the node belongs to one. `proposed` is the name that this node
//! gives a cluster if it is the one to form it. The checksum is xxh3 over all lines before it.
//!
//! Invariant 1: the file is replaced whole: written aside, synced, renamed, the folder synced.
//! Invariant 2: node, directory, mode and settings never change once the file is there.

use crate::{ClusterSettings, Mode, NodeError};
use sqlrep_core::{ClusterId, DirectoryId, NodeId};
use sqlrep_disk::{Disk, DiskError, OpenMode};
use sqlrep_env::{Actor, Executor};
use std::fmt::Write;
use std::sync::Arc;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "identity";
const ASIDE: &str = "identity.new";
const FORMAT: &str = "sqlrep identity 1";

/// A larger file is none of ours.
const BYTES_MAX: u64 = 64 << 10;

/// What the file says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) directory: DirectoryId,
    pub(crate) mode: Mode,
    pub(crate) cluster: ClusterId,
    pub(crate) proposed: ClusterId,
    pub(crate) settings: ClusterSettings,
}

impl Identity {
    /// Reads it; none in a new data directory.
    pub(crate) fn load(disk: &dyn Disk) -> Result<Option<Self>, NodeError> {
        let file = match disk.open(FILE, OpenMode::Existing) {
            Ok(file) => file,
            Err(DiskError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let size = file.size()?;
        if size > BYTES_MAX {
            return Err(damaged(format!("it has {size} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(size).expect("just bounded")];
        file.read_exact_at(0, &mut bytes)?;
        Self::decode(&bytes).map(Some)
    }

    /// Writes it durably (invariant 1).
    pub(crate) fn save(&self, disk: &dyn Disk) -> Result<(), NodeError> {
        disk.remove(ASIDE)?;
        let file = disk.open(ASIDE, OpenMode::New)?;
        file.write_at(0, self.encode().as_bytes())?;
        file.sync()?;
        disk.rename(ASIDE, FILE)?;
        disk.sync_dir("")?;
        Ok(())
    }

    fn encode(&self) -> String {
        let settings = self.settings.encode();
        let settings = String::from_utf8(settings).expect("JSON is UTF-8");
        let mut text = format!(
            "{FORMAT}\nnode {}\ndirectory {}\nmode {}\ncluster {}\nproposed {}\nsettings {settings}\n",
            self.node, self.directory, self.mode, self.cluster, self.proposed
        );
        let checksum = xxh3_64(text.as_bytes());
        writeln!(text, "checksum {checksum:016x}").expect("a string takes any text");
        text
    }

    fn decode(bytes: &[u8]) -> Result<Self, NodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
        match text.lines().next() {
            Some(FORMAT) => {}
            first => {
                let first = first.unwrap_or_default();
                return Err(damaged(format!(
                    "it begins with {first:?}; this release reads {FORMAT:?}"
                )));
            }
        }
        check_sum(text)?;
        let number = |name| hex(field(text, name)?, name);
        let node = field(text, "node")?;
        let node = node.parse().ok().and_then(NodeId::new);
        Ok(Self {
            node: node.ok_or_else(|| damaged("its node id is no number below 2^63"))?,
            directory: DirectoryId(number("directory")?),
            mode: field(text, "mode")?.parse()?,
            cluster: ClusterId(number("cluster")?),
            proposed: ClusterId(number("proposed")?),
            settings: ClusterSettings::decode(field(text, "settings")?.as_bytes())?,
        })
    }
}

/// Writes what a running node learns, on a worker of its own.
pub(crate) struct Keeper(Actor<(Arc<dyn Disk>, Identity)>);

/// A node learns its cluster's name once.
const NOTES_MAX: usize = 4;

impl Keeper {
    pub(crate) fn start(executor: &dyn Executor, disk: Arc<dyn Disk>, identity: Identity) -> Self {
        Self(Actor::start(
            executor,
            "identity",
            NOTES_MAX,
            (disk, identity),
        ))
    }

    /// Notes the cluster's name; false if it couldn't be, the file is as it was then.
    pub(crate) async fn note(&self, cluster: ClusterId) -> bool {
        let (sender, receiver) = oneshot::channel();
        let queued = self.0.send(move |(disk, identity)| {
            let named = Identity {
                cluster,
                ..identity.clone()
            };
            let saved = named.save(&**disk);
            match &saved {
                Ok(()) => *identity = named,
                Err(error) => {
                    tracing::error!(%error, "the cluster's name isn't noted in the data directory yet");
                }
            }
            // Whoever asked may have stopped.
            sender.send(saved.is_ok()).ok();
        });
        queued.is_ok() && receiver.await.unwrap_or(false)
    }
}

fn damaged(what: impl Into<String>) -> NodeError {
    NodeError::Identity { what: what.into() }
}

fn field<'a>(text: &'a str, name: &str) -> Result<&'a str, NodeError> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(' ');
    let found = text.lines().find_map(value);
    found.ok_or_else(|| damaged(format!("it has no line {name}")))
}

fn hex(digits: &str, name: &str) -> Result<u64, NodeError> {
    u64::from_str_radix(digits, 16).map_err(|_| damaged(format!("its {name} is no hex number")))
}

fn check_sum(text: &str) -> Result<(), NodeError> {
    let end = text.rfind("checksum ");
    let end = end.ok_or_else(|| damaged("it has no checksum"))?;
    let written = hex(field(&text[end..], "checksum")?, "checksum")?;
    if written == xxh3_64(&text.as_bytes()[..end]) {
        Ok(())
    } else {
        Err(damaged(
            "its checksum differs from its content; restore it from a backup, or empty the \
             directory and join under a new node id",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlrep_disk::{Fault, Loss, SimulatedDisk};

    fn identity() -> Identity {
        Identity {
            node: NodeId::new(7).unwrap(),
            directory: DirectoryId(0x0123_4567_89ab_cdef),
            mode: Mode::Statement,
            cluster: ClusterId(0),
            proposed: ClusterId(9),
            settings: ClusterSettings::default(),
        }
    }

    #[test]
    fn it_comes_back_and_another_format_is_named() {
        let disk = SimulatedDisk::new(1);
        assert_eq!(Identity::load(&disk).unwrap(), None);
        identity().save(&disk).unwrap();
        assert_eq!(Identity::load(&disk).unwrap(), Some(identity()));
        let newer = identity()
            .encode()
            .replace("sqlrep identity 1", "sqlrep identity 2");
        let error = Identity::decode(newer.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("sqlrep identity 2"), "{error}");
    }

    const LOSSES: [Loss; 4] = [
        Loss::Nothing,
        Loss::Everything,
        Loss::Random { seed: 1 },
        Loss::Random { seed: 2 },
    ];

    /// Saves another identity over the old one while `strike` falls at each of its calls; whatever the power takes then, the
    /// old file or the new one is there, whole, and can be replaced.
    fn one_of_both(strike: impl Fn(&SimulatedDisk, u64)) {
        let old = identity();
        let new = Identity {
            cluster: ClusterId(5),
            ..identity()
        };
        for call in 1.. {
            let disk = SimulatedDisk::new(call);
            old.save(&disk).unwrap();
            let before = disk.calls();
            strike(&disk, call);
            let saved = new.save(&disk).is_ok();
            assert_eq!(saved, disk.injected() == 0, "no error is ignored");
            if saved {
                assert!(call > 6 && disk.calls() - before < call);
                break;
            }
            for loss in LOSSES {
                let after = disk.crash(loss);
                let found = Identity::load(&after).unwrap().unwrap();
                assert!(found == old || found == new, "call {call}, {loss:?}");
                new.save(&after).unwrap();
                assert_eq!(Identity::load(&after).unwrap().as_ref(), Some(&new));
            }
        }
    }

    #[test]
    fn a_crash_leaves_one_of_both() {
        one_of_both(|disk, call| disk.crash_at(call));
    }

    #[test]
    fn a_call_that_fails_once_or_for_ever_leaves_one_of_both() {
        one_of_both(|disk, call| disk.inject(Fault::io(call)));
        one_of_both(|disk, call| disk.inject(Fault::io(call).forever()));
        one_of_both(|disk, call| disk.inject(Fault::full(call)));
    }

    /// A file that can't be read isn't one that isn't there: a node that took it so would begin anew.
    #[test]
    fn a_load_whose_call_fails_is_an_error() {
        for call in 1.. {
            let disk = SimulatedDisk::new(call);
            identity().save(&disk).unwrap();
            disk.inject(Fault::io(call));
            let loaded = Identity::load(&disk);
            if disk.injected() == 0 {
                assert!(call > 3);
                assert_eq!(loaded.unwrap(), Some(identity()));
                break;
            }
            loaded.unwrap_err();
            assert_eq!(Identity::load(&disk).unwrap(), Some(identity()));
        }
    }

    /// The bytes of `docs/formats.md`, "`identity`".
    #[test]
    fn the_bytes_stay_what_they_are() {
        let expected = concat!(
            "sqlrep identity 1\n",
            "node 7\n",
            "directory 0123456789abcdef\n",
            "mode statement\n",
            "cluster 0000000000000000\n",
            "proposed 0000000000000009\n",
            r#"settings {"page_bytes":4096,"request_bytes_max":8388608,"key_retention_entries":1000000,"#,
            r#""key_table_bytes":67108864,"foreign_keys":false,"recursive_triggers":false,"#,
            r#""value_bytes_max":16777216,"sql_bytes_max":1048576,"columns_max":2000,"expression_depth_max":1000,"#,
            r#""compound_select_max":500,"vdbe_operations_max":1000000,"function_arguments_max":127,"#,
            r#""like_pattern_bytes_max":50000,"variables_max":32766,"trigger_depth_max":1000,"statements_max":1024,"#,
            r#""steps_max":500000000,"reply_bytes_max":67108864,"transaction_pages_max":65536}"#,
            "\n",
            "checksum 1e03d29f7808dc81\n",
        );
        assert_eq!(identity().encode(), expected);
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_found(at in 0usize..2000, bits in 1u8..) {
            let mut bytes = identity().encode().into_bytes();
            let at = at % (bytes.len() - 1);
            bytes[at] ^= bits;
            prop_assert!(Identity::decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Identity::decode(&bytes).is_err());
        }
    }
}
