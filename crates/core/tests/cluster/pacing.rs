//! Steps of a checkpoint beside a log that syncs.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_millis(20);
const STEPS: u64 = 10;

/// A member on its own whose checkpoints take [`STEPS`] steps before the last, and the looks that its log answers.
async fn alone(patience: Duration) -> (Cluster, Arc<AtomicU64>) {
    let mut cluster = Cluster::unformed(0, Style::Late, quiet_rounds(), 1).await;
    let log = WatchedLog::default();
    cluster.start_watched(1, &log).await;
    cluster.bootstrap(1).await;
    let node = cluster.leader().await;
    node.push("a").await.unwrap();
    *node.machine.slices.lock().unwrap() = (STEPS, patience);
    (cluster, log.looks)
}

/// No rounds but those that are asked for.
fn quiet_rounds() -> Settings {
    let mut settings = Settings::default();
    settings.checkpoint_every_ms = 1_000_000_000;
    settings
}

async fn round(node: &Node, now: bool) -> Duration {
    let began = Instant::now();
    let steps = node.machine.steps.load(Ordering::Acquire);
    node.member.checkpoint(now).await.unwrap().unwrap();
    let made = node.machine.steps.load(Ordering::Acquire) - steps;
    assert_eq!(made, STEPS + 1);
    began.elapsed()
}

/// Rule 12: before each step a checkpoint lets the log's syncs go first, up to its patience, and always comes to its
/// end; once the log is quiet it goes on at once.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_yields_to_a_log_that_syncs_up_to_its_patience() {
    let (cluster, looks) = alone(PATIENCE).await;
    let node = cluster.leader().await;
    assert_eq!(round(node, false).await, Duration::ZERO, "the log is quiet");
    looks.store(u64::MAX, Ordering::Release);
    let busy = round(node, false).await;
    let yielded = PATIENCE * u32::try_from(STEPS).unwrap();
    assert!((yielded..yielded * 5 / 4).contains(&busy), "{busy:?}");
    looks.store(5, Ordering::Release);
    let short = round(node, false).await;
    let ms = Duration::from_millis;
    assert!((ms(5)..ms(15)).contains(&short), "{short:?}");
}

/// Rule 12: a checkpoint of a state whose memory is full has no patience, and one that somebody waits for doesn't use
/// it.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_in_a_hurry_yields_to_nobody() {
    let (cluster, looks) = alone(Duration::ZERO).await;
    let node = cluster.leader().await;
    looks.store(u64::MAX, Ordering::Release);
    assert_eq!(round(node, false).await, Duration::ZERO, "memory is full");
    node.machine.slices.lock().unwrap().1 = PATIENCE;
    assert_eq!(
        round(node, true).await,
        Duration::ZERO,
        "it is asked for now"
    );
    let began = Instant::now();
    let first = async {
        node.member.checkpoint(false).await.unwrap();
        began.elapsed()
    };
    let second = async {
        tokio::time::sleep(3 * PATIENCE).await;
        node.member.checkpoint(true).await.unwrap();
        began.elapsed()
    };
    let (first, second) = tokio::join!(first, second);
    assert!((3 * PATIENCE..4 * PATIENCE).contains(&first), "{first:?}");
    assert!((first..4 * PATIENCE).contains(&second), "{second:?}");
}

/// Rule 16: once the state isn't trusted any more, no further step of a checkpoint is made.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_under_way_ends_when_the_state_is_not_trusted_any_more() {
    let (cluster, looks) = alone(PATIENCE).await;
    let node = cluster.leader().await;
    looks.store(u64::MAX, Ordering::Release);
    *node.machine.failing.lock().unwrap() = Some((u64::MAX, Retry::Useless));
    let failing = async {
        tokio::time::sleep(2 * PATIENCE).await;
        node.push("b").await.unwrap_err();
    };
    let (ended, ()) = tokio::join!(node.member.checkpoint(false), failing);
    let ended = ended.unwrap_err().to_string();
    assert!(ended.contains("isn't trusted"), "{ended}");
    assert!(node.machine.steps.load(Ordering::Acquire) < STEPS);
}
