//! What a member is tuned by: times, and the bound of every queue.
//!
//! All of it is local to a node and may differ between the members; what has to be equal everywhere is a
//! cluster setting and stands in the log. Three profiles: [`Settings::default`] for machines that share a disk
//! or a network with others, [`Settings::fast`] for quiet ones, [`Settings::wide`] for long ways between them.

use crate::MemberError;

/// Times and bounds of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// A leader tells the others this often that it is there. ms.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing for longer than a leader's lease, plus a random time of at least
    /// this, stands for election. ms.
    pub election_timeout_min_ms: u64,
    /// Upper end of that random time, and the length of a leader's lease. ms.
    pub election_timeout_max_ms: u64,
    /// Requests in one entry at most.
    pub gather_requests_max: usize,
    /// This many bytes of requests end the gathering; a larger request travels alone.
    pub gather_bytes_max: usize,
    /// Entries proposed and not yet applied here (safety rule 21).
    pub in_flight_entries_max: usize,
    /// Requests waiting for the proposer.
    pub queue_requests_max: usize,
    /// Bytes of requests waiting for the proposer.
    pub queue_bytes_max: usize,
    /// The largest request.
    pub request_bytes_max: usize,
    /// Reads waiting for one round of confirmation.
    pub reads_waiting_max: usize,
    /// Calls to one other member that wait to be sent, as many that wait for an answer, and as many of its
    /// own that are answered at once.
    pub client_calls_max: usize,
    /// Bytes of calls to the others under way, and of one other member's calls that are answered at once; a
    /// larger call goes alone.
    pub client_bytes_max: usize,
    /// Commits that Raft may be ahead of applying (safety rule 21).
    pub state_machine_channel_size: u64,
    /// Between two looks at whether the state should be checkpointed. ms.
    pub checkpoint_every_ms: u64,
    /// So many entries stay in the log behind what is durable, for followers that were away.
    pub log_retention_entries: u64,
    /// And so many bytes of them; whichever is less.
    pub log_retention_bytes: u64,
    /// A follower that needs log of more than this many bytes ago is sent a snapshot instead, also if it
    /// is just taking one in or catching up (safety rule 17).
    pub log_retention_max_bytes: u64,
    /// Append requests under way to one follower.
    pub replication_window: usize,
    /// Bytes of entries in one append request; a larger entry travels alone.
    pub replication_bytes_max: usize,
    /// A snapshot transfer of which no byte was acknowledged for this long ends (safety rule 18). ms.
    pub snapshot_stall_ms: u64,
    /// A snapshot whose link broke stays pinned on the sender, and what came of it on the receiver, for this long since the
    /// last progress, and goes on where it was (safety rule 11). ms.
    pub snapshot_resume_ms: u64,
    /// What is proposed gets this long to commit before leadership is handed over, and what waits at the end of
    /// a node (safety rule 20). ms.
    pub drain_ms: u64,
    /// The next leader gets this long to take over (safety rule 20). ms.
    pub transfer_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_timeout_min_ms: 300,
            election_timeout_max_ms: 600,
            gather_requests_max: 4096,
            gather_bytes_max: 4 << 20,
            in_flight_entries_max: 3,
            queue_requests_max: 16 * 1024,
            queue_bytes_max: 64 << 20,
            request_bytes_max: 8 << 20,
            reads_waiting_max: 16 * 1024,
            client_calls_max: 4096,
            client_bytes_max: 64 << 20,
            state_machine_channel_size: 65_536,
            checkpoint_every_ms: 1000,
            log_retention_entries: 100_000,
            log_retention_bytes: 64 << 20,
            log_retention_max_bytes: 1 << 30,
            replication_window: 4,
            replication_bytes_max: 4 << 20,
            snapshot_stall_ms: 10_000,
            snapshot_resume_ms: 60_000,
            drain_ms: 2_000,
            transfer_ms: 2_000,
        }
    }
}

impl Settings {
    /// Writes go on within half a second of losing a leader. For quiet machines with fast disks: a sync
    /// that takes 100 ms costs an election here.
    #[must_use]
    pub fn fast() -> Self {
        Self {
            heartbeat_ms: 50,
            election_timeout_min_ms: 150,
            election_timeout_max_ms: 300,
            ..Self::default()
        }
    }

    /// For nodes that are far from each other, or whose disks need long for a sync: a heartbeat may be answered within 187 ms
    /// instead of 75, a vote, which is synced twice, within 750 ms instead of 225. Writes go on 3 to 4 s after a leader is lost.
    #[must_use]
    pub fn wide() -> Self {
        Self {
            heartbeat_ms: 250,
            election_timeout_min_ms: 1000,
            election_timeout_max_ms: 2000,
            ..Self::default()
        }
    }

    /// The same settings as Raft wants them.
    pub(crate) fn raft(&self) -> Result<openraft::Config, MemberError> {
        self.check()?;
        let config = openraft::Config {
            cluster_name: "sqlrep".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_timeout_min_ms,
            election_timeout_max: self.election_timeout_max_ms,
            enable_pre_vote: Some(true),
            // Safety rule 19: a writer epoch is unique only within one process and term.
            enable_leader_restore: Some(false),
            max_payload_entries: 1024,
            state_machine_channel_size: Some(self.state_machine_channel_size),
            // `core` builds snapshots and purges by itself, after checkpoints (safety rules 15 and 17).
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: 20_000,
            backoff: "100ms 200ms 400ms 800ms ...2s".to_owned(),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| MemberError::Settings {
            what: error.to_string(),
        })
    }

    fn check(&self) -> Result<(), MemberError> {
        let positive = [
            ("gather_requests_max", self.gather_requests_max),
            ("in_flight_entries_max", self.in_flight_entries_max),
            ("queue_requests_max", self.queue_requests_max),
            ("reads_waiting_max", self.reads_waiting_max),
            ("client_calls_max", self.client_calls_max),
            ("replication_window", self.replication_window),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            None => Ok(()),
            Some((name, _)) => Err(MemberError::Settings {
                what: format!("{name} is 0, it has to be at least 1"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 19: leader restore is off, in every profile; its default in openraft is on.
    #[test]
    fn a_restarted_leader_never_leads_on_in_its_old_term() {
        for settings in [Settings::default(), Settings::fast(), Settings::wide()] {
            let config = settings.raft().unwrap();
            assert_eq!(config.enable_leader_restore, Some(false));
            assert_eq!(config.enable_pre_vote, Some(true));
        }
    }

    /// Rule 21: the channel to the state machine has a size of its own choosing.
    #[test]
    fn the_state_machine_channel_is_set() {
        let config = Settings::default().raft().unwrap();
        assert_eq!(config.state_machine_channel_size, Some(65_536));
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let settings = Settings {
            in_flight_entries_max: 0,
            ..Settings::default()
        };
        let error = settings.raft().unwrap_err().to_string();
        assert!(error.contains("in_flight_entries_max"), "{error}");
        let settings = Settings {
            election_timeout_min_ms: 50,
            ..Settings::default()
        };
        assert!(settings.raft().is_err());
    }
}
