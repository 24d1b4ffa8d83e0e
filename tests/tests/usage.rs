//! How the program ends when it is used wrongly: a code that a supervisor can act on, and a message that says what to do.

mod harness;

use harness::process::free_addresses;
use harness::program::run;

#[test]
fn wrong_flags_end_with_code_2_and_say_what_to_do() {
    let node = ["node", "--data-dir=/nonexistent/never"];
    for (flags, says) in [
        (&["--mode=page"][..], "page mode is not yet available"),
        (&["--mode=paper"], "invalid value"),
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
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let ended = run(&[&node[..], flags].concat(), &[], "");
        assert_eq!(ended.code, Some(2), "{flags:?}: {ended:?}");
        assert!(ended.err.contains(says), "{flags:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{flags:?}");
    }
}

#[test]
fn the_environment_counts_and_a_flag_wins_over_it() {
    let bad = [("SQLREP_HTTP_ADDR", "nowhere"), ("SQLREP_MODE", "page")];
    let ended = run(&["node", "--data-dir=/nonexistent/never"], &bad[..1], "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("nowhere"), "{}", ended.err);
    // The flag corrects the address; what is left to complain of is the mode.
    let flags = [
        "node",
        "--data-dir=/nonexistent/never",
        "--http-addr=127.0.0.1:1",
    ];
    let ended = run(&flags, &bad, "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("page mode"), "{}", ended.err);
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
    let ended = run(&["node", &config], &[], "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("bootstrap-expects"), "{}", ended.err);
    assert!(ended.err.contains("sqlrep.toml"), "{}", ended.err);
}

#[test]
fn help_and_version_are_results() {
    for arguments in [&["--help"][..], &["node", "--help"], &["--version"]] {
        let ended = run(arguments, &[], "");
        assert_eq!(ended.code, Some(0), "{arguments:?}");
        assert!(
            ended.out.contains("sqlrep") && ended.err.is_empty(),
            "{ended:?}"
        );
    }
}

#[test]
fn nobody_listening_is_a_failure_with_the_address() {
    let [address] = free_addresses();
    let flag = format!("--addr={address}");
    for arguments in [
        &["shell", &flag, "-c", "SELECT 1"][..],
        &["status", &flag],
        &["shell", &flag],
    ] {
        let ended = run(arguments, &[], "SELECT 1;");
        assert_eq!(ended.code, Some(1), "{arguments:?}");
        assert!(ended.err.contains(&address), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
}
