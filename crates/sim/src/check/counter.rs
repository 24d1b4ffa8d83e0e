//! The counter: sessions read it and write back one more. Each value is told once, in the order of those who ask one
//! after the other, and strict reads see what was told before them, and no more than was asked for.

use crate::history::{Ask, Call, Told};
use crate::world::World;
use std::collections::BTreeMap;

/// What a call was told.
fn value(call: &Call) -> Option<u64> {
    match call.told()? {
        Told::Value(value) => Some(*value),
        _ => None,
    }
}

/// Checks every increment, and every read.
pub(crate) fn check(world: &World, calls: &[Call]) {
    let of = |call: &&Call| matches!(call.ask, Ask::Count { .. } | Ask::Counter);
    let calls: Vec<&Call> = calls.iter().filter(of).collect();
    let counts = calls.iter().filter(|call| call.ask != Ask::Counter);
    let counts: Vec<&Call> = counts.copied().collect();
    once(world, &counts);
    in_order(world, &counts, &calls);
    for read in calls.iter().filter(|call| call.ask == Ask::Counter) {
        explained(world, &counts, read);
    }
}

/// No value is told to two.
fn once(world: &World, counts: &[&Call]) {
    let mut known = BTreeMap::new();
    for call in counts {
        if let Some(value) = value(call)
            && let Some(other) = known.insert(value, call)
        {
            world.problem(format_args!(
                "two sessions counted to {value}: {other:?} and {call:?}"
            ));
        }
    }
}

/// Who comes later counts on from there, or reads at least that.
fn in_order(world: &World, counts: &[&Call], calls: &[&Call]) {
    for early in counts {
        let Some(told) = value(early) else { continue };
        for late in calls.iter().filter(|late| early.before(late)) {
            let least = told + u64::from(late.ask != Ask::Counter);
            if value(late).is_some_and(|later| later < least) {
                world.problem(format_args!(
                    "the counter goes back: {early:?}, later {late:?}"
                ));
            }
        }
    }
}

/// A read shows no more than those who may have counted by then.
fn explained(world: &World, counts: &[&Call], read: &Call) {
    let may_have = counts
        .iter()
        .filter(|count| !count.refused() && !read.before(count))
        .count();
    if value(read).is_some_and(|value| usize::try_from(value).is_ok_and(|value| value > may_have)) {
        world.problem(format_args!(
            "{may_have} sessions may have counted, and the counter shows more: {read:?}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Ending;
    use std::time::Duration;

    fn call(ask: Ask, begun: u64, told: Told) -> Call {
        let at = Duration::from_millis;
        Call {
            client: String::new(),
            ask,
            begun: at(begun),
            ended: Some((at(begun + 5), told)),
        }
    }

    fn count(begun: u64, told: Told) -> Call {
        let ending = Ending::Commit;
        call(Ask::Count { ending }, begun, told)
    }

    fn read(begun: u64, value: u64) -> Call {
        call(Ask::Counter, begun, Told::Value(value))
    }

    fn problems(calls: &[Call]) -> Vec<String> {
        let world = World::new(1);
        check(&world, calls);
        world.problems()
    }

    #[test]
    fn a_lost_update_and_a_lost_value_are_found() {
        let told = Told::Value;
        let unknown = || Told::Unknown(String::new());
        let refused = || Told::Refused(String::new());
        let good = [count(0, told(1)), count(10, unknown()), read(20, 2)];
        assert_eq!(problems(&good), [""; 0]);
        assert_eq!(problems(&[count(0, unknown()), read(20, 0)]), [""; 0]);
        for (bad, what) in [
            ([count(0, told(1)), count(1, told(1))], "two sessions"),
            ([count(0, told(2)), count(10, told(1))], "goes back"),
            ([count(0, told(1)), read(10, 0)], "goes back"),
            ([count(0, refused()), read(10, 1)], "shows more"),
            ([read(0, 1), count(10, told(1))], "shows more"),
        ] {
            let found = problems(&bad);
            assert!(
                found.len() == 1 && found[0].contains(what),
                "{what}: {found:?}"
            );
        }
    }
}
