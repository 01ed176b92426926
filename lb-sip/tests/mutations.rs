//! The torture messages, changed at random: whatever comes in, the properties hold.
//!
//! The seed is printed; `POINTSMAN_SEED` sets another, `POINTSMAN_CASES` another number of cases.

#[path = "properties/message.rs"]
mod message;
#[path = "properties/sdp.rs"]
mod sdp;

use std::path::Path;
use std::{env, fs};

const SEED: u64 = 0x5a1e_3261;
const CASES: usize = 200_000;
/// A case in this many is a session description.
const SDP_EVERY: usize = 8;

/// Numbers that look random and are the same for the same seed (SplitMix64, S. Vigna 2015).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * end as u128) >> 64) as usize
    }
}

/// What means something to a reader of SIP or SDP.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b"\r\n ",
    b"\r\n\r\n",
    b"\n\n",
    b":",
    b" :",
    b";",
    b";;",
    b",",
    b", ",
    b"\"",
    b"\\",
    b"\\\"",
    b"<",
    b">",
    b"[",
    b"]",
    b"@",
    b"?",
    b"=",
    b"/",
    b"%",
    b"%00",
    b"*",
    b"(",
    b")",
    b"\xff",
    b"\xc3\xbc",
    b"SIP/2.0",
    b"SIP/2.0/UDP ",
    b" INVITE",
    b"\r\nl: 0",
    b"\r\nContent-Length: 5",
    b"\r\nv: SIP/2.0/TCP [::1]:5;branch=z9hG4bKa, SIP/2.0/UDP b",
    b"\r\nTo: <sip:a>",
    b"\r\nMax-Forwards: 0",
    b"\r\nMax-Forwards: 256",
    b"\r\nRoute: <sip:a;lr>, <sip:b>",
    b"\r\nm: *",
    b"\r\nProxy-Require: x",
    b";rport",
    b";rport=1",
    b";received=1.2.3.4",
    b";tag=",
    b";tag=1",
    b"4294967296",
    b"sip:",
    b"sips:a:b@[::1]:1;x=y?z=w",
    b"tel:+1",
    b"0",
    b"-1",
    b"m=audio 1 RTP/AVP 0\r\n",
    b"c=IN IP4 0.0.0.0\r\n",
    b"a=sendonly\r\n",
    b"--x\r\n",
    b"\r\n--x",
    b"Content-Type: application/sdp",
];

fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let end = (at + 1 + dice.below(12)).min(bytes.len());
    match dice.below(6) {
        0 => drop(bytes.drain(at..end)),
        1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
        2 => {
            let copy = bytes[at..end].to_vec();
            let to = dice.below(bytes.len() + 1);
            drop(bytes.splice(to..to, copy));
        }
        3 if dice.below(20) == 0 => bytes.truncate(at),
        _ => {
            let piece = PIECES[dice.below(PIECES.len())];
            let end = if dice.below(2) == 0 { at } else { end };
            drop(bytes.splice(at..end, piece.iter().copied()));
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut seeds = Vec::new();
    for folder in ["rfc4475", "rfc5118/wire-CRLF", "rfc5118/raw-archive-LF"] {
        let files = fs::read_dir(fixtures.join(folder)).expect("the fixtures");
        let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        // The same order everywhere, for the same seed to mean the same.
        paths.sort();
        let messages = paths
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "dat"));
        seeds.extend(messages.map(|path| fs::read(path).expect("a file")));
    }
    seeds
}

fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
        Err(_) => default,
    }
}

#[test]
fn whatever_comes_in() {
    let seed = number("POINTSMAN_SEED", SEED);
    let cases = number("POINTSMAN_CASES", CASES as u64) as usize;
    println!("seed {seed}, {cases} cases");
    let (seeds, mut dice) = (seeds(), Dice(seed));
    for seed in &seeds {
        message::check(seed);
    }
    for case in 0..cases {
        let mut bytes = seeds[dice.below(seeds.len())].clone();
        let sdp = case % SDP_EVERY == 0;
        if sdp {
            let body = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            drop(bytes.drain(..body.map_or(0, |body| body + 4)));
        }
        for _ in 0..=dice.below(6) {
            change(&mut bytes, &mut dice);
        }
        let run = || {
            if sdp {
                sdp::check(&bytes)
            } else {
                message::check(&bytes)
            }
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!(
                "case {case} of seed {seed}: {:?}",
                String::from_utf8_lossy(&bytes)
            );
            std::panic::resume_unwind(panic);
        }
    }
}
