//! Every call that a node makes to its disk fails once, fails for ever, or is the one in which its process dies with each
//! kind of loss: what was acknowledged is there after the next start, what was refused isn't, and the node works.
//!
//! Two lives: a cluster of one from its first call on (identity, votes, log, checkpoint, position, a second start), and a
//! node of three that is found wrong and repaired (conviction, snapshot install, catching up). Log, store and snapshots
//! have loops of their own over far more states, beside their code; here they run together.

use crate::divergence::{agree, alter, equal};
use crate::world::{LIMIT, World, rows, simulated, write};
use sqlrep_core::{ReadLevel, Retry};
use sqlrep_disk::{Fault, Loss, SimulatedDisk};
use sqlrep_node::Node;
use sqlrep_sql::{Request, Value};
use std::io::Write;
use std::time::Duration;

/// More than lie between two reset points, so that the base file holds rows.
const FILLED: i64 = 100;

/// The node that is struck.
const SICK: usize = 0;

/// Fewer states than these are another story than the one that was measured; the numbers are below what one kind of strike
/// for each call comes to.
const LIFE_STATES_MIN: u64 = 100;
const REPAIR_STATES_MIN: u64 = 100;

/// What happens at one call.
#[derive(Clone, Copy, Debug)]
enum Strike {
    FailsOnce,
    FailsForEver,
    Full,
    Dies(Loss),
}

const STRIKES: [Strike; 6] = [
    Strike::FailsOnce,
    Strike::Dies(Loss::Nothing),
    Strike::FailsForEver,
    Strike::Dies(Loss::Everything),
    Strike::Full,
    Strike::Dies(Loss::Random { seed: 1 }),
];

/// With this set every call meets every kind, else each the one whose turn it is.
const EVERY: &str = "SQLREP_TEST_EVERY_STRIKE";

fn strikes(call: u64) -> Vec<Strike> {
    match std::env::var_os(EVERY) {
        Some(_) => STRIKES.to_vec(),
        None => vec![STRIKES[usize::try_from(call).unwrap() % STRIKES.len()]],
    }
}

impl Strike {
    fn arm(self, world: &World, at: usize, call: u64) {
        let disk = &world.disks[at];
        match self {
            Self::FailsOnce => disk.inject(Fault::io(call)),
            Self::FailsForEver => disk.inject(Fault::io(call).forever()),
            Self::Full => disk.inject(Fault::full(call)),
            Self::Dies(_) => disk.crash_at(call),
        }
    }

    /// Whether the strike fell; if not, the call that it waited for was never made.
    fn fell(self, disk: &SimulatedDisk, before: u64, call: u64) -> bool {
        let (fell, made) = (disk.injected() > 0, disk.calls() - before);
        assert!(
            fell || made < call,
            "{self:?} at {call} didn't fall, of {made} calls"
        );
        fell
    }

    fn loss(self, call: u64) -> Loss {
        match self {
            Self::Dies(Loss::Random { .. }) => Loss::Random { seed: call },
            Self::Dies(loss) => loss,
            _ => Loss::Random { seed: call },
        }
    }
}

/// States that were tried, over so many calls; told on the terminal, of a passing run too.
#[derive(Clone, Copy, Default)]
struct Tried {
    struck: u64,
    /// The run had ended before.
    beyond: u64,
}

impl Tried {
    fn count(&mut self, fell: bool) {
        *if fell {
            &mut self.struck
        } else {
            &mut self.beyond
        } += 1;
    }

    /// Fails if a run was hardly ever struck, or was hardly one.
    fn tell(self, story: &str, calls: u64, struck_min: u64) {
        let Self { struck, beyond } = self;
        // eprintln! is hidden where the test passes.
        let mut terminal = std::io::stderr();
        writeln!(
            terminal,
            "{story}: {struck} states over {calls} calls; {beyond} runs ended before their strike"
        )
        .unwrap();
        assert!(struck >= struck_min && beyond <= struck / 10);
    }
}

/// What became of the writes.
#[derive(Default)]
struct Written {
    acknowledged: Vec<i64>,
    refused: Vec<i64>,
    next: i64,
}

impl Written {
    /// Inserts the next row; false if the node has failed or has to be given up.
    async fn insert(&mut self, node: &Node) -> bool {
        let id = self.next;
        self.next += 1;
        let request = Request::execute(format!("INSERT INTO t VALUES ({id}, 'row')"));
        tokio::select! {
            biased;
            outcome = Box::pin(node.execute(request)) => match outcome {
                Ok(_) => self.acknowledged.push(id),
                Err(error) if error.retry() == Retry::Ambiguous => {}
                Err(_) => self.refused.push(id),
            },
            _ = node.failed() => return false,
            () = tokio::time::sleep(LIMIT) => return false,
        }
        true
    }

    /// Every acknowledged row is there, no refused one is.
    async fn check(&self, node: &Node) {
        let found = rows(
            node,
            "SELECT id FROM t ORDER BY id",
            ReadLevel::Linearizable,
        )
        .await;
        let found: Vec<i64> = found
            .unwrap()
            .into_iter()
            .map(|row| match row[0] {
                Value::Integer(id) => id,
                ref other => panic!("{other:?}"),
            })
            .collect();
        for id in &self.acknowledged {
            assert!(
                found.contains(id),
                "acknowledged row {id} is lost: {found:?}"
            );
        }
        for id in &self.refused {
            assert!(!found.contains(id), "refused row {id} is there: {found:?}");
        }
    }
}

/// Starts the node and waits until it serves; none if the fault is in the way.
async fn started(world: &mut World, at: usize) -> Option<Node> {
    let node = world.start_one(at).await.ok()?;
    tokio::select! {
        biased;
        ready = Box::pin(node.ready(LIMIT)) => ready.ok(),
        _ = node.failed() => None,
    }?;
    Some(node)
}

/// A life from the first call on: how far it came is told by what was written.
async fn life(world: &mut World, written: &mut Written) {
    let Some(node) = started(world, 0).await else {
        return;
    };
    let create = Request::execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text)");
    tokio::select! {
        biased;
        created = Box::pin(node.execute(create)) => if created.is_err() { return },
        _ = node.failed() => return,
        () = tokio::time::sleep(LIMIT) => return,
    }
    for _ in 0..4 {
        if !written.insert(&node).await {
            return;
        }
    }
    if tokio::time::timeout(LIMIT, Box::pin(node.stop()))
        .await
        .is_err()
    {
        return;
    }
    let Some(node) = started(world, 0).await else {
        return;
    };
    for _ in 0..2 {
        if !written.insert(&node).await {
            return;
        }
    }
}

/// The next start, on what the disk has.
async fn works(world: &mut World, written: &mut Written) {
    let node = started(world, 0)
        .await
        .expect("a whole disk under a node that was hurt");
    let create = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text)";
    write(&node, create.to_owned()).await;
    written.check(&node).await;
    assert!(written.insert(&node).await);
    written.check(&node).await;
    Box::pin(node.stop()).await;
}

/// How many calls an undisturbed life makes.
fn calls_of_a_life() -> u64 {
    let mut calls = 0;
    simulated(async || {
        let mut world = World::of(21, 1);
        life(&mut world, &mut Written::default()).await;
        calls = world.disks[0].calls();
    });
    calls
}

#[test]
fn a_node_survives_trouble_at_any_call_of_its_life() {
    let (calls, mut tried) = (calls_of_a_life(), Tried::default());
    for call in 1..=calls {
        for strike in strikes(call) {
            simulated(async || {
                let (mut world, mut written) = (World::of(21, 1), Written::default());
                strike.arm(&world, 0, call);
                life(&mut world, &mut written).await;
                tried.count(strike.fell(&world.disks[0], 0, call));
                world.power_loss(0, strike.loss(call));
                works(&mut world, &mut written).await;
            });
        }
    }
    tried.tell("trouble in a node's life", calls, LIFE_STATES_MIN);
}

/// A node whose database was altered while it was stopped starts beside two healthy ones and is found wrong. Its disk
/// strikes at one call; then it is started again on what the disk has. How many calls there were, and whether it struck.
async fn repaired(disks: &[SimulatedDisk], call: u64, strike: Strike) -> (u64, bool) {
    let mut world = World::begin(31);
    world.disks = disks.iter().map(|disk| disk.crash(Loss::Nothing)).collect();
    let mut nodes = vec![
        world.start_one(1).await.unwrap(),
        world.start_one(2).await.unwrap(),
    ];
    for node in &nodes {
        Box::pin(node.ready(LIMIT)).await.unwrap();
    }
    let before = world.disks[SICK].calls();
    strike.arm(&world, SICK, call);
    let sick = started(&mut world, SICK).await;
    for id in [-1, -2] {
        write(&nodes[0], format!("REPLACE INTO t VALUES ({id}, 'new')")).await;
    }
    if let Some(sick) = &sick {
        let done = async {
            while sick.status().metrics["state_repairs_total"] < 1.0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            biased;
            _ = sick.failed() => {}
            _ = tokio::time::timeout(LIMIT, done) => {}
        }
    }
    let calls = world.disks[SICK].calls() - before;
    let fell = strike.fell(&world.disks[SICK], before, call);
    drop(sick);
    world.power_loss(SICK, strike.loss(call));
    nodes.insert(SICK, world.start_one(SICK).await.unwrap());
    for id in [-3, -4] {
        write(&nodes[1], format!("REPLACE INTO t VALUES ({id}, 'new')")).await;
    }
    equal(&nodes).await;
    agree(&nodes, FILLED).await;
    (calls, fell)
}

#[test]
fn a_node_survives_trouble_at_any_call_of_its_repair() {
    let mut disks = Vec::new();
    simulated(async || {
        let mut world = World::begin(31);
        world.filled(FILLED).await;
        alter(&world.disks[SICK]);
        disks = world.disks;
    });
    let mut calls = 0;
    simulated(async || calls = repaired(&disks, u64::MAX, Strike::FailsOnce).await.0);
    let struck = |from: u64| {
        let mut tried = Tried::default();
        for call in (from..=calls).step_by(2) {
            for strike in strikes(call) {
                simulated(async || tried.count(repaired(&disks, call, strike).await.1));
            }
        }
        tried
    };
    let tried = std::thread::scope(|both| {
        let odd = both.spawn(|| struck(1));
        let (even, odd) = (struck(2), odd.join().unwrap());
        Tried {
            struck: even.struck + odd.struck,
            beyond: even.beyond + odd.beyond,
        }
    });
    tried.tell("trouble in a node's repair", calls, REPAIR_STATES_MIN);
}
