//! Kernel against userspace: both must say the same of every frame, by the source that they share and by the quick
//! ways that the kernel has besides; and a reader of its own makes must find the same Call-ID wherever the
//! program steers.
//!
//! The seed is printed; `POINTSMAN_SEED` sets another.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use lb_common::packet::decode;
use lb_common::sip::{Budget, CallKey, Method, find_call_id, has_to_tag};
use lb_common::{Address, Outcome, Reason, Window};
use pointsman_tests::daemons::call_secret;
use pointsman_tests::packets::build::{self, VIP_V4, VIP_V6};
use pointsman_tests::packets::fixture;
use pointsman_tests::packets::mutate::{self, Dice};
use pointsman_tests::packets::world::World;
use pointsman_tests::packets::{INGRESS, XDP_PASS, XDP_TX, oracle};
use serde::Deserialize;

const SEED: u64 = 0x5a1e_2026;
const FRAMES: u32 = 1_000_000;
/// Frames through the slow choice, where the To header is read as well.
const FRAMES_OF_UNWILLING_HOMES: u32 = 200_000;

/// Longest frame that the kernel takes for a test run: a page, less what it needs itself.
const MAX_FRAME: usize = 3_500;

fn seed() -> Result<u64> {
    let seed = match env::var("POINTSMAN_SEED") {
        Ok(text) => text.parse().context("POINTSMAN_SEED")?,
        Err(_) => SEED,
    };
    println!("seed {seed}");
    Ok(seed)
}

/// What userspace makes of a frame: the reason to leave it alone, or its call.
struct Opinion {
    vips: Vec<(Address, u16)>,
}

impl Opinion {
    fn new() -> Result<Self> {
        let vip = |text: &str| -> Result<(Address, u16)> {
            let vip: std::net::SocketAddr = text.parse()?;
            Ok((Address::from(vip.ip()), vip.port().to_be()))
        };
        Ok(Self {
            vips: vec![vip(VIP_V4)?, vip(VIP_V6)?],
        })
    }

    /// The call, and where its message starts.
    fn of(&self, frame: &[u8], budget: Budget) -> Result<(CallKey, u32), Reason> {
        let datagram = decode(frame, frame.len() as u32).map_err(|odd| {
            let ours = |address| self.vips.iter().any(|vip| vip.0 == address);
            match odd.destination {
                Some(address) if odd.reason.outcome() == Outcome::Defer && !ours(address) => {
                    Reason::NotVip
                }
                _ => odd.reason,
            }
        })?;
        if !self
            .vips
            .contains(&(datagram.destination, datagram.port_be))
        {
            return Err(Reason::NotVip);
        }
        let at = find_call_id(frame, datagram.payload, budget)?;
        Ok((CallKey::read(frame, at, call_secret())?, datagram.payload))
    }
}

/// What the program made of the frames so far.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, u64>);

/// Runs a frame and compares; returns the reason.
fn compare(world: &World, opinion: &Opinion, frame: &[u8]) -> Result<Reason> {
    let run = world.plane.test_run(frame, INGRESS)?;
    let event = world.plane.maps().next_event().context("no event")?;
    let reason = Reason::from_index(event.reason).context("an event without a reason")?;
    let steered = reason.outcome() == Outcome::SteerCallId;
    let action = if steered { XDP_TX } else { XDP_PASS };
    ensure!(
        run.action == action,
        "{}: action {}",
        reason.name(),
        run.action
    );
    ensure!(
        run.frame.len() == frame.len() && run.frame[12..] == frame[12..],
        "{}: the frame changed behind its link addresses",
        reason.name()
    );
    // The program may read further than its budget for lines that are not plain, and never less far.
    let budget = if reason == Reason::LongHeader {
        Budget::KERNEL
    } else {
        Budget::WHOLE
    };
    match opinion.of(frame, budget) {
        Err(expected) => ensure!(
            reason == expected,
            "kernel: {}, userspace: {}",
            reason.name(),
            expected.name()
        ),
        Ok((call, at)) => {
            let expected = expected_choice(world, frame, at, reason)?;
            ensure!(expected, "kernel: {}, userspace steers", reason.name());
            ensure!(
                event.key == call.hash
                    && (event.call_id_at, event.call_id_len) == (call.at, call.len.get()),
                "kernel: {event:?}, userspace: {call:?}"
            );
        }
    }
    if steered {
        let at = event.call_id_at as usize;
        let used = &frame[at..at + event.call_id_len as usize];
        let found = oracle::payload(frame).and_then(oracle::call_id);
        ensure!(
            found == Some(used),
            "steered by {:?}, but the Call-ID is {:?}",
            String::from_utf8_lossy(used),
            found.map(String::from_utf8_lossy)
        );
    }
    Ok(reason)
}

/// Whether the choice fits a message that can be steered: home where home is willing, else whatever
/// its method and its To header ask for.
fn expected_choice(world: &World, frame: &[u8], at: u32, reason: Reason) -> Result<bool> {
    if world.plane.maps().status(1)?.admission <= 1 {
        return Ok(reason == Reason::Home);
    }
    let first = frame.word(at).unwrap_or(0);
    let fresh = [Reason::Overflow, Reason::Remembered];
    Ok(if !Method::of(first).may_start() {
        reason == Reason::InDialog
    } else {
        match has_to_tag(frame, at, Budget::KERNEL) {
            Ok(true) => reason == Reason::InDialog,
            Ok(false) => fresh.contains(&reason),
            Err(odd) => reason == odd,
        }
    })
}

fn check(world: &World, opinion: &Opinion, frame: &[u8], tally: &mut Tally) -> Result<Reason> {
    let reason = compare(world, opinion, frame).with_context(|| hex(frame))?;
    *tally.0.entry(reason.name()).or_default() += 1;
    Ok(reason)
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Deserialize)]
struct Manifest {
    messages: Vec<Torture>,
}

/// One message of RFC 4475 or RFC 5118.
#[derive(Deserialize)]
struct Torture {
    file: String,
    call_ids: Vec<String>,
}

fn torture(directory: &str) -> Result<(Vec<Torture>, std::path::PathBuf)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(directory);
    let text = fs::read_to_string(path.join("manifest.json"))?;
    let manifest: Manifest = serde_json::from_str(&text)?;
    ensure!(!manifest.messages.is_empty(), "{directory} is empty");
    Ok((manifest.messages, path))
}

/// The messages, as they go over the wire.
fn messages() -> Result<Vec<(Torture, Vec<u8>)>> {
    let mut all = Vec::new();
    for (directory, bytes) in [("rfc4475", "."), ("rfc5118", "wire-CRLF")] {
        let (messages, path) = torture(directory)?;
        for message in messages {
            let file = path.join(bytes).join(&message.file);
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            all.push((message, bytes));
        }
    }
    Ok(all)
}

fn world() -> Result<(World, Opinion)> {
    let world = World::load()?;
    world.set(&fixture::World::default(), "none")?;
    Ok((world, Opinion::new()?))
}

#[test]
fn torture_messages_are_steered_by_their_call_id_or_deferred() -> Result<()> {
    let (world, opinion) = world()?;
    let mut tally = Tally::default();
    for (message, bytes) in messages()? {
        for vip in [VIP_V4, VIP_V6] {
            let frame = build::datagram(vip.parse()?, &bytes);
            if frame.len() > MAX_FRAME {
                let alone = opinion.of(&frame, Budget::WHOLE).map(|(call, _)| call.hash);
                println!("{}: by userspace alone: {alone:x?}", message.file);
                continue;
            }
            let reason = check(&world, &opinion, &frame, &mut tally)
                .with_context(|| message.file.clone())?;
            println!("{}: {}", message.file, reason.name());
            if reason.outcome() == Outcome::SteerCallId {
                let used = oracle::call_id(&bytes).map(String::from_utf8_lossy);
                ensure!(
                    used.as_deref() == message.call_ids.first().map(String::as_str),
                    "{}: by {used:?}",
                    message.file
                );
            }
        }
    }
    println!("{:?}", tally.0);
    Ok(())
}

#[test]
fn messages_with_bare_line_feeds_are_deferred() -> Result<()> {
    let (world, opinion) = world()?;
    let mut tally = Tally::default();
    let (messages, path) = torture("rfc5118")?;
    for message in messages {
        let bytes = fs::read(path.join("raw-archive-LF").join(&message.file))?;
        let frame = build::datagram(VIP_V4.parse()?, &bytes);
        let reason = check(&world, &opinion, &frame, &mut tally)?;
        ensure!(
            reason == Reason::BareLineFeed,
            "{}: {}",
            message.file,
            reason.name()
        );
    }
    Ok(())
}

#[test]
fn every_truncation_is_read_alike() -> Result<()> {
    let (world, opinion) = world()?;
    let mut tally = Tally::default();
    for (_, bytes) in messages()? {
        for len in 0..bytes.len().min(3_300) {
            // Once the datagram is shorter, once the frame ends before its datagram does.
            let frame = build::datagram(VIP_V4.parse()?, &bytes[..len]);
            check(&world, &opinion, &frame, &mut tally)?;
        }
        let whole = build::datagram(VIP_V6.parse()?, &bytes[..bytes.len().min(600)]);
        for len in 14..whole.len() {
            check(&world, &opinion, &whole[..len], &mut tally)?;
        }
    }
    println!("{:?}", tally.0);
    Ok(())
}

#[test]
fn plain_lines_are_read_as_far_as_is_said() -> Result<()> {
    let (world, opinion) = world()?;
    let mut tally = Tally::default();
    let line = b"Record-Route: <sip:192.0.2.1;lr>\r\n";
    for start in 100..3_200 {
        let mut message = b"ACK sip:a@b SIP/2.0\r\n".to_vec();
        while message.len() + 2 * line.len() <= start {
            message.extend(line);
        }
        message.extend(b"a: ");
        message.resize(start - 2, b'x');
        message.extend(b"\r\nCall-ID: far@pm\r\n\r\n");
        message.extend([b'y'; 100]);
        let frame = build::datagram(VIP_V4.parse()?, &message);
        let reason = check(&world, &opinion, &frame, &mut tally)?;
        match start {
            // 1,472 bytes of plain lines, and the budget behind them.
            ..2_400 => ensure!(reason == Reason::Home, "{start}: {}", reason.name()),
            2_800.. => ensure!(reason == Reason::LongHeader, "{start}: {}", reason.name()),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn names_at_every_place_are_read_alike() -> Result<()> {
    let (world, opinion) = world()?;
    let mut tally = Tally::default();
    let names: [&[u8]; 14] = [
        b"Call-ID: ",
        b"cALL-iD: ",
        b"Call-ID:",
        b"Call-ID:\t",
        b"Call-ID : ",
        b"Call-ID:  ",
        b"Call-IDs: ",
        b"Call-Info: ",
        b"Call_ID: ",
        b"Contact: ",
        b"i: ",
        b"I: ",
        b"Identity: ",
        b"\r\n",
    ];
    let ends: [&[u8]; 6] = [b"\r\n", b"\n", b"\r", b"\r\n\t", b"\n\r\n", b"\xff\r\n"];
    for pad in 0..72 {
        for name in names {
            for end in ends {
                for behind in [0, 1, 8, 30, 100] {
                    let mut message = b"BYE sip:a@b SIP/2.0\r\nA: ".to_vec();
                    message.extend(std::iter::repeat_n(b'x', pad));
                    message.extend(end);
                    message.extend(name);
                    message.extend(b"near@pm\r\nCall-ID: far@pm\r\n\r\n");
                    message.extend(std::iter::repeat_n(b'y', behind));
                    let frame = build::datagram(VIP_V4.parse()?, &message);
                    let seen = check(&world, &opinion, &frame, &mut tally);
                    seen.with_context(|| format!("{pad} bytes, {end:?}, {name:?}, {behind}"))?;
                }
            }
        }
    }
    println!("{:?}", tally.0);
    ensure!(tally.0.len() >= 4, "few reasons: {:?}", tally.0);
    Ok(())
}

#[test]
fn call_ids_of_every_length_and_end_are_read_alike() -> Result<()> {
    let (world, opinion) = world()?;
    let mut tally = Tally::default();
    let ends: [&[u8]; 16] = [
        b"\r\nA",
        b"\r\n\r\n",
        b"\r\n ",
        b"\r\n\t",
        b" \r\nA",
        b"\t\r\nA",
        b"\n",
        b"\r",
        b"\rA",
        b"\0",
        b"\x7f\r\nA",
        b"\x80\r\nA",
        b"\xa0\r\nA",
        b"\xa1\r\nA",
        b"\xff\r\nA",
        b"",
    ];
    for len in 0..=80 {
        for end in ends {
            for behind in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 70] {
                let mut message = b"BYE sip:a@b SIP/2.0\r\nCall-ID: ".to_vec();
                message.extend((0..len).map(|place| b'a' + place % 26));
                message.extend(end);
                message.resize(message.len() + behind, b'y');
                let frame = build::datagram(VIP_V4.parse()?, &message);
                check(&world, &opinion, &frame, &mut tally)
                    .with_context(|| format!("length {len}, {behind} bytes behind {end:?}"))?;
            }
        }
    }
    println!("{:?}", tally.0);
    ensure!(tally.0.len() >= 7, "few reasons: {:?}", tally.0);
    Ok(())
}

#[test]
fn a_million_mutated_frames_are_read_alike() -> Result<()> {
    let (world, opinion) = world()?;
    let tally = mutated(&world, &opinion, FRAMES, seed()?)?;
    // The mutations must not be so wild that nothing is steered, nor so tame that all is.
    let steered = tally.0.get("home").copied().unwrap_or(0);
    ensure!(
        (u64::from(FRAMES) / 20..u64::from(FRAMES) * 19 / 20).contains(&steered),
        "{steered} steered"
    );
    ensure!(tally.0.len() >= 15, "few reasons: {:?}", tally.0);
    Ok(())
}

#[test]
fn mutated_frames_for_unwilling_homes_are_read_alike() -> Result<()> {
    let (world, opinion) = world()?;
    let draining = fixture::NodeState {
        admission: "Draining".to_owned(),
        ..fixture::NodeState::default()
    };
    for node in 1..=4 {
        world.set_node(node, &draining)?;
    }
    let tally = mutated(&world, &opinion, FRAMES_OF_UNWILLING_HOMES, seed()? ^ 1)?;
    for reason in ["in-dialog", "overflow", "remembered", "odd-to"] {
        ensure!(tally.0.contains_key(reason), "no {reason}: {:?}", tally.0);
    }
    Ok(())
}

fn mutated(world: &World, opinion: &Opinion, frames: u32, seed: u64) -> Result<Tally> {
    let mut seeds: Vec<Vec<u8>> = messages()?.into_iter().map(|(_, bytes)| bytes).collect();
    for what in ["INVITE", "re-INVITE", "ACK", "REGISTER", "200"] {
        seeds.push(build::message(what, "parity@pm").into_bytes());
    }
    let mut dice = Dice::new(seed);
    let mut tally = Tally::default();
    let begin = Instant::now();
    for number in 0..frames {
        let message = &seeds[dice.below(seeds.len())];
        let frame = mutate::frame(message, &mut dice);
        check(world, opinion, &frame, &mut tally).with_context(|| format!("frame {number}"))?;
        if (number + 1) % 250_000 == 0 {
            println!("{} frames in {:.1?}", number + 1, begin.elapsed());
        }
    }
    println!("{:?}", tally.0);
    Ok(tally)
}
