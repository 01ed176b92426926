//! The ways of messages: by which of the node's own addresses they come and go, and what our headers say
//! of that.

use super::branch::Branches;
use lb_sip::SipUri;
use lb_sip::build::HostPort;
use lb_sip::headers::Via;
use std::net::SocketAddr;

/// How a message comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// UDP, at the listener of this number.
    Datagram(u8),
    /// TCP, in the stream of this number, which is never used again.
    Stream(u32),
}

/// Where a message comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hop {
    pub way: Way,
    /// The other end.
    pub address: SocketAddr,
}

impl Hop {
    /// Where the answer to a request goes that came from here just now (RFC 3261 §18.2.2, RFC 3581 §4).
    pub(super) fn answered_at(self, via: &Via<'_>) -> Self {
        match self.way {
            Way::Datagram(_) if !via.params.has("rport") => Self {
                address: SocketAddr::new(self.address.ip(), via.port.unwrap_or(5060)),
                ..self
            },
            Way::Datagram(_) | Way::Stream(_) => self,
        }
    }
}

/// The node's own addresses.
#[derive(Debug)]
pub(crate) struct Ways {
    listeners: Vec<SocketAddr>,
    advertise: SocketAddr,
    /// Our Record-Route, by the number of the listener; the last is for streams.
    routes: Vec<String>,
    /// What our Via begins with, likewise.
    vias: Vec<String>,
}

impl Ways {
    /// `listeners`, by their number, are not empty. `advertise` is the address of this node's own, for
    /// other nodes and for those that are redirected here.
    pub(crate) fn new(listeners: Vec<SocketAddr>, advertise: SocketAddr) -> Self {
        let mut ways = Self {
            listeners,
            advertise,
            routes: Vec::new(),
            vias: Vec::new(),
        };
        let listeners = ways.listeners.iter();
        let own: Vec<SocketAddr> = listeners.map(|at| ways.named(*at)).collect();
        let vias = own.iter().map(|own| Branches::via("UDP", *own));
        ways.vias = vias.chain([Branches::via("TCP", advertise)]).collect();
        let route = |own| format!("<sip:{};lr>", HostPort(own));
        ways.routes = own.into_iter().chain([advertise]).map(route).collect();
        ways
    }

    /// Where the node listens.
    pub(crate) fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// The address of this node's own.
    pub(crate) fn advertise(&self) -> SocketAddr {
        self.advertise
    }

    /// Whether a URI is one of this node's addresses.
    pub(super) fn is_own(&self, uri: &SipUri<'_>) -> bool {
        let Some(ip) = uri.host.address() else {
            return false;
        };
        let address = SocketAddr::new(ip, uri.port_or_default());
        address == self.advertise || self.listeners.contains(&address)
    }

    /// How an address is reached: by the listener that is preferred if it is of the right family, or by this
    /// node's own, or the first that fits.
    ///
    /// Other nodes must not be sent to from the VIP: it is their own address, too, and a host drops what
    /// claims to come from itself.
    pub(super) fn hop_to(&self, address: SocketAddr, preferred: Option<Way>) -> Option<Hop> {
        let listeners = &self.listeners;
        let fits = |listener: &SocketAddr| listener.is_ipv4() == address.is_ipv4();
        if let Some(way @ Way::Datagram(number)) = preferred
            && listeners.get(usize::from(number)).is_some_and(fits)
        {
            return Some(Hop { way, address });
        }
        let own = |listener: &SocketAddr| *listener == self.advertise && fits(listener);
        let number = listeners.iter().position(own);
        let number = number.or_else(|| listeners.iter().position(fits))?;
        let way = Way::Datagram(u8::try_from(number).ok()?);
        Some(Hop { way, address })
    }

    /// The address that our headers name for what leaves by a way.
    pub(super) fn address(&self, way: Way) -> SocketAddr {
        let listener = match way {
            Way::Datagram(number) => self.listeners.get(usize::from(number)),
            Way::Stream(_) => None,
        };
        listener.map_or(self.advertise, |listener| self.named(*listener))
    }

    /// By which address others know a listener.
    fn named(&self, listener: SocketAddr) -> SocketAddr {
        if listener.ip().is_unspecified() {
            self.advertise
        } else {
            listener
        }
    }

    /// What our Via begins with for what leaves by a way.
    pub(super) fn via(&self, way: Way) -> &str {
        text_of(&self.vias, way)
    }

    /// Our Record-Route for a request that came by a way.
    pub(super) fn route(&self, way: Way) -> &str {
        text_of(&self.routes, way)
    }

    /// Our Record-Route that names the node's own address.
    pub(super) fn own_route(&self) -> &str {
        self.routes.last().map_or("", String::as_str)
    }
}

/// One of the texts for each listener, of which the last is for streams.
fn text_of(texts: &[String], way: Way) -> &str {
    let text = match way {
        Way::Datagram(number) => texts.get(usize::from(number)),
        Way::Stream(_) => None,
    };
    text.or(texts.last()).map_or("", String::as_str)
}
