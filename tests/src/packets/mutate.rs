//! Frames that nobody would send: seeded changes to good ones.

use super::build;

/// Numbers that look random and are the same for the same seed (SplitMix64, S. Vigna 2015).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that start from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Longest frame that the kernel takes for a test run, with room to spare.
const MAX_FRAME: usize = 3_300;

/// A frame made of a message, both changed in a few ways.
pub fn frame(message: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut message = message.to_vec();
    for _ in 0..dice.below(4) {
        change_message(&mut message, dice);
    }
    message.truncate(MAX_FRAME - 100);
    let to = dice.pick(&[build::VIP_V4, build::VIP_V6]);
    // Proof: the two constants are socket addresses.
    let to = to.parse().expect("a socket address");
    let mut frame = build::datagram(to, &message);
    if dice.below(4) == 0 {
        change_frame(&mut frame, dice);
    }
    frame
}

/// Bytes that mean something to a reader of SIP.
const TELLING: &[u8] = b"\r\n\t \0:;<>\"\\iItTcC-,=@\x0b\x0c\x0e\x1f\x7f\x80\xff";
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\t",
    b"\0",
    b" ",
    b"\r\n ",
    b"\r\n\t",
    b"\r\n\r\n",
    b"\r\r\n",
    b"\n\r",
    b"\r\ni:x@y\r\n",
    b"\r\nCall-ID: z\r\n",
    b"Call-ID:",
    b"\ni: q",
    b"\r\nI : w\r\n",
    b" :",
    b"\r\ncall-id\t:\tv \r\n",
    b"\r\nTo: <sip:a@b>;tag=1\r\n",
    b";tag=",
    b"\"",
    b"\r\nCall-IDs: n\r\n",
    b"\r\nCall-Ie: n\r\n",
    b"\r\nCall\rID: m\r\n",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

fn change_message(message: &mut Vec<u8>, dice: &mut Dice) {
    let place = dice.below(message.len());
    match dice.below(10) {
        0 => flip(message, dice),
        1 => {
            if let Some(byte) = message.get_mut(place) {
                *byte = TELLING[dice.below(TELLING.len())];
            }
        }
        2 => {
            let piece = dice.pick(PIECES);
            message.splice(place..place, piece.iter().copied());
        }
        3 => message.truncate(place),
        4 => {
            let len = dice.below(40).min(message.len() - place);
            message.drain(place..place + len);
        }
        5 => with_lines(message, dice, |lines, dice| {
            let line = lines[dice.below(lines.len())].clone();
            lines.insert(dice.below(lines.len()), line);
        }),
        6 => with_lines(message, dice, |lines, dice| {
            lines.remove(dice.below(lines.len()));
        }),
        7 => with_lines(message, dice, |lines, dice| {
            let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
            lines.swap(one, other);
        }),
        8 => with_lines(message, dice, |lines, dice| {
            let which = dice.below(lines.len());
            for byte in lines[which].iter_mut().take_while(|byte| **byte != b':') {
                if byte.is_ascii_alphabetic() && dice.below(2) == 0 {
                    *byte ^= 0x20;
                }
            }
        }),
        _ => pad_call_id(message, dice),
    }
}

fn flip(bytes: &mut [u8], dice: &mut Dice) {
    let (place, bit) = (dice.below(bytes.len()), dice.below(8));
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << bit;
    }
}

fn with_lines(
    message: &mut Vec<u8>,
    dice: &mut Dice,
    change: impl Fn(&mut Vec<Vec<u8>>, &mut Dice),
) {
    let mut lines: Vec<Vec<u8>> = message
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    if !lines.is_empty() {
        change(&mut lines, dice);
        *message = lines.concat();
    }
}

/// Moves the Call-ID's end about: across word borders, past the longest one that is read, or out of
/// the bytes that the program looks at.
fn pad_call_id(message: &mut Vec<u8>, dice: &mut Dice) {
    let Some(at) = message
        .windows(9)
        .position(|bytes| bytes.eq_ignore_ascii_case(b"call-id: "))
    else {
        return;
    };
    match dice.below(3) {
        0 => {
            let pad = vec![b'p'; dice.below(270)];
            message.splice(at + 9..at + 9, pad);
        }
        1 => {
            let line = [
                b"X-Pad: ".as_slice(),
                &vec![b'q'; dice.below(1_600)],
                b"\r\n",
            ]
            .concat();
            message.splice(at..at, line);
        }
        _ => {
            let blanks = vec![b" \t"[dice.below(2)]; dice.below(9)];
            let place = at + dice.pick(&[&[7usize][..], &[8], &[9]])[0];
            message.splice(place..place, blanks);
        }
    }
}

fn change_frame(frame: &mut Vec<u8>, dice: &mut Dice) {
    // The headers, where a change in a random place would seldom hit.
    let headers = 12..frame.len().min(62);
    match dice.below(6) {
        0 | 1 => flip(&mut frame[headers], dice),
        2 => {
            let at = headers.start + dice.below(headers.len());
            frame[at] = dice.below(256) as u8;
        }
        3 => frame.extend(vec![b'-'; 1 + dice.below(8)]),
        4 => frame.truncate(14 + dice.below(frame.len() - 14)),
        _ => {
            let tag = dice.pick(&[&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 5]]);
            for _ in 0..1 + dice.below(3) {
                frame.splice(12..12, tag.iter().copied());
            }
        }
    }
    frame.truncate(MAX_FRAME);
}
