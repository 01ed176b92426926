//! The memory of new requests: "this one was sent home within the last 64 seconds".
//!
//! Without it, a retransmission of an INVITE could reach a second node when home turned `Busy` or
//! `Stale` since the first copy. It holds only choices of *home*; others are pins. So it need not
//! say where a request went, only that it did, and a few bits a request are enough.
//!
//! Time is cut into epochs of at least 64 s (SIP's longest transaction, RFC 3261 §17: 64 · T1 · 2).
//! The map has one half for even and one for odd epochs; a word holds 48 bits and the number of
//! the epoch they belong to, so that a half empties itself: words of an earlier epoch count as zero.
//! What is remembered stays so for one to two epochs. A request is three bits of one word (a blocked
//! Bloom filter): it is known when all three are set.
//!
//! **What a collision can do.** Nothing is ever forgotten for want of room. But a new request whose
//! bits others have set is taken for a retransmission while its home is unwilling, or while the tables
//! change: it is sent home (to the old home), like all that follows in its dialog, and home's redirect
//! server decides. With as many requests remembered in two epochs as here, this is the fate of so many
//! of those new requests: 100,000: 1 in 215; 250,000: 1 in 33. All requests that may start something
//! count, keep-alive OPTIONS too; 2,000 a second are 250,000 at 250 ticks a second. What is known
//! already is not remembered again where the memory was asked, so nothing is known for ever.
//!
//! Two that set bits of one word within the same nanoseconds may lose one's: two CPUs, or one and userspace,
//! which does the same for deferred datagrams.
//!
//! 256 KiB an epoch, so that it stays in a core's cache beside the table; see ARCHITECTURE.md for what
//! larger entries cost.

/// Words in each half of the memory.
pub const MEMORY_WORDS: u32 = 1 << 15;

/// Bits of a word that stand for requests; the others hold the epoch.
const BITS: u64 = 48;

/// The shortest epoch, in milliseconds.
pub const EPOCH_MS: u64 = 64_000;

/// The epoch of a moment in jiffies, given the [`epoch_shift`].
#[inline(always)]
pub const fn epoch_of(now: u64, shift: u64) -> u64 {
    now >> (shift & 63)
}

/// The shift that makes epochs of at least [`EPOCH_MS`] out of jiffies of this length.
pub const fn epoch_shift(jiffy_ns: u64) -> u64 {
    let jiffies = (EPOCH_MS * 1_000_000).div_ceil(if jiffy_ns == 0 { 1 } else { jiffy_ns });
    jiffies.next_power_of_two().trailing_zeros() as u64
}

/// Where in the map a key's bits of an epoch are.
#[inline(always)]
pub const fn word_of(key: u64, epoch: u64) -> u32 {
    (epoch as u32 & 1) * MEMORY_WORDS + (key as u32 & (MEMORY_WORDS - 1))
}

/// Whether the word remembers the key in this epoch.
#[inline(always)]
pub const fn has(word: u64, key: u64, epoch: u64) -> bool {
    word >> BITS == epoch & 0xffff && !word & bits_of(key) == 0
}

/// The word, remembering the key as well.
#[inline(always)]
pub const fn with(word: u64, key: u64, epoch: u64) -> u64 {
    if word >> BITS == epoch & 0xffff {
        word | bits_of(key)
    } else {
        (epoch & 0xffff) << BITS | bits_of(key)
    }
}

/// Three of the [`BITS`], one of each sixteen, by parts of the key that [`word_of`] does not use.
#[inline(always)]
const fn bits_of(key: u64) -> u64 {
    1 << (key >> 16 & 15) | 1 << (16 + (key >> 32 & 15)) | 1 << (32 + (key >> 48 & 15))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    const SHIFT: u64 = 14;

    proptest! {
        #[test]
        fn what_was_put_in_is_found_for_64_seconds(key: u64, now in 1u64 << 20..1 << 40, later in 0u64..16_000) {
            let epoch = epoch_of(now, SHIFT);
            let word = with(0, key, epoch);
            let then = epoch_of(now + later, SHIFT);
            // The reader looks at its epoch and the one before.
            prop_assert!(has(word, key, then) || has(word, key, then - 1));
        }

        #[test]
        fn nothing_is_lost_to_another_of_the_same_epoch(key: u64, other: u64, epoch in 1u64..1 << 40) {
            prop_assert!(has(with(with(0, key, epoch), other, epoch), key, epoch));
        }

        #[test]
        fn an_earlier_epoch_counts_as_empty(key: u64, other: u64, epoch in 3u64..1 << 40) {
            let old = with(0, key, epoch - 2);
            prop_assert_eq!(word_of(key, epoch), word_of(key, epoch - 2));
            prop_assert!(!has(old, key, epoch));
            prop_assert_eq!(with(old, other, epoch), with(0, other, epoch));
        }
    }

    /// The figures in the module's description.
    #[test]
    fn strangers_are_rarely_taken_for_known() {
        let key =
            |number: u64| crate::siphash::siphash13(Default::default(), &number.to_le_bytes());
        for (calls, one_in) in [(50_000, 215), (125_000, 33)] {
            let mut words = std::vec![0u64; 2 * MEMORY_WORDS as usize];
            let epochs = [8, 9];
            for number in 0..2 * calls {
                let epoch = epochs[number as usize % 2];
                let word = &mut words[word_of(key(number), epoch) as usize];
                *word = with(*word, key(number), epoch);
            }
            let strangers = 2 * calls..2 * calls + 200_000;
            let known = strangers
                .map(key)
                .filter(|key| {
                    epochs
                        .iter()
                        .any(|epoch| has(words[word_of(*key, *epoch) as usize], *key, *epoch))
                })
                .count();
            let measured = 200_000.0 / known as f64;
            assert!(
                (0.95..1.05).contains(&(measured / f64::from(one_in))),
                "{calls} an epoch: one in {measured:.1}"
            );
        }
    }

    #[test]
    fn epochs_are_64_seconds_at_least_whatever_the_tick() {
        for hertz in [100, 250, 300, 1000] {
            let seconds = (1u64 << epoch_shift(1_000_000_000 / hertz)) as f64 / hertz as f64;
            assert!((64.0..128.1).contains(&seconds), "{hertz} Hz: {seconds} s");
        }
    }
}
