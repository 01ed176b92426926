//! The 64-second memory of new requests: one entry is one word.
//!
//! Without it, a retransmission of an INVITE could reach a second node when home turned `Busy` or
//! `Stale` since the first copy. It holds only choices of *home*; others are pins.
//!
//! A key picks one of 65,536 buckets of four entries; an entry keeps 40 further bits of the key, so
//! two calls are taken for one with a chance of 2⁻⁵⁶ a pair. **What a collision can do:** a fifth
//! call in a bucket within 64 s (at 2,000 calls a second, the fate of about one call in seven; at
//! 1,000, of one in fifty) makes the program forget the oldest. Forgetting changes nothing as long
//! as home stays willing, which is nearly always; if home turns unwilling in just those seconds and
//! the request is repeated, the repetition is chosen anew, as if this memory did not exist.

use crate::maps::{MEMORY_BUCKETS, MemoryBucket};

/// A jiffy count is kept in units of 2⁶ jiffies: 0.26 s at 250 jiffies a second.
const TIME_SHIFT: u32 = 6;
const TAG_MASK: u64 = !0 << 24;

/// The bucket of a call key.
#[inline(always)]
pub const fn bucket_of(key: u64) -> u32 {
    key as u32 & (MEMORY_BUCKETS - 1)
}

/// The entry that says: this call went to `node` (below 256) at `now`.
#[inline(always)]
pub const fn entry(key: u64, node: u16, now: u64) -> u64 {
    key & TAG_MASK | ((now >> TIME_SHIFT) & 0xffff) << 8 | (node & 0xff) as u64
}

/// Whether an entry is this call's.
#[inline(always)]
pub const fn is_of(entry: u64, key: u64) -> bool {
    (entry ^ key) & TAG_MASK == 0 && entry as u8 != 0
}

/// The node of an entry.
#[inline(always)]
pub const fn node_of(entry: u64) -> u16 {
    (entry & 0xff) as u16
}

/// The entry of this call, or 0, the empty one.
#[inline(always)]
pub fn find(bucket: &MemoryBucket, key: u64) -> u64 {
    let [first, second, third, fourth] = bucket.entries;
    if is_of(first, key) {
        first
    } else if is_of(second, key) {
        second
    } else if is_of(third, key) {
        third
    } else if is_of(fourth, key) {
        fourth
    } else {
        0
    }
}

/// Puts an entry first; the last falls out. Two CPUs that do so at once may lose one of the two.
#[inline(always)]
pub fn insert(bucket: &mut MemoryBucket, entry: u64) {
    let [first, second, third, _] = bucket.entries;
    bucket.entries = [entry, first, second, third];
}

/// The age of an entry in jiffies, right to within 64 of them; empty entries are as old as can be.
#[inline(always)]
pub const fn age(entry: u64, now: u64) -> u64 {
    if entry == 0 {
        return 0xffff << TIME_SHIFT;
    }
    ((now >> TIME_SHIFT).wrapping_sub(entry >> 8) & 0xffff) << TIME_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_says_what_was_put_in(key: u64, node in 1u16..256, now in 0u64..1 << 40, waited in 0u64..20_000) {
            let entry = entry(key, node, now);
            prop_assert!(is_of(entry, key));
            prop_assert_eq!(node_of(entry), node);
            prop_assert!(age(entry, now + waited).abs_diff(waited) < 64);
            prop_assert!(!is_of(entry, key ^ 1 << 24));
        }
    }

    #[test]
    fn empty_is_nobodys_and_oldest() {
        assert!(!is_of(0, 5));
        assert!(age(0, 12_345) >= age(entry(1, 1, 0), 12_345));
    }
}
