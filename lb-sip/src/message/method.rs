//! Request methods.

/// A method that this project knows, or [`Method::Other`].
///
/// Names of methods are case-sensitive (RFC 3261 §7.1): `invite` is some other method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Register,
    Prack,
    Update,
    Subscribe,
    Notify,
    Publish,
    Info,
    Refer,
    Message,
    /// Any other: a proxy handles it as it does OPTIONS (RFC 3261 §16.2).
    Other,
}

use Method::*;

const METHODS: [(Method, &str); 14] = [
    (Invite, "INVITE"),
    (Ack, "ACK"),
    (Bye, "BYE"),
    (Cancel, "CANCEL"),
    (Options, "OPTIONS"),
    (Register, "REGISTER"),
    (Prack, "PRACK"),
    (Update, "UPDATE"),
    (Subscribe, "SUBSCRIBE"),
    (Notify, "NOTIFY"),
    (Publish, "PUBLISH"),
    (Info, "INFO"),
    (Refer, "REFER"),
    (Message, "MESSAGE"),
];

impl Method {
    /// The method of this name.
    pub fn of(name: &[u8]) -> Self {
        METHODS
            .iter()
            .find(|method| method.1.as_bytes() == name)
            .map_or(Other, |method| method.0)
    }

    /// Its name; empty for [`Method::Other`].
    pub fn as_str(self) -> &'static str {
        METHODS
            .iter()
            .find(|method| method.0 == self)
            .map_or("", |method| method.1)
    }
}
