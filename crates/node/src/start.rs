//! From an opened data directory to a running node: member, readers, front, and the tasks beside them.

use crate::admin::Facts;
use crate::belong::{Follower, enter};
use crate::front::Front;
use crate::identity::Keeper;
use crate::machine::Machine;
use crate::node::{Entering, Node};
use crate::open::{Opened, open};
use crate::options::Net;
use crate::peer::{self, Ask, Description};
use crate::session::{Ground, Registry, Told};
use crate::{NodeError, NodeOptions};
use async_trait::async_trait;
use bytes::Bytes;
use sqlrep_core::{
    BootstrapPlan, Genesis, LogStore, Member, MemberError, NodeId, Parts, Peer, PeerService,
    ReadError, Transport,
};
use sqlrep_env::Latency;
use sqlrep_replica::{ReaderOptions, Readers};
use sqlrep_transport_tcp::TcpTransport;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Answers other nodes once the node is complete.
#[derive(Default)]
struct Desk(OnceLock<Weak<Front<Machine>>>);

#[async_trait]
impl PeerService for Desk {
    async fn call(&self, _from: NodeId, ask: Bytes) -> Bytes {
        let front = self.0.get().and_then(Weak::upgrade);
        let answer = match (front, peer::decode(&ask)) {
            (None, _) => peer::Answer::Refused("the node is starting or stopping".to_owned()),
            (_, Err(what)) => peer::Answer::Refused(what),
            (Some(front), Ok(ask)) => answer(&front, ask).await,
        };
        peer::encode(&answer)
    }

    async fn unclaimed(&self, from: NodeId, answer: Bytes) {
        let Ok(peer::Answer::Session(Ok(Told::Opened(session)))) = peer::decode(&answer) else {
            return;
        };
        if let Some(front) = self.0.get().and_then(Weak::upgrade)
            && session.owner() == from
        {
            front.abandon(session);
        }
    }
}

async fn answer(front: &Front<Machine>, ask: Ask) -> peer::Answer {
    match ask {
        Ask::Describe => peer::Answer::Describe(front.facts.description.clone()),
        Ask::Session { session, call } => {
            peer::Answer::Session(front.sessions.call(session, call).await)
        }
        Ask::Open { options } => {
            let opened = front.open_here(&options).await;
            peer::Answer::Session(opened.map(Told::Opened))
        }
        Ask::Query {
            request,
            level,
            bound,
            run_max,
        } => {
            let here = front.query_here(&request, level, bound, run_max).await;
            // Not forwarded again: the asking node looks for the leader anew.
            let elsewhere = |leader| ReadError::NotLeader {
                leader: Some(leader),
            };
            peer::Answer::Query(here.and_then(|outcome| outcome.map_err(elsewhere)))
        }
    }
}

/// How other nodes are reached, and how they reach this one.
struct Network {
    /// None if the options bring a network of their own.
    tcp: Option<Arc<TcpTransport>>,
    transport: Arc<dyn Transport>,
    peer: Peer,
}

/// Opens and starts everything; see [`Node::start`].
pub(crate) async fn start(options: NodeOptions) -> Result<Node, NodeError> {
    let opened = open(&options)?;
    let network = network(&options, &opened).await?;
    let desk = Arc::new(Desk::default());
    let parts = parts(&options, &opened, &network, desk.clone());
    let member = Box::pin(Member::start(parts)).await;
    let member = member.map_err(|error| cause(&opened, error))?;
    let front = Arc::new(front(&options, &opened, &network, member)?);
    desk.0
        .set(Arc::downgrade(&front))
        .expect("set once, right here");
    Ok(run(&options, opened, network, front))
}

/// Why a member can't start. Raft tells as text what its storage told; a log that failed tells itself.
fn cause(opened: &Opened, error: MemberError) -> NodeError {
    match opened.log.failed() {
        Some(failed) => NodeError::Log {
            source: Box::new(failed),
        },
        None => error.into(),
    }
}

fn parts(
    options: &NodeOptions,
    opened: &Opened,
    network: &Network,
    service: Arc<dyn PeerService>,
) -> Parts<Machine> {
    let identity = &opened.identity;
    Parts {
        node: identity.node,
        directory: identity.directory,
        machine: opened.machine.clone(),
        log: opened.log.clone() as Arc<dyn LogStore>,
        transport: network.transport.clone(),
        service,
        genesis: Some(Genesis {
            cluster: identity.proposed,
            settings: identity.settings.encode().into(),
        }),
        keys: identity.settings.keys(),
        env: opened.env.clone(),
        settings: options.settings(),
    }
}

fn front(
    options: &NodeOptions,
    opened: &Opened,
    network: &Network,
    member: Member<Machine>,
) -> Result<Front<Machine>, NodeError> {
    let settings = opened.identity.settings.clone();
    let pool = ReaderOptions {
        readers: options.readers,
        queue_max: options.read_queue_max,
    };
    let readers =
        Readers::start(&opened.replica, &settings.sql, pool).map_err(NodeError::database)?;
    let (replica, env) = (opened.replica.clone(), opened.env.clone());
    let ground = Ground::new(
        member.clone(),
        replica,
        env,
        settings.clone(),
        opened.identity.mode,
    );
    Ok(Front {
        member,
        readers,
        sessions: Registry::new(opened.identity.node, opened.env.clone()),
        ground: Arc::new(ground),
        env: opened.env.clone(),
        settings,
        facts: facts(options, opened, network),
        writes: Latency::default(),
        queries: Latency::default(),
    })
}

fn facts(options: &NodeOptions, opened: &Opened, network: &Network) -> Facts {
    let (identity, peer) = (&opened.identity, &network.peer);
    Facts {
        node: identity.node,
        directory: identity.directory,
        directory_path: options.directory.display().to_string(),
        mode: identity.mode,
        description: Description {
            http_address: peer.http.clone(),
            release: crate::RELEASE.to_owned(),
        },
        raft_address: peer.raft.clone(),
        engine: opened.engine.clone(),
        store: opened.store.clone(),
        replica: opened.replica.clone(),
        log: opened.log.clone(),
        replay: opened.replay,
        tcp: network.tcp.clone(),
        mismatches: {
            let machine = opened.machine.clone();
            Arc::new(move || machine.checksum_mismatches())
        },
        started: opened.env.clock.now(),
        started_wall: opened.env.clock.wall(),
    }
}

fn run(
    options: &NodeOptions,
    opened: Opened,
    network: Network,
    front: Arc<Front<Machine>>,
) -> Node {
    let plan = plan(options, &opened, &network.peer);
    let Opened {
        disk,
        env,
        lock,
        identity,
        log,
        replica,
        machine,
        failed,
        ..
    } = opened;
    let (member, mut tasks) = (front.member.clone(), JoinSet::new());
    let settings = identity.settings.clone();
    let (unfit, unfit_heard) = watch::channel(None);
    let follower = Follower {
        belongs: member.membership(),
        tcp: network.tcp,
        noted: identity.cluster,
        settings: settings.clone(),
        keeper: Keeper::start(&*env.executor, disk, identity),
        failed: unfit,
    };
    tasks.spawn(follower.run());
    let (sender, entering) = watch::channel(Entering::Waiting);
    tasks.spawn(enter(member, plan, settings, sender));
    Node {
        front,
        machine,
        replica,
        log,
        env,
        entering,
        failed: [failed, unfit_heard],
        raft_address: network.peer.raft,
        tasks,
        lock,
    }
}

fn plan(options: &NodeOptions, opened: &Opened, peer: &Peer) -> BootstrapPlan {
    BootstrapPlan {
        own: (opened.identity.node, peer.clone()),
        join: options.join.clone(),
        expect: options.bootstrap_expect,
        voter: options.voter,
        mode: opened.identity.mode.to_string(),
        settings: opened.identity.settings.encode().into(),
        wait_max: options.enter_wait_max,
    }
}

/// Real sockets, unless the options bring a network of their own.
async fn network(options: &NodeOptions, opened: &Opened) -> Result<Network, NodeError> {
    let surrounding = options.surroundings.as_ref().map(|own| &own.network);
    let (tcp, transport, listened) = if let Some(Net::Links(links)) = surrounding {
        (None, links.clone(), options.raft_address.clone())
    } else {
        let tcp = listen(options, opened, surrounding).await?;
        let address = tcp.local_addr().to_string();
        (Some(tcp.clone()), tcp as Arc<dyn Transport>, address)
    };
    let peer = Peer {
        raft: options.raft_advertised.clone().unwrap_or(listened),
        http: options.http_advertised.clone(),
        directory: opened.identity.directory,
    };
    Ok(Network {
        tcp,
        transport,
        peer,
    })
}

async fn listen(
    options: &NodeOptions,
    opened: &Opened,
    network: Option<&Net>,
) -> Result<Arc<TcpTransport>, NodeError> {
    let identity = sqlrep_transport_tcp::Identity {
        node: opened.identity.node,
        directory: opened.identity.directory,
        mode: opened.identity.mode.to_string(),
        engine: opened.engine.source_id.clone(),
        engine_digest: opened.engine.fingerprint,
        release: crate::RELEASE.to_owned(),
    };
    let (address, limits) = (
        &options.raft_address,
        sqlrep_transport_tcp::Options::default(),
    );
    let refused = |source| NodeError::Listen {
        address: address.clone(),
        source,
    };
    let tcp = if let Some(Net::Sockets(sockets)) = network {
        let listener = sockets.listen(address).await.map_err(refused)?;
        TcpTransport::on(sockets.clone(), listener, identity, limits)
    } else {
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        TcpTransport::new(listener, identity, limits)
    };
    // The members aren't known before the log is read; the cluster's name is, from the first start on.
    tcp.belongs_to(opened.identity.cluster, BTreeMap::new());
    Ok(tcp)
}
