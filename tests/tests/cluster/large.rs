//! Transactions larger than the memory that nodes are given for them, on three nodes, by the measurement that an operator runs.

use crate::MODE;
use crate::command::sqlrep;
use serde_json::Value;

/// The table; each of the three statements changes all of it.
const MIB: f64 = 96.0;

/// What a node may have. In statement mode 80 MiB were measured; in page mode 190 MiB on the leader, of them 32 MiB of entries that the log
/// keeps and a few parts of 8 MiB on their way to each follower. A node that held a set as a whole would have it as parts and as
/// commands too, twice the table more.
fn memory_mib_max() -> f64 {
    match MODE {
        "page" => 280.0,
        _ => 160.0,
    }
}

/// Rule 26: a large transaction is one entry of SQL, or a set of many parts of which few are in memory at a time; either way all
/// nodes have the same bytes in the end.
#[test]
fn transactions_larger_than_memory_end_equal_on_all_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("--dir={}", folder.path().display());
    let (mode, mib) = (format!("--mode={MODE}"), format!("--mib={MIB}"));
    let little = ["--version-memory=8388608", "--transaction-memory=2097152"];
    let all = [
        &["bench", "large", "--json", &dir, &mode, &mib],
        &little[..],
    ]
    .concat();
    let run = sqlrep(&all, "");
    assert_eq!(run.code, Some(0), "{run:?}");
    let reports: Value = serde_json::from_str(&run.out).unwrap();
    let rows = reports[0]["rows"].as_array().unwrap();
    let figure = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("{name}: {run:?}"))["median"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(figure("nodes with one checksum"), 3.0);
    assert!(figure("database") >= MIB * 0.9);
    for statement in ["INSERT", "UPDATE", "VACUUM"] {
        let entries = figure(&format!("{statement}: log entries"));
        match MODE {
            "page" => assert!(entries >= MIB / 8.0, "{statement}: {entries} entries"),
            _ => assert!(entries <= 4.0, "{statement}: {entries} entries"),
        }
        for node in 1..=3 {
            let name = format!("{statement}: memory of node {node}, most until then");
            let most = figure(&name);
            assert!(most <= memory_mib_max(), "{name}: {most} MiB");
        }
    }
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(left.count(), 0, "the measured folder is removed");
}
