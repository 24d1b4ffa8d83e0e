//! Clients that write beside the faults, and remember what they were told.

use crate::client::{Client, Outcome};
use crate::cluster::Cluster;
use crate::waiting::pause;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long one write may take before its client calls it unknown.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Told {
    done: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

/// Writers of distinct ids into `ledger`, a table without a unique key: what is done twice is seen twice.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Told>>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

/// Threads that each call `each` with their number and the next id, from 1 on, until they are to stop.
pub(crate) fn writers(
    count: usize,
    stop: &Arc<AtomicBool>,
    each: impl Fn(usize, u64) + Clone + Send + 'static,
) -> Vec<JoinHandle<()>> {
    let next = Arc::new(AtomicU64::new(1));
    let writer = |from| {
        let (stop, next, each) = (stop.clone(), next.clone(), each.clone());
        #[allow(
            clippy::disallowed_methods,
            reason = "clients of a test are threads of their own"
        )]
        std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                each(from, next.fetch_add(1, Ordering::Relaxed));
            }
        })
    };
    (0..count).map(writer).collect()
}

/// Adds an id.
const LIGHT: &str = "INSERT INTO ledger (id) VALUES (?)";

/// The same, with a million steps of work before it.
const HEAVY: &str = "INSERT INTO ledger (id) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000) \
                     SELECT max(?, 0 * count(*)) FROM c";

impl Load {
    /// One writer per node and two on the first.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        Self::of(cluster, LIGHT)
    }

    /// The same, whose writes take each node some time to apply.
    pub(crate) fn heavy(cluster: &Cluster) -> Self {
        Self::of(cluster, HEAVY)
    }

    fn of(cluster: &Cluster, sql: &'static str) -> Self {
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let acknowledged = Arc::new(AtomicU64::new(0));
        let nodes = cluster.nodes.iter().chain([&cluster.nodes[0]]);
        let clients: Vec<Client> = nodes.map(|node| node.client.within(PATIENCE)).collect();
        let writers = writers(clients.len(), &stop, {
            let (told, acknowledged) = (Arc::clone(&told), acknowledged.clone());
            move |from, id| note(&told, &acknowledged, id, write(&clients[from], sql, id))
        });
        Self {
            stop,
            told,
            acknowledged,
            writers,
        }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Ends the writers; what they were told: done, refused.
    pub(crate) fn end(self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        self.stop.store(true, Ordering::Release);
        for writer in self.writers {
            writer.join().unwrap();
        }
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        (told.done, told.refused)
    }
}

fn note(told: &Mutex<Told>, acknowledged: &AtomicU64, id: u64, outcome: Outcome) {
    let mut told = told.lock().unwrap();
    match outcome {
        Outcome::Done => {
            told.done.insert(id);
            acknowledged.fetch_add(1, Ordering::Release);
        }
        Outcome::Refused(_) => {
            told.refused.insert(id);
        }
        Outcome::Unknown(_) => {}
    }
}

fn write(client: &Client, sql: &str, id: u64) -> Outcome {
    let body = serde_json::json!([[sql, id]]);
    let outcome = client.write("/db/execute", &body);
    if matches!(outcome, Outcome::Refused(_)) {
        // Nobody listens, or nobody leads: not as fast as the machine can.
        pause();
    }
    outcome
}

/// Text of so many bytes that no encoding of the log makes much shorter; another one for each seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> String {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut letter = || {
        word = word
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (word >> 59).to_le_bytes()[0] % 26)
    };
    (0..bytes).map(|_| letter()).collect()
}
