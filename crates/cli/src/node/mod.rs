//! `sqlrep node`: from flags, environment and file to the settings that a node is started with.
//!
//! ```text
//!   flags ─┐
//!   SQLREP_* ├─► NodeArguments ─► NodeSettings (checked) ─► run
//!   file ──┘
//! ```
//!
//! A flag wins over the environment, the environment over the file. It doesn't know what a node does with them.

mod arguments;
mod file;
#[cfg(test)]
mod limits;
mod run;
mod settings;

pub(crate) use arguments::{Mode, NodeArguments};

use crate::exit::Exit;
use crate::{logging, terminal};
use settings::NodeSettings;

/// Starts a node and returns when it has ended.
pub(crate) fn run(arguments: NodeArguments) -> Exit {
    let settings = match NodeSettings::read(arguments) {
        Ok(settings) => settings,
        Err(error) => {
            terminal::error(error);
            return Exit::Usage;
        }
    };
    if let Err(error) = logging::start(settings.log_format, &settings.log_level) {
        terminal::error(error);
        return Exit::Usage;
    }
    for warning in &settings.warnings {
        terminal::note(&format!("warning: {warning}\n"));
    }
    run::run(&settings)
}
