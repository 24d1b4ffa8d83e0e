//! Unique ids: what was acknowledged is there once, what was refused never, what is unknown at most once.

use crate::history::{Ask, Call, Told};
use crate::world::World;
use sqlrep_core::ReadLevel;
use std::collections::BTreeMap;

/// Checks every read of all ids.
pub(crate) fn check(world: &World, calls: &[Call]) {
    let mut writer: BTreeMap<u64, &Call> = BTreeMap::new();
    for call in calls {
        if let Ask::Insert { ids } | Ask::InsertRefused { ids } = &call.ask {
            writer.extend(ids.iter().map(|id| (*id, call)));
        }
        if matches!(call.ask, Ask::InsertRefused { .. }) && call.told() == Some(&Told::Done) {
            world.problem(format_args!("done instead of refused: {call:?}"));
        }
    }
    for read in calls {
        if let (Ask::Ids { level }, Some(Told::Ids(ids))) = (&read.ask, read.told()) {
            check_read(world, &writer, read, *level, ids);
        }
    }
}

fn check_read(
    world: &World,
    writer: &BTreeMap<u64, &Call>,
    read: &Call,
    level: ReadLevel,
    ids: &[u64],
) {
    let wrong = |what: &str, id: u64| {
        let (client, begun) = (&read.client, read.begun);
        world.problem(format_args!(
            "id {id} {what}, read by {client} at {begun:?}, {level:?}: {:?}",
            writer.get(&id)
        ));
    };
    for pair in ids.windows(2).filter(|pair| pair[0] == pair[1]) {
        wrong("is there twice", pair[0]);
    }
    for id in ids {
        match writer.get(id) {
            None => wrong("was never written", *id),
            Some(call) if call.refused() || matches!(call.ask, Ask::InsertRefused { .. }) => {
                wrong("was refused and is there", *id);
            }
            Some(_) => {}
        }
    }
    for (id, call) in writer {
        let due = level != ReadLevel::None && call.done() && call.before(read);
        if due && ids.binary_search(id).is_err() {
            wrong("was acknowledged and is missing", *id);
        }
        halves(call, ids, &wrong);
    }
}

/// Ids of one transaction are there together.
fn halves(call: &Call, ids: &[u64], wrong: &impl Fn(&str, u64)) {
    let Ask::Insert { ids: own } = &call.ask else {
        return;
    };
    let there = |id: &&u64| ids.binary_search(id).is_ok();
    let count = own.iter().filter(there).count();
    if count != 0 && count != own.len() {
        wrong("is of a transaction that is there by half", own[0]);
    }
}
