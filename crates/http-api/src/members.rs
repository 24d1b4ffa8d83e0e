//! `/nodes`, `/leader`, `/remove` and `/readyz`.

use crate::front::{Call, Front, tell_cluster, tell_index};
use crate::outcome::{Refusal, Response, empty, json, plain};
use crate::{duration, json as text};
use hyper::StatusCode;
use sqlrep_core::NodeId;
use sqlrep_service::{AdminError, Health, NodeStatus};
use std::collections::BTreeMap;

/// Members, as an object by id or, with `ver=2`, as a list; voters only unless `nonvoters`.
pub(crate) async fn nodes(front: &Front, call: &Call<'_>) -> Result<Response, Refusal> {
    let all = front.api.admin.nodes(front.members_timeout(call)).await;
    let nodes: BTreeMap<String, NodeStatus> = all
        .into_iter()
        .filter(|node| node.voter || call.params.has("nonvoters"))
        .map(|node| (node.id.to_string(), node))
        .collect();
    let listed = call.params.get("ver") == Some("2");
    let mut out = if listed {
        b"{\"nodes\":[".to_vec()
    } else {
        b"{".to_vec()
    };
    for (at, (id, node)) in nodes.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if !listed {
            text::string(&mut out, id);
            out.push(b':');
        }
        self::node(&mut out, node);
    }
    out.extend_from_slice(if listed { &b"]}"[..] } else { &b"}"[..] });
    Ok(json(out, call.pretty()))
}

fn node(out: &mut Vec<u8>, node: &NodeStatus) {
    let field = |out: &mut Vec<u8>, name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        text::string(out, value);
    };
    field(out, "{\"id\":", &node.id.to_string());
    if let Some(address) = &node.http_address {
        field(out, ",\"api_addr\":", &format!("http://{address}"));
    }
    if !node.raft_address.is_empty() {
        field(out, ",\"addr\":", &node.raft_address);
    }
    let unknown = if node.reachable { "unknown" } else { "" };
    field(
        out,
        ",\"version\":",
        node.version.as_deref().unwrap_or(unknown),
    );
    let flags = format!(
        ",\"voter\":{},\"reachable\":{},\"leader\":{}",
        node.voter, node.reachable, node.leader
    );
    out.extend_from_slice(flags.as_bytes());
    if let Some(took) = node.took.filter(|took| !took.is_zero()) {
        out.extend_from_slice(b",\"time\":");
        text::float(out, took.as_secs_f64());
        field(out, ",\"time_s\":", &duration::text(took));
    }
    if let Some(error) = &node.error {
        field(out, ",\"error\":", error);
    }
    out.push(b'}');
}

/// Who leads.
pub(crate) async fn leader(front: &Front, call: &Call<'_>) -> Result<Response, Refusal> {
    let leader = front.api.admin.leader(front.members_timeout(call)).await;
    let mut out = Vec::new();
    node(&mut out, &leader.ok_or(Refusal::NoLeader)?);
    Ok(json(out, call.pretty()))
}

/// Hands leadership over. Whether with `wait` or not, the answer tells whether it was done.
pub(crate) async fn step_down(
    front: &Front,
    call: &Call<'_>,
    body: &[u8],
) -> Result<Response, Refusal> {
    front.redirect(call).await?;
    let to = if call.content_type() == b"application/json" && !body.is_empty() {
        let text = node_named(body)?;
        Some(text.parse().ok().and_then(NodeId::new).ok_or(text))
    } else {
        None
    };
    let done = match to.transpose() {
        Ok(to) => {
            front
                .api
                .admin
                .step_down(to, front.members_timeout(call))
                .await
        }
        Err(text) => Err(AdminError::UnknownNode(text)),
    };
    done.map_err(|source| Refusal::Admin {
        call: "stepdown",
        source,
    })?;
    Ok(done_here(front))
}

/// Takes a member out; a name that no member can have is none.
pub(crate) async fn remove(
    front: &Front,
    call: &Call<'_>,
    body: &[u8],
) -> Result<Response, Refusal> {
    let text = node_named(body)?;
    front.redirect(call).await?;
    if let Some(node) = text.parse().ok().and_then(NodeId::new) {
        let removed = front
            .api
            .admin
            .remove(node, front.members_timeout(call))
            .await;
        removed.map_err(|source| Refusal::Admin {
            call: "remove",
            source,
        })?;
    }
    Ok(done_here(front))
}

fn done_here(front: &Front) -> Response {
    let mut response = empty(StatusCode::OK);
    front.served_by(&mut response, None);
    response
}

/// `{"id":"…"}` and nothing else.
fn node_named(body: &[u8]) -> Result<String, Refusal> {
    let mut fields: BTreeMap<String, String> =
        serde_json::from_slice(body).map_err(|_| Refusal::BadRequestSilent)?;
    match (fields.len(), fields.remove("id")) {
        (1, Some(id)) => Ok(id),
        _ => Err(Refusal::BadRequestSilent),
    }
}

/// Whether this node can serve, point by point. The index that a client may name as `min_index` is in a header, since
/// clients compare the lines.
pub(crate) async fn ready(front: &Front, call: &Call<'_>) -> Result<Response, Refusal> {
    let mut lines = vec!["[+]node ok".to_owned()];
    let ready = if call.params.has("noleader") {
        true
    } else {
        let sync = call.params.has("sync");
        let health = front
            .api
            .admin
            .health(sync, front.members_timeout(call))
            .await;
        match points(&health, &mut lines) {
            Ok(()) => true,
            Err(line) => {
                lines.push(line);
                false
            }
        }
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut response = plain(status, lines.join("\n"));
    let node = front.api.admin.status();
    if let Some(applied) = node.log.applied {
        tell_index(&mut response, applied.index.into());
    }
    tell_cluster(&mut response, node.cluster);
    Ok(response)
}

/// Lines up to the first point that isn't right, and its line.
fn points(health: &Health, lines: &mut Vec<String>) -> Result<(), String> {
    if !health.leader {
        return Err("[+]leader does not exist".to_owned());
    }
    if let Err(why) = &health.leader_contact {
        return Err(format!("[+]leader not contactable: {why}"));
    }
    lines.push("[+]leader ok".to_owned());
    if !health.store {
        return Err("[+]store not ready".to_owned());
    }
    lines.push("[+]store ok".to_owned());
    match &health.sync {
        Some(Err(why)) => return Err(format!("[+]sync {why}")),
        Some(Ok(())) => lines.push("[+]sync ok".to_owned()),
        None => {}
    }
    if let Err(why) = &health.database {
        return Err(format!("[+]db not ok: ({why})"));
    }
    lines.push("[+]db ok".to_owned());
    Ok(())
}
