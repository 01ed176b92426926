//! Links over the loopback: who gets one, and what ends it.

mod meddler;
mod messages;
mod refusals;
mod rotation;

use super::{Endpoint, Identity, Limits, Link, LinkError, Listener, Roster};
use lb_proto::keys::KeyRing;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

const CLUSTER: u32 = 3;
const CONTROLLER: Identity = Identity::Controller(1);
const NODE: Identity = Identity::Node(7);

/// Where whatever is expected has long happened, unless it never does.
const LONG: Duration = Duration::from_secs(60);

/// For ends that come of waiting.
const SHORT: Duration = Duration::from_millis(200);

/// An address of the loopback network.
const fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// A ring of beacon keys, each with its id and what fills it.
fn ring(keys: &[(u8, u8)]) -> KeyRing {
    let mut text = format!("call {}\n", "0a".repeat(16));
    for (id, fill) in keys {
        text += &format!("beacon {id} {}\n", format!("{fill:02x}").repeat(16));
    }
    KeyRing::parse(&text).expect("a good ring")
}

/// Long enough for a slow machine: ends that come of waiting are for the tests that want them.
fn limits() -> Limits {
    Limits {
        handshake: LONG,
        progress: LONG,
        ..Limits::default()
    }
}

fn endpoint(identity: Identity, keys: &watch::Sender<KeyRing>, limits: Limits) -> Endpoint {
    Endpoint::new(CLUSTER, identity, keys.subscribe(), limits)
}

/// A node that listens, and everything that may be changed about it.
struct Site {
    node: Endpoint,
    keys: watch::Sender<KeyRing>,
    listener: Listener,
    address: SocketAddr,
}

impl Site {
    fn new(limits: Limits) -> Self {
        Self::with(limits, &[(CONTROLLER, local(1))])
    }

    fn with(limits: Limits, roster: &[(Identity, IpAddr)]) -> Self {
        let keys = watch::Sender::new(ring(&[(1, 0x11)]));
        let node = endpoint(NODE, &keys, limits);
        let roster = watch::Sender::new(roster.iter().copied().collect::<Roster>());
        let listener = node
            .listen(&[(local(1), 0).into()], roster.subscribe())
            .expect("a free port");
        let address = listener.addresses().expect("bound")[0];
        Self {
            node,
            keys,
            listener,
            address,
        }
    }

    /// A controller with the node's keys.
    fn controller(&self) -> Endpoint {
        endpoint(CONTROLLER, &self.keys, limits())
    }

    /// The controller's end of a link, and the node's.
    async fn link(&mut self, controller: &Endpoint, to: SocketAddr) -> (Link, Link) {
        let (ours, theirs) = soon(async {
            tokio::join!(controller.connect(NODE, to, None), self.listener.accept())
        })
        .await;
        (ours.expect("a link"), theirs)
    }

    /// Waits until the node has refused somebody for this reason. No link comes of it.
    async fn refuses(&mut self, name: &str) {
        let node = self.node.clone();
        let refused = until(|| node.counts().count(name) > 0);
        soon(async {
            tokio::select! {
                link = self.listener.accept() => panic!("{link:?}"),
                () = refused => {}
            }
        })
        .await;
        assert_eq!(self.node.counts().made(), 0);
    }
}

/// Waits for it, but not for ever.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("it should have happened")
}

/// Lets others go on until it is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

/// Receives until the link ends, and tells why.
async fn end_of(link: &mut Link) -> LinkError {
    soon(async {
        loop {
            if let Err(error) = link.receiver.recv().await {
                return error;
            }
        }
    })
    .await
}

/// As daemons do it: everybody waits in a task of its own.
#[tokio::test]
async fn a_node_that_says_back_what_it_hears() {
    let site = Site::new(limits());
    let controller = site.controller();
    let Site {
        mut listener,
        address,
        ..
    } = site;
    let node = tokio::spawn(async move {
        loop {
            let Link {
                sender,
                mut receiver,
                ..
            } = listener.accept().await;
            tokio::spawn(async move {
                while let Ok(message) = receiver.recv().await
                    && sender.room().await.is_ok()
                    && sender.send(message).is_ok()
                {}
            });
        }
    });
    for message in ["one", "two"] {
        let link = soon(controller.connect(NODE, address, None)).await;
        let mut link = link.expect("a link");
        link.sender.send(message.into()).expect("a link");
        assert_eq!(soon(link.receiver.recv()).await, Ok(message.into()));
    }
    node.abort();
}
