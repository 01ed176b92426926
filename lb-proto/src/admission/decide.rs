//! Does this node take this call, and what does it say of itself? The policy, as pure functions.

use super::server::Server;
use lb_common::Admission;

/// What a decision goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The SIP server, [as of now](Server::at).
    pub server: Server,
    /// The operator wants the node empty.
    pub is_draining: bool,
    /// Calls that the node has.
    pub active: u32,
    /// Slots neither taken nor held.
    pub free: u32,
    /// Whether calls come faster than they may.
    pub is_rate_spent: bool,
    /// Whether tasks wait for a CPU too long.
    pub is_cpu_strained: bool,
    /// Whether tasks wait for memory too long.
    pub is_memory_strained: bool,
}

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The SIP server does not answer, or has not yet.
    #[error("the SIP server is not known to be there")]
    NoServer,
    /// The SIP server answers 503.
    #[error("the SIP server wants no calls for a while")]
    Unavailable,
    /// The node is to be emptied.
    #[error("the node is draining")]
    Draining,
    /// Every slot is taken or held.
    #[error("all slots are taken")]
    Calls,
    /// Calls come faster than is allowed.
    #[error("calls come too fast")]
    Rate,
    /// CPU pressure.
    #[error("the CPUs are strained")]
    Cpu,
    /// Memory pressure.
    #[error("memory is strained")]
    Memory,
}

impl Refusal {
    /// Every reason, for counters.
    pub const ALL: [Self; 7] = [
        Self::NoServer,
        Self::Unavailable,
        Self::Draining,
        Self::Calls,
        Self::Rate,
        Self::Cpu,
        Self::Memory,
    ];

    /// The word that people and programs read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoServer => "no-server",
            Self::Unavailable => "server-unavailable",
            Self::Draining => "draining",
            Self::Calls => "calls",
            Self::Rate => "rate",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// Whether a new call is taken: the first reason against it.
///
/// # Errors
/// The [`Refusal`].
pub const fn decide(facts: &Facts) -> Result<(), Refusal> {
    match facts.server {
        Server::Unknown | Server::Unhealthy => return Err(Refusal::NoServer),
        Server::Unavailable { .. } => return Err(Refusal::Unavailable),
        Server::Healthy => {}
    }
    if facts.is_draining {
        Err(Refusal::Draining)
    } else if facts.free == 0 {
        Err(Refusal::Calls)
    } else if facts.is_rate_spent {
        Err(Refusal::Rate)
    } else if facts.is_cpu_strained {
        Err(Refusal::Cpu)
    } else if facts.is_memory_strained {
        Err(Refusal::Memory)
    } else {
        Ok(())
    }
}

/// Whether a call is taken that a slot is held for: nothing speaks against it but a SIP server that
/// would not take it. The promise was made knowing the rest.
///
/// # Errors
/// The [`Refusal`].
pub const fn decide_promised(facts: &Facts) -> Result<(), Refusal> {
    match facts.server {
        Server::Unknown | Server::Unhealthy => Err(Refusal::NoServer),
        Server::Unavailable { .. } => Err(Refusal::Unavailable),
        Server::Healthy => Ok(()),
    }
}

/// The status word for beacons; `None`: none go out, because liveness must come from the path that
/// serves calls.
pub const fn word(facts: &Facts) -> Option<Admission> {
    match decide(facts) {
        Err(Refusal::NoServer) => None,
        Err(Refusal::Unavailable) if facts.is_draining => Some(Admission::Draining),
        Err(Refusal::Draining) => Some(Admission::Draining),
        Err(
            Refusal::Unavailable | Refusal::Calls | Refusal::Rate | Refusal::Cpu | Refusal::Memory,
        ) => Some(Admission::Busy),
        Ok(()) if facts.active == 0 => Some(Admission::Idle),
        Ok(()) => Some(Admission::Free),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FINE: Facts = Facts {
        server: Server::Healthy,
        is_draining: false,
        active: 3,
        free: 1,
        is_rate_spent: false,
        is_cpu_strained: false,
        is_memory_strained: false,
    };

    #[test]
    fn every_reason_and_its_word() {
        let until = Duration::from_secs(1);
        let paused = Server::Unavailable { until };
        let with = |change: fn(&mut Facts)| {
            let mut facts = FINE;
            change(&mut facts);
            facts
        };
        let server = |server| Facts { server, ..FINE };
        use Admission::{Busy, Draining, Free, Idle};
        let cases = [
            (FINE, Ok(()), Some(Free)),
            (with(|f| f.active = 0), Ok(()), Some(Idle)),
            (server(Server::Unknown), Err(Refusal::NoServer), None),
            (server(Server::Unhealthy), Err(Refusal::NoServer), None),
            (server(paused), Err(Refusal::Unavailable), Some(Busy)),
            (
                with(|f| f.is_draining = true),
                Err(Refusal::Draining),
                Some(Draining),
            ),
            (with(|f| f.free = 0), Err(Refusal::Calls), Some(Busy)),
            (
                with(|f| f.is_rate_spent = true),
                Err(Refusal::Rate),
                Some(Busy),
            ),
            (
                with(|f| f.is_cpu_strained = true),
                Err(Refusal::Cpu),
                Some(Busy),
            ),
            (
                with(|f| f.is_memory_strained = true),
                Err(Refusal::Memory),
                Some(Busy),
            ),
        ];
        for (facts, decision, said) in cases {
            assert_eq!(
                (decide(&facts), word(&facts)),
                (decision, said),
                "{facts:?}"
            );
            let server_refuses = facts.server != Server::Healthy;
            assert_eq!(
                decide_promised(&facts).is_err(),
                server_refuses,
                "{facts:?}"
            );
        }
        let both = Facts {
            is_draining: true,
            ..server(paused)
        };
        assert_eq!(word(&both), Some(Draining));
    }

    /// What is said and what is done are the same, whatever the facts.
    #[test]
    fn who_says_free_takes_calls() {
        for bits in 0u32..1 << 7 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let facts = Facts {
                server: match bits & 3 {
                    0 => Server::Unknown,
                    1 => Server::Unhealthy,
                    2 => Server::Healthy,
                    _ => Server::Unavailable {
                        until: Duration::ZERO,
                    },
                },
                is_draining: bit(2),
                active: bits >> 3 & 1,
                free: bits >> 4 & 1,
                is_rate_spent: bit(5),
                is_cpu_strained: bit(6),
                is_memory_strained: false,
            };
            let is_free = word(&facts).is_some_and(|word| word <= Admission::Free);
            assert_eq!(is_free, decide(&facts).is_ok(), "{facts:?}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names = Refusal::ALL.map(Refusal::name);
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b));
    }
}
