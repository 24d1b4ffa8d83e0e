//! Dot commands: what a line that begins with `.` asks of the shell itself.

use super::format::Format;
use super::level::Level;
use clap::ValueEnum;
use std::path::PathBuf;

/// What `.help` prints.
pub(super) const HELP: &str = "\
.consistency [LEVEL]  what reads promise: none, weak, linearizable, strong, auto
.help                 this text
.mode [FORMAT]        how results look: table, csv, json, line
.nodes                members of the cluster
.quit                 end the shell; Ctrl-D does too
.read FILE            run the statements of a file
.schema [TABLE]       CREATE statements
.status               how the node is
.tables               tables and views
.timer on|off         show how long statements take
SQL ends with a semicolon. BEGIN [IMMEDIATE|READ] opens a transaction, the prompt shows it: sqlrep*>.
";

/// A dot command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DotCommand {
    /// None: tell the present one.
    Consistency(Option<Level>),
    Help,
    /// None: tell the present one.
    Mode(Option<Format>),
    Nodes,
    Quit,
    Read(PathBuf),
    /// Of one table, or all.
    Schema(Option<String>),
    Status,
    Tables,
    Timer(bool),
}

impl DotCommand {
    /// Reads a line that begins with a dot.
    ///
    /// # Errors
    ///
    /// What may stand there.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = Some(argument.trim()).filter(|argument| !argument.is_empty());
        match (name, argument) {
            (".consistency", level) => choice(level).map(Self::Consistency),
            (".mode", format) => choice(format).map(Self::Mode),
            (".read", Some(file)) => Ok(Self::Read(file.into())),
            (".read", None) => Err(".read needs a file".to_owned()),
            (".schema", table) => Ok(Self::Schema(table.map(str::to_owned))),
            (".timer", Some("on")) => Ok(Self::Timer(true)),
            (".timer", Some("off")) => Ok(Self::Timer(false)),
            (".timer", _) => Err(".timer needs on or off".to_owned()),
            (name, None) => Self::bare(name),
            (name, Some(_)) => match Self::bare(name) {
                Ok(_) => Err(format!("{name} takes no argument")),
                unknown => unknown,
            },
        }
    }

    fn bare(name: &str) -> Result<Self, String> {
        match name {
            ".help" => Ok(Self::Help),
            ".nodes" => Ok(Self::Nodes),
            ".quit" | ".exit" => Ok(Self::Quit),
            ".status" => Ok(Self::Status),
            ".tables" => Ok(Self::Tables),
            other => Err(format!("there is no command {other}; .help lists them")),
        }
    }
}

fn choice<T: ValueEnum>(text: Option<&str>) -> Result<Option<T>, String> {
    let Some(text) = text else { return Ok(None) };
    let one = T::from_str(text, true).map_err(|_| {
        let names = T::value_variants().iter().filter_map(T::to_possible_value);
        let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
        format!("{text} is none of {}", names.join(", "))
    })?;
    Ok(Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_are_read_with_their_arguments() {
        for (line, command) in [
            (".quit", DotCommand::Quit),
            (
                ".consistency Strong",
                DotCommand::Consistency(Some(Level::Strong)),
            ),
            (".consistency", DotCommand::Consistency(None)),
            (".mode csv ", DotCommand::Mode(Some(Format::Csv))),
            (".read a b.sql", DotCommand::Read("a b.sql".into())),
            (".schema t", DotCommand::Schema(Some("t".to_owned()))),
            (".timer on", DotCommand::Timer(true)),
        ] {
            assert_eq!(DotCommand::parse(line), Ok(command));
        }
    }

    #[test]
    fn mistakes_tell_what_may_stand_there() {
        for (line, says) in [
            (".tabels", ".help lists them"),
            (".mode html", "table, csv, json, line"),
            (".consistency high", "linearizable"),
            (".timer", "on or off"),
            (".read", "needs a file"),
            (".tables x", "takes no argument"),
            (".", ".help lists them"),
        ] {
            let error = DotCommand::parse(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in HELP.lines().filter_map(|line| line.strip_prefix('.')) {
            let name = name.split_whitespace().next().unwrap();
            let known = DotCommand::parse(&format!(".{name}"));
            let unknown = matches!(&known, Err(text) if text.contains("there is no command"));
            assert!(!unknown, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in "\\.\\PC{0,20}") {
            DotCommand::parse(&line).ok();
        }
    }
}
