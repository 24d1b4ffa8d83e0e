//! What a link carries, when it waits and how it ends.

use crate::{counted, fails, identity, link, node, peer, soon, start, start_as};
use bytes::Bytes;
use sqlrep_core::{ClusterId, FrameReceiver, Lane, Link, Retry, Transport, TransportError};
use sqlrep_transport_tcp::Options;
use std::collections::BTreeMap;
use std::time::Duration;

async fn next(receiver: &mut Box<dyn FrameReceiver>) -> Result<Option<Bytes>, TransportError> {
    soon(receiver.receive()).await
}

/// Sends back what comes.
async fn echo(mut link: Link) {
    while let Ok(Some(frame)) = link.receiver.receive().await {
        link.sender.send(frame).await.unwrap();
    }
}

#[tokio::test]
async fn each_lane_carries_frames_up_to_its_limit_in_order() {
    let (a, b) = (start(1).await, start(2).await);
    for lane in Lane::ALL {
        let mut near = soon(a.connect(Some(node(2)), &peer(&b), lane)).await;
        let (from, on, far) = soon(b.accept()).await.unwrap();
        assert_eq!((from, on), (node(1), lane));
        let echoing = tokio::spawn(echo(far));
        let Link { sender, receiver } = near.as_mut().unwrap();
        let sizes = [0, 1, 5, 16 << 10, 100_000, lane.frame_bytes_max(), 3];
        for (size, byte) in sizes.into_iter().zip(1u8..) {
            let size = size.min(lane.frame_bytes_max());
            let frame = Bytes::from(vec![byte; size]);
            let sent = sender.send(frame.clone());
            let (sent, received) = tokio::join!(soon(sent), next(receiver));
            sent.unwrap();
            assert!(received.unwrap().unwrap() == frame, "{lane:?} {size}");
        }
        drop(near);
        soon(echoing).await.unwrap();
    }
}

#[tokio::test]
async fn a_burst_of_small_frames_arrives_whole_and_is_counted() {
    let (a, b) = (start(1).await, start(2).await);
    let (mut near, mut far) = link(&a, &b, Lane::Append).await;
    for number in 0..1000u32 {
        let frame = Bytes::copy_from_slice(&number.to_le_bytes());
        soon(near.sender.send(frame)).await.unwrap();
    }
    drop(near);
    for number in 0..1000u32 {
        let frame = next(&mut far.receiver).await.unwrap().unwrap();
        assert_eq!(frame[..], number.to_le_bytes());
    }
    assert!(next(&mut far.receiver).await.unwrap().is_none());
    drop(far);
    assert_eq!(a.stats().bytes_out, 8000);
    assert_eq!(b.stats().bytes_in, 8000);
    counted(&a, |stats| stats.links == 0).await;
    counted(&b, |stats| stats.links == 0).await;
}

#[tokio::test]
async fn a_sender_waits_for_a_slow_receiver() {
    let (a, b) = (start(1).await, start(2).await);
    let (mut near, mut far) = link(&a, &b, Lane::Snapshot).await;
    let frame = Bytes::from(vec![7; 4 << 20]);
    let frames = 32;
    let sending = async {
        for _ in 0..frames {
            near.sender.send(frame.clone()).await.unwrap();
        }
    };
    let mut sending = Box::pin(sending);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut sending).await;
    assert!(early.is_err(), "128 MiB are more than any socket holds");
    let receiving = async {
        for _ in 0..frames {
            assert!(far.receiver.receive().await.unwrap().unwrap() == frame);
        }
    };
    soon(async { tokio::join!(sending, receiving) }).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_loses_its_link() {
    let options = Options {
        write_stall_max: Duration::from_millis(200),
        ..Options::default()
    };
    let a = start_as(identity(1), options).await;
    let b = start(2).await;
    b.belongs_to(ClusterId(0), BTreeMap::new());
    let (mut near, _far) = link(&a, &b, Lane::Append).await;
    let error = soon(async {
        loop {
            let sent = near.sender.send(Bytes::from(vec![0; 4 << 20])).await;
            if let Err(error) = sent {
                return error;
            }
        }
    });
    let error = error.await;
    assert_eq!(error.retry(), Retry::Safe, "{error}");
    let ended = next(&mut near.receiver).await;
    assert!(ended.is_err(), "a link that failed one way is over");
}

#[tokio::test]
async fn a_frame_above_the_lanes_limit_isnt_sent_and_ends_the_link() {
    let (a, b) = (start(1).await, start(2).await);
    let (mut near, mut far) = link(&a, &b, Lane::Control).await;
    let large = Bytes::from(vec![0; Lane::Control.frame_bytes_max() + 1]);
    let error = soon(near.sender.send(large)).await.unwrap_err();
    let told = "sent a frame of 65537 bytes, above the limit of 65536";
    assert!(error.to_string().ends_with(told), "{error}");
    assert!(soon(near.sender.send(Bytes::new())).await.is_err());
    assert!(next(&mut near.receiver).await.is_err());
    drop(near);
    assert!(next(&mut far.receiver).await.unwrap().is_none());
}

#[tokio::test]
async fn a_dropped_sender_ends_its_direction_only() {
    let (a, b) = (start(1).await, start(2).await);
    let (near, mut far) = link(&a, &b, Lane::Append).await;
    let Link {
        sender,
        mut receiver,
    } = near;
    drop(sender);
    assert!(next(&mut far.receiver).await.unwrap().is_none());
    let last = Bytes::from_static(b"the last answer");
    soon(far.sender.send(last.clone())).await.unwrap();
    assert_eq!(next(&mut receiver).await.unwrap().unwrap(), last);
    drop(far);
    assert!(next(&mut receiver).await.unwrap().is_none());
}

#[tokio::test]
async fn the_last_word_of_a_peer_that_gave_up_is_heard_after_a_send_failed() {
    let (a, b) = (start(1).await, start(2).await);
    let (mut near, mut far) = link(&a, &b, Lane::Snapshot).await;
    let chunk = Bytes::from(vec![0; 100_000]);
    soon(near.sender.send(chunk.clone())).await.unwrap();
    let last = Bytes::from_static(b"the disk is full");
    soon(far.sender.send(last.clone())).await.unwrap();
    drop(far);
    soon(async { while near.sender.send(chunk.clone()).await.is_ok() {} }).await;
    assert_eq!(next(&mut near.receiver).await.unwrap().unwrap(), last);
    assert!(!matches!(next(&mut near.receiver).await, Ok(Some(_))));
}

#[tokio::test]
async fn links_nobody_accepted_end_with_the_transport() {
    let (a, b) = (start(1).await, start(2).await);
    let mut near = soon(a.connect(None, &peer(&b), Lane::Append))
        .await
        .unwrap();
    counted(&b, |stats| stats.links == 1).await;
    b.close();
    assert!(soon(b.accept()).await.is_none());
    assert!(!matches!(next(&mut near.receiver).await, Ok(Some(_))));
}

#[tokio::test]
async fn a_send_that_was_given_up_isnt_taken_for_an_end() {
    let (a, b) = (start(1).await, start(2).await);
    let (mut near, mut far) = link(&a, &b, Lane::Append).await;
    let large = Bytes::from(vec![1; Lane::Append.frame_bytes_max()]);
    let sent = near.sender.send(large);
    let given_up = tokio::time::timeout(Duration::from_millis(100), sent).await;
    assert!(given_up.is_err(), "64 MiB are more than any socket holds");
    drop(near);
    let torn = next(&mut far.receiver).await.unwrap_err();
    assert_eq!(torn.retry(), Retry::Safe, "{torn}");
}

#[tokio::test]
async fn a_closed_transport_ends_its_links_and_takes_and_makes_none() {
    let (a, b) = (start(1).await, start(2).await);
    let (mut near, mut far) = link(&a, &b, Lane::Control).await;
    let waits = tokio::spawn(async move {
        let ended = far.receiver.receive().await;
        drop(far);
        ended
    });
    b.close();
    let ended = soon(waits).await.unwrap();
    assert!(matches!(ended, Err(TransportError::Closed)), "{ended:?}");
    assert!(soon(b.accept()).await.is_none());
    assert!(next(&mut near.receiver).await.unwrap().is_none());
    let calls = soon(b.connect(None, &peer(&a), Lane::Append)).await;
    assert!(matches!(calls, Err(TransportError::Closed)));
    // The listener's task ends a moment later.
    soon(async { while a.connect(None, &peer(&b), Lane::Append).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_dropped_transport_is_a_closed_one() {
    let (a, b) = (start(1).await, start(2).await);
    let (mut near, far) = link(&a, &b, Lane::Append).await;
    drop(a);
    let ended = next(&mut near.receiver).await;
    assert!(matches!(ended, Err(TransportError::Closed)));
    drop(far);
}

#[tokio::test]
async fn links_beyond_the_limit_have_to_wait() {
    let options = Options {
        links_max: 1,
        ..Options::default()
    };
    let (a, b) = (start(1).await, start_as(identity(2), options).await);
    let (near, far) = link(&a, &b, Lane::Append).await;
    let full = fails(&a, None, &peer(&b), Lane::Control).await;
    assert_eq!(full.retry(), Retry::Safe);
    let told = "no room at node 2: it has 1 links, its limit";
    assert!(full.to_string().ends_with(told), "{full}");
    let own = fails(&b, None, &peer(&a), Lane::Control).await;
    assert!(own.to_string().ends_with(told), "{own}");
    drop((near, far));
    counted(&b, |stats| stats.links == 0).await;
    drop(link(&a, &b, Lane::Control).await);
}
