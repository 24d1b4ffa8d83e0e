//! Precedence and every refusal, through the same parser that the program uses.

use super::*;
use crate::arguments::{Command, Program};
use clap::{CommandFactory, Parser};

fn parse(flags: &[&str]) -> NodeArguments {
    let all = ["sqlrep", "node"].iter().chain(flags);
    match Program::try_parse_from(all).unwrap().command {
        Command::Node(arguments) => *arguments,
        other => panic!("{other:?}"),
    }
}

fn settings(flags: &[&str]) -> Result<NodeSettings, String> {
    let mut all = vec!["--data-dir", "data"];
    all.extend(flags);
    NodeSettings::read(parse(&all))
}

#[test]
fn defaults_are_on_loopback() {
    let settings = settings(&[]).unwrap();
    assert_eq!(settings.http_address.to_string(), "127.0.0.1:4001");
    assert_eq!(settings.raft_address.to_string(), "127.0.0.1:4002");
    assert_eq!(settings.http_advertised, settings.http_address);
    assert_eq!((settings.mode, settings.node_id), (None, None));
    assert!(settings.voter && settings.warnings.is_empty());
    assert_eq!(settings.log_level, LEVEL_DEFAULT);
}

#[test]
fn the_allowed_origin_reaches_the_front() {
    for origin in ["*", "https://example.com:8443"] {
        let flag = format!("--http-allow-origin={origin}");
        let settings = settings(&[&flag]).unwrap();
        let front = crate::node::run::http_options(&settings);
        assert_eq!(front.allow_origin.as_deref(), Some(origin));
    }
    let front = crate::node::run::http_options(&settings(&[]).unwrap());
    assert_eq!(front.allow_origin, None);
}

#[test]
fn contradictions_say_what_to_do() {
    for (flags, says) in [
        (&["--bootstrap-expect=3"][..], "needs --join"),
        (
            &["--bootstrap-expect=3", "--join=a:1,b:1"],
            "--join names 2",
        ),
        (&["--bootstrap-expect=1", "--join=a:1,b:1"], "name all 1"),
        (&["--join=a:1,b:1,a:1"], "a:1 stands twice"),
        (
            &["--bootstrap-expect=1", "--join=a:1", "--non-voter"],
            "founding nodes vote",
        ),
        (&["--http-addr=a:1", "--raft-addr=a:1"], "its own port"),
        (&["--raft-addr=0.0.0.0:4002"], "add --raft-adv-addr"),
        (&["--http-addr=[::]:4001"], "add --http-adv-addr"),
        (&["--readers=0"], "--readers is 0; give it at least one"),
        (&["--queue=0"], "--queue is 0"),
        (&["--read-queue=0"], "--read-queue is 0"),
        (&["--connections=0"], "--connections is 0"),
        (&["--http-allow-origin=example.com"], "without a path"),
        (&["--http-allow-origin=https://a/"], "without a path"),
        (&["--http-allow-origin=https://a\n"], "without a path"),
        (&["--log-level=a=loud"], "no log level"),
        (
            &["--page-size=4096", "--setting=page_bytes=512"],
            "given twice",
        ),
        (&["--config=/nonexistent"], "check --config"),
    ] {
        let error = settings(flags).unwrap_err();
        assert!(error.contains(says), "{flags:?}: {error}");
    }
    let error = NodeSettings::read(parse(&[])).unwrap_err();
    assert!(error.contains("--data-dir is missing"), "{error}");
}

#[test]
fn bad_values_name_the_flag() {
    for (flag, says) in [
        ("--node-id=9223372036854775808", "0 to 9223372036854775807"),
        ("--node-id=one", "choose a number"),
        ("--http-addr=localhost", "add a port"),
        ("--join=a:1,b", "add a port"),
        ("--mode=paper", "statement"),
        ("--setting=steps", "NAME=VALUE"),
        ("--page-size=-1", "--page-size"),
        ("--sync-floor=4", "500us or 4ms"),
    ] {
        let error = Program::try_parse_from(["sqlrep", "node", flag]).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2);
        let name = flag.split('=').next().unwrap();
        assert!(text.contains(says) && text.contains(name), "{flag}: {text}");
    }
}

#[test]
fn what_others_can_reach_is_warned_of() {
    let open = settings(&["--http-addr=10.0.0.1:4001", "--raft-addr=db1:4002"]).unwrap();
    assert_eq!(open.warnings.len(), 2);
    assert!(open.warnings[0].contains("without TLS"));
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sqlrep.toml");
    std::fs::write(
        &path,
        "http-addr = 'file:1'\nreaders = 2\nsync-floor = '4ms'\nnon-voter = true\njoin = ['f:1']",
    )
    .unwrap();
    let config = format!("--config={}", path.display());
    let read = settings(&[&config, "--http-addr=localhost:9", "--non-voter=false"]).unwrap();
    assert_eq!(read.http_address.to_string(), "localhost:9");
    assert_eq!(read.readers, Some(2));
    assert_eq!(read.sync_floor, Some(Duration::from_millis(4)));
    assert!(read.voter);
    assert_eq!(read.join.len(), 1);
}

#[test]
fn cluster_settings_go_by_their_own_names() {
    let read = settings(&[
        "--page-size=8192",
        "--foreign-keys",
        "--setting=steps_max=9,x=true",
    ])
    .unwrap();
    let shown: Vec<String> = read
        .cluster
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        shown,
        [
            "foreign_keys=true",
            "page_bytes=8192",
            "steps_max=9",
            "x=true"
        ]
    );
}

#[test]
fn every_setting_has_a_default_in_its_help_and_a_variable() {
    let program = Program::command();
    let node = program.find_subcommand("node").unwrap();
    for argument in node.get_arguments().filter(|one| !one.is_hide_set()) {
        let id = argument.get_id().as_str();
        if matches!(id, "help" | "version") {
            continue;
        }
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(help.contains("efault"), "{id}: {help}");
        let variable = format!("SQLREP_{}", id.to_uppercase());
        assert_eq!(
            argument.get_env().and_then(|name| name.to_str()),
            Some(variable.as_str())
        );
        let page = include_str!("../../../../../docs/operations.md");
        let flag = format!("`--{}`", id.replace('_', "-"));
        assert!(page.contains(&flag), "docs/operations.md lacks {flag}");
    }
}
