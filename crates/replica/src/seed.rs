//! What `random()` grows from in each request of an entry.

/// A seed of its own for the request at `place` of an entry: SplitMix64's output number `place`. Part of statement mode's format, since
/// all nodes have to agree on it.
#[must_use]
pub fn request_seed(seed: u64, place: usize) -> u64 {
    let steps = u64::try_from(place).expect("an index fits 64 bits") + 1;
    let mut word = seed.wrapping_add(steps.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
