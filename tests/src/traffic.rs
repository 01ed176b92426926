//! Traffic: SIPp as the switch, SIPp and Kamailio as nodes' SIP servers, and hand-made messages.

mod kamailio;
mod server;
mod switch;

pub use kamailio::start as start_kamailio;
pub use server::start as start_sipp_server;
pub use switch::{CallLoad, CallStats, Switch};
