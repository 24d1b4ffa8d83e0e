//! A request's body: at most so many bytes in at most so much time.

use crate::Options;
use crate::outcome::Refusal;
use crate::room::Share;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::pin::pin;
use tokio::time::timeout;

/// What a body's failure is.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Reads it all. A body in one piece, the usual case, isn't copied. What has arrived counts in `share`; what is announced
/// doesn't, or a few slow clients could keep all others out.
pub(crate) async fn read<B>(body: B, options: &Options, share: &mut Share) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Broken>,
{
    let gathered = gather(body, options.body_bytes_max, share);
    timeout(options.body_timeout, gathered)
        .await
        .map_err(|_| Refusal::BodyTimeout)?
}

async fn gather<B>(body: B, limit: usize, share: &mut Share) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Broken>,
{
    let too_large = || Refusal::BodyTooLarge { limit };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::BodyBroken(error.into()))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if first.len() + all.len() + piece.len() > limit {
            return Err(too_large());
        }
        if !share.grow(piece.len()) {
            return Err(Refusal::BodiesFull);
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
