//! Traffic: SIPp as the switch, SIPp and Kamailio as nodes' SIP servers, and hand-made messages.

mod baseline;
mod ear;
mod following;
pub mod frame;
mod kamailio;
mod message;
mod packets;
mod server;
mod sipp;
mod switch;
mod voice;

pub use baseline::{BaselineRun, clean_rate, measure as measure_baseline};
pub use ear::{Ears, Heard};
pub use following::MAX_REDIRECTS;
pub(crate) use kamailio::start_with as start_kamailio_with;
pub use kamailio::{start as start_kamailio, start_registrar};
pub use message::Call;
pub use packets::{Client, Stream};
pub use server::start as start_sipp_server;
pub use switch::{CallLoad, CallStats, Switch};
pub use voice::Voice;
