//! The hop ticket: how often a call was redirected and which nodes refused it, signed.
//!
//! It travels as a URI parameter in the Contact of a 302, and so comes back in the Request-URI of the
//! INVITE that follows it (RFC 3261 §8.1.3.4), through a switch that need not understand it. Without
//! it no node could tell a new call from one that three others have refused.
//!
//! ```text
//!  0  key id          u8        1  hop | visited nodes << 4   u8
//!  2  visited nodes   u8 each   .  expiry, seconds since 1970 u32, network order
//!  .  MAC             16 bytes: SipHash-2-4-128 of "PMT1", cluster u32 and call u64, both
//!                            little-endian, and what is above
//! ```
//! in base32 (RFC 4648 §6, lower case), 37 to 48 letters and digits: token characters that a URI
//! parameter may hold as they are (RFC 3261 §25.1: `unreserved`). The MAC is as in beacons, under the
//! same keys, and the key id says which, so that keys rotate as they do there. A ticket is good for
//! one Call-ID only.
//!
//! **Time of day.** The node that reads a ticket need not be the one that wrote it, so the expiry is
//! the one time in this crate that goes by the clock of the day. A clock that is wrong can make
//! tickets useless, which costs a second redirect, and can never make a loop: see
//! [`Arrival::Spoilt`](super::hops::Arrival::Spoilt).

use super::base32;
use crate::call::Call;
use crate::keys::{NumberedKey, find};
use lb_common::maps::{MAX_NODES, NO_NODE};
use lb_common::siphash::{SipHash24, SipKey};
use std::time::Duration;

/// The URI parameter that a ticket is the value of.
pub const PARAMETER: &str = "pm-hop";
/// Redirects of one call at most.
pub const MAX_HOPS: u8 = 3;
/// Nodes that one call visits at most: those that redirected it, and those that refused it when asked
/// on the way.
pub const MAX_VISITED: usize = 8;
/// How long a ticket is good: SIP's longest transaction (RFC 3261 §17: 64 · T1 · 2).
pub const LIFETIME: Duration = Duration::from_secs(64);
/// What the clocks of two nodes may differ by.
pub const SKEW: Duration = Duration::from_secs(30);

const MAGIC: [u8; 4] = *b"PMT1";
const MAC_LEN: usize = 16;
const EXPIRY_LEN: usize = 4;
const _: () = assert!(MAX_NODES <= 256, "a node's id fits a byte");

/// The nodes that a call has visited, each once, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visited {
    nodes: [u8; MAX_VISITED],
    len: u8,
}

impl Visited {
    /// None.
    pub const NONE: Self = Self {
        nodes: [0; MAX_VISITED],
        len: 0,
    };

    /// Adds a node. `false`: there is no room for it, or there is no such node.
    pub fn add(&mut self, node: u16) -> bool {
        if self.contains(node) {
            return true;
        }
        let Ok(id) = u8::try_from(node) else {
            return false;
        };
        let Some(place) = self.nodes.get_mut(usize::from(self.len)) else {
            return false;
        };
        if node == NO_NODE {
            return false;
        }
        *place = id;
        self.len += 1;
        true
    }

    /// Adds the nodes of another list, as many as there is room for.
    pub fn add_all(&mut self, other: &Self) {
        for node in other.iter() {
            self.add(node);
        }
    }

    /// Whether a node is among them.
    pub fn contains(&self, node: u16) -> bool {
        self.iter().any(|visited| visited == node)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.nodes
            .iter()
            .take(usize::from(self.len))
            .map(|node| u16::from(*node))
    }
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which redirect of the call this is, from 1 to [`MAX_HOPS`].
    pub hop: u8,
    /// The nodes that did not take it.
    pub visited: Visited,
}

/// Why a text is no ticket that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not of the form.
    #[error("not a ticket")]
    Malformed,
    /// Under a key that is not valid here.
    #[error("a ticket under an unknown key")]
    UnknownKey,
    /// Its authentication code is wrong: changed, of another cluster, or for another call.
    #[error("a forged ticket, or one for another call")]
    Forged,
    /// Too old, or from a clock too far ahead.
    #[error("a ticket that has expired, or is not from this time")]
    Expired,
    /// Genuine, but its numbers contradict each other.
    #[error("a ticket with impossible contents")]
    Contents,
}

impl Ticket {
    /// The ticket as text: the value of [`PARAMETER`]. `time` is the time of day since 1970.
    pub fn write(&self, cluster: u32, call: Call, key: NumberedKey, time: Duration) -> String {
        let mut bytes = vec![key.id, self.hop & 0xf | self.visited.len << 4];
        bytes.extend(self.visited.nodes.iter().take(self.visited.len.into()));
        bytes.extend(seconds(time.saturating_add(LIFETIME)).to_be_bytes());
        let [low, high] = mac(key.key, cluster, call, &bytes);
        bytes.extend(low.to_le_bytes());
        bytes.extend(high.to_le_bytes());
        base32::write(&bytes)
    }

    /// Reads and verifies a ticket that came with a call. `time` is the time of day since 1970.
    ///
    /// # Errors
    /// [`TicketError`]; what it says then is not to be believed.
    pub fn read(
        text: &str,
        cluster: u32,
        call: Call,
        keys: &[NumberedKey],
        time: Duration,
    ) -> Result<Self, TicketError> {
        const MALFORMED: TicketError = TicketError::Malformed;
        if text.len() > 64 {
            return Err(MALFORMED);
        }
        let bytes = base32::read(text).ok_or(MALFORMED)?;
        let (signed, code) = bytes.split_last_chunk::<MAC_LEN>().ok_or(MALFORMED)?;
        let (head, expiry) = signed.split_last_chunk::<EXPIRY_LEN>().ok_or(MALFORMED)?;
        let [key_id, counts, nodes @ ..] = head else {
            return Err(MALFORMED);
        };
        if usize::from(counts >> 4) != nodes.len() || nodes.len() > MAX_VISITED {
            return Err(MALFORMED);
        }
        let key = find(keys, *key_id).ok_or(TicketError::UnknownKey)?;
        let [low, high] = mac(key, cluster, call, signed);
        let sent = u128::from_le_bytes(*code);
        // In constant time.
        if (low ^ sent as u64) | (high ^ (sent >> 64) as u64) != 0 {
            return Err(TicketError::Forged);
        }
        let left = i64::from(u32::from_be_bytes(*expiry)) - i64::from(seconds(time));
        let (lifetime, skew) = (LIFETIME.as_secs() as i64, SKEW.as_secs() as i64);
        if left < -skew || left > lifetime + skew {
            return Err(TicketError::Expired);
        }
        let hop = counts & 0xf;
        let mut visited = Visited::NONE;
        let is_list = nodes.iter().all(|node| visited.add((*node).into()));
        let is_possible = is_list
            && usize::from(visited.len) == nodes.len()
            && (1..=MAX_HOPS).contains(&hop)
            && !nodes.is_empty();
        if !is_possible {
            return Err(TicketError::Contents);
        }
        Ok(Self { hop, visited })
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn mac(key: SipKey, cluster: u32, call: Call, signed: &[u8]) -> [u64; 2] {
    let mut hash = SipHash24::wide(key);
    let cluster = u64::from(cluster);
    hash.word(u64::from(u32::from_le_bytes(MAGIC)) | cluster << 32);
    hash.word(call.key());
    let mut chunks = signed.chunks_exact(8);
    let word = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    for chunk in &mut chunks {
        hash.word(word(chunk));
    }
    hash.finish_wide(word(chunks.remainder()), 16 + signed.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    const KEY: NumberedKey = NumberedKey {
        id: 7,
        key: SipKey { k0: 1, k1: 2 },
    };
    const OTHER: NumberedKey = NumberedKey {
        id: 8,
        key: SipKey { k0: 3, k1: 4 },
    };
    const NOON: Duration = Duration::from_secs(1_700_000_000);
    const CALL: Call = Call::from_key(0x1234);

    fn ticket(hop: u8, nodes: &[u16]) -> Ticket {
        let mut visited = Visited::NONE;
        assert!(nodes.iter().all(|node| visited.add(*node)));
        Ticket { hop, visited }
    }

    fn read(text: &str) -> Result<Ticket, TicketError> {
        Ticket::read(text, 9, CALL, &[KEY, OTHER], NOON)
    }

    /// The value was computed by an implementation of its own.
    #[test]
    fn the_form_is_fixed() {
        let text = ticket(1, &[3]).write(9, CALL, KEY, NOON);
        assert_eq!(text, "a4iqgzkt6falllcl2gtfoyqp4t3t7ummmolds");
        let longest = ticket(3, &[1, 2, 3, 4, 5, 6, 7, 255]).write(9, CALL, KEY, NOON);
        assert_eq!(longest.len(), 48);
        assert_eq!(read(&longest), Ok(ticket(3, &[1, 2, 3, 4, 5, 6, 7, 255])));
    }

    #[test]
    fn every_refusal() {
        let good = ticket(2, &[1, 200]);
        let text = good.write(9, CALL, KEY, NOON);
        assert_eq!(read(&text), Ok(good));
        assert_eq!(read(&text.to_ascii_uppercase()), Ok(good));
        for text in [
            "",
            "a",
            "!",
            &text[1..],
            &format!("{text}a"),
            &text.repeat(9),
        ] {
            assert_eq!(read(text), Err(TicketError::Malformed), "{text}");
        }
        let at = |cluster, call, keys: &[NumberedKey], time| {
            Ticket::read(&text, cluster, call, keys, time)
        };
        assert_eq!(at(9, CALL, &[OTHER], NOON), Err(TicketError::UnknownKey));
        let impostor = NumberedKey {
            id: KEY.id,
            ..OTHER
        };
        assert_eq!(at(9, CALL, &[impostor], NOON), Err(TicketError::Forged));
        assert_eq!(at(8, CALL, &[KEY], NOON), Err(TicketError::Forged));
        let other_call = Call::from_key(0x1235);
        assert_eq!(at(9, other_call, &[KEY], NOON), Err(TicketError::Forged));
        let tick = Duration::from_secs(1);
        assert_eq!(at(9, CALL, &[KEY], NOON + LIFETIME + SKEW), Ok(good));
        let late = NOON + LIFETIME + SKEW + tick;
        assert_eq!(at(9, CALL, &[KEY], late), Err(TicketError::Expired));
        assert_eq!(at(9, CALL, &[KEY], NOON - SKEW), Ok(good));
        let early = NOON - SKEW - tick;
        assert_eq!(at(9, CALL, &[KEY], early), Err(TicketError::Expired));
        for impossible in [ticket(0, &[1]), ticket(4, &[1]), ticket(1, &[])] {
            let text = impossible.write(9, CALL, KEY, NOON);
            assert_eq!(read(&text), Err(TicketError::Contents));
        }
        let twice = Ticket {
            hop: 1,
            visited: Visited {
                nodes: [5, 5, 0, 0, 0, 0, 0, 0],
                len: 2,
            },
        };
        let text = twice.write(9, CALL, KEY, NOON);
        assert_eq!(read(&text), Err(TicketError::Contents));
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let mut visited = Visited::NONE;
        assert!((1..=8).all(|node| visited.add(node)));
        assert!(!visited.add(9) && visited.add(8));
        assert!(!Visited::NONE.clone().add(0) && !Visited::NONE.clone().add(256));
        assert_eq!(visited.iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    /// 100,000 tickets that are not genuine for the call they come with: none counts.
    #[test]
    fn of_a_hundred_thousand_forgeries_none_counts() {
        let mut random = Random::new(11);
        for round in 0..100_000u32 {
            let call = Call::from_key(random.next());
            let node = 1 + random.below(255) as u16;
            let text = ticket(1 + (round % 3) as u8, &[node]).write(9, call, KEY, NOON);
            let refused = match round % 5 {
                0 => {
                    let mut bytes = base32::read(&text).expect("own writing");
                    let bit = random.below(bytes.len() as u64 * 8) as usize;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    Ticket::read(&base32::write(&bytes), 9, call, &[KEY, OTHER], NOON)
                }
                1 => {
                    let stranger = Call::from_key(random.next());
                    Ticket::read(&text, 9, stranger, &[KEY], NOON)
                }
                2 => {
                    let (k0, k1) = (random.next(), random.next());
                    let wrong = NumberedKey {
                        id: KEY.id,
                        key: SipKey { k0, k1 },
                    };
                    Ticket::read(&text, 9, call, &[wrong], NOON)
                }
                3 => {
                    let late = LIFETIME + SKEW + Duration::from_secs(1 + random.below(1 << 20));
                    Ticket::read(&text, 9, call, &[KEY], NOON + late)
                }
                _ => {
                    let bytes: Vec<u8> = (0..23).map(|_| random.next() as u8).collect();
                    Ticket::read(&base32::write(&bytes), 9, call, &[KEY], NOON)
                }
            };
            assert!(refused.is_err(), "round {round}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            hop in 1u8..=MAX_HOPS,
            nodes in proptest::collection::btree_set(1u16..256, 1..=MAX_VISITED),
            cluster: u32, call: u64, seconds in 0u32..u32::MAX - 64,
        ) {
            let nodes: Vec<u16> = nodes.into_iter().collect();
            let (call, time) = (Call::from_key(call), Duration::from_secs(seconds.into()));
            let text = ticket(hop, &nodes).write(cluster, call, KEY, time);
            prop_assert!(text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
            prop_assert_eq!(Ticket::read(&text, cluster, call, &[KEY], time), Ok(ticket(hop, &nodes)));
        }

        #[test]
        fn any_text_is_refused(text in "\\PC*|[a-z2-7]{0,60}") {
            prop_assert!(read(&text).is_err());
        }
    }
}
