//! Calls between members.

use super::*;

fn ask(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn members_answer_each_other_in_any_order() {
    let cluster = Cluster::form(3, Style::Late).await;
    cluster.leader().await;
    cluster.agreed(0).await;
    for from in &cluster.nodes {
        for to in &cluster.nodes {
            let answer = from.member.ask(to.id, ask("hello"), SECOND).await;
            let expected = format!("{} asks {}: hello", from.id, to.id);
            assert_eq!(answer.unwrap(), expected);
        }
    }
    let stranger = cluster.nodes[0].member.ask(node(9), ask("hello"), SECOND);
    assert_eq!(stranger.await.unwrap_err().retry(), Retry::Safe);
}

/// A partition swallows answers: the caller isn't kept waiting, and is told whether it was sent.
#[tokio::test(start_paused = true)]
async fn a_call_into_a_partition_is_lost_and_the_next_certainly_not_sent() {
    let cluster = Cluster::form(3, Style::Late).await;
    cluster.leader().await;
    let (from, to) = (&cluster.nodes[0], cluster.nodes[1].id);
    from.member.ask(to, ask("before"), SECOND).await.unwrap();
    cluster.board.cut(from.id, to);
    let lost = from.member.ask(to, ask("lost"), 60 * SECOND).await;
    assert_eq!(lost.unwrap_err().retry(), Retry::Ambiguous);
    let unsent = from.member.ask(to, ask("unsent"), 60 * SECOND).await;
    assert_eq!(unsent.unwrap_err().retry(), Retry::Safe);
    cluster.board.heal();
    from.member.ask(to, ask("after"), SECOND).await.unwrap();
}
