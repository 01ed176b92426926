//! The XDP programs of Pointsman.
//!
//! [`pointsman`] reads as the packet's story: decode → destination → beacon or SIP → Call-ID → key →
//! node → rewrite → count. Every frame has one [`Reason`], counted once, and one action.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod beacon;
mod by_hand;
mod fleet;
mod frame;
mod maps;
mod observe;
mod peek;
mod record;
mod slow;
mod tracks;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::choose::is_plainly_up;
use lb_common::maps::{NO_NODE, Node, VIP_PROBES, VIP_SLOTS, VipUse, slot_of, vip_slot};
use lb_common::packet::{Datagram, asked_for, decode};
use lb_common::sip::Method;
use lb_common::{Address, Outcome, Reason, Window};

use crate::frame::Frame;
use crate::maps::PORTS;
use crate::observe::{Sending, Sight, count_kept, count_sent};
use crate::slow::Decision;
use crate::tracks::Tracks;

/// Steers SIP, takes in beacons, and lets everything else pass.
#[xdp]
pub fn pointsman(ctx: XdpContext) -> u32 {
    let mut sight = Sight::default();
    let frame = Frame::of(ctx.ctx);
    match steer(ctx.ctx, frame, &mut sight) {
        Ok(sending) => count_sent(ctx.ctx, frame, sending, &sight),
        Err(reason) => count_kept(ctx.ctx, reason, &sight),
    }
}

/// Does nothing: for the far end of a virtual link, whose near end may then send natively.
#[xdp]
pub fn pointsman_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Writes three clocks into the first 24 bytes of the frame: jiffies, monotonic and coarse monotonic
/// nanoseconds. Never attached: a test run of it tells userspace how long a jiffy is.
#[xdp]
pub fn pointsman_clock(ctx: XdpContext) -> u32 {
    let frame = Frame::of(ctx.ctx);
    // SAFETY: the helpers take nothing and return a number.
    let (fine, coarse) = unsafe { (bpf_ktime_get_ns(), bpf_ktime_get_coarse_ns()) };
    let _ = frame.set_word(0, fleet::jiffies());
    let _ = frame.set_word(8, fine);
    let _ = frame.set_word(16, coarse);
    xdp_action::XDP_PASS
}

/// Decides, and rewrites the frame if it is to be sent on.
///
/// # Errors
/// The [`Reason`] why it is not.
#[inline(always)]
fn steer(ctx: *mut xdp_md, frame: Frame, sight: &mut Sight) -> Result<Sending, Reason> {
    let tracks = Tracks::open().ok_or(Reason::NotReady)?;
    sight.sample = tracks.settings().sample;
    let datagram = decode(frame, frame.len())
        .map_err(|odd| odd_reason(ctx, tracks, odd.destination, odd.reason))?;
    let (purpose, vip) = find_vip(tracks, datagram.destination, datagram.port_be);
    if purpose == VipUse::Sip as u8 {
        sight.vip = vip;
        if !fleet::is_active(tracks) {
            return Err(Reason::Passive);
        }
        steer_sip(ctx, frame, &datagram, tracks, sight)
    } else if purpose == VipUse::Status as u8 {
        let reason = beacon::take_beacon(ctx, datagram.payload, datagram.payload_len) as u8;
        Err(Reason::from_index(reason).unwrap_or(Reason::NotReady))
    } else {
        Err(Reason::NotVip)
    }
}

/// What an odd packet is to us: deferred when it may be SIP for a VIP, somebody else's otherwise. While
/// another LB serves the VIPs, nobody is told that they are here.
#[inline(always)]
fn odd_reason(
    ctx: *mut xdp_md,
    tracks: Tracks,
    destination: Option<Address>,
    reason: Reason,
) -> Reason {
    let is_active = fleet::is_active(tracks);
    match destination {
        Some(address) if reason.outcome() as u8 == Outcome::Defer as u8 => {
            if is_vip_address(address.high, address.low) == 0 {
                Reason::NotVip
            } else if is_active {
                reason
            } else {
                Reason::Passive
            }
        }
        _ if !is_active && asks_for_vip(ctx) != 0 => Reason::Passive,
        _ => reason,
    }
}

/// Whether the frame asks for the link address of a VIP. A function that the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn asks_for_vip(ctx: *mut xdp_md) -> u32 {
    match asked_for(Frame::of(ctx)) {
        Some(address) => is_vip_address(address.high, address.low),
        None => 0,
    }
}

/// The purpose and index of a destination.
#[inline(always)]
fn find_vip(tracks: Tracks, address: Address, port_be: u16) -> (u8, u32) {
    let mut slot = vip_slot(address, port_be);
    let mut probe = 0;
    while probe < VIP_PROBES {
        let vip = tracks.vip(slot);
        if vip.port_be == port_be && vip.address == address {
            return (vip.purpose, vip.index);
        }
        if vip.purpose == VipUse::Empty as u8 {
            break;
        }
        slot = (slot + 1) & (VIP_SLOTS - 1);
        probe += 1;
    }
    (VipUse::Empty as u8, 0)
}

/// Whether a VIP has this address, on whatever port: fragments do not show theirs. A function that
/// the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_vip_address(high: u64, low: u64) -> u32 {
    let address = Address { high, low };
    let Some(tracks) = Tracks::open() else {
        return 0;
    };
    let mut slot = 0;
    while slot < VIP_SLOTS {
        let vip = tracks.vip(slot);
        if vip.purpose == VipUse::Sip as u8 && vip.address == address {
            return 1;
        }
        slot += 1;
    }
    0
}

/// Finds the call and its node, and sends the frame there.
#[inline(always)]
fn steer_sip(
    ctx: *mut xdp_md,
    frame: Frame,
    datagram: &Datagram,
    tracks: Tracks,
    sight: &mut Sight,
) -> Result<Sending, Reason> {
    let call_id_at = peek::locate(ctx, datagram.payload)?;
    let call = peek::call_key(ctx, frame, call_id_at, &tracks.settings().call_secret)?;
    sight.call = Some(call);
    let first = frame.word(datagram.payload).unwrap_or(0);
    if let Some((decision, node)) = plain_home(tracks, call.hash, first) {
        sight.node = decision.node;
        sight.choice = decision.reason;
        return send(ctx, frame, node, decision, Reason::Home);
    }
    let decision = Decision::unpack(slow::decide(ctx, datagram.payload, first, call.hash));
    sight.node = decision.node;
    sight.choice = decision.reason;
    let choice = Reason::from_index(decision.reason).ok_or(Reason::NotReady)?;
    match tracks.node(decision.node.into()) {
        Some(node) if decision.node != NO_NODE && node.is_reachable() => {
            send(ctx, frame, node, decision, choice)
        }
        Some(_) if decision.node != NO_NODE => Err(Reason::NoNeighbour),
        _ if choice.outcome() as u8 != Outcome::SteerCallId as u8 => Err(choice),
        _ => Err(Reason::NotReady),
    }
}

/// Home, when there is nothing more to think about: no pin, tables at rest, home up and willing.
///
/// The memory of new requests is written here and not asked: what it could say is "home".
#[inline(always)]
fn plain_home(tracks: Tracks, key: u64, first: u64) -> Option<(Decision, &'static Node)> {
    let (settings, turnout) = (tracks.settings(), tracks.turnout());
    if !turnout.is_at_rest() || record::may_be_pinned(tracks, key) {
        return None;
    }
    let home = tracks.home(turnout.word as u32 & 1, slot_of(key));
    let now = fleet::jiffies();
    let node = tracks.node(home.into())?;
    if !is_plainly_up(node, tracks.status(home.into())?, settings, now) {
        return None;
    }
    let method = Method::of(first);
    let is_new = method.may_start() && record::remember(tracks, key, now);
    let decision = Decision {
        node: home,
        reason: Reason::Home as u8,
        started: u8::from(is_new && method == Method::Invite),
    };
    Some((decision, node))
}

/// Sends the frame to a node that is reachable: back out of the port it came in by, or out of another.
#[inline(always)]
fn send(
    ctx: *mut xdp_md,
    frame: Frame,
    node: &Node,
    decision: Decision,
    choice: Reason,
) -> Result<Sending, Reason> {
    // SAFETY: the kernel calls the program with a valid context.
    let ingress = unsafe { (*ctx).ingress_ifindex };
    let action = if node.ifindex == ingress {
        xdp_action::XDP_TX
    } else {
        PORTS
            .redirect(node.port, xdp_action::XDP_PASS.into())
            .map_err(|_| Reason::NoNeighbour)?
    };
    let _ = frame.set_link_addresses(node.destination_mac, node.source_mac);
    Ok(Sending {
        node: decision.node.into(),
        started: decision.started.into(),
        action,
        reason: choice,
    })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
