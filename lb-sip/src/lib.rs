//! SIP without IO: messages, transactions and dialogs (RFC 3261).
//!
//! Nothing here reads a clock, a socket or a random number: callers pass in bytes and `now`, and
//! carry out what they are told. The kernel's peek into a message is another matter, and lives in
//! `lb-common`.
//!
//! | module | question |
//! |---|---|
//! | [`message`] | what are the parts of these bytes, and how do I change one and no other? |
//! | [`framer`] | where do messages end in a stream? |
//! | [`headers`] | what does this header say? |
//! | [`uri`] | what is in this URI, and is it the same as that one? |
//! | [`mod@validate`] | may a proxy or redirect server handle this message, and if not, what instead? |
//! | [`build`] | how do I answer, and how do I ask? |
//! | [`transaction`] | what is sent again, when, and when is it over? |
//! | [`dialog`] | which calls are there, and how do they stand? |
//! | [`sdp`] | where does the audio go, and is the call held? |
//! | [`rsip_values`] | the same as values of the `rsip` crate, where those are right |

pub mod build;
pub mod dialog;
pub mod framer;
pub mod headers;
pub mod message;
pub mod rsip_values;
pub mod sdp;
mod text;
pub mod transaction;
pub mod uri;
pub mod validate;

pub use build::{RequestBuilder, ResponseBuilder};
pub use framer::{Framer, StreamEvent};
pub use message::{Edit, Message, Method, Name};
pub use uri::{SipUri, Uri};
pub use validate::{Essentials, Verdict, examine, validate};
