//! `/v1/check`, our own: whether all replicas are equal at one log index.
//!
//! ```text
//!   {"index":4711,"equal":true,"nodes":[{"id":"1","checksum":"00112233445566ff","in_service":true},…]}
//! ```
//!
//! What isn't known is null: `checksum` of a node that didn't answer or keeps none of that index any more, `in_service` of
//! one that didn't answer, and `equal` while nobody differs but somebody isn't known.

use crate::front::{Call, Front};
use crate::outcome::{Refusal, Response, json};
use serde_json::{Value, json as object};
use sqlrep_core::{ComparedMember, Comparison};

pub(crate) async fn answer(front: &Front, call: &Call<'_>) -> Result<Response, Refusal> {
    let found = front.api.admin.compare(front.members_timeout(call)).await;
    let mut response = json(shown(&found).to_string().into_bytes(), call.pretty());
    front.served_by(&mut response, None);
    Ok(response)
}

fn shown(found: &Comparison) -> Value {
    let node = |member: &ComparedMember| {
        object!({
            "id": member.node.to_string(),
            "checksum": member.checksum.map(|checksum| format!("{checksum:016x}")),
            "in_service": member.in_service,
        })
    };
    let nodes: Vec<Value> = found.members.iter().map(node).collect();
    let index = found.index.map(u64::from);
    object!({ "index": index, "equal": found.equal(), "nodes": nodes })
}
