//! The task behind the mover: repeats, and puts right.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Moved, Shared, Wish};
use crate::netlink::{Link, Mac, Watch};

/// Times between one announcement and the next; the first one is the claim itself.
///
/// An announcement is a single broadcast frame that nobody acknowledges. The first is likely to be lost
/// when it matters: a switch has just moved a port, a queue is full. So the second follows before SIP
/// repeats anything (T1, 500 ms), and the rest at doubled distances. The last comes after 6.35 s: about
/// then a Linux neighbour that has missed them all finds out by itself that its entry is dead (5 s of
/// delay, then three probes, a second apart). RFC 4861 §7.2.6 wants a second between unsolicited advertisements, and no more
/// than three of them, lest a link be flooded that many stations join at once; here a single one speaks,
/// a few frames for each VIP, and a second is worth some hundred calls.
const GAPS: [Duration; 7] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];

/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// After a change, time for those that come with it.
const SETTLE: Duration = Duration::from_millis(20);

/// Repeats announcements, and keeps the machine's addresses as they were wished last: what an
/// administrator or a network daemon removes (or adds, on a stand-by) is put right, counted and said.
/// IPv6 addresses go whenever their interface is set down.
pub struct Keeper {
    shared: Arc<Shared>,
    watch: Watch,
    /// When to announce next, and the gaps after that.
    next: Option<Instant>,
    gaps: std::slice::Iter<'static, Duration>,
    /// When to look again although nothing changes.
    retry: Option<Instant>,
    /// The interface as it was seen last.
    seen: Seen,
}

/// What must be announced anew when it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    is_running: bool,
    mac: Option<Mac>,
}

impl Seen {
    fn of(link: Option<Link>) -> Self {
        link.map_or(Self::default(), |link| Self {
            is_running: link.is_running,
            mac: link.mac,
        })
    }
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, watch: Watch) -> Self {
        Self {
            shared,
            watch,
            next: None,
            gaps: [].iter(),
            retry: None,
            seen: Seen::default(),
        }
    }

    /// Works until the future is dropped; the addresses stay as they are then.
    pub async fn run(mut self) {
        loop {
            let shared = self.shared.clone();
            tokio::select! {
                () = shared.changed.notified() => self.begin(),
                () = until(self.next) => self.repeat(),
                changes = self.watch.changes() => {
                    match changes {
                        Ok(_) => tokio::time::sleep(SETTLE).await,
                        Err(error) => {
                            tracing::warn!(%error, "following addresses by looking only");
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                    self.put_right();
                }
                () = until(self.retry) => self.put_right(),
            }
        }
    }

    /// After a claim, which has made the first announcement, or a release, which ends them.
    fn begin(&mut self) {
        let mut state = self.shared.lock();
        self.seen = Seen::of(self.shared.link(&mut state.netlink).ok().flatten());
        let is_here = state.wish == Wish::Here;
        drop(state);
        self.gaps = if is_here { GAPS.iter() } else { [].iter() };
        self.schedule();
        // At once, lest something failed.
        self.put_right();
    }

    fn schedule(&mut self) {
        self.next = self.gaps.next().map(|gap| Instant::now() + *gap);
    }

    fn repeat(&mut self) {
        self.shared.announce(&mut self.shared.lock());
        self.schedule();
    }

    /// Looks whether the machine is as wished.
    fn put_right(&mut self) {
        let shared = &self.shared;
        let mut state = shared.lock();
        let moved = shared.settle(&mut state);
        let seen = Seen::of(shared.link(&mut state.netlink).ok().flatten());
        let has_moved = seen != self.seen && seen.is_running;
        let is_here = state.wish == Wish::Here;
        if is_here && self.seen.is_running && !seen.is_running {
            let interface = &shared.interface;
            tracing::warn!(
                interface,
                "the VIPs' interface is down, or without a carrier"
            );
            shared.counts.lost_ports.fetch_add(1, Ordering::Relaxed);
        }
        self.seen = seen;
        if is_here && (has_moved || !moved.changed.is_empty()) {
            shared.announce(&mut state);
            self.gaps = GAPS.iter();
            self.next = self.gaps.next().map(|gap| Instant::now() + *gap);
        }
        drop(state);
        if self.retry.is_some() && !moved.changed.is_empty() {
            tracing::info!(%moved, is_here, "the VIPs have moved after all");
        } else {
            self.say_restored(&moved, is_here);
        }
        for (vip, error) in &moved.failed {
            let interface = &self.shared.interface;
            tracing::error!(%vip, interface, %error, "cannot move the VIP; trying again");
        }
        self.retry = (!moved.failed.is_empty()).then(|| Instant::now() + RETRY);
    }

    fn say_restored(&self, moved: &Moved, is_here: bool) {
        let interface = &self.shared.interface;
        for vip in &moved.changed {
            self.shared.counts.restored.fetch_add(1, Ordering::Relaxed);
            if is_here {
                tracing::warn!(%vip, interface, "somebody had removed the VIP; it is back");
            } else {
                tracing::warn!(%vip, interface, "somebody had added the VIP; it is gone again");
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
