//! Settings that were checked against each other: what a node is started with.
//!
//! Invariant: what passes [`NodeSettings::check`] contradicts nothing that can be told without the data directory.

use super::arguments::{Mode, NodeArguments, Profile};
use super::file;
use crate::address::Address;
use crate::logging::{self, LEVEL_DEFAULT, LogFormat};
use sqlrep_core::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Port for clients, as rqlite's.
pub(crate) const HTTP_PORT: u16 = 4001;

/// Port for the other nodes, as rqlite's.
pub(crate) const RAFT_PORT: u16 = 4002;

/// As `NodeOptions` has it.
const LOG_RETENTION_BYTES: u64 = 64 << 20;

/// Everything a node is started with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeSettings {
    pub(crate) directory: PathBuf,
    /// None: what the directory holds.
    pub(crate) mode: Option<Mode>,
    /// None: what the directory holds, else drawn.
    pub(crate) node_id: Option<NodeId>,
    pub(crate) http_address: Address,
    pub(crate) http_advertised: Address,
    pub(crate) raft_address: Address,
    pub(crate) raft_advertised: Address,
    pub(crate) join: Vec<Address>,
    pub(crate) bootstrap_expect: Option<u32>,
    pub(crate) voter: bool,
    pub(crate) profile: Profile,
    /// None: the node's default.
    pub(crate) version_bytes_max: Option<u64>,
    /// None: the node's default.
    pub(crate) transaction_bytes_max: Option<u64>,
    /// None: the node's default.
    pub(crate) spill_bytes_max: Option<u64>,
    /// None: the node's default.
    pub(crate) readers: Option<usize>,
    /// None: the node's default.
    pub(crate) read_queue: Option<usize>,
    /// None: the node's default.
    pub(crate) queue: Option<usize>,
    /// None: the HTTP server's default.
    pub(crate) connections: Option<usize>,
    pub(crate) allow_origin: Option<String>,
    /// None: the node's default.
    pub(crate) log_retention_entries: Option<u64>,
    /// None: the node's default.
    pub(crate) log_retention_bytes: Option<u64>,
    /// None: the node's default.
    pub(crate) log_retention_max_bytes: Option<u64>,
    /// None: as long as a sync takes.
    pub(crate) sync_floor: Option<Duration>,
    /// By name, as JSON: what isn't here is as the cluster has it.
    pub(crate) cluster: BTreeMap<String, String>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: String,
    pub(crate) stop_with_stdin: bool,
    /// What an operator should know, and isn't wrong.
    pub(crate) warnings: Vec<String>,
}

impl NodeSettings {
    /// From flags and environment, which clap has joined, and the file that they name.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do.
    pub(crate) fn read(arguments: NodeArguments) -> Result<Self, String> {
        let file = match &arguments.config {
            Some(path) => file::read(path)?,
            None => NodeArguments::default(),
        };
        Self::of(arguments.over(file))
    }

    fn of(arguments: NodeArguments) -> Result<Self, String> {
        let cluster = cluster(&arguments)?;
        let directory = arguments.data_dir.ok_or(
            "--data-dir is missing; name the folder for this node's data, or set SQLREP_DATA_DIR",
        )?;
        let or_loopback =
            |address: Option<Address>, port| address.unwrap_or_else(|| Address::loopback(port));
        let http_address = or_loopback(arguments.http_addr, HTTP_PORT);
        let raft_address = or_loopback(arguments.raft_addr, RAFT_PORT);
        let settings = Self {
            directory,
            mode: arguments.mode,
            node_id: arguments.node_id,
            http_advertised: arguments.http_adv_addr.unwrap_or(http_address.clone()),
            raft_advertised: arguments.raft_adv_addr.unwrap_or(raft_address.clone()),
            http_address,
            raft_address,
            join: arguments.join,
            bootstrap_expect: arguments.bootstrap_expect,
            voter: !arguments.non_voter.unwrap_or(false),
            profile: arguments.profile.unwrap_or_default(),
            version_bytes_max: arguments.version_memory,
            transaction_bytes_max: arguments.transaction_memory,
            spill_bytes_max: arguments.spill_limit,
            readers: arguments.readers,
            read_queue: arguments.read_queue,
            queue: arguments.queue,
            connections: arguments.connections,
            allow_origin: arguments.http_allow_origin,
            log_retention_entries: arguments.log_retention_entries,
            log_retention_bytes: arguments.log_retention_bytes,
            log_retention_max_bytes: arguments.log_retention_max,
            sync_floor: arguments.sync_floor.map(|span| span.0),
            cluster,
            log_format: arguments.log_format.unwrap_or_default(),
            log_level: arguments.log_level.unwrap_or(LEVEL_DEFAULT.to_owned()),
            stop_with_stdin: arguments.stop_with_stdin.unwrap_or(false),
            warnings: Vec::new(),
        };
        settings.check()?;
        let warnings = settings.exposed();
        Ok(Self {
            warnings,
            ..settings
        })
    }

    fn check(&self) -> Result<(), String> {
        for (flag, value) in [
            ("--readers", self.readers),
            ("--read-queue", self.read_queue),
            ("--queue", self.queue),
            ("--connections", self.connections),
        ] {
            if value == Some(0) {
                return Err(format!("{flag} is 0; give it at least one"));
            }
        }
        logging::filter(&self.log_level)?;
        self.origin()?;
        self.retention()?;
        self.addresses()?;
        self.founding()
    }

    /// An origin as browsers send it (RFC 6454): scheme, host and perhaps a port, no path.
    fn origin(&self) -> Result<(), String> {
        let Some(origin) = self.allow_origin.as_deref() else {
            return Ok(());
        };
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        let whole = !host.is_empty()
            && !host.contains('/')
            && origin.bytes().all(|byte| byte.is_ascii_graphic());
        if origin == "*" || whole {
            return Ok(());
        }
        Err(format!(
            "--http-allow-origin is {origin:?}; write * or an origin such as https://example.com, without a path"
        ))
    }

    fn retention(&self) -> Result<(), String> {
        let stays = self.log_retention_bytes.unwrap_or(LOG_RETENTION_BYTES);
        match self.log_retention_max_bytes {
            Some(held) if held < stays => Err(format!(
                "--log-retention-max is {held}, and --log-retention-bytes is {stays}: what a slow node may hold can't be \
                 less than what stays anyway"
            )),
            _ => Ok(()),
        }
    }

    fn addresses(&self) -> Result<(), String> {
        if self.http_address == self.raft_address {
            return Err(format!(
                "--http-addr and --raft-addr are both {}; give each its own port",
                self.http_address
            ));
        }
        for (flag, address) in [
            ("--http-adv-addr", &self.http_advertised),
            ("--raft-adv-addr", &self.raft_advertised),
        ] {
            if address.is_unspecified() {
                return Err(format!(
                    "{address} means every interface and can't be reached by others; add {flag} with this machine's address"
                ));
            }
        }
        let mut seen = BTreeSet::new();
        match self.join.iter().find(|address| !seen.insert(*address)) {
            Some(twice) => Err(format!(
                "{twice} stands twice in --join; name each node once"
            )),
            None => Ok(()),
        }
    }

    fn founding(&self) -> Result<(), String> {
        let Some(expect) = self.bootstrap_expect else {
            return Ok(());
        };
        let named = self.join.len();
        if named == 0 {
            return Err(format!(
                "--bootstrap-expect {expect} needs --join; name the Raft addresses of all {expect} nodes"
            ));
        }
        if usize::try_from(expect) != Ok(named) {
            return Err(format!(
                "--bootstrap-expect is {expect}, but --join names {named}; name all {expect} nodes, this one too"
            ));
        }
        if !self.voter {
            return Err(
                "--non-voter contradicts --bootstrap-expect: founding nodes vote; drop one of the two"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// A warning for each address that others can reach.
    fn exposed(&self) -> Vec<String> {
        [
            ("--http-addr", &self.http_address),
            ("--raft-addr", &self.raft_address),
        ]
        .into_iter()
        .filter(|(_, address)| !address.is_loopback())
        .map(|(flag, address)| {
            format!(
                "{flag} {address} is open to the network without TLS or passwords; keep it inside a trusted one"
            )
        })
        .collect()
    }
}

/// The cluster settings that are set, under their own names.
fn cluster(arguments: &NodeArguments) -> Result<BTreeMap<String, String>, String> {
    let text = |value: Option<u64>| value.map(|value| value.to_string());
    let flags = [
        ("page_bytes", text(arguments.page_size.map(u64::from))),
        ("request_bytes_max", text(arguments.request_limit)),
        ("steps_max", text(arguments.step_budget)),
        (
            "transaction_pages_max",
            text(arguments.transaction_limit.map(u64::from)),
        ),
        (
            "key_retention_entries",
            text(arguments.key_retention_entries),
        ),
        ("key_table_bytes", text(arguments.key_table_bytes)),
        (
            "foreign_keys",
            arguments.foreign_keys.map(|on| on.to_string()),
        ),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let named = arguments.setting.iter().cloned();
    let mut all = BTreeMap::new();
    for (name, value) in flags.chain(named.map(|one| (one.name, one.value))) {
        if all.insert(name.clone(), value).is_some() {
            return Err(format!(
                "the cluster setting {name} is given twice; give it once"
            ));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
