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

impl Load {
    /// One writer per node and two on the first.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (acknowledged, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(1)));
        let clients = cluster.nodes.iter().chain([&cluster.nodes[0]]);
        let writers = clients.map(|node| {
            let client = node.client.within(PATIENCE);
            let (stop, told, next) = (stop.clone(), Arc::clone(&told), next.clone());
            let acknowledged = acknowledged.clone();
            #[allow(
                clippy::disallowed_methods,
                reason = "clients of a test are threads of their own"
            )]
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    note(&told, &acknowledged, id, write(&client, id));
                }
            })
        });
        let writers = writers.collect();
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

fn write(client: &Client, id: u64) -> Outcome {
    let body = serde_json::json!([["INSERT INTO ledger (id) VALUES (?)", id]]);
    let outcome = client.write("/db/execute", &body);
    if matches!(outcome, Outcome::Refused(_)) {
        // Nobody listens, or nobody leads: not as fast as the machine can.
        pause();
    }
    outcome
}
