//! Which other node is offered a call that this one does not take, and how often.
//!
//! ```text
//!   INVITE that this node refuses
//!     │  how far has it come?            hops: ticket in the Request-URI, and this node's memory
//!     ├── three hops, or a bad ticket ──► 503, Retry-After
//!     │  who could take it?              candidates: the availability map, less what it was offered
//!     ├── nobody known ────────────────► 503, Retry-After
//!     └── two drawn, the better ───────► offer, with a ticket for the next hop
//! ```
//! - [`candidates`]: who could take a call, and the choice among them.
//! - [`recent`]: what this node has offered others since they last said how many they can take.
//! - [`ticket`]: the signed hop count and list of visited nodes in the Contact of a 302.
//! - [`hops`]: what to answer next.

mod base32;
pub mod candidates;
pub mod hops;
pub mod recent;
pub mod ticket;
