//! Hand-made calls from the switch: single messages, or a stream of them. Nobody needs to answer.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Call;
use crate::lab::Lab;

/// The port that the switch's hand-made messages come from.
const CLIENT_PORT: u16 = 5080;

/// The switch's socket.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
    address: SocketAddr,
    vip: SocketAddr,
}

impl Client {
    /// Opens one on the switch that calls `vip`.
    ///
    /// # Errors
    /// The port is taken: one client of a family at a time.
    pub fn open(lab: &Lab, vip: SocketAddr) -> Result<Self> {
        let address = SocketAddr::new(lab.switch.address(vip.ip()), CLIENT_PORT);
        let socket = lab
            .switch
            .namespace
            .inside(|| UdpSocket::bind(address))?
            .with_context(|| format!("the switch cannot bind {address}"))?;
        Ok(Self {
            socket,
            address,
            vip,
        })
    }

    /// A call with this Call-ID.
    pub fn call(&self, call_id: impl Into<String>) -> Call {
        Call {
            call_id: call_id.into(),
            client: self.address,
            vip: self.vip,
        }
    }

    /// Where its messages come from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a message to the VIP.
    ///
    /// # Errors
    /// The network does not take it.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.socket
            .send_to(message, self.vip)
            .context("the switch cannot send")?;
        Ok(())
    }
}

/// A stream of messages at a rate.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Stream {
    /// Sends what `message` makes of 0, 1, 2 …, at `rate` a second, until it is stopped.
    pub fn start(
        client: Client,
        rate: u32,
        mut message: impl FnMut(&Client, u64) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let thread = thread::spawn({
            let (stop, sent) = (stop.clone(), sent.clone());
            move || {
                let begin = Instant::now();
                while !stop.load(Ordering::Acquire) {
                    let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                    let mut number = sent.load(Ordering::Relaxed);
                    // After a stall what was missed is let go: a burst would prove nothing.
                    let most = number + u64::from(rate / 50).max(1);
                    while number < due.min(most) {
                        client.send(&message(&client, number))?;
                        number += 1;
                        sent.store(number, Ordering::Release);
                    }
                    thread::sleep(Duration::from_micros(500));
                }
                Ok(())
            }
        });
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// A stream of new calls, `<name>-0@switch` and up.
    ///
    /// # Errors
    /// The switch's port is taken.
    pub fn of_new_calls(lab: &Lab, vip: SocketAddr, name: &str, rate: u32) -> Result<Self> {
        let client = Client::open(lab, vip)?;
        let name = name.to_owned();
        Ok(Self::start(client, rate, move |client, number| {
            client.call(format!("{name}-{number}@switch")).invite()
        }))
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Ends it, and gives the number of messages sent.
    ///
    /// # Errors
    /// The network did not take a message.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.sent())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
