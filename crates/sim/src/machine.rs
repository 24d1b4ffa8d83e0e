//! One machine of the cluster: its disk and its clock stay, its process comes and goes.
//!
//! The process is a whole node on the host's runtime, with clients beside it that die with it. A process that has to end
//! only says so ([`Phase`]) and waits: whoever drives the simulation ends it, and so nothing of it runs on.

use crate::client;
use crate::draw::Draw;
use crate::sockets::Simulated;
use crate::time::NodeClock;
use crate::world::World;
use sqlrep_core::NodeId;
use sqlrep_core::memory::RuntimeTimer;
use sqlrep_disk::{Disk, Loss, SimulatedDisk};
use sqlrep_env::{Env, SimulatedEntropy, SimulatedExecutor};
use sqlrep_node::{
    CheckpointPolicy, Mode, Net, Node, NodeError, NodeOptions, Profile, Surroundings,
};
use sqlrep_service::{Role, Status};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Voters of the cluster.
pub(crate) const NODES: u64 = 3;

/// Clients beside each node.
const CLIENTS: u64 = 2;

/// A node shows its status this often.
const LOOK: Duration = Duration::from_millis(50);

/// Where nodes listen.
const PORT: u16 = 4002;

/// How the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No process.
    Off,
    /// Started, or starting.
    On,
    /// It has to end, and why.
    Failed(String),
    /// It has stopped in order.
    Stopped,
}

struct State {
    disk: SimulatedDisk,
    boots: u64,
    phase: Phase,
    status: Option<Status>,
    /// A disk of this machine has failed a call, or changed what it holds.
    disk_failed: bool,
    /// The generation of the database in which a bit was flipped.
    rotten: Option<u64>,
    /// The boot in which it last said that its state isn't to be trusted.
    out_of_service: u64,
    served: bool,
    read: bool,
}

/// What differs from seed to seed and stays for a whole simulation.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) mode: Mode,
    pub(crate) profile: Profile,
    pub(crate) checkpoint: CheckpointPolicy,
    pub(crate) log_segment_bytes: u64,
    pub(crate) log_retention_entries: u64,
    pub(crate) page_bytes: u32,
    /// What a sync costs, in microseconds.
    pub(crate) sync_us: u64,
    /// Whether disks may be full. The log's segments are larger then, as they have to be: what is under way fits into half
    /// of one.
    pub(crate) full_disks: bool,
    /// What the text of an insert has beside what it means.
    pub(crate) ballast_bytes: usize,
}

impl Shape {
    /// Draws small limits as well as the usual ones, so that rare paths are common.
    pub(crate) fn draw(seed: u64) -> Self {
        let draw = Draw::new(seed, "shape");
        let full_disks = draw.chance(40);
        let entries_max = *draw.pick(&[5, 50, 500, 1_000_000]);
        Self {
            // Every other seed, so that any range of them runs both.
            mode: [Mode::Statement, Mode::Page][usize::from(!seed.is_multiple_of(2))],
            profile: *draw.pick(&[Profile::Standard, Profile::Fast]),
            checkpoint: CheckpointPolicy {
                entries_max,
                age_max: draw.millis(1_000, 60_000),
                ..CheckpointPolicy::default()
            },
            log_segment_bytes: if full_disks {
                4 << 20
            } else {
                *draw.pick(&[4 << 10, 32 << 10, 1 << 20])
            },
            log_retention_entries: *draw.pick(&[1, 20, 200, 100_000]),
            page_bytes: *draw.pick(&[512, 1024, 4096]),
            sync_us: *draw.pick(&[500, 2_000, 8_000]),
            full_disks,
            ballast_bytes: if full_disks { 16 << 10 } else { 0 },
        }
    }
}

/// One machine. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) number: u64,
    world: World,
    pub(crate) shape: Shape,
    /// Added to what each turn of a writing worker costs, in microseconds.
    pub(crate) slow_us: Arc<AtomicU64>,
    /// How wrong its wall clock is.
    pub(crate) clock_error_ms: Arc<AtomicI64>,
    asked: watch::Sender<Asked>,
    state: Arc<Mutex<State>>,
}

/// What the driver wants of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing.
    Nothing,
    /// Hand leadership over.
    StepDown,
    /// Stop in order.
    Stop,
}

/// The machine's name in the network.
pub(crate) fn name(number: u64) -> String {
    format!("node{number}")
}

fn address(number: u64) -> String {
    format!("{}:{PORT}", name(number))
}

impl Machine {
    pub(crate) fn new(number: u64, world: &World, shape: &Shape) -> Self {
        let disk = SimulatedDisk::new(world.seed * 10 + number);
        Self {
            number,
            world: world.clone(),
            shape: shape.clone(),
            slow_us: Arc::default(),
            clock_error_ms: Arc::default(),
            asked: watch::channel(Asked::Nothing).0,
            state: Arc::new(Mutex::new(State {
                disk,
                boots: 0,
                phase: Phase::Off,
                status: None,
                disk_failed: false,
                rotten: None,
                out_of_service: 0,
                served: false,
                read: false,
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase.clone()
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.state().phase = phase;
    }

    pub(crate) fn disk(&self) -> SimulatedDisk {
        self.state().disk.clone()
    }

    /// Puts the disk in place that the next process finds.
    pub(crate) fn lose(&self, loss: Loss) {
        self.disk_failed();
        let mut state = self.state();
        state.disk = state.disk.crash(loss);
        state.phase = Phase::Off;
        state.status = None;
        drop(state);
        self.asked.send_replace(Asked::Nothing);
    }

    pub(crate) fn ask(&self, what: Asked) {
        self.asked.send_replace(what);
    }

    pub(crate) fn status(&self) -> Option<Status> {
        self.state().status.clone()
    }

    /// Whether it served a write and a strict read after everything was healed.
    pub(crate) fn served(&self) -> bool {
        self.state().served
    }

    pub(crate) fn set_served(&self) {
        self.state().served = true;
    }

    /// Whether everything was read here at the end.
    pub(crate) fn read(&self) -> bool {
        self.state().read
    }

    pub(crate) fn set_read(&self) {
        self.state().read = true;
    }

    fn env(&self, boot: u64) -> Env {
        let timer = RuntimeTimer::begin();
        let (slow, sync_us) = (self.slow_us.clone(), self.shape.sync_us);
        let cost = move |worker| match worker {
            "log" | "checkpoint" => Duration::from_micros(sync_us + slow.load(Ordering::Relaxed)),
            _ => Duration::from_micros(50),
        };
        let seed = Draw::new(self.world.seed, &format!("node {} {boot}", self.number)).any();
        Env {
            clock: Arc::new(NodeClock::new(
                timer.clone(),
                self.world.now(),
                self.clock_error_ms.clone(),
            )),
            entropy: Arc::new(SimulatedEntropy::new(seed)),
            executor: Arc::new(SimulatedExecutor::new(timer, cost)),
        }
    }

    fn options(&self, boot: u64, disk: SimulatedDisk) -> NodeOptions {
        let mut options = NodeOptions::new(name(self.number));
        options.mode = Some(self.shape.mode);
        options.node_id = NodeId::new(self.number);
        options.raft_address = format!("0.0.0.0:{PORT}");
        options.raft_advertised = Some(address(self.number));
        options.join = (1..=NODES).map(address).collect();
        options.bootstrap_expect = u32::try_from(NODES).ok();
        options.profile = self.shape.profile;
        options.checkpoint = self.shape.checkpoint;
        options.log_segment_bytes = self.shape.log_segment_bytes;
        options.log_retention_entries = self.shape.log_retention_entries;
        let page_bytes = self.shape.page_bytes.to_string();
        options.cluster_settings = [("page_bytes".to_owned(), page_bytes)].into();
        options.surroundings = Some(Surroundings {
            disk: Arc::new(disk) as Arc<dyn Disk>,
            network: Net::Sockets(Arc::new(Simulated)),
            env: self.env(boot),
        });
        options
    }

    /// The process: what the simulation runs on the machine's host, from boot to whatever ends it.
    pub(crate) async fn run(self) {
        let (boot, disk) = {
            let mut state = self.state();
            state.boots += 1;
            state.phase = Phase::On;
            (state.boots, state.disk.clone())
        };
        self.note(format_args!("boots, {boot}"));
        match Box::pin(Node::start(self.options(boot, disk))).await {
            Ok(node) => self.live(node, boot).await,
            Err(error) => self.cannot_start(&error),
        }
        std::future::pending::<()>().await;
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.world
            .note(format_args!("{} {what}", name(self.number)));
    }

    /// A disk may fail, nothing else keeps a node from starting.
    fn cannot_start(&self, error: &NodeError) {
        self.fails(format!("can't start: {error}"));
    }

    /// Whether a disk of this machine ever failed a call.
    fn disk_failed(&self) -> bool {
        let mut state = self.state();
        state.disk_failed |= state.disk.injected() > 0;
        state.disk_failed
    }

    /// Flips a bit of the database file; false if there is none yet. Neither process nor disk notice.
    pub(crate) fn rot(&self, draw: &Draw) -> bool {
        let disk = self.disk();
        let live = disk.list_all().into_iter().filter_map(|path| {
            let generation = path.strip_prefix("db/")?.strip_suffix("/main.db")?;
            Some((generation.parse::<u64>().ok()?, path))
        });
        let Some((generation, path)) = live.max() else {
            return false;
        };
        let bytes = disk.read_file(&path).map_or(0, |bytes| bytes.len());
        let Ok(bytes @ 1..) = u64::try_from(bytes) else {
            return false;
        };
        disk.flip(&path, draw.below(bytes), 1 << draw.below(8));
        let mut state = self.state();
        state.disk_failed = true;
        state.rotten = Some(generation);
        true
    }

    /// The generation of the database that is known to be damaged.
    pub(crate) fn rotten(&self) -> Option<u64> {
        self.state().rotten
    }

    fn fails(&self, why: String) {
        self.note(&why);
        if self.disk().injected() == 0 {
            self.world.problem(format_args!(
                "{} ends though its disk is well: {why}",
                name(self.number)
            ));
        }
        self.set_phase(Phase::Failed(why));
    }

    /// A node that doesn't trust its own state says so, and repairs itself.
    pub(crate) fn out_of_service(&self) {
        let mut state = self.state();
        if state.out_of_service == state.boots {
            return;
        }
        state.out_of_service = state.boots;
        drop(state);
        self.world.count("nodes out of service");
        if !self.disk_failed() {
            self.world.problem(format_args!(
                "{} is out of service though its disk is well",
                name(self.number)
            ));
        }
    }

    async fn live(&self, node: Node, boot: u64) {
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let client = client::Client::new(&self.world, self, &node, boot, number);
            tasks.spawn(client.run());
        }
        let mut asked = self.asked.subscribe();
        loop {
            tokio::select! {
                biased;
                failure = node.failed() => return self.fails(format!("{failure:?}")),
                entered = refused(&node) => {
                    self.world.problem(format_args!("{} may not enter: {entered}", name(self.number)));
                    return;
                }
                () = told(&mut asked) => {}
                () = tokio::time::sleep(LOOK) => self.look(&node.status()),
            }
            let wish = *asked.borrow_and_update();
            match wish {
                Asked::Nothing => {}
                Asked::StepDown => {
                    self.step_down(&node).await;
                    self.asked.send_replace(Asked::Nothing);
                }
                Asked::Stop => break,
            }
        }
        self.look(&node.status());
        tasks.shutdown().await;
        node.stop().await;
        self.note("stopped");
        self.set_phase(Phase::Stopped);
    }

    async fn step_down(&self, node: &Node) {
        let stepped = node.admin().step_down(None, Duration::from_secs(1)).await;
        self.note(format_args!("steps down: {stepped:?}"));
    }

    fn look(&self, status: &Status) {
        if status.role == Role::Leader {
            self.world.leads(self.number, status.term.0);
        }
        if let Some(applied) = status.log.applied {
            self.world
                .checksum(self.number, applied.index.0, status.sqlite.checksum);
        }
        let mismatches = status.metrics.get("checksum_mismatches_total");
        if mismatches.is_none_or(|count| *count > 0.0) {
            self.world.problem(format_args!(
                "{} differs from its leader",
                name(self.number)
            ));
        }
        self.state().status = Some(status.clone());
    }
}

async fn told(asked: &mut watch::Receiver<Asked>) {
    if *asked.borrow() == Asked::Nothing {
        // The sender lives as long as the machine.
        asked.changed().await.ok();
    }
}

/// Returns if the node can't enter the cluster.
async fn refused(node: &Node) -> NodeError {
    match node.entered().await {
        Err(error) => error,
        Ok(()) => std::future::pending().await,
    }
}
