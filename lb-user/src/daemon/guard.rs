//! `pointsman guard`: takes the VIPs from this machine when its data plane has given way to another main and
//! its controller, dead or stopped, has left them here.
//!
//! A process of its own, because what it is for is the controller's death. Without it, a killed main's VIPs
//! stay: its data plane steers on, which is right until another reigns, and then drops what comes, while a
//! routing daemon, which knows nothing of that, goes on announcing them. With VIPs that are announced by
//! ARP nothing comes of that: a data plane that has given way answers no question for them.
//!
//! ```text
//!             LOOK                      every CHECK, and at once when
//!            ┌─────┐                    the data plane gives way
//!            ▼     │   does not steer   ┌───────────────────────────┐
//!   does it steer? ┴───────────────────►│ VIPs here? still passive? │──► remove them
//!            ▲         a controller     └───────────────────────────┘
//!            └───────  lives: first
//!                      its patience
//! ```
//! A controller that lives is left some time: a main that is not deposed raises its term above the one that
//! its data plane has given way to, and one that is deposed takes its VIPs away itself. What has stopped it
//! without killing it costs that time.
//!
//! It goes by the pinned maps, not by what the controller says, and never brings a VIP anywhere. What it reads
//! anew at each check: the maps, which may be others after `detach`, and the configuration, as the controller
//! would read it; one that is bad for the moment leaves the last that was good.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use caps::Capability;
use lb_net::shutdown::Shutdown;
use lb_net::systemd;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{one_thread, paired, privileges};
use crate::config::Config;
use crate::config::pair::{Pair, Takeover};
use crate::config::shared;
use crate::plane::maps::OpenError;
use crate::plane::{AccessError, Maps, bpffs, layout_dir};

/// How often the data plane is looked at. A call that is dropped meanwhile comes again after 500 ms (T1); a
/// routing daemon and its peers take milliseconds too.
const LOOK: Duration = Duration::from_millis(20);
/// What a controller that lives is left, beside two keep-alives: at the first it finds that a later term was
/// heard, at the second it asks the nodes for a higher one. Chosen for their answers and a term on the disk;
/// a call that is dropped meanwhile comes again after T1.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often it is looked whether VIPs are here that should not be.
const CHECK: Duration = Duration::from_secs(1);
/// Opening pinned maps, and removing addresses.
const KEEPS: &[Capability] = &[Capability::CAP_BPF, Capability::CAP_NET_ADMIN];

/// Guards until told to stop.
///
/// # Errors
/// There is nothing to guard, or the configuration is bad.
pub fn guard(path: &Path) -> anyhow::Result<()> {
    lb_net::telemetry::init();
    one_thread()?.block_on(async {
        let mut shutdown = Shutdown::on_signals().context("taking over signals")?;
        let mut guard = Guard::open(path)?;
        privileges::drop_all_but(KEEPS).context("dropping capabilities")?;
        systemd::ready("guarding");
        tokio::select! {
            () = shutdown.requested() => Ok(()),
            () = guard.run() => Ok(()),
        }
    })
}

struct Guard<'a> {
    path: &'a Path,
    config: Config,
    maps: Option<Maps>,
    of_opening: Said,
    of_reading: Said,
    of_config: Said,
    of_vips: Said,
}

/// What was said last of one thing that is looked at again and again.
#[derive(Default)]
struct Said(Option<String>);

impl Said {
    /// What is to be said now: not what was said the last time, too.
    fn anew(&mut self, found: Option<String>) -> Option<&str> {
        let is_new = self.0 != found;
        self.0 = found;
        self.0.as_deref().filter(|_| is_new)
    }
}

impl<'a> Guard<'a> {
    fn open(path: &'a Path) -> anyhow::Result<Self> {
        let config = shared::read(path)?.config;
        announced_by(&config).with_context(|| path.display().to_string())?;
        Ok(Self::of(path, config))
    }

    fn of(path: &'a Path, config: Config) -> Self {
        Self {
            path,
            config,
            maps: None,
            of_opening: Said::default(),
            of_reading: Said::default(),
            of_config: Said::default(),
            of_vips: Said::default(),
        }
    }

    async fn run(&mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check_at = Instant::now();
        // Since when the data plane does not steer, and whether that has been acted on.
        let (mut passive_since, mut is_seen_to) = (None, false);
        loop {
            looks.tick().await;
            let now = Instant::now();
            let is_due = now >= check_at;
            if is_due {
                self.open_maps();
                check_at = now + CHECK;
            }
            if self.steers() {
                (passive_since, is_seen_to) = (None, false);
                continue;
            }
            let since = *passive_since.get_or_insert(now);
            if (is_due || !is_seen_to) && !self.is_left_to_controller(since) {
                let checked = self.check();
                self.say(checked);
                is_seen_to = true;
            }
        }
    }

    /// Whether a controller lives that may yet put right what is so since then.
    fn is_left_to_controller(&self, since: Instant) -> bool {
        let keep_alive = self.config.pair.as_ref().map(|pair| pair.keep_alive);
        let patience = keep_alive.unwrap_or_default() * 2 + PATIENCE;
        since.elapsed() < patience && bpffs::holder(&self.config.bpffs).is_some()
    }

    /// Opens the maps that are there now, or says why it cannot.
    fn open_maps(&mut self) {
        let dir = layout_dir(&self.config.bpffs);
        let opened = Maps::open(&dir).map_err(|error| match error {
            // Before the controller's first start, and after `detach`, rightly so.
            OpenError::Missing { path } => format!(
                "no data plane of this version in {}, where {} should be; restart the guard after an \
                 upgrade",
                dir.display(),
                path.display()
            ),
            OpenError::Absent { .. } | OpenError::Map { .. } => {
                let error = anyhow::Error::from(error);
                format!("cannot open the maps in {}: {error:#}", dir.display())
            }
        });
        let (maps, blind) = match opened {
            Ok(maps) => (Some(maps), None),
            Err(why) => (None, Some(why)),
        };
        self.maps = maps;
        if let Some(why) = self.of_opening.anew(blind) {
            tracing::warn!("nothing is guarded: {why}");
        }
        if self.maps.is_none() {
            // They may be somewhere else by now.
            self.read_config();
        }
    }

    /// Without a data plane nothing is known, and what there is stays.
    fn steers(&mut self) -> bool {
        let look = |maps: &Maps| {
            let heard = maps.plane_status()?.term_heard;
            Ok::<_, AccessError>(maps.turnout()?.is_active(heard))
        };
        let Some(seen) = self.maps.as_ref().map(look) else {
            return true;
        };
        let (steers, blind) = match seen {
            Ok(steers) => (steers, None),
            Err(error) => (true, Some(format!("{:#}", anyhow::Error::from(error)))),
        };
        if let Some(why) = self.of_reading.anew(blind) {
            tracing::error!("nothing is guarded: cannot read the maps: {why}");
        }
        steers
    }

    fn read_config(&mut self) {
        let remark = match shared::read(self.path) {
            Ok(found) => {
                self.config = found.config;
                found.notice.map(|notice| notice.to_string())
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                Some(format!("going by what was read last: {error:#}"))
            }
        };
        if let Some(remark) = self.of_config.anew(remark) {
            tracing::warn!("{remark}");
        }
    }

    /// Removes the VIPs that are here although the data plane does not steer.
    fn check(&mut self) -> anyhow::Result<Vec<IpAddr>> {
        self.read_config();
        let pair = announced_by(&self.config)?;
        let (mover, _) = paired::mover(&self.config, pair)?;
        // In this order. A controller that takes over has its data plane steer before it brings the VIPs:
        // if these are its own, the second look says so.
        if mover.present()?.is_empty() || self.steers() {
            return Ok(Vec::new());
        }
        let moved = mover.release();
        anyhow::ensure!(moved.failed.is_empty(), "cannot remove the VIPs: {moved}");
        Ok(moved.changed)
    }

    fn say(&mut self, checked: anyhow::Result<Vec<IpAddr>>) {
        let complaint = match checked {
            Ok(removed) => {
                if !removed.is_empty() {
                    tracing::warn!(
                        ?removed,
                        "the data plane has given way; its controller had left VIPs here"
                    );
                }
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(error) = self.of_vips.anew(complaint) {
            tracing::error!(error, "cannot guard the VIPs; trying again");
        }
    }
}

/// The pair whose controller has VIPs announced from this machine. Those that ARP announces need no guard.
fn announced_by(config: &Config) -> anyhow::Result<&Pair> {
    let pair = config.pair.as_ref();
    pair.filter(|pair| matches!(pair.takeover, Takeover::Announce(_)) && !config.vips.is_empty())
        .context(
            "no routing daemon announces VIPs that a controller brings here ([pair] with \
             `vip = \"announce\"`), so there is nothing to guard",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_said_once() {
        let mut said = Said::default();
        let mut say = |what: Option<&str>| said.anew(what.map(str::to_owned)).map(str::to_owned);
        assert_eq!(say(None), None);
        assert_eq!(say(Some("this")).as_deref(), Some("this"));
        assert_eq!(say(Some("this")), None);
        assert_eq!(say(Some("that")).as_deref(), Some("that"));
        assert_eq!(say(None), None);
        assert_eq!(say(Some("that")).as_deref(), Some("that"));
    }

    fn file(pair: &str) -> Config {
        let text = format!(
            "cluster = 1\nkeys = \"k\"\n[status]\ngroups = [\"239.255.77.1\"]\n\
             [[interface]]\nname = \"eth0\"\n[[vip]]\naddress = \"192.0.2.10\"\n\
             [[node]]\nid = 1\naddress = \"192.0.2.11\"\n{pair}"
        );
        Config::parse(Path::new("file"), &text).expect("a good file")
    }

    #[test]
    fn only_vips_that_are_announced_are_guarded() {
        let pair = |vip: &str| {
            file(&format!(
                "[pair]\nid = 1\n{vip}\n[[controller]]\nid = 1\naddress = \"192.0.2.21\"\n\
                 [[controller]]\nid = 2\naddress = \"192.0.2.22\"\n"
            ))
        };
        let announced = pair("vip = \"announce\"\nvip_interface = \"lo\"");
        assert!(announced_by(&announced).is_ok());
        let by_arp = pair("vip = \"address\"\nvip_interface = \"eth0\"");
        assert!(matches!(
            by_arp.pair.as_ref().map(|pair| &pair.takeover),
            Some(Takeover::Address(_))
        ));
        for config in [by_arp, pair("vip = \"none\""), file("")] {
            let refusal = announced_by(&config).expect_err("nothing to guard");
            assert!(
                refusal.to_string().contains("vip = \"announce\""),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_guard_that_sees_no_data_plane_says_so() {
        let mut config = file("");
        config.bpffs = std::env::temp_dir().join(format!("pm-{}-guard", std::process::id()));
        let mut guard = Guard::of(Path::new("/nonexistent"), config);
        assert!(guard.steers());
        guard.open_maps();
        let said = guard.of_opening.0.clone().unwrap_or_default();
        assert!(said.contains("no data plane of this version"), "{said}");
        let said = guard.of_config.0.clone().unwrap_or_default();
        assert!(said.contains("/nonexistent"), "{said}");
        assert!(guard.steers(), "what is not known stays");
    }
}
