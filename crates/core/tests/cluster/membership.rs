//! Members that join, move and leave, and leadership that is handed over.

use super::*;
use sqlrep_core::{MemberError, Role};

impl Cluster {
    /// No members yet.
    pub(crate) fn of_nobody() -> Self {
        Self {
            board: Switchboard::default(),
            keys: KeyLimits::default(),
            settings: Settings::default(),
            style: Style::Late,
            seed: 1,
            writer_takes: None,
            nodes: Vec::new(),
        }
    }

    /// Starts a member at an address and with a directory of its own.
    pub(crate) async fn start_at(
        &mut self,
        id: u64,
        peer: &Peer,
        machine: Arc<List>,
        log: MemoryLog,
    ) -> &Node {
        let mut parts = self.parts(id, machine.clone(), log.clone());
        parts.directory = peer.directory;
        parts.transport = Arc::new(self.board.plug_at(node(id), peer));
        parts.env = Env::inline(self.seed * 1_000_003 + peer.directory.0);
        parts.genesis = Some(Genesis {
            cluster: ClusterId(peer.directory.0),
            settings: Bytes::from_static(b"same"),
        });
        let member = Member::start(parts).await.unwrap();
        self.nodes.push(Node {
            id: node(id),
            machine,
            log,
            member,
        });
        self.nodes.last().unwrap()
    }

    /// Starts an empty member there.
    pub(crate) async fn start_new(&mut self, id: u64, peer: &Peer) -> &Node {
        let machine = Arc::new(List::new(self.style));
        self.start_at(id, peer, machine, MemoryLog::default()).await
    }

    /// Stops a member and starts it again on what was durable, there.
    pub(crate) async fn restart_at(&mut self, id: u64, peer: &Peer) -> &Node {
        let old = self.take(id);
        old.member.stop().await;
        let machine = Arc::new(List::on(self.style, old.machine.durable_state()));
        self.start_at(id, peer, machine, old.log).await
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        let wanted = self.nodes.iter().find(|each| each.id == node(id));
        wanted.unwrap()
    }

    pub(crate) fn take(&mut self, id: u64) -> Node {
        let at = self.nodes.iter().position(|each| each.id == node(id));
        self.nodes.remove(at.unwrap())
    }

    pub(crate) fn followers(&self, leader: NodeId) -> Vec<&Node> {
        self.nodes.iter().filter(|node| node.id != leader).collect()
    }
}

/// Waits, at most a minute of simulated time, until it is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}

fn ids(node: &Node) -> Vec<u64> {
    node.member
        .status()
        .members
        .keys()
        .map(|id| id.get())
        .collect()
}

fn voters(node: &Node) -> Vec<u64> {
    let members = node.member.status().members;
    let voters = members.iter().filter(|(_, member)| member.voter);
    voters.map(|(id, _)| id.get()).collect()
}

fn refused(outcome: Result<(), MemberError>, part: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, MemberError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_joins_through_any_member() {
    for through_leader in [true, false] {
        let mut cluster = Cluster::form(3, Style::Late).await;
        cluster.start(4).await;
        let leader = cluster.leader().await;
        leader.push("a").await.unwrap();
        let asked = match through_leader {
            true => leader,
            false => cluster.followers(leader.id)[0],
        };
        let join = asked
            .member
            .join(node(4), Cluster::peer(4), true, 30 * SECOND);
        join.await.unwrap();
        assert_eq!(voters(cluster.leader().await), [1, 2, 3, 4]);
        cluster.node(4).send("b").await.unwrap();
        assert_eq!(cluster.agreed(2).await, ["a", "b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_learner_has_no_vote_until_it_is_promoted() {
    let mut cluster = Cluster::form(1, Style::Late).await;
    cluster.start(2).await;
    let leader = cluster.leader().await;
    leader.push("a").await.unwrap();
    let join = |voter| {
        leader
            .member
            .join(node(2), Cluster::peer(2), voter, 30 * SECOND)
    };
    join(false).await.unwrap();
    join(false).await.unwrap();
    assert_eq!((ids(leader), voters(leader)), (vec![1, 2], vec![1]));
    assert_eq!(cluster.agreed(1).await, ["a"]);
    assert_eq!(cluster.node(2).member.status().role, Role::Learner);
    refused(
        leader.member.transfer(Some(node(2)), SECOND).await,
        "no voter",
    );
    join(true).await.unwrap();
    join(false).await.unwrap();
    assert_eq!(voters(leader), [1, 2], "a voter stays one");
}

#[tokio::test(start_paused = true)]
async fn changes_that_come_at_once_are_made_one_after_the_other() {
    let mut cluster = Cluster::form(3, Style::Late).await;
    cluster.start(4).await;
    cluster.start(5).await;
    let leader = cluster.leader().await.id;
    let other = cluster.followers(leader);
    let (first, second, third) = tokio::join!(
        other[0]
            .member
            .join(node(4), Cluster::peer(4), true, 30 * SECOND),
        other[1]
            .member
            .join(node(5), Cluster::peer(5), true, 30 * SECOND),
        other[1].member.remove(other[0].id, 30 * SECOND),
    );
    first.and(second).and(third).unwrap();
    let left = voters(cluster.leader().await);
    assert_eq!(left.len(), 4);
    assert!(!left.contains(&other[0].id.get()));
}

#[tokio::test(start_paused = true)]
async fn a_joiner_that_never_catches_up_holds_up_nobody() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    let others = cluster.followers(leader.id);
    let (joined, removed) = tokio::join!(
        leader
            .member
            .join(node(4), Cluster::peer(4), true, 10 * SECOND),
        async {
            until("it is a learner", || ids(leader).contains(&4)).await;
            let begun = tokio::time::Instant::now();
            others[0]
                .member
                .remove(others[1].id, 5 * SECOND)
                .await
                .unwrap();
            leader.member.transfer(None, 5 * SECOND).await.unwrap();
            assert!(begun.elapsed() < 2 * SECOND);
            let next = cluster.leader().await;
            next.member.remove(node(4), 5 * SECOND).await.unwrap();
            ids(next)
        }
    );
    assert!(joined.is_err(), "nobody runs there");
    assert_eq!(removed.len(), 2, "{removed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_follower_says_so_and_disturbs_nobody() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    let gone = cluster.followers(leader.id)[0];
    leader.member.remove(gone.id, 30 * SECOND).await.unwrap();
    leader.member.remove(gone.id, 30 * SECOND).await.unwrap();
    assert_eq!(voters(leader).len(), 2);
    let term = leader.member.status().term;
    until("it says so", || gone.member.status().removed).await;
    tokio::time::sleep(30 * SECOND).await;
    let status = leader.member.status();
    assert_eq!((status.role, status.term), (Role::Leader, term));
    assert!(!status.removed);
    leader.push("a").await.unwrap();
}

/// Rule 20: a leader that is removed hands over first.
#[tokio::test(start_paused = true)]
async fn a_removed_leader_hands_over_first() {
    for asks_itself in [true, false] {
        let cluster = Cluster::form(3, Style::Late).await;
        let old = cluster.leader().await;
        let asked = match asks_itself {
            true => old,
            false => cluster.followers(old.id)[0],
        };
        asked.member.remove(old.id, 30 * SECOND).await.unwrap();
        let rest = cluster.followers(old.id);
        until("a member leads", || {
            rest.iter()
                .any(|node| node.member.status().role == Role::Leader)
        })
        .await;
        rest[0].send("a").await.unwrap();
        assert!(!ids(rest[0]).contains(&old.id.get()));
        until("it says so", || old.member.status().removed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_voter_stays_and_so_does_a_majority() {
    let single = Cluster::form(1, Style::Late).await;
    let leader = single.leader().await;
    refused(
        leader.member.remove(node(1), 10 * SECOND).await,
        "last voter",
    );
    leader.push("a").await.unwrap();

    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    let others = cluster.followers(leader.id);
    others[0].member.stop().await;
    tokio::time::sleep(2 * SECOND).await;
    let remove = |id| leader.member.remove(id, 10 * SECOND);
    refused(remove(others[1].id).await, "1 of 2 voters");
    leader.push("a").await.unwrap();
    remove(others[0].id).await.unwrap();
    remove(others[1].id).await.unwrap();
    assert_eq!(voters(leader), [leader.id.get()]);
    leader.push("b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_that_moved_is_found_again() {
    for size in [2, 3] {
        let mut cluster = Cluster::form(size, Style::Late).await;
        cluster.leader().await.push("a").await.unwrap();
        let moved = Peer {
            raft: "elsewhere".to_owned(),
            ..Cluster::peer(2)
        };
        cluster.restart_at(2, &moved).await;
        let join = cluster
            .node(2)
            .member
            .join(node(2), moved.clone(), true, 30 * SECOND);
        join.await.unwrap();
        cluster.node(2).send("b").await.unwrap();
        assert_eq!(cluster.agreed(2).await, ["a", "b"]);
        let members = cluster.node(1).member.status().members;
        assert_eq!(members[&node(2)].peer, moved);
    }
}

#[tokio::test(start_paused = true)]
async fn another_directory_under_a_known_id_is_refused() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    let asked = cluster.followers(leader.id)[0];
    let other = Peer {
        directory: DirectoryId(99),
        ..Cluster::peer(3)
    };
    let join = |id, peer| asked.member.join(node(id), peer, true, 10 * SECOND);
    refused(join(3, other).await, "remove node 3");
    refused(join(4, Cluster::peer(3)).await, "belongs to node 3");
    assert_eq!(ids(leader), [1, 2, 3]);
}

/// Rule 20: leadership goes to whom it is given to, and what arrives meanwhile isn't lost.
#[tokio::test(start_paused = true)]
async fn a_transfer_loses_no_request() {
    for (style, seed) in [Style::Late, Style::Ahead]
        .into_iter()
        .cycle()
        .zip(1..=stop::SEEDS)
    {
        let cluster = Cluster::form_with(3, style, Settings::default(), seed).await;
        cluster.board.set_latency(Duration::from_millis(1));
        let old = cluster.leader().await;
        let next = cluster.followers(old.id)[0];
        let other = cluster.followers(old.id)[1];
        let mut waiting = Vec::new();
        for n in 0..60 {
            let member = cluster.nodes[n % 3].member.clone();
            waiting.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n as u64)).await;
                member
                    .write(Ask::Push(n.to_string()), Route::Forward, 10 * SECOND)
                    .await
            }));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let transfer = other.member.transfer(Some(next.id), 10 * SECOND);
        transfer.await.unwrap();
        for wait in waiting {
            wait.await.unwrap().unwrap();
        }
        assert_eq!(cluster.leader().await.id, next.id);
        let mut lines = cluster.agreed(60).await;
        lines.sort_by_key(|line| line.parse::<u64>().unwrap());
        let all: Vec<String> = (0..60).map(|n| n.to_string()).collect();
        assert_eq!(lines, all);
    }
}

/// Rule 20: a transfer that fails leaves the leader what it was, and it takes in requests again.
#[tokio::test(start_paused = true)]
async fn a_failed_transfer_admits_again() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    let away = cluster.followers(leader.id)[0];
    cluster.board.isolate(away.id);
    leader.push("a").await.unwrap();
    let begun = tokio::time::Instant::now();
    let (held, transfer) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            leader.push("b").await.map(|_| begun.elapsed())
        },
        leader.member.transfer(Some(away.id), 2 * SECOND),
    );
    assert!(
        matches!(transfer, Err(MemberError::Timeout { .. })),
        "{transfer:?}"
    );
    assert!(held.unwrap() >= 2 * SECOND, "nothing is proposed meanwhile");
    assert_eq!(cluster.leader().await.id, leader.id);
    leader.push("c").await.unwrap();
    cluster.board.heal();
    assert_eq!(cluster.agreed(3).await, ["a", "b", "c"]);
}

/// Rule 20: a target that takes leadership and vanishes doesn't end the cluster.
#[tokio::test(start_paused = true)]
async fn a_target_that_never_takes_over_costs_an_election() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    let away = cluster.followers(leader.id)[0];
    leader.push("a").await.unwrap();
    cluster.agreed(1).await;
    cluster.board.cut_one_way(leader.id, away.id);
    cluster
        .board
        .cut_one_way(away.id, cluster.followers(leader.id)[1].id);
    let transfer = leader.member.transfer(Some(away.id), 5 * SECOND);
    transfer.await.ok();
    cluster.board.heal();
    cluster.node(1).send("b").await.unwrap();
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
}

/// Rule 20, and joining: who asked for a change sees it, in what the leader shows of its members, as soon as it is answered. Raft
/// answers before it publishes, so on several threads a node that had just been let in could be told that it "was removed
/// meanwhile", and a new cluster's second node ended with that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_once_it_is_answered() {
    let cluster = Cluster::form(1, Style::Late).await;
    let leader = cluster.leader().await;
    for turn in 0..300 {
        let join = leader
            .member
            .join(node(2), Cluster::peer(2), false, 30 * SECOND);
        join.await.unwrap();
        assert_eq!(ids(leader), [1, 2], "let in, turn {turn}");
        leader.member.remove(node(2), 30 * SECOND).await.unwrap();
        assert_eq!(ids(leader), [1], "removed, turn {turn}");
    }
}
