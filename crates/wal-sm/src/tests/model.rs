//! Three machines and a log, at random: leaders come and go, pipelines have holes, sets are split and cut short, nodes lose
//! power, take over snapshots and begin anew. The model says which sets count and what every node shows at every entry.

use super::bed::{Bed, Entry, Payload, id};
use crate::body::Body;
use crate::{PageEpoch, PageSet, Tail};
use proptest::prelude::*;
use sqlrep_core::{Applied, Epoch, Sealed, Step};
use sqlrep_disk::Loss;
use sqlrep_sql::{Outcome, Request};
use std::collections::{BTreeMap, VecDeque};

const NODES: usize = 3;

/// What a request inserts into `t`, by its number.
type Ids = Vec<i64>;

struct Leadership {
    node: usize,
    term: u64,
    epoch: PageEpoch,
    /// What ran since the last seal.
    open: Ids,
}

/// A set that was sealed: the part that comes into the log next; the others are made when that is there.
struct Pending {
    term: u64,
    /// The epoch that makes them.
    epoch: u64,
    next: Sealed,
}

/// What the log makes of every node.
#[derive(Clone, Default)]
struct Expected {
    tail: Option<Tail>,
    /// The set that is under way, and the part that is due.
    staged: Option<(Tail, u32)>,
    ids: Ids,
}

struct World {
    beds: Vec<Bed>,
    log: Vec<Entry>,
    term: u64,
    epochs: u64,
    next: i64,
    leadership: Option<Leadership>,
    pending: VecDeque<Pending>,
    /// What each set holds, by its own tail.
    sets: BTreeMap<(u64, u64, u64), Ids>,
    /// Behind each entry.
    expected: Vec<Expected>,
    refused: u32,
    parted: u32,
}

fn name(tail: &Tail) -> (u64, u64, u64) {
    (tail.term.0, tail.epoch, tail.sequence)
}

impl World {
    fn new() -> Self {
        Self {
            beds: (1..=NODES as u64).map(Bed::new).collect(),
            log: Vec::new(),
            term: 0,
            epochs: 0,
            next: 1,
            leadership: None,
            pending: VecDeque::new(),
            sets: BTreeMap::new(),
            expected: vec![Expected::default()],
            refused: 0,
            parted: 0,
        }
    }

    /// Appends an entry, and works out what it means by the rule alone.
    fn append(&mut self, term: u64, payload: Payload) {
        let mut next = self.expected.last().unwrap().clone();
        if next.staged.is_some_and(|(tail, _)| tail.term.0 < term) {
            next.staged = None;
        }
        if let Payload::Set(body) = &payload {
            let (head, part) = PageSet::head_of(&Body::decode(body).unwrap().part).unwrap();
            let due = match next.staged.take() {
                Some((tail, due)) if tail == head.tail && part.number == due => true,
                _ => {
                    part.number == 1
                        && Tail::accepts(
                            next.tail,
                            head.predecessor,
                            head.tail.term,
                            id(term, 0).term,
                        )
                }
            };
            if due && part.number == part.of {
                next.tail = Some(head.tail);
                next.ids.extend(&self.sets[&name(&head.tail)]);
            } else if due {
                next.staged = Some((head.tail, part.number + 1));
                self.parted += 1;
            } else {
                self.refused += 1;
            }
        }
        self.log
            .push((id(term, self.log.len() as u64 + 1), payload));
        self.expected.push(next);
    }

    /// Applies the next entry on a node, and looks at what it shows.
    fn apply(&mut self, node: usize) {
        let at = self.beds[node].applied();
        let Some(entry) = self.log.get(at).cloned() else {
            return;
        };
        let foreign = |led: &Leadership| led.node == node && led.term != entry.0.term.0;
        if self.leadership.as_ref().is_some_and(foreign) {
            self.leadership = None;
        }
        let verdict = self.beds[node].apply(&entry);
        let (before, after) = (&self.expected[at], &self.expected[at + 1]);
        match verdict {
            None => {}
            Some(Applied::Accepted) => assert_ne!(before.tail, after.tail),
            Some(Applied::Part) => assert!(after.staged.is_some()),
            Some(Applied::Refused) => {
                assert_eq!(before.tail, after.tail);
                assert!(after.staged.is_none());
            }
            Some(Applied::Replies(_)) => panic!("nothing is executed here"),
        }
        self.look(node, at + 1);
    }

    fn look(&self, node: usize, at: usize) {
        let mut ids = self.expected[at].ids.clone();
        ids.sort_unstable();
        assert_eq!(self.beds[node].numbers("SELECT id FROM t ORDER BY id"), ids);
    }

    fn apply_all(&mut self, node: usize) {
        while self.beds[node].applied() < self.log.len() {
            self.apply(node);
        }
    }

    /// A node wins: whatever its log holds is applied, its blank entry last, then it leads.
    fn elect(&mut self, node: usize) {
        self.leadership = None;
        self.term += 1;
        self.append(self.term, Payload::Blank);
        self.apply_all(node);
        self.lead(node);
    }

    /// A new epoch of the same term, which begins when all verdicts are known (the proposer's duty): what is under way is
    /// committed, or never will be.
    fn lead(&mut self, node: usize) {
        while self.epochs.is_multiple_of(2) && !self.pending.is_empty() {
            self.commit();
        }
        self.pending.clear();
        self.apply_all(node);
        self.epochs += 1;
        let (epoch, _) = self.beds[node].lead(self.term, self.epochs);
        self.leadership = Some(Leadership {
            node,
            term: self.term,
            epoch,
            open: Vec::new(),
        });
    }

    fn run(&mut self, kind: u8) {
        if self.is_split() {
            return;
        }
        let Some(led) = &mut self.leadership else {
            return;
        };
        let number = self.next;
        self.next += 1;
        let insert = format!("INSERT INTO t VALUES ({number}, randomblob(abs(random() % 300)))");
        let statements: &[&str] = match kind {
            0 => &[
                "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)",
                &insert,
            ],
            1 => &[
                "UPDATE t SET x = randomblob(50) WHERE id % 3 = random() % 3",
                &insert,
            ],
            2 => &["INSERT INTO nowhere VALUES (1)", &insert],
            3 => &[
                "CREATE TABLE IF NOT EXISTS big (x)",
                "INSERT INTO big VALUES (randomblob(70000))",
                &insert,
            ],
            4 => &["DELETE FROM big", "DROP TABLE IF EXISTS big", &insert],
            _ => &[&insert],
        };
        let mut request = Request {
            statements: statements
                .iter()
                .map(|sql| sqlrep_sql::Statement::text(*sql))
                .collect(),
            ..Request::default()
        };
        if kind == 5 {
            request = Request::execute("VACUUM");
        }
        let done = match led.epoch.run(request) {
            Step::Executed { reply, .. } | Step::Answered(reply) => {
                matches!(reply.outcomes.last(), Some(Outcome::Written(_)))
            }
            step => panic!("{step:?}"),
        };
        if done && kind != 5 {
            led.open.push(number);
        }
    }

    fn seal(&mut self) {
        if self.is_split() {
            return;
        }
        let Some(led) = &mut self.leadership else {
            return;
        };
        let sealed = led.epoch.seal();
        let ids = std::mem::take(&mut led.open);
        let Some(next) = sealed else {
            assert_eq!(ids, []);
            return;
        };
        let (head, _) = PageSet::head_of(&Body::decode(&next.body).unwrap().part).unwrap();
        self.sets.insert(name(&head.tail), ids);
        let (term, epoch) = (led.term, self.epochs);
        self.pending.push_back(Pending { term, epoch, next });
    }

    /// Whether the leader's newest set isn't whole yet: nothing else is asked of it.
    fn is_split(&self) -> bool {
        let newest = self.pending.back();
        let split = newest.is_some_and(|set| set.epoch == self.epochs && set.next.parts_left > 0);
        split && self.leadership.is_some()
    }

    /// The next part comes into the log, unless a later leader's entries stand there already.
    fn commit(&mut self) {
        let newest = self.log.last().map_or(0, |(id, _)| id.term.0);
        self.pending.retain(|pending| pending.term >= newest);
        let Some(pending) = self.pending.front_mut() else {
            return;
        };
        let (term, part) = (pending.term, pending.next.clone());
        // An epoch that has ended makes no further parts.
        let led = self.leadership.as_mut();
        let led = led.filter(|_| pending.epoch == self.epochs && part.parts_left > 0);
        match led.map(|led| led.epoch.next_part().unwrap()) {
            Some(next) => pending.next = next,
            None => drop(self.pending.pop_front()),
        }
        self.append(term, Payload::Set(part.body));
    }

    /// Raft refuses the next proposal, or all of a set from a part on; what was proposed behind it keeps its own verdict.
    fn lose(&mut self) {
        if self.pending.pop_front().is_some() {
            self.leadership = None;
        }
    }

    fn crash(&mut self, node: usize, seed: u64) {
        if self.leadership.as_ref().is_some_and(|led| led.node == node) {
            self.leadership = None;
        }
        self.beds[node] = self.beds[node].crashed(Loss::Random { seed });
        self.look(node, self.beds[node].applied());
    }

    fn install(&mut self, node: usize, from: usize) {
        let leads = self.leadership.as_ref().is_some_and(|led| led.node == node);
        if node != from && !leads {
            self.beds[node].install(&self.beds[from]);
            self.look(node, self.beds[node].applied());
        }
    }

    fn step(&mut self, kind: u8, draw: u64) {
        let node = place(draw);
        match kind {
            0..=24 => self.run((draw % 12) as u8),
            25..=49 => self.seal(),
            50..=62 => self.commit(),
            63..=82 => self.apply(node),
            83..=87 => self.lose(),
            88..=90 => self.elect(node),
            91..=92 => self.leadership = None,
            93..=94 => {
                // The same leader begins anew.
                if let Some(led) = self.leadership.take() {
                    drop(led.epoch);
                    self.lead(led.node);
                }
            }
            95..=96 => self.beds[node].checkpoint(),
            97..=98 => self.crash(node, draw),
            _ => self.install(node, place(draw / 7)),
        }
    }

    /// Everybody comes to the end of the log, and all are equal.
    fn end(&mut self) {
        self.elect(0);
        self.run(0);
        self.seal();
        while !self.pending.is_empty() {
            self.commit();
        }
        self.leadership = None;
        for node in 0..NODES {
            self.apply_all(node);
        }
        let first = self.beds[0].pages();
        for bed in &self.beds {
            assert!(bed.pages() == first, "equal byte for byte");
            assert_eq!(bed.machine.checksum_mismatches(), 0);
            assert_eq!(
                bed.rows("PRAGMA integrity_check").unwrap(),
                [[sqlrep_sql::Value::Text("ok".to_owned())]]
            );
        }
    }
}

/// One of the nodes.
fn place(draw: u64) -> usize {
    usize::try_from(draw % NODES as u64).expect("there are three")
}

fn story(steps: &[(u8, u64)]) -> World {
    let mut world = World::new();
    world.elect(0);
    world.run(0);
    world.seal();
    world.commit();
    for (kind, draw) in steps {
        world.step(*kind, *draw);
    }
    world.end();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Rules 22 to 26: with leaders that change, aborts at every point, split sets, lost proposals, crashes and snapshots, every
    /// node shows a committed prefix at every entry, and all end equal.
    #[test]
    fn nodes_follow_the_log_and_nothing_else(steps in proptest::collection::vec((0u8..100, any::<u64>()), 60..160)) {
        story(&steps);
    }
}

/// The stories do hold refusals and split sets.
#[test]
fn refusals_and_parts_do_happen() {
    use sqlrep_env::{Entropy, SimulatedEntropy};
    let entropy = SimulatedEntropy::new(7);
    let (mut refused, mut parted) = (0, 0);
    for _ in 0..40 {
        let steps: Vec<(u8, u64)> = (0..150)
            .map(|_| ((entropy.next() % 100) as u8, entropy.next()))
            .collect();
        let world = story(&steps);
        refused += world.refused;
        parted += world.parted;
    }
    assert!(
        refused >= 5 && parted >= 10,
        "{refused} refused, {parted} parts"
    );
}
