//! The files that nodes left behind after an orderly stop: whole for the store, and for a plain SQLite without us.

use crate::machine::{Machine, name};
use crate::world::World;
use sqlrep_disk::{Disk, SimulatedDisk};
use sqlrep_store::{Options, Store};
use sqlrep_vfs::rusqlite::{self, Connection};
use std::sync::Arc;

/// Checks every node's files, and that files of one position are equal.
pub(crate) fn check(world: &World, machines: &[Machine]) {
    let mut found: Vec<(u64, Base)> = Vec::new();
    for machine in machines {
        match base(machine) {
            Ok(base) => found.push((machine.number, base)),
            // A flipped bit that nobody has read yet is still there.
            Err(Unsound { generation, what }) if machine.rotten() == Some(generation) => {
                world.note(format_args!("{}'s files: {what}", name(machine.number)));
            }
            Err(Unsound { what, .. }) => {
                world.problem(format_args!("{}'s files: {what}", name(machine.number)))
            }
        }
    }
    for (node, base) in &found {
        world.note(format_args!(
            "{} leaves {} bytes of generation {}, {}, {:016x}",
            name(*node),
            base.generation,
            base.bytes.len(),
            base.position,
            xxhash_rust::xxh3::xxh3_64(&base.bytes)
        ));
        if base.generation > 1 {
            world.count("databases from a snapshot");
        }
        let (other, first) = &found[0];
        if base.position == first.position && base.bytes != first.bytes {
            world.problem(format_args!("the files of nodes {node} and {other} differ"));
        }
    }
}

struct Base {
    /// Above 1: made from a leader's snapshot.
    generation: u64,
    position: String,
    bytes: Vec<u8>,
}

/// Files that aren't whole; the generation is 0 where none could be opened.
struct Unsound {
    generation: u64,
    what: String,
}

fn base(machine: &Machine) -> Result<Base, Unsound> {
    let disk = machine.disk();
    let options = Options::new(Arc::new(disk.clone()) as Arc<dyn Disk>);
    let opened = Store::open(options).map_err(|error| Unsound {
        generation: 0,
        what: error.to_string(),
    })?;
    let generation = opened.generation();
    of_store(&disk, &opened).map_err(|what| Unsound { generation, what })
}

fn of_store(disk: &SimulatedDisk, store: &Store) -> Result<Base, String> {
    let wrong = store.verify_pages().map_err(|error| error.to_string())?;
    if !wrong.is_empty() {
        return Err(format!("pages {wrong:?} don't fit their checksums"));
    }
    let position = format!("{:?}", store.durable().position);
    let bytes = main_file(disk, store.generation())?;
    sound(&bytes).map_err(|error| error.to_string())?;
    Ok(Base {
        generation: store.generation(),
        position,
        bytes,
    })
}

fn main_file(disk: &SimulatedDisk, generation: u64) -> Result<Vec<u8>, String> {
    let suffix = format!("{generation}/main.db");
    let path = disk
        .list_all()
        .into_iter()
        .find(|path| path.ends_with(&suffix));
    path.and_then(|path| disk.read_file(&path))
        .ok_or_else(|| format!("there is no {suffix} among {:?}", disk.list_all()))
}

/// What SQLite itself says.
fn sound(bytes: &[u8]) -> rusqlite::Result<()> {
    let mut sqlite = Connection::open_in_memory()?;
    sqlite.deserialize_read_exact("main", bytes, bytes.len(), false)?;
    let said: String = sqlite.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if said == "ok" {
        Ok(())
    } else {
        Err(rusqlite::Error::ToSqlConversionFailure(said.into()))
    }
}
