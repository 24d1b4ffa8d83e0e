//! What goes wrong, and when: drawn from the seed.
//!
//! Each seed has a few kinds of faults, not all, so that each kind also meets a cluster that is well otherwise. Every fault
//! ends by itself, and [`Faults::heal`] ends them all.

use crate::draw::Draw;
use crate::machine::{Asked, Machine, NODES, Phase, name};
use crate::world::World;
use sqlrep_disk::{Fault, Loss, Operation};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use turmoil::Sim;

/// Kinds of faults, by the name under which the report counts them.
pub(crate) const KINDS: [&str; 15] = [
    "partition",
    "isolation",
    "one-way cut",
    "paused network",
    "slow network",
    "kill",
    "power loss",
    "power loss of all",
    "death in a disk call",
    "failing disk",
    "full disk",
    "slow disk",
    "clock jump",
    "restart",
    "rot",
];

/// What is to happen later.
enum Later {
    Boot(u64),
    Repair,
    Swift,
    SpeedUp(u64),
    Room(u64),
    Kill(u64, Loss),
}

/// The source of all evil of one simulation.
pub(crate) struct Faults {
    world: World,
    draw: Draw,
    machines: Vec<Machine>,
    kinds: Vec<&'static str>,
    /// By time, then by the order of ordering.
    later: BTreeMap<(Duration, u64), Later>,
    ordered: u64,
    /// Whether faults may strike while the cluster is being formed.
    early: bool,
    next: Duration,
    /// Longest pause between two faults.
    pause_ms: u64,
    /// The machine whose database rots.
    rots: u64,
}

impl Faults {
    pub(crate) fn new(world: &World, machines: &[Machine]) -> Self {
        let draw = Draw::new(world.seed, "faults");
        let share = *draw.pick(&[15, 30, 60, 100]);
        let full_disks = machines.iter().all(|machine| machine.shape.full_disks);
        let known: Vec<&str> = KINDS
            .into_iter()
            .filter(|kind| full_disks || *kind != "full disk")
            .collect();
        let mut kinds = vec![*draw.pick(&known)];
        kinds.extend(known.iter().filter(|_| draw.chance(share)));
        let early = draw.chance(20);
        let next = draw.millis(0, 2_000);
        let pause_ms = *draw.pick(&[600, 1_500, 4_000]);
        let rots = 1 + draw.below(NODES);
        world.note(format_args!("faults: {kinds:?}, up to {pause_ms} ms apart"));
        Self {
            world: world.clone(),
            draw,
            machines: machines.to_vec(),
            kinds,
            later: BTreeMap::new(),
            ordered: 0,
            early,
            next,
            pause_ms,
            rots,
        }
    }

    fn machine(&self, number: u64) -> &Machine {
        let index = usize::try_from(number - 1).expect("a small number");
        &self.machines[index]
    }

    /// A machine that runs, if there is one.
    fn any_node(&self) -> Option<u64> {
        let runs = |machine: &&Machine| machine.phase() == Phase::On;
        let running: Vec<u64> = self
            .machines
            .iter()
            .filter(runs)
            .map(|one| one.number)
            .collect();
        (!running.is_empty()).then(|| *self.draw.pick(&running))
    }

    fn order(&mut self, after: Duration, what: Later) {
        self.ordered += 1;
        self.later
            .insert((self.world.now() + after, self.ordered), what);
    }

    /// Boots a machine later.
    fn boot_later(&mut self, node: u64) {
        let pause = *self.draw.pick(&[20, 300, 3_000, 10_000]);
        let pause = self.draw.millis(10, pause);
        self.order(pause, Later::Boot(node));
    }

    /// Does what is due, and strikes if it is time.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>) {
        self.bury(sim);
        self.settle(sim);
        if self.world.now() >= self.next && (self.early || self.world.formed()) {
            let kind = *self.draw.pick(&self.kinds);
            self.strike(sim, kind);
            self.next = self.world.now() + self.draw.millis(50, self.pause_ms);
        }
    }

    /// Does what is due.
    pub(crate) fn settle(&mut self, sim: &mut Sim<'_>) {
        while let Some(first) = self.later.first_entry() {
            if first.key().0 > self.world.now() {
                return;
            }
            let what = first.remove();
            self.happen(sim, what);
        }
    }

    fn happen(&mut self, sim: &mut Sim<'_>, what: Later) {
        match what {
            Later::Boot(node) => {
                if self.machine(node).phase() == Phase::Off {
                    sim.bounce(name(node));
                    self.machine(node).set_phase(Phase::On);
                }
            }
            Later::Repair => self.repair(sim),
            Later::Swift => {
                sim.set_max_message_latency(Duration::from_millis(3));
                self.world.note("the network is swift again");
            }
            Later::SpeedUp(node) => {
                self.machine(node).slow_us.store(0, Ordering::Relaxed);
                self.world
                    .note(format_args!("{}'s disk is fast again", name(node)));
            }
            Later::Room(node) => {
                self.machine(node).disk().set_free_bytes(None);
                self.world
                    .note(format_args!("{}'s disk has room again", name(node)));
            }
            Later::Kill(node, loss) => self.kill(sim, node, loss),
        }
    }

    fn repair(&self, sim: &mut Sim<'_>) {
        for (one, other) in pairs() {
            sim.release(name(one), name(other));
            sim.repair(name(one), name(other));
        }
        self.world.note("the network is whole again");
    }

    /// Ends processes that have to end, and those whose disk died under them.
    pub(crate) fn bury(&mut self, sim: &mut Sim<'_>) {
        for node in 1..=NODES {
            let machine = self.machine(node).clone();
            let dead = machine.phase() != Phase::Off && machine.disk().is_dead();
            match machine.phase() {
                _ if dead => {
                    self.world
                        .note(format_args!("{} died in a disk call", name(node)));
                    self.world.count("deaths in a disk call");
                    let loss = self.loss();
                    self.kill(sim, node, loss);
                }
                Phase::Failed(why) => {
                    self.world.note(format_args!("{} ended: {why}", name(node)));
                    self.world.count("processes that ended by themselves");
                    let loss = self.loss();
                    self.kill(sim, node, loss);
                }
                Phase::Stopped => self.kill(sim, node, Loss::Nothing),
                Phase::On | Phase::Off => {}
            }
        }
    }

    fn loss(&self) -> Loss {
        match self.draw.below(4) {
            0 => Loss::Nothing,
            1 => Loss::Everything,
            _ => Loss::Random {
                seed: self.draw.any(),
            },
        }
    }

    /// Ends a process; half of the time the others hear nothing of it.
    fn kill(&mut self, sim: &mut Sim<'_>, node: u64, loss: Loss) {
        let machine = self.machine(node).clone();
        if machine.phase() == Phase::Off {
            return;
        }
        let silent = self.draw.chance(50);
        let others = || (1..=NODES).filter(move |other| *other != node);
        if silent {
            others().for_each(|other| sim.partition_oneway(name(node), name(other)));
        }
        sim.crash(name(node));
        machine.lose(loss);
        if silent {
            others().for_each(|other| sim.repair_oneway(name(node), name(other)));
        }
        let lost = machine.disk().lost();
        self.world
            .note(format_args!("{} is down, {loss:?} lost {lost}", name(node)));
        if lost > 0 {
            self.world.count("crashes that lost unsynced writes");
        }
        self.boot_later(node);
    }

    fn strike(&mut self, sim: &mut Sim<'_>, kind: &'static str) {
        let Some(node) = self.any_node() else {
            return;
        };
        if kind == "rot" {
            return self.rot();
        }
        let other = 1 + (node + self.draw.below(NODES - 1)) % NODES;
        self.world.note(format_args!("{kind} {node} {other}"));
        self.world.count(kind);
        let last = *self.draw.pick(&[200, 1_000, 5_000]);
        let last = self.draw.millis(50, last);
        match kind {
            "partition" => {
                sim.partition(name(node), name(other));
                self.order(last, Later::Repair);
            }
            "isolation" => {
                for other in (1..=NODES).filter(|other| *other != node) {
                    sim.partition(name(node), name(other));
                }
                self.order(last, Later::Repair);
            }
            "one-way cut" => {
                sim.partition_oneway(name(node), name(other));
                self.order(last, Later::Repair);
            }
            "paused network" => {
                sim.hold(name(node), name(other));
                self.order(last, Later::Repair);
            }
            "slow network" => {
                sim.set_max_message_latency(self.draw.millis(20, 400));
                self.order(last, Later::Swift);
            }
            _ => self.strike_machine(sim, kind, node, last),
        }
    }

    fn strike_machine(&mut self, sim: &mut Sim<'_>, kind: &str, node: u64, last: Duration) {
        let machine = self.machine(node).clone();
        match kind {
            "kill" => self.kill(sim, node, Loss::Nothing),
            "power loss" => {
                let loss = self.loss();
                self.kill(sim, node, loss);
            }
            "power loss of all" => {
                for node in 1..=NODES {
                    let loss = self.loss();
                    self.kill(sim, node, loss);
                }
            }
            "death in a disk call" => {
                let reach = *self.draw.pick(&[5, 50, 500]);
                machine.disk().crash_at(1 + self.draw.below(reach));
            }
            "failing disk" => machine.disk().inject(self.disk_fault()),
            "full disk" => {
                let free = *self.draw.pick(&[0, 1 << 10, 64 << 10]);
                machine.disk().set_free_bytes(Some(free));
                self.order(last, Later::Room(node));
            }
            "slow disk" => {
                let slow_us = *self.draw.pick(&[20_000, 100_000, 400_000]);
                machine.slow_us.store(slow_us, Ordering::Relaxed);
                self.order(last, Later::SpeedUp(node));
            }
            "clock jump" => {
                let by_ms = i64::try_from(self.draw.below(7_200_000)).expect("a small number");
                machine
                    .clock_error_ms
                    .store(by_ms - 3_600_000, Ordering::Relaxed);
            }
            _ => self.restart(node),
        }
    }

    /// One machine alone: a bit that is wrong on two of three can't be told from one that is right.
    fn rot(&self) {
        if self.machine(self.rots).rot(&self.draw) {
            self.world.note(format_args!("rot in {}", name(self.rots)));
            self.world.count("rot");
        }
    }

    /// Stops in order, or hands leadership over only. Who doesn't stop in time is killed, as an operator would.
    fn restart(&mut self, node: u64) {
        if self.draw.chance(30) {
            return self.machine(node).ask(Asked::StepDown);
        }
        self.machine(node).ask(Asked::Stop);
        self.order(Duration::from_secs(8), Later::Kill(node, Loss::Nothing));
    }

    fn disk_fault(&self) -> Fault {
        let operation = *self.draw.pick(&[
            Operation::Read,
            Operation::Write,
            Operation::Sync,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Open,
            Operation::Rename,
            Operation::Remove,
        ]);
        let nth = 1 + self.draw.below(20);
        let fault = Fault::io(nth).only(operation);
        if self.draw.chance(40) {
            fault.forever()
        } else {
            fault
        }
    }

    /// Ends all faults and boots who is down.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) {
        self.later.clear();
        self.repair(sim);
        sim.set_max_message_latency(Duration::from_millis(3));
        for node in 1..=NODES {
            let machine = self.machine(node).clone();
            machine.disk().heal();
            machine.slow_us.store(0, Ordering::Relaxed);
            machine.clock_error_ms.store(0, Ordering::Relaxed);
            if machine.phase() == Phase::Off {
                self.order(Duration::ZERO, Later::Boot(node));
            }
        }
    }

    /// Like [`step`](Self::step) once nothing strikes any more: who has to end is booted again.
    pub(crate) fn tend(&mut self, sim: &mut Sim<'_>) {
        self.bury(sim);
        self.settle(sim);
    }
}

fn pairs() -> impl Iterator<Item = (u64, u64)> {
    (1..=NODES).flat_map(|one| (one + 1..=NODES).map(move |other| (one, other)))
}
