//! Moving the VIPs between two controllers' machines.
//!
//! ```text
//!             claim                              release
//!  nothing ──────────► held: added, announced ──────────► let go: removed
//!                        │  ▲  again and again       ▲
//!                        ▼  │  what was lost          │ found at the start
//!                       keeper                     left by a crash
//! ```
//! - [`Mover`] is the handle: [`Mover::claim`] and [`Mover::release`], each at once and harmless when
//!   repeated. Which of the two is right is for others to know.
//! - [`Keeper`] is the task behind it: it repeats announcements, and puts right what others change.
//!
//! # Ways
//! [`Mode::Address`]: the VIPs are added to the interface on the switch's side, /32 and /128, and the
//! link is told by gratuitous ARP and unsolicited neighbour advertisements. [`Mode::Announce`]: they are
//! added to a loopback or dummy device whose connected routes a routing daemon (BIRD, FRR)
//! redistributes; the link is told nothing. [`Mode::None`]: somebody else moves them.
//!
//! Either way the kernel answers at the VIPs but never chooses one as the source of what the machine
//! sends itself ([`Netlink::add_address`] says how): queries to nodes, keep-alives and links go out from
//! the machine's own address, which is the one that its peers believe.
//!
//! # What it touches
//! Exactly the VIPs, on exactly the interface, with exactly these prefix lengths. A VIP that is there
//! otherwise (another prefix length, another interface) is configured by somebody else and would stay
//! when it must go: with it the controller does not start ([`TakeoverError::Elsewhere`]).
//!
//! # What a crash leaves
//! The addresses: a killed controller's machine goes on answering for the VIPs as long as its data plane
//! is active, which is what fail-static asks for while no other is main. Two things end it: the data
//! plane turns passive when another reigns, and then no question for a VIP gets as far as the kernel;
//! and a controller that starts as stand-by calls [`Mover::release`], which removes what it finds. A routing
//! daemon asks no question: what it announces is there for [`guard`](crate::daemon::guard) to take away.
//!
//! # Capability
//! `CAP_NET_ADMIN` is needed for every change of an address, not only when the socket is opened, so with
//! the first two ways the daemon keeps this one, in its permitted and effective sets ([`Mode::keeps`]).
//! Announcing needs nothing more than the packet socket that was opened at the start.

mod frames;
mod keeper;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use caps::Capability;
use tokio::sync::Notify;

use crate::deferred::{FrameSocket, OpenError};
use crate::netlink::{Address, Link, Netlink, NetlinkError, Reach, Watch};

pub use keeper::Keeper;

/// How VIPs come to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As addresses of the interface on the switch's side, announced on its link.
    Address,
    /// As addresses of a loopback or dummy device, announced by a routing daemon.
    Announce,
    /// Not by the controller's doing.
    None,
}

impl Mode {
    /// The capabilities that the daemon has to keep.
    pub fn keeps(self) -> &'static [Capability] {
        match self {
            Self::Address | Self::Announce => &[Capability::CAP_NET_ADMIN],
            Self::None => &[],
        }
    }
}

/// VIPs cannot be moved on this machine as it is.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// There is nothing to add them to.
    #[error("no network interface `{0}`; `ip link` lists those there are")]
    NoInterface(String),
    /// ARP and neighbour discovery have no meaning there.
    #[error("`{0}` is no Ethernet: VIPs are moved there by a routing daemon only")]
    NotEthernet(String),
    /// Somebody else has configured it.
    #[error(
        "VIP {vip} is on this machine already, as {vip}/{prefix_len} on {interface}; the controller \
         moves it, so take it out of the system's configuration (`ip address delete \
         {vip}/{prefix_len} dev {interface}` removes it until the next start)"
    )]
    Elsewhere {
        /// The VIP.
        vip: IpAddr,
        /// As it is there.
        prefix_len: u8,
        /// Where it is, by name if it has one.
        interface: String,
    },
    /// The kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The socket for announcements.
    #[error(transparent)]
    Packet(#[from] OpenError),
}

/// What a claim or a release did.
#[derive(Debug, Default)]
#[must_use]
pub struct Moved {
    /// VIPs that were added, or removed.
    pub changed: Vec<IpAddr>,
    /// Those that could not be; the keeper tries again.
    pub failed: Vec<(IpAddr, NetlinkError)>,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<_> = self.changed.iter().map(IpAddr::to_string).collect();
        match changed.as_slice() {
            [] => f.write_str("nothing to change")?,
            changed => f.write_str(&changed.join(", "))?,
        }
        for (vip, error) in &self.failed {
            write!(f, "; {vip} failed: {error}")?;
        }
        Ok(())
    }
}

/// Counters, for whoever reports.
#[derive(Debug, Default)]
pub struct TakeoverCounts {
    announcements: AtomicU64,
    unsent: AtomicU64,
    restored: AtomicU64,
    lost_ports: AtomicU64,
}

impl TakeoverCounts {
    /// Frames that announced a VIP.
    pub fn announcements(&self) -> u64 {
        self.announcements.load(Ordering::Relaxed)
    }

    /// Frames that the interface refused: it had just gone down, or its queue was full.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Addresses that somebody else had removed (or, on a stand-by, added), and that were put right.
    pub fn restored(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    /// How often the interface went down, or lost its carrier, while it held VIPs.
    pub fn lost_ports(&self) -> u64 {
        self.lost_ports.load(Ordering::Relaxed)
    }
}

/// Moves the VIPs of one controller.
#[derive(Clone)]
pub struct Mover(Arc<Shared>);

struct Shared {
    mode: Mode,
    interface: String,
    /// Only where the link is told.
    frames: Option<FrameSocket>,
    state: Mutex<State>,
    /// Claimed, released, or other VIPs.
    changed: Notify,
    counts: Arc<TakeoverCounts>,
}

struct State {
    netlink: Netlink,
    vips: BTreeSet<IpAddr>,
    wish: Wish,
}

/// Where the VIPs should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Nobody has said: what there is stays.
    Unknown,
    Here,
    NotHere,
}

impl Mover {
    /// Opens everything that takes a capability to open, and looks whether VIPs can be moved. Changes
    /// nothing. `interface` is of no account to [`Mode::None`]. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`TakeoverError`].
    pub fn open(
        interface: &str,
        vips: impl IntoIterator<Item = IpAddr>,
        mode: Mode,
    ) -> Result<(Self, Keeper), TakeoverError> {
        let mut netlink = Netlink::open()?;
        let vips = vips.into_iter().collect();
        if mode != Mode::None {
            let no_interface = || TakeoverError::NoInterface(interface.to_owned());
            let link = netlink.link_named(interface)?.ok_or_else(no_interface)?;
            if mode == Mode::Address && link.mac.is_none() {
                return Err(TakeoverError::NotEthernet(interface.to_owned()));
            }
            check_places(&mut netlink, &link, &vips)?;
        }
        let shared = Arc::new(Shared {
            mode,
            interface: interface.to_owned(),
            frames: match mode {
                Mode::Address => Some(FrameSocket::open()?),
                Mode::Announce | Mode::None => None,
            },
            state: Mutex::new(State {
                netlink,
                vips,
                wish: Wish::Unknown,
            }),
            changed: Notify::new(),
            counts: Arc::default(),
        });
        let keeper = Keeper::new(shared.clone(), Watch::open_for_addresses()?);
        Ok((Self(shared), keeper))
    }

    /// Brings the VIPs to this machine and tells the link, before it returns; the keeper tells it again.
    /// Turn the data plane active first: questions come at once. What the network stack is to have of an
    /// IPv6 VIP, deferred datagrams, it takes in some milliseconds later: the kernel leaves the last step
    /// of adding an address to a work queue.
    pub fn claim(&self) -> Moved {
        self.wish(Wish::Here)
    }

    /// Takes the VIPs from this machine, also those that an earlier life of the controller has left.
    pub fn release(&self) -> Moved {
        self.wish(Wish::NotHere)
    }

    fn wish(&self, wish: Wish) -> Moved {
        let shared = &self.0;
        let mut state = shared.lock();
        state.wish = wish;
        let moved = shared.settle(&mut state);
        if wish == Wish::Here {
            shared.announce(&mut state);
        }
        shared.changed.notify_one();
        moved
    }

    /// Goes on with other VIPs. Those that are no longer any are taken from this machine if it holds
    /// them.
    pub fn configure(&self, vips: impl IntoIterator<Item = IpAddr>) -> Moved {
        let shared = &self.0;
        let mut state = shared.lock();
        let vips = vips.into_iter().collect();
        let old = std::mem::replace(&mut state.vips, vips);
        let gone: Vec<IpAddr> = old.difference(&state.vips).copied().collect();
        let mut moved = match state.wish {
            Wish::Here => shared.remove(&mut state.netlink, &gone),
            Wish::Unknown | Wish::NotHere => Moved::default(),
        };
        let settled = shared.settle(&mut state);
        moved.changed.extend(settled.changed);
        moved.failed.extend(settled.failed);
        shared.changed.notify_one();
        moved
    }

    /// The VIPs that are on the interface now. May wait for whoever else configures the network on this
    /// machine, in any namespace: for tens of milliseconds where containers come and go.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn present(&self) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let state = &mut *self.0.lock();
        let Some(link) = self.0.link(&mut state.netlink)? else {
            return Ok(BTreeSet::new());
        };
        let addresses = state.netlink.addresses()?;
        let is_here = |vip: &&IpAddr| addresses.contains(&Address::single(link.index, **vip));
        Ok(state.vips.iter().filter(is_here).copied().collect())
    }

    /// The counters.
    pub fn counts(&self) -> Arc<TakeoverCounts> {
        self.0.counts.clone()
    }
}

/// Looks that no VIP is on this machine in a way that the controller does not manage.
fn check_places(
    netlink: &mut Netlink,
    link: &Link,
    vips: &BTreeSet<IpAddr>,
) -> Result<(), TakeoverError> {
    for found in netlink.addresses()? {
        let vip = found.address;
        if vips.contains(&vip) && found != Address::single(link.index, vip) {
            let holder = netlink.link_at(found.ifindex)?;
            return Err(TakeoverError::Elsewhere {
                vip,
                prefix_len: found.prefix_len,
                interface: holder.map_or_else(|| found.ifindex.to_string(), |link| link.name),
            });
        }
    }
    Ok(())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves at worst a VIP unmoved, which the keeper sees.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interface as it is now: it may have been made anew, with another number.
    fn link(&self, netlink: &mut Netlink) -> Result<Option<Link>, NetlinkError> {
        match self.mode {
            Mode::None => Ok(None),
            Mode::Address | Mode::Announce => netlink.link_named(&self.interface),
        }
    }

    /// Brings the machine to what is wished.
    fn settle(&self, state: &mut State) -> Moved {
        let vips: Vec<IpAddr> = state.vips.iter().copied().collect();
        match state.wish {
            Wish::Unknown => Moved::default(),
            Wish::Here => self.add(&mut state.netlink, &vips),
            Wish::NotHere => self.remove(&mut state.netlink, &vips),
        }
    }

    fn add(&self, netlink: &mut Netlink, vips: &[IpAddr]) -> Moved {
        let reach = match self.mode {
            Mode::Address | Mode::None => Reach::Link,
            Mode::Announce => Reach::Routed,
        };
        self.each(netlink, vips, |netlink, address| {
            netlink.add_address(address, reach)
        })
    }

    fn remove(&self, netlink: &mut Netlink, vips: &[IpAddr]) -> Moved {
        // Of an interface that is gone, so are the addresses.
        if let Ok(None) = self.link(netlink) {
            return Moved::default();
        }
        self.each(netlink, vips, Netlink::remove_address)
    }

    fn each(
        &self,
        netlink: &mut Netlink,
        vips: &[IpAddr],
        mut change: impl FnMut(&mut Netlink, Address) -> Result<bool, NetlinkError>,
    ) -> Moved {
        let mut moved = Moved::default();
        if self.mode == Mode::None {
            return moved;
        }
        for vip in vips {
            let changed = self.link(netlink).and_then(|link| {
                let link = link.ok_or_else(|| NetlinkError::no_interface(&self.interface))?;
                change(netlink, Address::single(link.index, *vip))
            });
            match changed {
                Ok(true) => moved.changed.push(*vip),
                Ok(false) => {}
                Err(error) => moved.failed.push((*vip, error)),
            }
        }
        moved
    }

    /// Tells the link once, if this machine is to hold the VIPs.
    fn announce(&self, state: &mut State) {
        let (Wish::Here, Some(frames)) = (state.wish, &self.frames) else {
            return;
        };
        // With the port down nobody would hear it; the keeper announces when it is up again.
        let Ok(Some(Link {
            index,
            mac: Some(mac),
            is_running: true,
            ..
        })) = self.link(&mut state.netlink)
        else {
            return;
        };
        for vip in &state.vips {
            for frame in frames::announcement(mac, *vip) {
                let counter = match frames.send(index, &frame) {
                    Ok(()) => &self.counts.announcements,
                    Err(_) => &self.counts.unsent,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
