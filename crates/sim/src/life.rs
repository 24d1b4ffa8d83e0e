//! One simulation from its first boot to the last check.
//!
//! ```text
//!   boot ─► faults and clients ─► heal ─► every node serves ─► quiet: replicas equal ─► stop in order ─► checks
//! ```

use crate::check;
use crate::draw::Draw;
use crate::faults::Faults;
use crate::machine::{Asked, Machine, NODES, Phase, Shape, name};
use crate::world::{Act, World};
use sqlrep_disk::Loss;
use std::collections::BTreeMap;
use std::time::Duration;
use turmoil::Sim;

/// After healing, every node serves within this, in simulated time.
const HEALED_MAX: Duration = Duration::from_secs(60);

/// Then clients work on for this long.
const CALM: Duration = Duration::from_secs(1);

/// Then nobody writes, and within this everything is read, and all replicas are at one index.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// And all have stopped in order within this.
const STOP_MAX: Duration = Duration::from_secs(20);

const TICK: Duration = Duration::from_millis(1);

/// What a simulation found.
pub struct Report {
    /// Broken promises; empty if all is well.
    pub problems: Vec<String>,
    /// What happened, line by line: the same for the same seed.
    pub trace: Vec<String>,
    /// What was counted, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// Calls that were acknowledged.
    pub acknowledged: usize,
    /// How long it lasted, in simulated time.
    pub lasted: Duration,
}

/// Runs the simulation of `seed`.
#[must_use]
pub fn run(seed: u64) -> Report {
    let world = World::new(seed);
    let shape = Shape::draw(seed);
    let machines: Vec<Machine> = (1..=NODES)
        .map(|number| Machine::new(number, &world, &shape))
        .collect();
    let mut sim = network(seed);
    for machine in &machines {
        let booted = machine.clone();
        machine.set_phase(Phase::On);
        sim.host(name(machine.number), move || {
            let process = booted.clone();
            async move {
                process.run().await;
                Ok(())
            }
        });
    }
    let mut life = Life {
        faults: Faults::new(&world, &machines),
        world,
        machines,
        sim,
    };
    life.live();
    life.report()
}

fn network(seed: u64) -> Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(3))
        .tcp_capacity(1_024)
        .enable_random_order()
        .build()
}

struct Life {
    world: World,
    machines: Vec<Machine>,
    faults: Faults,
    sim: Sim<'static>,
}

impl Life {
    fn live(&mut self) {
        let length = Draw::new(self.world.seed, "length").millis(8_000, 20_000);
        while self.world.now() < length {
            self.tick();
            self.faults.step(&mut self.sim);
        }
        self.faults.heal(&mut self.sim);
        self.world.begin(Act::Healed);
        let served = |life: &Self| life.machines.iter().all(Machine::served);
        if !self.until(HEALED_MAX, served) {
            return self.not_served();
        }
        let calm = self.world.now() + CALM;
        self.until(HEALED_MAX, |life| life.world.now() >= calm);
        self.world.begin(Act::Quiet);
        let read = |life: &Self| life.machines.iter().all(Machine::read);
        if !self.until(QUIET_MAX, read) {
            self.world.problem("not every node serves the last reads");
        }
        if !self.until(QUIET_MAX, Self::settled) {
            self.world.problem("the replicas don't reach one index");
        }
        self.stop();
        check::all(&self.world, &self.machines);
    }

    fn tick(&mut self) {
        let stepped = self.sim.step();
        self.world.set_now(self.sim.elapsed());
        if let Err(error) = stepped {
            self.world
                .problem(format_args!("the simulation failed: {error}"));
        }
    }

    /// Lets time pass until `done`; false if it isn't within `limit`.
    fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = self.world.now() + limit;
        while !done(self) {
            if self.world.now() > deadline {
                return false;
            }
            self.tick();
            self.faults.tend(&mut self.sim);
        }
        true
    }

    fn not_served(&self) {
        for machine in self.machines.iter().filter(|machine| !machine.served()) {
            let log = machine
                .status()
                .map(|status| (status.role, status.term, status.log));
            self.world.problem(format_args!(
                "{} serves no write and strict read {HEALED_MAX:?} after everything was healed; {:?} {log:?}",
                name(machine.number),
                machine.phase()
            ));
        }
    }

    /// Whether all replicas show one index, with one checksum.
    fn settled(&self) -> bool {
        let shown = |machine: &Machine| {
            let status = machine.status()?;
            Some((status.log.applied?, status.sqlite.checksum))
        };
        let first = self.machines.first().and_then(shown);
        first.is_some() && self.machines.iter().all(|machine| shown(machine) == first)
    }

    /// Every node stops in order.
    fn stop(&mut self) {
        for machine in self.machines.clone() {
            machine.ask(Asked::Stop);
            let deadline = self.world.now() + STOP_MAX;
            while machine.phase() != Phase::Stopped && self.world.now() < deadline {
                self.tick();
            }
            if machine.phase() != Phase::Stopped {
                self.world
                    .problem(format_args!("{} doesn't stop", name(machine.number)));
            }
            self.sim.crash(name(machine.number));
            machine.lose(Loss::Everything);
        }
    }

    fn report(self) -> Report {
        let calls = self.world.history.read();
        Report {
            problems: self.world.problems(),
            trace: self.world.trace(),
            counts: self.world.counts(),
            acknowledged: calls.iter().filter(|call| call.done()).count(),
            lasted: self.world.now(),
        }
    }
}
