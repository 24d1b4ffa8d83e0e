//! The tables against a plain list, and the promises of rules 27 to 29 on random histories.

use super::*;
use crate::member::Item;
use crate::{NodeId, Term, WriteError};
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: KeyLimits = KeyLimits {
    retention_entries: 6,
    table_bytes: 700,
};

/// A long reply, so that few records fill the table.
fn reply(place: usize, index: u64) -> Option<Bytes> {
    let text = format!("reply {place} of {index}, {}", "x".repeat(60));
    (!index.is_multiple_of(5)).then(|| text.into())
}

fn id(index: u64) -> EntryId {
    EntryId {
        term: Term(1),
        index: LogIndex(index),
    }
}

/// A request by the number of its key; every retry carries the same index.
#[derive(Clone, Copy, Debug)]
struct Ask {
    number: u64,
    known: u64,
    digest: u64,
}

fn item(ask: Ask) -> Item {
    let name = format!("key {}", ask.number);
    let key = Key {
        kind: KeyKind::Client,
        name: name.into(),
        digest: ask.digest,
        known: LogIndex(ask.known),
        reply: None,
    };
    Item { key: Some(key) }
}

/// Applies an entry; what its clients are told.
fn apply(keys: &mut Keys, index: u64, items: &[Item]) -> Vec<Verdict> {
    let plan = Plan::of(keys, LIMITS, id(index), items);
    plan.record(keys, items, |place, _| reply(place, index));
    let verdicts = plan.verdicts(keys, items);
    keys.expire(LogIndex(index), LIMITS);
    verdicts
}

fn bytes(keys: &Keys) -> Vec<u8> {
    keys.pieces().flat_map(Vec::from).collect()
}

/// The same as a list, in the words of rule 28.
#[derive(Default)]
struct Plain {
    /// Number, digest, place and index of what was done.
    done: Vec<(u64, u64, usize, u64)>,
    horizon: u64,
}

impl Plain {
    fn bytes(&self) -> u64 {
        let one = |(number, _, place, index): &(u64, u64, usize, u64)| {
            let name = format!("key {number}").len();
            64 + (name + reply(*place, *index).map_or(0, |reply| reply.len())) as u64
        };
        self.done.iter().map(one).sum()
    }

    fn apply(&mut self, index: u64, asks: &[Ask]) -> Vec<Verdict> {
        let was_full = self.bytes() >= 4 * LIMITS.table_bytes;
        let mut told = Vec::new();
        for (place, ask) in asks.iter().enumerate() {
            let known = self.done.iter().find(|done| done.0 == ask.number);
            told.push(match known {
                Some((_, digest, ..)) if *digest != ask.digest => {
                    Verdict::Refused(WriteError::KeyReused)
                }
                Some((_, _, place, at)) => Verdict::Replayed {
                    at: id(*at),
                    reply: reply(*place, *at),
                },
                None if ask.known < self.horizon => Verdict::Refused(WriteError::KeyExpired),
                None if was_full => Verdict::Refused(WriteError::Overloaded),
                None => {
                    self.done.push((ask.number, ask.digest, place, index));
                    Verdict::Executed
                }
            });
        }
        while self.bytes() > LIMITS.table_bytes
            && self.done[0].3 + LIMITS.retention_entries <= index
        {
            let (.., at) = self.done.remove(0);
            self.horizon = at + 1;
        }
        told
    }
}

/// One step of a history: requests of an entry, as how far back in the list of keys each reaches (0: a new one), how
/// old the index of a new one is, and whether it is another request under the key; or a restart from bytes.
#[derive(Clone, Debug)]
enum Event {
    Entry(Vec<(usize, u64, bool)>),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let ask = (0usize..25, 0u64..12, prop::bool::weighted(0.1));
    let entry = proptest::collection::vec(ask, 0..6).prop_map(Event::Entry);
    proptest::collection::vec(prop_oneof![8 => entry, 1 => Just(Event::Restart)], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Rule 28: no history of retries, expiry and restarts executes a key twice, or forgets one before its time; each
    /// decision is that of the plain list.
    #[test]
    fn a_key_is_executed_once_whatever_comes_between(events in events()) {
        let (mut keys, mut plain) = (Keys::default(), Plain::default());
        let mut made: Vec<Ask> = Vec::new();
        let mut executed: BTreeMap<u64, u64> = BTreeMap::new();
        let mut index = 20;
        for event in events {
            let Event::Entry(asks) = event else {
                keys = Keys::decode(&bytes(&keys)).unwrap();
                continue;
            };
            index += 1;
            let asks: Vec<Ask> = asks.into_iter().map(|(back, age, other)| {
                let old = made.len().checked_sub(back.max(1)).filter(|_| back > 0);
                let ask = old.map_or_else(|| Ask {
                    number: made.len() as u64, known: index - 1 - age, digest: 0,
                }, |at| made[at]);
                if old.is_none() {
                    made.push(ask);
                }
                Ask { digest: u64::from(other), ..ask }
            }).collect();
            let items: Vec<Item> = asks.iter().copied().map(item).collect();
            let told = apply(&mut keys, index, &items);
            prop_assert_eq!(&told, &plain.apply(index, &asks));
            for (ask, verdict) in asks.iter().zip(told) {
                let before = executed.get(&ask.number).copied();
                match verdict {
                    Verdict::Executed => prop_assert_eq!(executed.insert(ask.number, index), None),
                    Verdict::Replayed { at, .. } => prop_assert_eq!(before, Some(at.index.0)),
                    Verdict::Refused(WriteError::KeyExpired) => {
                        let kept = before.is_some_and(|at| at + LIMITS.retention_entries > index);
                        prop_assert!(!kept, "forgotten too early");
                    }
                    Verdict::Refused(_) => {}
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[1][..], &rest].concat();
        if let Ok(keys) = Keys::decode(&bytes) {
            prop_assert_eq!(Keys::decode(&self::bytes(&keys)).unwrap(), keys);
        }
    }
}

fn ask(number: u64) -> Ask {
    Ask {
        number,
        known: 1,
        digest: 0,
    }
}

/// Rule 27: the same key twice in one entry, or again while it is in flight, gets the first one's outcome.
#[test]
fn a_key_twice_in_one_entry_is_done_once() {
    let mut keys = Keys::default();
    let other = Ask {
        digest: 1,
        ..ask(7)
    };
    let items = [item(ask(7)), item(ask(7)), Item::default(), item(other)];
    let plan = Plan::of(&keys, LIMITS, id(9), &items);
    assert_eq!(plan.skip(), [false, true, false, true]);
    let told = apply(&mut keys, 9, &items);
    let first = Verdict::Replayed {
        at: id(9),
        reply: reply(0, 9),
    };
    let reused = Verdict::Refused(WriteError::KeyReused);
    let executed = Verdict::Executed;
    assert_eq!(told, [executed.clone(), first.clone(), executed, reused]);
    assert_eq!(apply(&mut keys, 10, &items[..1]), [first]);
}

#[test]
fn entries_without_keys_skip_nothing() {
    let plan = Plan::of(
        &Keys::default(),
        LIMITS,
        id(9),
        &[Item::default(), item(ask(1))],
    );
    assert!(plan.skip().is_empty());
}

/// Rule 29: a reply above 1 KiB isn't kept; the retry learns where the request was done.
#[test]
fn a_long_reply_leaves_a_marker() {
    let mut keys = Keys::default();
    let items = [item(ask(1)), item(ask(2))];
    let plan = Plan::of(&keys, LIMITS, id(9), &items);
    plan.record(&mut keys, &items, |place, _| {
        Some(vec![0; REPLY_BYTES_MAX + place].into())
    });
    let told = apply(&mut keys, 10, &items);
    let replayed = |reply| Verdict::Replayed { at: id(9), reply };
    assert_eq!(told[0], replayed(Some(vec![0; REPLY_BYTES_MAX].into())));
    assert_eq!(told[1], replayed(None));
}

/// Rule 28: an index that this log hasn't reached would never expire.
#[test]
fn an_index_from_the_future_is_refused() {
    let future = Ask { known: 9, ..ask(1) };
    let told = apply(&mut Keys::default(), 9, &[item(future)]);
    let refused = |error: &WriteError| error.to_string().contains("index 9");
    assert!(
        matches!(&told[0], Verdict::Refused(error) if refused(error)),
        "{told:?}"
    );
}

/// Rule 30: gateways' keys live in a table of their own, with a short retention.
#[test]
fn gateways_keys_take_a_bounded_share_and_no_client_s() {
    let (mut keys, request) = (Keys::default(), b"request");
    let node = NodeId::new(1).unwrap().get();
    let client = item(ask(1));
    apply(&mut keys, 20, std::slice::from_ref(&client));
    let gateway = |counter| Item {
        key: Some(Key::of_gateway(
            (node, 5, counter),
            request,
            LogIndex(20 + counter),
        )),
    };
    for counter in 0..GATEWAY_BYTES_MAX / 150 {
        apply(&mut keys, 21 + counter, &[gateway(counter)]);
    }
    let last = 21 + GATEWAY_BYTES_MAX / 150;
    let told = apply(&mut keys, last, &[client, gateway(last - 22), gateway(0)]);
    assert!(matches!(told[0], Verdict::Replayed { .. }), "{told:?}");
    assert!(matches!(told[1], Verdict::Replayed { .. }), "{told:?}");
    assert_eq!(told[2], Verdict::Refused(WriteError::KeyExpired));
}

/// Rule 5: a clone is another state; it doesn't follow.
#[test]
fn a_clone_keeps_what_it_had() {
    let mut keys = Keys::default();
    apply(&mut keys, 20, &[item(ask(1))]);
    let before = keys.clone();
    let encoded = bytes(&before);
    for index in 21..60 {
        apply(&mut keys, index, &[item(ask(index))]);
    }
    assert_ne!(keys, before);
    assert_eq!(bytes(&before), encoded);
}
