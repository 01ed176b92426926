//! Turns this LB's data plane on and off: of two LBs, the main steers.
//!
//! ```text
//!             activate                 end_gathering
//!   passive ───────────► gathering ───────────────────► active
//!      ▲                     │                             │
//!      └─────────────────────┴──── deactivate, or the ─────┘
//!                                  program hears a main
//!                                  of a later term
//! ```
//! Each is one write of the turnout, seen by the next packet. A controller without a stand-by reigns
//! [for good](activate_for_good), and no term is later than that.

use lb_common::maps::Turnout;

use crate::plane::{AccessError, Maps};

/// From now on this data plane steers, in the reign of `term`. New calls are served at once; what is part
/// of a dialog is not steered before [`end_gathering`], unless the dialog has a pin or began since. One that
/// steered already, because only its controller was away, has all pins, and goes on with dialogs too.
///
/// # Errors
/// [`AccessError`].
pub fn activate(maps: &Maps, term: u64) -> Result<(), AccessError> {
    let turnout = maps.turnout()?;
    let steered = turnout.is_active(maps.plane_status()?.term_heard);
    let gathering = if steered { 0 } else { Turnout::GATHERING };
    let word = turnout.word & !Turnout::PASSIVE | gathering;
    maps.set_turnout(Turnout { word, term })
}

/// The reign goes on under another term.
///
/// # Errors
/// [`AccessError`].
pub fn raise(maps: &Maps, term: u64) -> Result<(), AccessError> {
    let turnout = maps.turnout()?;
    maps.set_turnout(Turnout { term, ..turnout })
}

/// Where calls live is known, as far as it will be: those without a pin are at home.
///
/// # Errors
/// [`AccessError`].
pub fn end_gathering(maps: &Maps) -> Result<(), AccessError> {
    let turnout = maps.turnout()?;
    let word = turnout.word & !Turnout::GATHERING;
    maps.set_turnout(Turnout { word, ..turnout })
}

/// Another LB is the main, or nobody: nothing for the VIPs is steered or answered.
///
/// # Errors
/// [`AccessError`].
pub fn deactivate(maps: &Maps) -> Result<(), AccessError> {
    let turnout = maps.turnout()?;
    let word = turnout.word & !Turnout::GATHERING | Turnout::PASSIVE;
    maps.set_turnout(Turnout { word, ..turnout })
}

/// There is another LB from now on: a data plane that was [active for good](activate_for_good) goes on, until
/// a main is heard.
///
/// # Errors
/// [`AccessError`].
pub fn join_pair(maps: &Maps) -> Result<(), AccessError> {
    match maps.turnout()?.term {
        u64::MAX => raise(maps, 0),
        _ => Ok(()),
    }
}

/// There is no other LB: this one steers, whatever was before.
///
/// # Errors
/// [`AccessError`].
pub fn activate_for_good(maps: &Maps) -> Result<(), AccessError> {
    let word = maps.turnout()?.word & !(Turnout::GATHERING | Turnout::PASSIVE);
    maps.set_turnout(Turnout {
        word,
        term: u64::MAX,
    })
}
