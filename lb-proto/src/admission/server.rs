//! Whether the SIP server beside the node can be given a call.

use std::time::Duration;

/// How long a 503 without `Retry-After` keeps calls away. Chosen: as long as a burst lasts that a
/// server sheds, and short enough that a server which says so carelessly is not left alone.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is followed. Chosen: who sends an hour has no intention to be
/// asked again at all; the health probe will find out.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is known of the SIP server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It answers.
    Healthy,
    /// It does not answer.
    Unhealthy,
    /// It answers that it wants no calls (503) before this.
    Unavailable {
        /// When it may be asked again.
        until: Duration,
    },
}

impl Server {
    /// What a final answer of the server makes of it, be it to OPTIONS or to a call.
    ///
    /// - A 503 keeps calls away for its `Retry-After` (RFC 3261 §21.5.4).
    /// - A 408 says that somebody behind it did not answer (§21.4.9), or was made up by a transaction
    ///   that had no answer (§8.1.3.1): it never counts as healthy, and changes nothing.
    /// - Any other final answer shows that the server is there, but does not shorten a pause.
    #[must_use]
    pub fn answered(self, now: Duration, status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            503 => Self::Unavailable {
                until: now + retry_after.unwrap_or(DEFAULT_PAUSE).min(LONGEST_PAUSE),
            },
            408 => self.at(now),
            200..700 => match self.at(now) {
                Self::Unavailable { until } => Self::Unavailable { until },
                Self::Unknown | Self::Healthy | Self::Unhealthy => Self::Healthy,
            },
            _ => self.at(now),
        }
    }

    /// What it is at this moment: a pause that is over leaves it healthy.
    #[must_use]
    pub fn at(self, now: Duration) -> Self {
        match self {
            Self::Unavailable { until } if until <= now => Self::Healthy,
            Self::Unknown | Self::Healthy | Self::Unhealthy | Self::Unavailable { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Server::{Healthy, Unavailable, Unhealthy, Unknown};
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn the_whole_table() {
        let paused = Unavailable { until: NOW + PAUSE };
        let brief = Unavailable {
            until: NOW + DEFAULT_PAUSE,
        };
        let late = Unavailable { until: NOW };
        let lower = Duration::from_secs(9);
        let answers = [
            (200, None),
            (486, None),
            (604, None),
            (408, None),
            (100, None),
            (999, None),
            (503, None),
            (503, Some(lower)),
        ];
        let table = [
            (
                Unknown,
                [Healthy, Healthy, Healthy, Unknown, Unknown, Unknown],
            ),
            (Healthy, [Healthy; 6]),
            (
                Unhealthy,
                [Healthy, Healthy, Healthy, Unhealthy, Unhealthy, Unhealthy],
            ),
            (paused, [paused; 6]),
            (late, [Healthy; 6]),
        ];
        for (server, expected) in table {
            let shorter = Unavailable { until: NOW + lower };
            let expected = expected.into_iter().chain([brief, shorter]);
            for ((status, retry_after), expected) in answers.into_iter().zip(expected) {
                let got = server.answered(NOW, status, retry_after);
                assert_eq!(got, expected, "{server:?}, {status}");
            }
        }
    }

    #[test]
    fn an_hour_is_not_waited_for() {
        let hour = Some(Duration::from_secs(3600));
        let expected = Unavailable {
            until: NOW + LONGEST_PAUSE,
        };
        assert_eq!(Healthy.answered(NOW, 503, hour), expected);
        let forever = Some(Duration::MAX);
        assert_eq!(Healthy.answered(NOW, 503, forever), expected);
    }
}
