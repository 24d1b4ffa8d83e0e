//! `service::Admin`: how this node is, and who belongs to the cluster.

use crate::Mode;
use crate::front::{Front, SqlMachine};
use crate::open::Replay;
use crate::peer::{self, Ask, Description};
use async_trait::async_trait;
use futures_util::future::join_all;
use sqlrep_core::{
    ClusterId, Comparison, DirectoryId, LogIndex, LogStore, MemberError, NodeId, ReadBound,
    ReadLevel, Role,
};
use sqlrep_env::{LatencyCounts, Moment, UnixMillis};
use sqlrep_raft_log::RaftLog;
use sqlrep_replica::Replica;
use sqlrep_service::{
    Admin, AdminError, Health, Histogram, LogStatus, NodeStatus, Role as ShownRole, SqliteStatus,
    Status,
};
use sqlrep_sql::Request;
use sqlrep_store::Store;
use sqlrep_transport_tcp::TcpTransport;
use sqlrep_vfs::{Engine, PRAGMAS};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What doesn't change while a node runs, and the parts that its status is read from.
pub(crate) struct Facts {
    pub(crate) node: NodeId,
    pub(crate) directory: DirectoryId,
    pub(crate) directory_path: String,
    pub(crate) mode: Mode,
    pub(crate) description: Description,
    pub(crate) raft_address: String,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<Store>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) log: Arc<RaftLog>,
    pub(crate) replay: Replay,
    /// None if the node was given links that aren't sockets.
    pub(crate) tcp: Option<Arc<TcpTransport>>,
    /// How often this node's checksum differed from the one that an entry carries (safety rule 31).
    pub(crate) mismatches: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) started: Moment,
    pub(crate) started_wall: UnixMillis,
}

fn shown(role: Role) -> ShownRole {
    match role {
        Role::Leader => ShownRole::Leader,
        Role::Follower => ShownRole::Follower,
        Role::Candidate => ShownRole::Candidate,
        Role::Learner => ShownRole::Learner,
        Role::Stopped => ShownRole::Shutdown,
    }
}

impl Facts {
    fn sqlite(&self, readers: (usize, usize)) -> SqliteStatus {
        let (stats, end) = (self.store.stats(), self.store.committed());
        let (durable, page_bytes) = (self.store.durable(), self.store.page_size().bytes());
        let behind = durable.position.map(|position| LogIndex(position.index));
        let pragmas = |of: fn(&(&str, &str, &str)) -> String| {
            PRAGMAS
                .iter()
                .map(|one| (one.0.to_owned(), of(one)))
                .collect::<BTreeMap<_, _>>()
        };
        SqliteStatus {
            version: self.engine.version.clone(),
            compile_options: self.engine.compile_options.clone(),
            page_bytes,
            pages: stats.pages,
            version_bytes: stats.version_bytes,
            checksum: end.checksum.0,
            path: format!("{}/db/{}/main.db", self.directory_path, stats.generation),
            file_bytes: u64::from(durable.pages.0) * u64::from(page_bytes),
            log_bytes_behind: self.log.bytes_behind(behind),
            readers,
            reading_pragmas: pragmas(|one| one.1.to_owned()),
            writing_pragmas: pragmas(|one| one.2.to_owned()),
        }
    }

    fn links(&self) -> sqlrep_transport_tcp::Stats {
        let tcp = self.tcp.as_ref();
        tcp.map(|tcp| tcp.stats()).unwrap_or_default()
    }

    fn own(&self, leads: bool, voter: bool) -> NodeStatus {
        NodeStatus {
            id: self.node,
            raft_address: self.raft_address.clone(),
            http_address: Some(self.description.http_address.clone()),
            version: Some(self.description.release.clone()),
            voter,
            reachable: true,
            leader: leads,
            took: Some(Duration::ZERO),
            error: None,
        }
    }
}

impl<M: SqlMachine> Front<M> {
    /// Asks a member who it is to clients.
    async fn describe(&self, node: NodeId, wait_max: Duration) -> Result<Description, String> {
        let ask = peer::encode(&Ask::Describe);
        let asked = self.member.ask(node, ask, wait_max).await;
        let answer = asked.map_err(|error| error.to_string())?;
        match peer::decode(&answer)? {
            peer::Answer::Describe(description) => Ok(description),
            peer::Answer::Refused(what) => Err(what),
            _ => Err("it answered another question".to_owned()),
        }
    }

    async fn probed(
        &self,
        node: NodeId,
        status: &sqlrep_core::MemberStatus,
        leader: Option<NodeId>,
        wait_max: Duration,
    ) -> NodeStatus {
        let leads = leader == Some(node);
        if node == self.facts.node {
            return self.facts.own(leads, status.voter);
        }
        let since = Instant::now();
        let described = self.describe(node, wait_max).await;
        let (http_address, version, error) = match described {
            Ok(description) => (
                Some(description.http_address),
                Some(description.release),
                None,
            ),
            Err(error) => (None, None, Some(error)),
        };
        let reachable = error.is_none();
        NodeStatus {
            id: node,
            raft_address: status.peer.raft.clone(),
            http_address,
            version,
            voter: status.voter,
            reachable,
            leader: leads,
            took: reachable.then(|| since.elapsed()),
            error,
        }
    }

    /// A member as Raft's membership has it, without asking it.
    fn listed(
        node: NodeId,
        status: &sqlrep_core::MemberStatus,
        leader: Option<NodeId>,
    ) -> NodeStatus {
        NodeStatus {
            id: node,
            raft_address: status.peer.raft.clone(),
            http_address: Some(status.peer.http.clone()),
            version: None,
            voter: status.voter,
            reachable: true,
            leader: leader == Some(node),
            took: None,
            error: None,
        }
    }

    fn metrics(&self, status: &sqlrep_core::Status) -> BTreeMap<String, f64> {
        let (store, log) = (self.facts.store.stats(), self.facts.log.stats());
        let due = self.facts.store.checkpoint_due();
        let made = self.facts.replica.checkpoints();
        let counts = status.counts;
        let links = self.facts.links();
        #[allow(
            clippy::cast_precision_loss,
            reason = "a gauge of more than 2^53 is still a good gauge"
        )]
        let number = |value: u64| value as f64;
        let flag = |holds: bool| f64::from(u8::from(holds));
        let size = |value: usize| number(u64::try_from(value).unwrap_or(u64::MAX));
        BTreeMap::from_iter(
            [
                ("state_machine_channel_entries", number(status.unapplied)),
                ("state_machine_channel_max", number(status.unapplied_max)),
                ("proposer_waiting_requests", size(status.waiting)),
                ("proposer_in_flight_entries", size(status.in_flight)),
                ("proposed_entries_total", number(counts.entries)),
                ("proposed_requests_total", number(counts.requests)),
                ("gathered_requests_max", number(counts.gathered_max)),
                ("read_rounds_total", number(counts.read_rounds)),
                ("lease_rounds_total", number(counts.lease_rounds)),
                ("readers_waiting_requests", size(self.readers.queued())),
                ("readers_busy", size(self.readers.busy())),
                ("store_version_bytes", number(store.version_bytes)),
                ("store_spill_bytes", number(store.spill_bytes)),
                ("store_pins", size(store.pins)),
                ("store_pages", number(u64::from(store.pages))),
                ("checkpoint_due_bytes", number(due.image_bytes)),
                ("checkpoint_due_entries", number(due.entries)),
                ("checkpoints_total", number(made.completed)),
                ("checkpoint_failures_total", number(made.failed)),
                ("checkpoint_pages_total", number(made.pages)),
                ("checkpoint_bytes_written_total", number(made.bytes)),
                (
                    "checksum_mismatches_total",
                    number((self.facts.mismatches)()),
                ),
                ("state_trials_total", number(counts.trials)),
                ("state_repairs_total", number(counts.repairs)),
                (
                    "snapshot_sent_bytes_total",
                    number(counts.snapshot_sent_bytes),
                ),
                (
                    "snapshot_spared_pages_total",
                    number(counts.snapshot_spared_pages),
                ),
                ("snapshot_resumes_total", number(counts.snapshot_resumes)),
                ("out_of_service", flag(status.out_of_service.is_some())),
                ("in_doubt", flag(status.in_doubt.is_some())),
                ("log_bytes", number(log.file_bytes)),
                ("log_syncs_total", number(log.syncs)),
                ("log_written_bytes_total", number(log.bytes_written)),
                ("replayed_entries", number(self.facts.replay.entries)),
                ("replayed_bytes", number(self.facts.replay.bytes)),
                ("log_entries_total", number(log.entries_appended)),
                ("links", number(links.links)),
                ("links_in_bytes_total", number(links.bytes_in)),
                ("links_out_bytes_total", number(links.bytes_out)),
                ("log_sync_last_seconds", log.last_sync.as_secs_f64()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .chain(self.session_metrics()),
        )
    }

    fn session_metrics(&self) -> impl Iterator<Item = (String, f64)> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "a count of more than 2^53 is still a good count"
        )]
        let number = |value: u64| value as f64;
        let counts = self.sessions.counts();
        let open = u64::try_from(counts.open).unwrap_or(u64::MAX);
        let ended = counts.ended.into_iter();
        let ended = ended.map(|(word, count)| (format!("sessions_ended_{word}_total"), count));
        let all = [
            ("sessions_open".to_owned(), open),
            ("sessions_opened_total".to_owned(), counts.opened),
        ];
        all.into_iter()
            .chain(ended)
            .map(move |(name, value)| (name, number(value)))
    }

    fn histograms(&self) -> BTreeMap<String, Histogram> {
        let facts = &self.facts;
        BTreeMap::from(
            [
                ("write_seconds", self.writes.read()),
                ("query_seconds", self.queries.read()),
                ("log_sync_seconds", facts.log.sync_times()),
                ("checkpoint_seconds", facts.replica.checkpoint_times()),
            ]
            .map(|(name, read)| (name.to_owned(), histogram(read))),
        )
    }
}

/// What was counted, in Prometheus' unit.
fn histogram(read: LatencyCounts) -> Histogram {
    Histogram {
        bounds_seconds: read.bounds.iter().map(Duration::as_secs_f64).collect(),
        counts: read.counts,
        sum_seconds: read.sum.as_secs_f64(),
    }
}

fn refused(error: MemberError) -> AdminError {
    match error {
        MemberError::NotLeader { .. } => AdminError::NoLeader,
        MemberError::Timeout { waited } => AdminError::Timeout(waited),
        other => AdminError::Refused(other.to_string()),
    }
}

#[async_trait]
impl<M: SqlMachine> Admin for Front<M> {
    fn status(&self) -> Status {
        let (status, facts) = (self.member.status(), &self.facts);
        let leads = status.role == Role::Leader;
        let voter = status.members.get(&facts.node).is_some_and(|own| own.voter);
        let members: Vec<NodeStatus> = status
            .members
            .iter()
            .map(|(node, member)| Self::listed(*node, member, status.leader))
            .collect();
        let leader = members.iter().find(|member| member.leader).cloned();
        Status {
            node: facts.node,
            directory: facts.directory,
            cluster: status.cluster,
            mode: facts.mode.to_string(),
            raft_address: facts.raft_address.clone(),
            http_address: facts.description.http_address.clone(),
            role: shown(status.role),
            voter,
            term: status.term,
            leader,
            last_contact: if leads {
                Some(Duration::ZERO)
            } else {
                status.contact
            },
            members,
            out_of_service: status.out_of_service.clone(),
            in_doubt: status.in_doubt.clone(),
            log: LogStatus {
                last: status.last,
                committed: status.committed.map(|id| id.index),
                applied: status.applied,
                durable: status.durable,
                purged: status.purged,
                unapplied: status.unapplied,
                bytes: facts.log.stats().file_bytes,
            },
            sqlite: facts.sqlite((self.readers.count(), self.readers.busy())),
            settings: self.settings.describe(),
            metrics: self.metrics(&status),
            histograms: self.histograms(),
            started_unix_ms: facts.started_wall.0,
            uptime: self.env.clock.now().since(facts.started),
            directory_path: facts.directory_path.clone(),
        }
    }

    fn role(&self) -> ShownRole {
        shown(self.member.role())
    }

    fn cluster(&self) -> ClusterId {
        self.member.cluster()
    }

    async fn nodes(&self, wait_max: Duration) -> Vec<NodeStatus> {
        let status = self.member.status();
        let probes = status
            .members
            .iter()
            .map(|(node, member)| self.probed(*node, member, status.leader, wait_max));
        join_all(probes).await
    }

    async fn health(&self, sync: bool, wait_max: Duration) -> Health {
        let status = self.member.status();
        let leader_contact = match status.leader {
            None => Err("leader does not exist".to_owned()),
            Some(leader) if leader == self.facts.node => Ok(()),
            Some(leader) => self.describe(leader, wait_max).await.map(|_| ()),
        };
        let bound = ReadBound {
            wait_max: Some(wait_max),
            ..ReadBound::default()
        };
        let sync = if sync {
            let reached = self.member.permit(ReadLevel::Linearizable, bound).await;
            Some(reached.map(|_| ()).map_err(|error| error.to_string()))
        } else {
            None
        };
        let one = Request::query("SELECT 1");
        let read = self.read(&one, Some(wait_max));
        let database = match tokio::time::timeout(wait_max, read).await {
            Ok(read) => read.map(|_| ()).map_err(|error| error.to_string()),
            Err(_) => Err(format!("no reader was free for {wait_max:?}")),
        };
        Health {
            leader: status.leader.is_some(),
            leader_contact,
            store: status.applied.is_some()
                && status.cluster.0 != 0
                && status.out_of_service.is_none(),
            sync,
            database,
        }
    }

    async fn leader(&self, wait_max: Duration) -> Option<NodeStatus> {
        let status = self.member.status();
        let leader = status.leader?;
        let member = status.members.get(&leader)?;
        let probed = self.probed(leader, member, Some(leader), wait_max).await;
        // Its advertised address stands in the membership, whether it answers now or not.
        let http_address = probed
            .http_address
            .clone()
            .or_else(|| Some(member.peer.http.clone()));
        Some(NodeStatus {
            http_address,
            ..probed
        })
    }

    async fn compare(&self, wait_max: Duration) -> Comparison {
        self.member.compare(wait_max).await
    }

    async fn remove(&self, node: NodeId, wait_max: Duration) -> Result<(), AdminError> {
        self.member.remove(node, wait_max).await.map_err(refused)
    }

    async fn step_down(&self, to: Option<NodeId>, wait_max: Duration) -> Result<(), AdminError> {
        let status = self.member.status();
        if let Some(to) = to {
            if !status.members.contains_key(&to) {
                return Err(AdminError::UnknownNode(to.to_string()));
            }
            if status.leader == Some(to) {
                return Err(AdminError::AlreadyLeader);
            }
        }
        self.member.transfer(to, wait_max).await.map_err(refused)
    }
}
