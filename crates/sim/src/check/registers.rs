//! Registers: is there one order of all calls that explains every answer, and that respects who ended before who began?
//!
//! This is linearizability (Herlihy and Wing, 1990), decided by the search of Wing and Gong with Lowe's memory of states
//! that failed. Values are unique, which keeps it small: a call whose end is unknown counts only if somebody saw its
//! value, and then it took effect before the first of those who saw it was answered. One that nobody saw explains nothing.

use crate::client::REGISTERS;
use crate::history::{Ask, Call, Told};
use crate::world::World;
use sqlrep_core::ReadLevel;
use std::collections::{BTreeMap, BTreeSet};

/// One call on one register, reduced to what matters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Ticks.
    begun: u128,
    ended: u128,
    /// What it found; none if it doesn't matter.
    found: Option<u64>,
    /// What it left.
    left: Option<u64>,
    /// Which call of the history it is.
    call: usize,
}

/// Checks every register.
pub(crate) fn check(world: &World, calls: &[Call]) {
    for register in 0..REGISTERS {
        invented(world, calls, register);
        let steps = steps(calls, register);
        if let Err(stuck) = linearize(&steps) {
            let shown: Vec<&Call> = stuck.iter().map(|call| &calls[*call]).collect();
            world.problem(format_args!(
                "register {register} isn't linearizable; none of these can come next: {shown:#?}"
            ));
        }
    }
}

/// A value read is one that was written and not refused, at every level.
fn invented(world: &World, calls: &[Call], register: u64) {
    let mut writers = BTreeMap::new();
    for call in calls {
        if let Some(value) = written(call, register) {
            writers.insert(value, call);
        }
    }
    for call in calls {
        let Some(value) = seen(call, register).filter(|value| *value != 0) else {
            continue;
        };
        if writers.get(&value).is_none_or(|writer| writer.refused()) {
            world.problem(format_args!(
                "register {register} shows {value}: {call:?}, from {:?}",
                writers.get(&value)
            ));
        }
    }
}

fn written(call: &Call, register: u64) -> Option<u64> {
    match call.ask {
        Ask::Write {
            register: own,
            value,
        } if own == register => Some(value),
        Ask::Compare {
            register: own, new, ..
        } if own == register => Some(new),
        _ => None,
    }
}

/// The value that a call showed its client.
fn seen(call: &Call, register: u64) -> Option<u64> {
    match (&call.ask, call.told()?) {
        (
            Ask::Read { register: own, .. } | Ask::Compare { register: own, .. },
            Told::Value(value),
        ) if *own == register => Some(*value),
        _ => None,
    }
}

/// The calls that an order has to explain.
fn steps(calls: &[Call], register: u64) -> Vec<Step> {
    let mut observed: BTreeMap<u64, u128> = BTreeMap::new();
    for call in calls {
        let strict = !matches!(
            call.ask,
            Ask::Read {
                level: ReadLevel::None,
                ..
            }
        );
        if let (Some(value), true) = (seen(call, register), strict) {
            let (ended, _) = call.ended.as_ref().expect("who saw something was answered");
            let first = observed.entry(value).or_insert(u128::MAX);
            *first = (*first).min(ended.as_millis());
        }
        // Whoever compared successfully saw the old value too.
        if let (Ask::Compare { old, new, .. }, Some(value)) = (&call.ask, seen(call, register))
            && value == *new
        {
            let (ended, _) = call.ended.as_ref().expect("who saw something was answered");
            let first = observed.entry(*old).or_insert(u128::MAX);
            *first = (*first).min(ended.as_millis());
        }
    }
    let step = |(number, call)| step(number, call, register, &observed);
    calls.iter().enumerate().filter_map(step).collect()
}

fn step(number: usize, call: &Call, register: u64, observed: &BTreeMap<u64, u128>) -> Option<Step> {
    let begun = call.begun.as_millis();
    let ended = call.ended.as_ref().map(|(ended, _)| ended.as_millis());
    let (found, left) = match (&call.ask, call.told()) {
        (
            Ask::Read {
                level: ReadLevel::None,
                ..
            },
            _,
        )
        | (_, Some(Told::Refused(_))) => return None,
        (Ask::Read { register: own, .. }, Some(Told::Value(value))) if *own == register => {
            (Some(*value), None)
        }
        (
            Ask::Write {
                register: own,
                value,
            },
            _,
        ) if *own == register => (None, Some(*value)),
        (
            Ask::Compare {
                register: own,
                old,
                new,
            },
            told,
        ) if *own == register => match told {
            Some(Told::Value(value)) if value != new => (Some(*value), None),
            _ => (Some(*old), Some(*new)),
        },
        _ => return None,
    };
    // A call that may or may not have had its effect has had it if somebody saw it.
    let ended = if call.done() {
        ended?
    } else {
        *observed.get(&left?)?
    };
    Some(Step {
        begun,
        ended,
        found,
        left,
        call: number,
    })
}

/// Looks for an order; the error names the calls at which the longest attempt got stuck.
fn linearize(steps: &[Step]) -> Result<(), Vec<usize>> {
    let mut steps = steps.to_vec();
    steps.sort_by_key(|step| (step.begun, step.call));
    let mut search = Search {
        steps: &steps,
        done: vec![false; steps.len()],
        count: 0,
        failed: BTreeSet::new(),
        best: (0, Vec::new()),
    };
    if search.go() {
        Ok(())
    } else {
        Err(search.best.1)
    }
}

struct Search<'a> {
    /// By begin.
    steps: &'a [Step],
    done: Vec<bool>,
    count: usize,
    /// Sets of done steps, by their first open one and those done behind it, with the value they leave: no order goes on
    /// from there.
    failed: BTreeSet<(usize, Vec<usize>, u64)>,
    /// Most steps done, and the candidates there.
    best: (usize, Vec<usize>),
}

impl Search<'_> {
    /// Depth first, without recursion: histories are long.
    fn go(&mut self) -> bool {
        let mut value = 0;
        let mut path: Vec<(usize, u64)> = Vec::new();
        let mut candidates = vec![self.candidates(value)];
        while self.count < self.steps.len() {
            let next = candidates.last_mut().and_then(Vec::pop);
            if let Some(next) = next {
                path.push((next, value));
                self.mark(next, true);
                value = self.steps[next].left.unwrap_or(value);
                let seen = !self.failed.insert(self.state(value));
                candidates.push(if seen {
                    Vec::new()
                } else {
                    self.candidates(value)
                });
                continue;
            }
            candidates.pop();
            let Some((last, before)) = path.pop() else {
                return false;
            };
            self.mark(last, false);
            value = before;
        }
        true
    }

    fn mark(&mut self, step: usize, done: bool) {
        self.done[step] = done;
        if done {
            self.count += 1;
        } else {
            self.count -= 1;
        }
    }

    fn first_open(&self) -> usize {
        self.done
            .iter()
            .position(|done| !done)
            .unwrap_or(self.done.len())
    }

    fn state(&self, value: u64) -> (usize, Vec<usize>, u64) {
        let first = self.first_open();
        let behind = (first..self.done.len()).filter(|step| self.done[*step]);
        (first, behind.collect(), value)
    }

    /// Open steps that may come next: none open ended before they began, and the value is what they found. The likeliest
    /// last: it is tried first.
    fn candidates(&mut self, value: u64) -> Vec<usize> {
        let first = self.first_open();
        let mut limit = u128::MAX;
        let mut open = Vec::new();
        for (number, step) in self.steps.iter().enumerate().skip(first) {
            if step.begun > limit {
                break;
            }
            if !self.done[number] {
                limit = limit.min(step.ended);
                open.push(number);
            }
        }
        open.retain(|number| self.steps[*number].begun <= limit);
        if self.count >= self.best.0 {
            let calls = open.iter().map(|number| self.steps[*number].call).collect();
            self.best = (self.count, calls);
        }
        open.retain(|number| self.steps[*number].found.is_none_or(|found| found == value));
        open.sort_by_key(|number| {
            let step = &self.steps[*number];
            // Reads change nothing: they can't be wrong now and right later.
            (step.left.is_none(), u128::MAX - step.ended)
        });
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(call: usize, begun: u128, ended: u128, found: Option<u64>, left: Option<u64>) -> Step {
        Step {
            begun,
            ended,
            found,
            left,
            call,
        }
    }

    #[test]
    fn a_stale_read_is_found() {
        let write = step(0, 0, 10, None, Some(1));
        assert!(linearize(&[write.clone(), step(1, 11, 12, Some(1), None)]).is_ok());
        assert!(linearize(&[write.clone(), step(1, 10, 12, Some(0), None)]).is_ok());
        assert_eq!(
            linearize(&[write, step(1, 11, 12, Some(0), None)]),
            Err(vec![1])
        );
    }

    #[test]
    fn two_comparisons_of_one_value_cannot_both_succeed() {
        let both = |old| {
            [
                step(0, 0, 10, Some(0), Some(1)),
                step(1, 0, 10, Some(old), Some(2)),
            ]
        };
        assert!(linearize(&both(1)).is_ok());
        assert!(linearize(&both(0)).is_err());
    }

    #[test]
    fn reads_do_not_go_back_between_concurrent_writes() {
        let writes = [
            step(0, 0, 100, None, Some(1)),
            step(1, 0, 100, None, Some(2)),
        ];
        let reads = |values: [u64; 3]| {
            let read = |(number, value)| {
                let begun = 10 * (number as u128 + 1);
                step(2 + number, begun, begun + 5, Some(value), None)
            };
            values.into_iter().enumerate().map(read)
        };
        let with = |values| {
            writes
                .iter()
                .cloned()
                .chain(reads(values))
                .collect::<Vec<_>>()
        };
        assert!(linearize(&with([1, 1, 2])).is_ok());
        assert!(linearize(&with([2, 1, 1])).is_ok());
        assert!(linearize(&with([1, 2, 1])).is_err());
    }
}
