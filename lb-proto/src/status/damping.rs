//! How long a node that flaps must wait before it counts again: policy.
//!
//! Each fall doubles the wait of the next, and each minute without one takes a doubling back. What
//! comes and goes every second would otherwise be sent calls every second, and lose them.

use std::time::Duration;

/// How long a node that fell for the first time stays `Down` at least.
pub const FIRST_HOLD_DOWN: Duration = Duration::from_secs(1);
/// How long a node that flaps stays `Down` at most.
pub const LONGEST_HOLD_DOWN: Duration = Duration::from_secs(60);
/// Time `Up` that takes back one doubling of the hold-down.
pub const STABLE: Duration = Duration::from_secs(60);
/// Falls that are counted: doublings that lead from the first hold-down past the longest.
pub(super) const MOST_FLAPS: u32 = 6;

/// Falls that still count, of `flaps` before, after a time `Up`.
pub(super) fn forgive(flaps: u32, up_for: Duration) -> u32 {
    let forgiven = u32::try_from(up_for.as_secs() / STABLE.as_secs()).unwrap_or(u32::MAX);
    flaps.min(MOST_FLAPS).saturating_sub(forgiven)
}

/// The wait after a fall with so many before it that still count.
pub(super) fn hold_down(flaps: u32) -> Duration {
    (FIRST_HOLD_DOWN * (1 << flaps.min(MOST_FLAPS))).min(LONGEST_HOLD_DOWN)
}
