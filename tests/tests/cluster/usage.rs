//! How the program ends when it is used wrongly: a code that a supervisor can act on, and a message that says what to do.

use crate::cluster::Cluster;
use crate::command::{program, run, sqlrep};
use crate::process::free_addresses;
use std::path::Path;

#[test]
fn wrong_flags_end_with_code_2_and_say_what_to_do() {
    let node = ["node", "--data-dir=/nonexistent/never"];
    for (flags, says) in [
        (&["--mode=paper"][..], "invalid value"),
        (&["--bootstrap-expect=3"], "needs --join"),
        (
            &["--bootstrap-expect=3", "--join=a:1,b:1"],
            "--join names 2",
        ),
        (&["--join=a:1,a:1"], "stands twice"),
        (
            &["--bootstrap-expect=1", "--join=a:1", "--non-voter"],
            "founding nodes vote",
        ),
        (&["--node-id=9223372036854775808"], "9223372036854775807"),
        (&["--http-addr=localhost"], "add a port"),
        (&["--raft-addr=::1:4002"], "brackets"),
        (
            &["--log-retention-max=67108863"],
            "--log-retention-bytes is 67108864",
        ),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let ended = sqlrep(&[&node[..], flags].concat(), "");
        assert_eq!(ended.code, Some(2), "{flags:?}: {ended:?}");
        assert!(ended.err.contains(says), "{flags:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{flags:?}");
    }
}

#[test]
fn the_environment_counts_and_a_flag_wins_over_it() {
    let bad = [("SQLREP_HTTP_ADDR", "nowhere"), ("SQLREP_MODE", "paper")];
    let node = |bad: &[(&str, &str)], flags: &[&str]| {
        let mut command = program();
        command.args(["node", "--data-dir=/nonexistent/never"]);
        command.args(flags).envs(bad.iter().copied());
        run(command, "")
    };
    let ended = node(&bad[..1], &[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("nowhere"), "{}", ended.err);
    // The flag corrects the address; what is left to complain of is the mode.
    let ended = node(&bad, &["--http-addr=127.0.0.1:1"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("paper"), "{}", ended.err);
}

#[test]
fn a_misspelt_key_in_the_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sqlrep.toml");
    std::fs::write(
        &path,
        "data-dir = '/nonexistent/never'\nbootstrap-expects = 3\n",
    )
    .unwrap();
    let config = format!("--config={}", path.display());
    let ended = sqlrep(&["node", &config], "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("bootstrap-expects"), "{}", ended.err);
    assert!(ended.err.contains("sqlrep.toml"), "{}", ended.err);
}

/// Rule 35: with another local time `localtime` in SQL would differ between nodes. Zones by rule need no data on the machine;
/// one of them is UTC in winter, another was so until it got its rules.
#[test]
fn a_local_time_that_is_not_utc_is_refused_before_anything_is_touched() {
    let cluster = Cluster::of(1);
    let node = &cluster.nodes[0];
    for zone in ["EST5EDT", "GMT0BST", "XXX-5:45", "America/New_York"] {
        let known = !zone.contains('/') || Path::new("/usr/share/zoneinfo").join(zone).exists();
        if !known {
            continue;
        }
        let mut command = node.command(&[]);
        command.env("TZ", zone);
        let ended = run(command, "");
        assert_eq!(ended.code, Some(3), "{zone}: {ended:?}");
        assert!(ended.err.contains("isn't UTC"), "{zone}: {}", ended.err);
        assert!(ended.err.contains("TZ=UTC"), "{zone}: {}", ended.err);
        assert_eq!(ended.out, "");
        assert!(
            !node.directory.exists(),
            "{zone}: a data directory was made"
        );
    }
}

#[test]
fn help_and_version_are_results() {
    for arguments in [&["--help"][..], &["node", "--help"], &["--version"]] {
        let ended = sqlrep(arguments, "");
        assert_eq!(ended.code, Some(0), "{arguments:?}");
        assert!(
            ended.out.contains("sqlrep") && ended.err.is_empty(),
            "{ended:?}"
        );
    }
}

#[test]
fn nobody_listening_is_a_failure_with_the_address() {
    let address = free_addresses(1).remove(0);
    let flag = format!("--addr={address}");
    for arguments in [
        &["shell", &flag, "-c", "SELECT 1"][..],
        &["status", &flag],
        &["shell", &flag],
    ] {
        let ended = sqlrep(arguments, "SELECT 1;");
        assert_eq!(ended.code, Some(1), "{arguments:?}");
        assert!(ended.err.contains(&address), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
}
