//! What a node says of itself that has a redirect server: its gate decides, and others are chosen by
//! its map.

use super::Node;
use lb_proto::status::map::AvailabilityMap;
use lb_proto::status::sender::{self, BeaconBytes};
use std::time::Duration;

impl Node {
    /// Takes over what the gate reports. The beacons to send at once, one for each group, if any: the
    /// last before silence.
    pub(crate) fn admit(
        &mut self,
        now: Duration,
        report: Option<sender::Report>,
    ) -> Vec<BeaconBytes> {
        match report {
            Some(report) => {
                if report != self.sender.report() {
                    self.sender.set_report(now, report);
                }
                self.sender.speak(now);
                Vec::new()
            }
            None => self.sender.farewell(),
        }
    }

    /// Whom it hears.
    pub(crate) fn map(&self) -> &AvailabilityMap {
        &self.map
    }
}
