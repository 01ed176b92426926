//! The bytes that a description means.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_proto::failover::wire::{KeepAlive, Report, Role};

use super::fixture;
use crate::traffic::frame::{Link, udp};

/// The IPv4 VIP.
pub const VIP_V4: &str = "192.0.2.100:5060";
/// The IPv6 VIP.
pub const VIP_V6: &str = "[2001:db8::100]:5060";

const LINK: Link = Link {
    destination: [2, 0, 0, 0, 0, 0xaa],
    source: [2, 0, 0, 0, 0, 0xbb],
    vlans: Vec::new(),
};

/// A UDP frame to `to`, from a client of the same family.
pub fn datagram(to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    udp(&LINK, client(to), to, payload)
}

fn client(like: SocketAddr) -> SocketAddr {
    match like.ip() {
        IpAddr::V4(_) => ([192, 0, 2, 1], 5062).into(),
        IpAddr::V6(_) => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 5062).into(),
    }
}

/// A usual message of a call: a request by its method, a response by its status.
pub fn message(what: &str, call_id: &str) -> String {
    let (method, tag) = match what.strip_prefix("re-") {
        Some(method) => (method, ";tag=callee"),
        None if matches!(what, "ACK" | "BYE") => (what, ";tag=callee"),
        None => (what, ""),
    };
    let start = if method.starts_with(|c: char| c.is_ascii_digit()) {
        format!("SIP/2.0 {method} Whatever")
    } else {
        format!("{method} sip:service@192.0.2.100 SIP/2.0")
    };
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK776\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@192.0.2.1>;tag=caller\r\n\
         To: <sip:service@192.0.2.100>{tag}\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@192.0.2.1:5062>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// What a main with this version of the configuration says of itself in its keep-alives.
pub fn life(configuration: u64) -> KeepAlive {
    KeepAlive {
        wall_ms: 0,
        monotonic_ms: 0,
        report: Report::default(),
        role: Role::Main,
        configuration,
        lease: Duration::from_millis(100),
        interval: Duration::from_millis(20),
        misses: 3,
        digest: 0,
        is_joining: false,
        nonce: 0,
    }
}

/// The frame that is described.
///
/// # Errors
/// The description contradicts itself.
pub fn frame(spec: &fixture::Frame, call_id: &str) -> Result<Vec<u8>> {
    let mut frame = match &spec.hex {
        Some(text) => hex(text)?,
        None => {
            let to = spec.to.map_or_else(|| VIP_V4.parse(), Ok)?;
            let link = Link {
                vlans: spec.vlans.clone(),
                ..LINK
            };
            let mut frame = udp(&link, client(to), to, &payload(spec, call_id)?);
            let ip = 14 + 4 * spec.vlans.len();
            extend_ip(&mut frame, ip, spec)?;
            frame
        }
    };
    frame.resize(frame.len() + spec.trailing, b'-');
    for (at, bytes) in &spec.patches {
        let bytes = hex(bytes)?;
        let place = frame.get_mut(*at..*at + bytes.len());
        place
            .context("a patch beyond the frame")?
            .copy_from_slice(&bytes);
    }
    frame.truncate(frame.len() - spec.cut);
    Ok(frame)
}

/// Puts IPv4 options or IPv6 extension headers where they belong.
fn extend_ip(frame: &mut Vec<u8>, ip: usize, spec: &fixture::Frame) -> Result<()> {
    if frame[ip] >> 4 == 4 {
        ensure!(spec.extensions.is_empty(), "extension headers over IPv4");
        let options = hex(&spec.options)?;
        ensure!(options.len().is_multiple_of(4), "options of odd length");
        frame[ip] += (options.len() / 4) as u8;
        add(frame, ip + 2, options.len());
        frame[ip + 6..ip + 8].copy_from_slice(&spec.fragment.to_be_bytes());
        frame.splice(ip + 20..ip + 20, options);
        return Ok(());
    }
    ensure!(
        spec.options.is_empty() && spec.fragment == 0,
        "IPv4 only: options, fragment"
    );
    // Each header goes in front of those that stand there already, the last one first.
    for (kind, bytes) in spec.extensions.iter().rev() {
        let mut header = vec![frame[ip + 6]];
        header.extend(hex(bytes)?);
        ensure!(
            header.len().is_multiple_of(8),
            "an extension header of odd length"
        );
        frame[ip + 6] = *kind;
        add(frame, ip + 4, header.len());
        frame.splice(ip + 40..ip + 40, header);
    }
    Ok(())
}

/// Adds to a length in network order.
fn add(frame: &mut [u8], at: usize, by: usize) {
    let len = u16::from_be_bytes([frame[at], frame[at + 1]]) + by as u16;
    frame[at..at + 2].copy_from_slice(&len.to_be_bytes());
}

fn payload(spec: &fixture::Frame, call_id: &str) -> Result<Vec<u8>> {
    let text = match spec {
        fixture::Frame {
            payload: Some(text),
            ..
        } => return hex(text),
        fixture::Frame {
            raw: Some(text), ..
        } => text.clone(),
        fixture::Frame {
            lines: Some(lines), ..
        } => lines.join("\r\n") + "\r\n\r\n",
        fixture::Frame {
            send: Some(what), ..
        } => message(what, call_id),
        _ => String::new(),
    };
    expand(&(text + &spec.body), call_id).map(String::into_bytes)
}

/// Puts in what stands in braces.
fn expand(text: &str, call_id: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after
            .split_once('}')
            .context("a brace that does not close")?;
        out += before;
        match inside.split_once('*') {
            Some((letter, times)) => out += &letter.repeat(times.parse()?),
            None if inside == "call" => out += call_id,
            None => bail!("what is {{{inside}}}?"),
        }
        rest = after;
    }
    Ok(out + rest)
}

/// The bytes that hexadecimal digits stand for; blanks between them are for the reader.
///
/// # Errors
/// Something else than digits, or an odd number of them.
pub fn hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    ensure!(
        digits.len().is_multiple_of(2),
        "an odd number of digits: {text}"
    );
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    digits.chunks(2).map(byte).collect()
}
