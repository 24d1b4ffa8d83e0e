//! Who listens where. With a folder that is kept, the plan is kept in it too, since members know each other by address.
//!
//! Invariant: a kept plan is used as it is or not at all; a port of it that is taken is an error, never another port.

use super::ClusterError;
use crate::address::Address;
use crate::arguments::ClusterArguments;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::path::Path;

/// Where a plan is kept.
const FILE: &str = "cluster.toml";

/// The first pair of ports that is tried, as a lone node's.
const PORT_FIRST: u16 = 4001;

/// The last.
const PORT_LAST: u16 = 4999;

/// A node's number and ports on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) id: u32,
    http_port: u16,
    raft_port: u16,
}

impl Place {
    pub(super) fn http(&self) -> Address {
        Address::loopback(self.http_port)
    }

    pub(super) fn raft(&self) -> Address {
        Address::loopback(self.raft_port)
    }
}

/// All nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) nodes: Vec<Place>,
}

impl Plan {
    /// The plan that `folder` holds, or a new one, kept there if `kept`.
    pub(super) fn of(folder: &Path, nodes: u32, kept: bool) -> Result<Self, ClusterError> {
        let told = |source| ClusterError::Folder {
            folder: folder.to_owned(),
            source,
        };
        if let Some(plan) = Self::load(folder).map_err(told)? {
            plan.fits(folder, nodes)?;
            return Ok(plan);
        }
        let plan = Self::free(nodes, is_free)?;
        if kept {
            plan.save(folder).map_err(told)?;
        }
        Ok(plan)
    }

    fn load(folder: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(folder.join(FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let plan = toml::from_str(&text);
        plan.map(Some)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("{FILE}: {error}")))
    }

    fn save(&self, folder: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(FILE), text)
    }

    fn fits(&self, folder: &Path, nodes: u32) -> Result<(), ClusterError> {
        let held = self.nodes.len();
        if usize::try_from(nodes) != Ok(held) {
            return Err(ClusterError::Usage(format!(
                "{} holds a cluster of {held} nodes; give --nodes {held} or another --data-dir",
                folder.display()
            )));
        }
        let ports = self
            .nodes
            .iter()
            .flat_map(|one| [one.http_port, one.raft_port]);
        match ports.into_iter().find(|&port| !is_free(port)) {
            Some(port) => Err(ClusterError::Ports(format!(
                "port {port} of the cluster in {} is in use; stop what uses it",
                folder.display()
            ))),
            None => Ok(()),
        }
    }

    /// The first pairs of neighbouring ports that are free.
    fn free(nodes: u32, is_free: impl Fn(u16) -> bool) -> Result<Self, ClusterError> {
        let pairs = (PORT_FIRST..PORT_LAST).step_by(2);
        let free = pairs.filter(|&port| is_free(port) && is_free(port + 1));
        let place = |(id, http_port)| Place {
            id,
            http_port,
            raft_port: http_port + 1,
        };
        let places: Vec<Place> = (1..=nodes).zip(free).map(place).collect();
        if usize::try_from(nodes) != Ok(places.len()) {
            return Err(ClusterError::Ports(format!(
                "no {nodes} pairs of ports are free from {PORT_FIRST} to {PORT_LAST}"
            )));
        }
        Ok(Self { nodes: places })
    }

    /// The command line of one node.
    pub(super) fn flags(
        &self,
        place: &Place,
        folder: &Path,
        how: &ClusterArguments,
    ) -> Vec<String> {
        let data = folder.join(place.id.to_string());
        let mut flags = vec![
            "node".to_owned(),
            format!("--mode={}", how.mode.of_node()),
            format!("--node-id={}", place.id),
            format!("--data-dir={}", data.display()),
            format!("--http-addr={}", place.http()),
            format!("--raft-addr={}", place.raft()),
            format!("--log-level={}", how.log_level),
            "--stop-with-stdin".to_owned(),
        ];
        if self.nodes.len() > 1 {
            let all: Vec<String> = self
                .nodes
                .iter()
                .map(|one| one.raft().to_string())
                .collect();
            flags.push(format!("--join={}", all.join(",")));
            flags.push(format!("--bootstrap-expect={}", all.len()));
        }
        flags
    }
}

/// Whether somebody could listen there right now.
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Command, Program};
    use crate::node::Mode;
    use clap::Parser;

    fn ports(plan: &Plan) -> Vec<(u16, u16)> {
        let pair = |one: &Place| (one.http_port, one.raft_port);
        plan.nodes.iter().map(pair).collect()
    }

    #[test]
    fn a_plan_begins_at_4001_and_passes_over_what_is_taken() {
        let plan = Plan::free(3, |_| true).unwrap();
        assert_eq!(ports(&plan), [(4001, 4002), (4003, 4004), (4005, 4006)]);
        let plan = Plan::free(2, |port| port != 4001 && port != 4006).unwrap();
        assert_eq!(ports(&plan), [(4003, 4004), (4007, 4008)]);
        let none = Plan::free(1, |port| port % 2 == 0).unwrap_err();
        assert!(none.to_string().contains("from 4001 to 4999"), "{none}");
    }

    #[test]
    fn a_kept_plan_comes_back_and_another_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("new");
        let ports = [0; 4].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [a, b, c, d] = ports.each_ref().map(|one| one.local_addr().unwrap().port());
        let plan = Plan {
            nodes: vec![
                Place {
                    id: 1,
                    http_port: a,
                    raft_port: b,
                },
                Place {
                    id: 2,
                    http_port: c,
                    raft_port: d,
                },
            ],
        };
        plan.save(&kept).unwrap();
        let taken = Plan::of(&kept, 2, true).unwrap_err();
        assert!(taken.to_string().contains("in use"), "{taken}");
        drop(ports);
        assert_eq!(Plan::of(&kept, 2, true).unwrap(), plan);
        let other = Plan::of(&kept, 3, true).unwrap_err();
        assert!(other.to_string().contains("give --nodes 2"), "{other}");
    }

    #[test]
    fn a_damaged_plan_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "nodes = 3").unwrap();
        let error = Plan::of(folder.path(), 3, true).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }

    #[test]
    fn the_children_understand_their_flags() {
        let plan = Plan::free(3, |_| true).unwrap();
        let how = ClusterArguments {
            nodes: 3,
            mode: Mode::Page,
            data_dir: None,
            log_level: "error".to_owned(),
        };
        for place in &plan.nodes {
            let flags = plan.flags(place, Path::new("data"), &how);
            let program = Program::try_parse_from(["sqlrep".to_owned()].into_iter().chain(flags));
            let Command::Node(node) = program.unwrap().command else {
                panic!("no node");
            };
            assert_eq!((node.join.len(), node.bootstrap_expect), (3, Some(3)));
            assert_eq!(node.http_addr, Some(place.http()));
            assert_eq!(node.mode, Some(Mode::Page));
        }
    }
}
