//! A link that is made: messages both ways, until one side has had enough.
//!
//! ```text
//! Sender ──► queue, bounded in bytes ──► the link's task: encrypts, writes ──► TCP
//! Receiver ◄── decrypts, reads, in the task of who asks ◄── TCP
//! ```
//! Who receives slowly is seen by the other side as a queue that fills, since nothing is read ahead
//! but one buffer's worth. The two halves share the cipher states and the reason of the link's end: the
//! first one stands.

use super::handshake::{Agreed, TAG_LEN};
use super::{Endpoint, Identity, Limits, LinkCounts, LinkError, MAX_MESSAGE};
use bytes::{Buf, Bytes, BytesMut};
use lb_proto::keys::{KeyRing, NumberedKey};
use snow::TransportState;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Messages of a direction under one key of its cipher.
const REKEY_EVERY: u64 = 1 << 16;
/// Bytes of a message's length.
const LENGTH_LEN: usize = 2;
/// What a message takes of the queue beside its bytes.
const OVERHEAD: usize = 64;
/// Bytes that are written at once, if there are as many: about what a TCP segment offload takes.
const BATCH: usize = 64 * 1024;
/// Room to read into.
const READ_AHEAD: usize = 64 * 1024;

/// A link that is made. Taking it apart gives the halves; dropping either of them ends it.
#[derive(Debug)]
pub struct Link {
    /// Who the other side is.
    pub peer: Identity,
    /// The beacon key that it is made under.
    pub key_id: u8,
    /// The other side's address.
    pub remote: SocketAddr,
    /// Messages to the other side.
    pub sender: Sender,
    /// Messages from it.
    pub receiver: Receiver,
}

/// What both halves and the link's task share.
struct Shared {
    transport: Mutex<Ciphers>,
    end: watch::Sender<Option<LinkError>>,
    /// Bytes in the queue, or being written.
    queued: AtomicUsize,
    /// Notified when the queue has become half empty.
    room: Notify,
    limits: Limits,
    counts: Arc<LinkCounts>,
}

/// The cipher states, and how many messages each has seen.
struct Ciphers {
    noise: TransportState,
    sent: u64,
    received: u64,
}

impl Ciphers {
    /// Appends the message, encrypted, with its length before it.
    fn seal(&mut self, message: &[u8], into: &mut Vec<u8>) -> Result<(), LinkError> {
        let (start, length) = (into.len() + LENGTH_LEN, message.len() + TAG_LEN);
        let announced = u16::try_from(length).map_err(|_| LinkError::TooLong {
            length: message.len(),
        })?;
        into.extend_from_slice(&announced.to_be_bytes());
        into.resize(start + length, 0);
        // Fails only for lengths that were just ruled out, and after 2^64 messages.
        self.noise
            .write_message(message, &mut into[start..])
            .map_err(|_| LinkError::Tampered)?;
        self.sent += 1;
        if self.sent.is_multiple_of(REKEY_EVERY) {
            self.noise.rekey_outgoing();
        }
        Ok(())
    }

    fn open(&mut self, message: &[u8]) -> Result<Bytes, LinkError> {
        let mut plain = vec![0; message.len().saturating_sub(TAG_LEN)];
        self.noise
            .read_message(message, &mut plain)
            .map_err(|_| LinkError::Tampered)?;
        self.received += 1;
        if self.received.is_multiple_of(REKEY_EVERY) {
            self.noise.rekey_incoming();
        }
        Ok(plain.into())
    }
}

impl Shared {
    /// Nothing panics while it holds this, and if it did, the states would still be whole.
    fn ciphers(&self) -> MutexGuard<'_, Ciphers> {
        self.transport
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> Option<LinkError> {
        self.end.borrow().clone()
    }

    /// Ends the link for this reason, unless it has ended for another, which it returns.
    fn end(&self, error: LinkError) -> LinkError {
        let mut why = error;
        self.end.send_if_modified(|end| match end {
            Some(earlier) => {
                why = earlier.clone();
                false
            }
            None => {
                self.counts.note(&why);
                *end = Some(why.clone());
                true
            }
        });
        self.room.notify_waiters();
        why
    }

    /// Takes room in the queue. What is too large for it goes through an empty one.
    fn take_room(&self, bytes: usize) -> bool {
        let taken = |queued| {
            let sum: usize = queued + bytes;
            (queued == 0 || sum <= self.limits.queue).then_some(sum)
        };
        let (order, look) = (Ordering::AcqRel, Ordering::Acquire);
        self.queued.fetch_update(order, look, taken).is_ok()
    }

    fn give_room(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::AcqRel);
        if self.has_room() {
            self.room.notify_waiters();
        }
    }

    fn has_room(&self) -> bool {
        self.queued.load(Ordering::Acquire) <= self.limits.queue / 2
    }
}

/// Sends messages. Clones send over the same link, and the last one's end ends it.
#[derive(Clone)]
pub struct Sender {
    queue: mpsc::UnboundedSender<Bytes>,
    shared: Arc<Shared>,
}

impl Sender {
    /// Puts a message into the queue. Never waits.
    ///
    /// # Errors
    /// Why the link has ended; [`LinkError::Full`] ends it now. [`LinkError::TooLong`] does not.
    pub fn send(&self, message: Bytes) -> Result<(), LinkError> {
        let length = message.len();
        if length > MAX_MESSAGE {
            return Err(LinkError::TooLong { length });
        }
        if let Some(error) = self.shared.ended() {
            return Err(error);
        }
        if !self.shared.take_room(length + OVERHEAD) {
            return Err(self.shared.end(LinkError::Full));
        }
        // The task is there until the link has ended.
        self.queue
            .send(message)
            .map_err(|_| self.shared.ended().unwrap_or(LinkError::Ended))
    }

    /// Waits until half the queue is empty: for those who send much. Cancelling it loses nothing.
    ///
    /// # Errors
    /// Why the link has ended.
    pub async fn room(&self) -> Result<(), LinkError> {
        loop {
            // Listens from here on, so that nothing is missed between the look and the wait.
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if let Some(error) = self.shared.ended() {
                return Err(error);
            }
            if self.shared.has_room() {
                return Ok(());
            }
            room.await;
        }
    }

    /// Bytes that wait, each message with a little for itself.
    pub fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::Acquire)
    }

    /// Waits for the link's end. Cancelling it loses nothing.
    pub async fn ended(&self) -> LinkError {
        any_end(&mut self.shared.end.subscribe()).await
    }

    /// Ends the link, after what is in the queue, for which it takes [`Limits::progress`] at most.
    pub fn end(&self) {
        self.shared.end(LinkError::Ended);
    }
}

/// Receives messages, whole and in order.
pub struct Receiver {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    shared: Arc<Shared>,
    end: watch::Receiver<Option<LinkError>>,
    /// When bytes last came.
    heard: Instant,
}

impl Receiver {
    /// The next message. Cancelling it loses nothing.
    ///
    /// # Errors
    /// Why the link has ended; from then on always the same.
    pub async fn recv(&mut self) -> Result<Bytes, LinkError> {
        self.advance().await.map_err(|error| self.shared.end(error))
    }

    async fn advance(&mut self) -> Result<Bytes, LinkError> {
        loop {
            let ended = self.shared.ended();
            if let Some(error) = &ended
                && !matches!(error, LinkError::Lost { .. })
            {
                return Err(error.clone());
            }
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.buffer.reserve(READ_AHEAD);
            let patience = match &ended {
                Some(lost) => {
                    let until = Instant::now() + self.shared.limits.progress;
                    Some((until, lost.clone()))
                }
                None => self.patience(),
            };
            tokio::select! {
                biased;
                // After a failure to write, what the other side said before is still good.
                _ = any_end(&mut self.end), if ended.is_none() => {}
                read = self.stream.read_buf(&mut self.buffer) => {
                    self.heard = Instant::now();
                    match read {
                        Ok(0) if self.buffer.is_empty() => return Err(LinkError::Closed),
                        Ok(0) => return Err(LinkError::CutOff),
                        Ok(_) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                error = expired(patience) => return Err(error),
            }
        }
    }

    /// A message out of the buffer, if there is a whole one.
    fn take(&mut self) -> Result<Option<Bytes>, LinkError> {
        let Some((announced, rest)) = self.buffer.split_first_chunk::<LENGTH_LEN>() else {
            return Ok(None);
        };
        let announced = u16::from_be_bytes(*announced);
        let length = usize::from(announced);
        if !(TAG_LEN..=TAG_LEN + MAX_MESSAGE).contains(&length) {
            return Err(LinkError::Length { length: announced });
        }
        let Some(sealed) = rest.get(..length) else {
            return Ok(None);
        };
        let message = self.shared.ciphers().open(sealed)?;
        self.buffer.advance(LENGTH_LEN + length);
        Ok(Some(message))
    }

    /// Until when the next bytes must have come, and what it means if they have not.
    fn patience(&self) -> Option<(Instant, LinkError)> {
        if self.buffer.is_empty() {
            let idle = self.shared.limits.idle?;
            Some((self.heard + idle, LinkError::Idle))
        } else {
            let until = self.heard + self.shared.limits.progress;
            Some((until, LinkError::Unfinished))
        }
    }
}

/// The link ends with its receiver: what is in the queue is still written.
impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.end(LinkError::Ended);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queued = self.shared.queued.load(Ordering::Relaxed);
        f.debug_struct("Sender")
            .field("queued", &queued)
            .field("ended", &self.shared.ended())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("ended", &self.shared.ended())
            .finish_non_exhaustive()
    }
}

/// Makes a link of a finished handshake, and starts its task.
pub(super) fn open(
    endpoint: &Endpoint,
    stream: TcpStream,
    remote: SocketAddr,
    agreed: Agreed,
) -> Link {
    let Agreed {
        transport,
        peer,
        key,
    } = agreed;
    let (reader, writer) = stream.into_split();
    let (queue, messages) = mpsc::unbounded_channel();
    let (end, ended) = watch::channel(None);
    let shared = Arc::new(Shared {
        transport: Mutex::new(Ciphers {
            noise: transport,
            sent: 0,
            received: 0,
        }),
        end,
        queued: AtomicUsize::new(0),
        room: Notify::new(),
        limits: endpoint.limits,
        counts: endpoint.counts.clone(),
    });
    shared.counts.note_made();
    let task = Task {
        outbox: Outbox {
            stream: writer,
            messages,
            shared: shared.clone(),
            batch: Vec::new(),
            written: 0,
            taken: 0,
        },
        keys: endpoint.keys.clone(),
        key,
    };
    tokio::spawn(task.run());
    Link {
        peer,
        key_id: key.id,
        remote,
        sender: Sender {
            queue,
            shared: shared.clone(),
        },
        receiver: Receiver {
            stream: reader,
            buffer: BytesMut::new(),
            shared,
            end: ended,
            heard: Instant::now(),
        },
    }
}

/// The link's task: writes what is in the queue, and watches the key.
///
/// It owns the connection's writing half, which it closes when the link has ended. It is never
/// cancelled: the link's end stops it, within [`Limits::progress`].
struct Task {
    outbox: Outbox,
    keys: watch::Receiver<KeyRing>,
    key: NumberedKey,
}

impl Task {
    async fn run(self) {
        let Self {
            mut outbox,
            mut keys,
            key,
        } = self;
        let shared = outbox.shared.clone();
        let mut end = shared.end.subscribe();
        let error = tokio::select! {
            biased;
            error = any_end(&mut end) => error,
            error = removed(&mut keys, key) => error,
            error = outbox.write() => error,
        };
        if shared.end(error) == LinkError::Ended {
            outbox.messages.close();
            let _ = timeout(shared.limits.progress, outbox.write()).await;
        }
        shared.counts.note_over();
    }
}

/// The queue's end, and what is on its way from there into the connection.
struct Outbox {
    stream: OwnedWriteHalf,
    messages: mpsc::UnboundedReceiver<Bytes>,
    shared: Arc<Shared>,
    /// Encrypted messages.
    batch: Vec<u8>,
    /// Bytes of them that are written.
    written: usize,
    /// What they take of the queue.
    taken: usize,
}

impl Outbox {
    /// Writes until all senders are gone, or the queue was closed, and it is empty. Cancelling it
    /// loses nothing: the next call goes on where it was.
    async fn write(&mut self) -> LinkError {
        loop {
            // The other side may be slow, as long as it takes some now and then.
            while let Some(rest) = self.batch.get(self.written..)
                && !rest.is_empty()
            {
                match timeout(self.shared.limits.progress, self.stream.write(rest)).await {
                    Ok(Ok(0)) => {
                        let kind = io::ErrorKind::WriteZero;
                        return LinkError::Lost { kind };
                    }
                    Ok(Ok(count)) => self.written += count,
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return LinkError::Stuck,
                }
            }
            self.shared.give_room(std::mem::take(&mut self.taken));
            self.batch.clear();
            self.written = 0;
            let Some(message) = self.messages.recv().await else {
                return LinkError::Ended;
            };
            if let Err(error) = self.fill(message) {
                return error;
            }
        }
    }

    /// Encrypts this message, and those behind it that go into the same batch.
    fn fill(&mut self, first: Bytes) -> Result<(), LinkError> {
        let mut next = Some(first);
        while let Some(message) = next {
            self.taken += message.len() + OVERHEAD;
            self.shared.ciphers().seal(&message, &mut self.batch)?;
            next = if self.batch.len() < BATCH {
                self.messages.try_recv().ok()
            } else {
                None
            };
        }
        Ok(())
    }
}

/// Waits until the ring has this key no more.
async fn removed(keys: &mut watch::Receiver<KeyRing>, key: NumberedKey) -> LinkError {
    let is_gone = |ring: &KeyRing| ring.beacon(key.id) != Some(key.key);
    if keys.wait_for(is_gone).await.is_err() {
        // Nobody can change the keys any more.
        std::future::pending::<()>().await;
    }
    LinkError::KeyRemoved { id: key.id }
}

async fn any_end(end: &mut watch::Receiver<Option<LinkError>>) -> LinkError {
    let ended = end.wait_for(Option::is_some).await;
    // The sender is in what both halves hold, and says the reason before it goes.
    ended
        .ok()
        .and_then(|end| end.clone())
        .unwrap_or(LinkError::Ended)
}

async fn expired(patience: Option<(Instant, LinkError)>) -> LinkError {
    match patience {
        Some((until, error)) => {
            sleep_until(until).await;
            error
        }
        None => std::future::pending().await,
    }
}
