//! Two LBs behind a router, each with BIRD; a redirect server and a SIP server on each node.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pointsman_tests::daemons::Settings;
use pointsman_tests::dialogs::{Callers, Dialog, Phase};
use pointsman_tests::lab::{Arms, CONTROLLERS, Lab, Plan, Process, Router, wait_until};
use pointsman_tests::pair;
use pointsman_tests::routing::{start_bird, start_bird_on_router};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One lab at a time: a dozen daemons are enough for a small machine.
static ALONE: Mutex<()> = Mutex::new(());

/// The lab of two LBs and a router.
pub(crate) struct RoutedLab {
    pub(crate) router: Router,
    pub(crate) lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

impl RoutedLab {
    pub(crate) fn start() -> Result<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::start_pair(Plan {
            nodes: 4,
            arms: Arms::One,
        })?;
        Ok(Self {
            router: lab.add_router()?,
            lab,
            _alone: alone,
        })
    }
}

/// Everything that runs in such a lab but the SIP servers.
pub(crate) struct Service<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) router: &'lab Router,
    /// Controllers and redirect servers.
    pub(crate) fleet: pair::Service<'lab>,
    _birds: Vec<Process>,
}

impl<'lab> Service<'lab> {
    /// Starts everything, one controller after the other, and waits until both know all nodes.
    pub(crate) fn start(at: &'lab RoutedLab, settings: Settings) -> Result<Self> {
        let (lab, router) = (&at.lab, &at.router);
        let mut birds = vec![start_bird_on_router(lab, router)?];
        for controller in CONTROLLERS {
            birds.push(start_bird(lab, router, controller)?);
        }
        Ok(Self {
            lab,
            router,
            fleet: pair::Service::start(lab, settings)?,
            _birds: birds,
        })
    }

    /// Starts a controller again, and waits until it stands by.
    pub(crate) fn restart(&mut self, id: u16) -> Result<()> {
        self.fleet.start_controller(id)?;
        self.fleet.wait_for_role(id, "stand-by")?;
        Ok(())
    }

    /// Where the router's routes to the VIPs lead: controllers' ids, for IPv4 and for IPv6.
    pub(crate) fn ways(&self) -> Result<[Vec<u16>; 2]> {
        let ways = |vip: IpAddr| -> Result<Vec<u16>> {
            let ways = self.router.ways_to(vip)?;
            let leads = |id: &u16| ways.contains(&self.lab.balancer(*id).address(vip));
            let known: Vec<u16> = CONTROLLERS.into_iter().filter(leads).collect();
            ensure!(known.len() == ways.len(), "{vip} by way of {ways:?}");
            Ok(known)
        };
        Ok([ways(self.lab.vip_v4().ip())?, ways(self.lab.vip_v6().ip())?])
    }

    /// Waits until the router's routes to both VIPs lead to exactly these.
    pub(crate) fn wait_for_ways(&self, wanted: &[u16]) -> Result<()> {
        let mut last = Default::default();
        wait_until(&format!("routes to {wanted:?}"), PATIENCE, || {
            last = self.ways()?;
            Ok(last.iter().all(|ways| ways == wanted).then_some(()))
        })
        .with_context(|| format!("they lead to {last:?}"))
    }

    /// Fails unless the router's routes to both VIPs lead to exactly these for all of this time.
    pub(crate) fn expect_ways_stay(&self, wanted: &[u16], time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let ways = self.ways()?;
            ensure!(ways.iter().all(|ways| ways == wanted), "to {ways:?}");
        }
        Ok(())
    }

    /// Two switches, at ports whose datagrams the router sends by way of the first LB and of the second.
    /// Which ports these are is another matter after each start of the machine.
    pub(crate) fn callers(&self) -> Result<[Callers; 2]> {
        let mut ports = [None; 2];
        for port in (6100..6400).step_by(2) {
            let way = self.router.way_of(self.lab, port)?;
            let is_second = way == IpAddr::from(self.lab.balancer(2).v4);
            ports[usize::from(is_second)].get_or_insert(port);
        }
        let [Some(first), Some(second)] = ports else {
            bail!("all ports go one way: {ports:?}");
        };
        Ok([
            Callers::open(self.lab, first)?,
            Callers::open(self.lab, second)?,
        ])
    }
}

/// No call has been lost or refused.
pub(crate) fn expect_none_lost(callers: &Callers) -> Result<()> {
    let odd = |call: &&Dialog| matches!(call.phase, Phase::Lost | Phase::Refused(_));
    let lost: Vec<_> = callers.calls().iter().filter(odd).collect();
    let some = &lost[..lost.len().min(3)];
    ensure!(lost.is_empty(), "{} calls are lost: {some:#?}", lost.len());
    Ok(())
}

/// Every call has proved itself at its own node, and was ended there.
pub(crate) fn expect_all_over(callers: &Callers) -> Result<()> {
    let odd = |call: &&Dialog| call.phase != Phase::Over || call.changes == 0;
    let odd: Vec<_> = callers.calls().iter().filter(odd).collect();
    ensure!(odd.is_empty(), "{} calls: {:#?}", odd.len(), odd.first());
    Ok(())
}
