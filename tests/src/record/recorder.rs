//! One thread that listens on any number of ports and writes a tape for each.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::sighting::{self, Noted};
use super::{BeaconSighting, PacketSocket, Received, Sighting};
use crate::lab::{Host, Namespace, wait_until};

/// How often the sockets are emptied. Their queues hold seconds of traffic, and a wake-up for every
/// frame would cost the machine more than everything else that the recorder does.
const PERIOD: Duration = Duration::from_millis(5);

/// What one port saw.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// SIP messages, in the order of their arrival.
    pub sightings: Vec<Sighting>,
    /// Beacons, in the order of their arrival.
    pub beacons: Vec<BeaconSighting>,
    /// Frames that were neither SIP nor beacons.
    pub others: u64,
    /// Frames that nobody had time for.
    pub dropped: u64,
}

/// A running recorder.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// Times that all sockets have been emptied.
    rounds: AtomicU64,
    tapes: Mutex<Vec<Tape>>,
}

impl Shared {
    fn tapes(&self) -> MutexGuard<'_, Vec<Tape>> {
        self.tapes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Records at the first port of each of these machines; tape `n` is of machine `n`.
    ///
    /// # Errors
    /// Not root.
    pub fn start<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> Result<Self> {
        let ports: Vec<_> = hosts
            .into_iter()
            .map(|host| (&host.namespace, "eth0"))
            .collect();
        Self::start_at(&ports)
    }

    /// Records at these ports.
    ///
    /// # Errors
    /// There is no such port, or not root.
    pub fn start_at(ports: &[(&Namespace, &str)]) -> Result<Self> {
        let sockets = ports
            .iter()
            .map(|(namespace, port)| PacketSocket::open(namespace, port));
        let sockets: Vec<_> = sockets.collect::<Result<_>>()?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            tapes: Mutex::new(vec![Tape::default(); sockets.len()]),
        });
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn({
                let shared = shared.clone();
                move || record(sockets, &shared)
            })
            .context("cannot start the recorder's thread")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Looks at a tape while it is being written. It may lag by some milliseconds: see
    /// [`Self::catch_up`].
    pub fn look<T>(&self, tape: usize, look: impl FnOnce(&Tape) -> T) -> T {
        look(&self.shared.tapes()[tape])
    }

    /// Waits until everything that had arrived when this was called is on the tapes.
    ///
    /// # Errors
    /// The recorder has ended.
    pub fn catch_up(&self) -> Result<()> {
        // The round under way may have passed a socket already; the next one has not.
        let wanted = self.shared.rounds.load(Ordering::Acquire) + 2;
        wait_until("the recorder to catch up", Duration::from_secs(10), || {
            Ok((self.shared.rounds.load(Ordering::Acquire) >= wanted).then_some(()))
        })
    }

    /// Ends the recording, with everything that had arrived, and gives the tapes.
    ///
    /// # Errors
    /// A port went away while it was listened on.
    pub fn finish(mut self) -> Result<Vec<Tape>> {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let result = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.context("the recorder lost a port")?;
        }
        Ok(std::mem::take(&mut *self.shared.tapes()))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record(mut sockets: Vec<PacketSocket>, shared: &Shared) -> io::Result<()> {
    loop {
        // Asked before the sockets are emptied: what arrived before the stop is taken in.
        let is_last = shared.stop.load(Ordering::Acquire);
        for (index, socket) in sockets.iter_mut().enumerate() {
            loop {
                let mut tapes = shared.tapes();
                let tape = &mut tapes[index];
                let count = socket.receive(|frame| tape.write(frame))?;
                if count == 0 {
                    tape.dropped += socket.take_dropped()?;
                    break;
                }
            }
        }
        shared.rounds.fetch_add(1, Ordering::Release);
        if is_last {
            return Ok(());
        }
        thread::sleep(PERIOD);
    }
}

impl Tape {
    fn write(&mut self, frame: Received<'_>) {
        match sighting::note(frame) {
            Noted::Sip(sighting) => self.sightings.push(sighting),
            Noted::Beacon(beacon) => self.beacons.push(beacon),
            Noted::Other => self.others += 1,
        }
    }
}
