//! Recorders: which messages came to which machine of the lab, and when.
//!
//! A recorder listens on machines' ports, below their network stack, so that it sees what arrives
//! there whether or not anybody is alive to take it. It notes every SIP message (call, method,
//! sequence number, kernel's time of arrival) and every beacon. Frames that it could not take in
//! time are counted, and a count other than zero makes the recording worthless: check
//! [`Tape::dropped`].

mod calls;
mod ladder;
mod packet_socket;
mod recorder;
mod served;
mod sighting;

pub use calls::{CallTrace, Calls, Visit};
pub use ladder::Ladder;
pub use packet_socket::{PacketSocket, Received};
pub use recorder::{Recorder, Tape};
pub use served::first_served;
pub use sighting::{BeaconSighting, CallHash, Kind, Sighting, Way};
