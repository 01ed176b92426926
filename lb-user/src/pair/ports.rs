//! Whether the switch can reach this machine: its ports have a carrier.
//!
//! A main whose control network lives while its port to the switch is dead would keep its leases and serve
//! nobody. It says so in its keep-alives, and hands over to a stand-by that can serve.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::config::pair::{Pair, Takeover};
use crate::netlink::{Netlink, NetlinkError, Watch};

/// A port is lost when it has been without a carrier for this long. Chosen, because a bond changes over
/// in less, and a pulled cable stays out for more.
const LOST_AFTER: Duration = Duration::from_millis(100);

/// Follows the ports of one machine.
pub(crate) struct Ports {
    netlink: Netlink,
    watch: Watch,
    /// The interfaces that the program is on: one of them must run.
    doors: Vec<String>,
    /// The interface that has the VIPs, if it is one on the switch's side.
    home: Option<String>,
    /// The kernel does not tell of changes.
    is_blind: bool,
    /// Since when none has run.
    lost: Option<Instant>,
    tell: watch::Sender<bool>,
}

impl Ports {
    /// Opens its sockets, within a tokio runtime. The receiver is told whether the switch can reach this
    /// machine.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub(crate) fn open(
        config: &Config,
        pair: &Pair,
    ) -> Result<(Self, watch::Receiver<bool>), NetlinkError> {
        let (tell, told) = watch::channel(true);
        let mut ports = Self {
            netlink: Netlink::open()?,
            watch: Watch::open_for_addresses()?,
            doors: config.interfaces.iter().map(|it| it.name.clone()).collect(),
            home: match &pair.takeover {
                Takeover::Address(interface) => Some(interface.clone()),
                Takeover::Announce(_) | Takeover::Nothing => None,
            },
            is_blind: false,
            lost: None,
            tell,
        };
        let is_up = ports.are_up();
        ports.tell.send_replace(is_up);
        Ok((ports, told))
    }

    /// Works until the future is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let due = self.lost.map(|since| since + LOST_AFTER);
            let due = due.filter(|_| *self.tell.borrow());
            tokio::select! {
                changes = self.watch.changes() => {
                    let was_broken = std::mem::replace(&mut self.is_blind, changes.is_err());
                    if let Err(error) = changes {
                        if !was_broken {
                            tracing::warn!(%error, "following ports by looking only");
                        }
                        tokio::time::sleep(LOST_AFTER).await;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        let is_up = self.are_up();
        self.lost = if is_up { None } else { self.lost.or(Some(now)) };
        let is_lost = self.lost.is_some_and(|since| now >= since + LOST_AFTER);
        if is_lost && self.tell.send_if_modified(std::mem::take) {
            tracing::error!("no carrier: the switch does not reach this machine");
        }
        if is_up
            && self
                .tell
                .send_if_modified(|told| !std::mem::replace(told, true))
        {
            tracing::info!("there is a carrier again");
        }
    }

    fn are_up(&mut self) -> bool {
        let Self {
            netlink,
            doors,
            home,
            ..
        } = self;
        // What the kernel does not tell is no reason to hand over.
        let mut is_up = |name: &String| match netlink.link_named(name) {
            Ok(link) => link.is_some_and(|link| link.is_running),
            Err(_) => true,
        };
        doors.iter().any(&mut is_up) && home.as_ref().is_none_or(is_up)
    }
}
