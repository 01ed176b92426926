//! The [learner](super::discovery) at work: it counts and says whom it does not learn, and tells the
//! daemon whom it does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::beacon::Beacon;
use lb_proto::status::map::Discovery;
use tokio::sync::watch;

use super::counts::StatusCounts;
use super::discovery::{Learner, Learnt, NotLearnt, Reserved};

/// Does nothing unless nodes are learnt.
pub(super) struct Discoverer {
    learner: Option<Learner>,
    /// `watch`, because only the latest counts.
    learnt: watch::Sender<Learnt>,
    counts: Arc<StatusCounts>,
    /// Why nodes are not learnt, so that it is said once.
    said: BTreeMap<u16, NotLearnt>,
    is_news: bool,
}

impl Discoverer {
    /// One that goes on with those in `learnt`.
    pub(super) fn new(
        discovery: Option<Discovery>,
        learnt: watch::Sender<Learnt>,
        counts: Arc<StatusCounts>,
    ) -> Self {
        let begin = |discovery| Learner::new(discovery, Duration::ZERO, &learnt.borrow());
        Self {
            learner: discovery.map(begin),
            learnt,
            counts,
            said: BTreeMap::new(),
            is_news: false,
        }
    }

    /// A good beacon came.
    pub(super) fn heard(&mut self, beacon: &Beacon, from: IpAddr, reserved: &Reserved) {
        let Some(learner) = &mut self.learner else {
            return;
        };
        let node = beacon.node;
        match learner.heard(beacon, from, reserved) {
            Ok(is_news) => {
                self.is_news |= is_news;
                self.said.remove(&node);
            }
            Err(why) => {
                self.counts.count_not_learnt(why);
                if self.said.insert(node, why) != Some(why) {
                    let why = why.name();
                    tracing::warn!(node, %from, why, "sends good beacons, but cannot be learnt");
                }
            }
        }
    }

    /// Goes by another configuration.
    pub(super) fn follow(&mut self, reserved: &Reserved) {
        if let Some(learner) = &mut self.learner {
            self.is_news |= learner.follow(reserved);
        }
    }

    /// Forgets who was silent for long, now and then. `false`: it is not time to.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        match &mut self.learner {
            Some(learner) if now >= learner.next_look() => {
                for node in learner.look(now) {
                    tracing::warn!(node, "silent for so long that it is forgotten");
                    self.is_news = true;
                }
                true
            }
            Some(_) | None => false,
        }
    }

    /// Tells the daemon, if there is anything new.
    pub(super) fn tell(&mut self) {
        if let Some(learner) = &self.learner
            && std::mem::take(&mut self.is_news)
        {
            self.learnt.send_replace(learner.learnt());
        }
    }
}
