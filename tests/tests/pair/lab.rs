//! The lab of a pair, and what its daemons are told.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use pointsman_tests::daemons::{Pair, Redirecting, Settings};
use pointsman_tests::lab::Lab;

/// Labs of pairs one at a time: a dozen daemons that count milliseconds are enough for a small machine.
static ALONE: Mutex<()> = Mutex::new(());

/// The lab of a pair, while there is no other.
pub(crate) struct OnlyLab {
    lab: Lab,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for OnlyLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// The lab of a pair with four nodes.
pub(crate) fn lab() -> Result<OnlyLab> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::pair_of(4)?;
    Ok(OnlyLab { lab, _alone: alone })
}

/// What daemons are told: redirect servers before SIP servers, and this pair.
pub(crate) fn settings(pair: Pair) -> Settings {
    Settings {
        redirecting: Some(Redirecting::default()),
        pair: Some(pair),
        ..Settings::patient()
    }
}
