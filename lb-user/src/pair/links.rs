//! The links to the nodes. There are some only while this controller is the main.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lb_net::link::{Endpoint, Identity, LinkError, Sender};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// News of all links that wait for the task. A link with one more waits, and so does its node.
const WAITING: usize = 64;
/// From one failed attempt to link to the next, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// What happened to a link.
pub(super) enum News {
    Linked(Sender),
    Message(Bytes),
    Lost(LinkError),
}

/// To which node, over which of its links.
pub(super) struct Arrival {
    pub(super) node: u16,
    link: u64,
    pub(super) news: News,
}

/// The links, each made again when it breaks.
pub(super) struct Links {
    endpoint: Endpoint,
    own: IpAddr,
    port: u16,
    attempts: BTreeMap<u16, (IpAddr, AbortHandle)>,
    open: BTreeMap<u16, (u64, Sender)>,
    numbers: Arc<AtomicU64>,
    news: (mpsc::Sender<Arrival>, mpsc::Receiver<Arrival>),
}

impl Links {
    /// No links. Those to come go out from `own`, to the nodes' `port`.
    pub(super) fn new(endpoint: Endpoint, own: IpAddr, port: u16) -> Self {
        Self {
            endpoint,
            own,
            port,
            attempts: BTreeMap::new(),
            open: BTreeMap::new(),
            numbers: Arc::default(),
            news: mpsc::channel(WAITING),
        }
    }

    /// Links to these nodes, and to no others.
    pub(super) fn hold(&mut self, nodes: &BTreeMap<u16, IpAddr>) {
        let gone = |id: &u16, at: &IpAddr| nodes.get(id) != Some(at);
        let ended = self.attempts.extract_if(.., |id, (at, _)| gone(id, at));
        let ended: Vec<(u16, AbortHandle)> = ended.map(|(id, (_, task))| (id, task)).collect();
        for (id, task) in ended {
            task.abort();
            self.open.remove(&id);
        }
        for (id, at) in nodes {
            if !self.attempts.contains_key(id) {
                let task = self.keep_linked(*id, *at);
                self.attempts.insert(*id, (*at, task));
            }
        }
    }

    /// Ends all links.
    pub(super) fn end(&mut self) {
        self.hold(&BTreeMap::new());
    }

    fn keep_linked(&self, node: u16, at: IpAddr) -> AbortHandle {
        let (endpoint, own) = (self.endpoint.clone(), self.own);
        let (to, numbers) = (SocketAddr::new(at, self.port), self.numbers.clone());
        let news = self.news.0.clone();
        let task = tokio::spawn(async move {
            let mut pause = RETRY[0];
            loop {
                let peer = Identity::Node(node);
                match endpoint.connect(peer, to, Some(own)).await {
                    Ok(made) => {
                        pause = RETRY[0];
                        let link = numbers.fetch_add(1, Ordering::Relaxed);
                        let tell = |what| {
                            news.send(Arrival {
                                node,
                                link,
                                news: what,
                            })
                        };
                        if tell(News::Linked(made.sender)).await.is_err() {
                            return;
                        }
                        let mut receiver = made.receiver;
                        loop {
                            let (what, is_end) = match receiver.recv().await {
                                Ok(bytes) => (News::Message(bytes), false),
                                Err(error) => (News::Lost(error), true),
                            };
                            if tell(what).await.is_err() {
                                return;
                            }
                            if is_end {
                                break;
                            }
                        }
                    }
                    Err(error) => tracing::debug!(node, %error, "cannot link to a node"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY[1]);
            }
        });
        task.abort_handle()
    }

    /// What happens next. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Arrival {
        loop {
            // This end of the channel is held here too, so it is never closed.
            let Some(arrival) = self.news.1.recv().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let Arrival { node, link, news } = arrival;
            match news {
                News::Linked(sender) => {
                    if !self.attempts.contains_key(&node) {
                        continue;
                    }
                    self.open.insert(node, (link, sender.clone()));
                    let news = News::Linked(sender);
                    return Arrival { node, link, news };
                }
                // What an earlier link of the node had to say is of no account any more.
                _ if self.open.get(&node).is_none_or(|(open, _)| *open != link) => {}
                News::Message(_) => return Arrival { node, link, news },
                News::Lost(_) => {
                    self.open.remove(&node);
                    return Arrival { node, link, news };
                }
            }
        }
    }

    /// Sends a message to a node. Whether its link takes it; one that does not is lost.
    pub(super) fn send(&mut self, node: u16, message: Bytes) -> bool {
        let Some((_, sender)) = self.open.get(&node) else {
            return false;
        };
        match sender.send(message) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(node, %error, "a node's link does not take a request");
                self.open.remove(&node);
                false
            }
        }
    }

    /// Nodes that have a link.
    pub(super) fn linked(&self) -> impl Iterator<Item = u16> + '_ {
        self.open.keys().copied()
    }
}
