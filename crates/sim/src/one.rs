//! One seed in this process.

use sqlrep_sim::Report;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Lines of the trace that a failure shows.
const SHOWN: usize = 60;

/// Runs a seed; prints one line of what happened, and what was found wrong.
pub(crate) fn run(seed: u64, trace: bool) -> ExitCode {
    log();
    stop_at_panics();
    let report = sqlrep_sim::run(seed);
    let failed = !report.problems.is_empty();
    if trace {
        report.trace.iter().for_each(|line| println!("{line}"));
    } else if failed {
        let skipped = report.trace.len().saturating_sub(SHOWN);
        report.trace[skipped..]
            .iter()
            .for_each(|line| eprintln!("{line}"));
    }
    for problem in &report.problems {
        eprintln!("seed {seed}: {problem}");
    }
    println!("{}", summary(seed, &report));
    ExitCode::from(u8::from(failed))
}

/// `seed 7: 812 acknowledged, 21.4 s, trace 0123456789abcdef; kill 3, …`
fn summary(seed: u64, report: &Report) -> String {
    let digest = xxhash_rust::xxh3::xxh3_64(report.trace.join("\n").as_bytes());
    let counts: Vec<String> = report
        .counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!(
        "seed {seed}: {} acknowledged, {:.1} s, trace {digest:016x}; {}",
        report.acknowledged,
        report.lasted.as_secs_f64(),
        counts.join(", ")
    )
}

fn log() {
    if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .without_time()
            .init();
    }
}

/// A panic in a task would end that task only.
fn stop_at_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::exit(101);
    }));
}
