//! A node's voice: beacons made by hand, for tests that need to say exactly what a node says.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_common::beacon::Beacon;
use lb_common::{Address, Admission};

use crate::daemons::{BEACON_KEY_ID, CLUSTER, GROUP_V4, Settings, beacon_key};
use crate::lab::{Lab, realtime_ns};

/// A thread that sends a node's beacons until this value is dropped.
#[derive(Debug)]
pub struct Voice {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    socket: UdpSocket,
    port: u16,
    beacon: Beacon,
    speaks: bool,
    ends: bool,
    last_ns: u64,
}

impl State {
    fn send(&mut self) {
        self.beacon.sequence += 1;
        let bytes = self.beacon.write(beacon_key());
        self.last_ns = realtime_ns();
        // A beacon that the network does not take is a beacon lost, as beacons are.
        let _ = self.socket.send_to(&bytes, (GROUP_V4, self.port));
    }
}

impl Voice {
    /// Starts a node's voice: `Free`, with room for many calls.
    ///
    /// # Errors
    /// Not root.
    pub fn start(lab: &Lab, node: u16, settings: &Settings) -> Result<Self> {
        let epoch = u32::try_from(realtime_ns() / 1_000_000_000).context("the clock is far off")?;
        Self::start_in_life(lab, node, settings, epoch)
    }

    /// The same, with this boot epoch.
    ///
    /// # Errors
    /// Not root.
    pub fn start_in_life(lab: &Lab, node: u16, settings: &Settings, epoch: u32) -> Result<Self> {
        let host = lab.node(node);
        // Bound to an address, a socket sends multicast out of that address's port.
        let socket = host
            .namespace
            .inside(|| UdpSocket::bind((host.v4, 0)))?
            .context("a node cannot open a socket")?;
        let period = settings.period;
        let beacon = Beacon {
            admission: Admission::Free,
            key_id: BEACON_KEY_ID,
            cluster: CLUSTER,
            node,
            epoch,
            sequence: 0,
            capacity: 100_000,
            active: 0,
            headroom: 100_000,
            calls_per_second: 0,
            oc_permille: 1000,
            period_ms: u16::try_from(period.as_millis()).context("a long period")?,
            sip_port: 5060,
            redirect_port: 5070,
            address_v4: std::net::IpAddr::from(host.v4).into(),
            address_v6: Address::default(),
        };
        let state = Arc::new(Mutex::new(State {
            socket,
            port: settings.status_port,
            beacon,
            speaks: true,
            ends: false,
            last_ns: 0,
        }));
        let thread = thread::spawn({
            let state = state.clone();
            move || speak(&state, period)
        });
        Ok(Self {
            state,
            thread: Some(thread),
        })
    }

    /// Says something else from now on, and says it at once.
    pub fn say(&self, admission: Admission) {
        let mut state = lock(&self.state);
        state.beacon.admission = admission;
        if state.speaks {
            state.send();
        }
    }

    /// Falls silent, and says when the last beacon left, in nanoseconds since 1970.
    pub fn fall_silent(&self) -> u64 {
        let mut state = lock(&self.state);
        state.speaks = false;
        state.last_ns
    }

    /// Speaks again, as the same life of the node.
    pub fn speak_again(&self) {
        lock(&self.state).speaks = true;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn speak(state: &Mutex<State>, period: Duration) {
    loop {
        let mut now = lock(state);
        if now.ends {
            return;
        }
        if now.speaks {
            now.send();
        }
        drop(now);
        thread::sleep(period);
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        lock(&self.state).ends = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
