//! A real Kamailio behind the redirect server, configured as people do: what a switch and the phones
//! registered there see of each other, message by message.
//!
//! ```text
//!   switch ──► VIP: LB ──► redirect server ──► Kamailio ──► phone
//!              (XDP)       on the VIP, node    own address
//! ```

mod calls;
mod phone;
mod refusals;
mod repeats;
mod service;
