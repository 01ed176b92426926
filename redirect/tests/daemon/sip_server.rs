//! A SIP server that answers OPTIONS as it is told.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) struct SipServer {
    address: SocketAddr,
    /// The status to answer with; 0 for none, [`STOP`] to end.
    status: Arc<AtomicU16>,
    thread: Option<JoinHandle<()>>,
}

const STOP: u16 = 1;

impl SipServer {
    pub(crate) fn start(status: u16) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), status)
    }

    pub(crate) fn start_at(address: SocketAddr, status: u16) -> Self {
        let socket = UdpSocket::bind(address).expect("a free port");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a socket");
        let address = socket.local_addr().expect("bound");
        let status = Arc::new(AtomicU16::new(status));
        let told = status.clone();
        let thread = std::thread::spawn(move || serve(&socket, &told));
        Self {
            address,
            status,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How to answer from now on; 0 for not at all.
    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }
}

impl Drop for SipServer {
    fn drop(&mut self) {
        self.status.store(STOP, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, told: &AtomicU16) {
    let mut bytes = [0; 2000];
    loop {
        let received = socket.recv_from(&mut bytes);
        let status = told.load(Ordering::Relaxed);
        if status == STOP {
            return;
        }
        let Ok((len, from)) = received else { continue };
        let request = std::str::from_utf8(&bytes[..len]).expect("SIP is text");
        assert!(request.starts_with("OPTIONS sip:127.0.0.1:") && request.ends_with("\r\n\r\n"));
        if status == 0 {
            continue;
        }
        // As servers do: Via, From, To, Call-ID and CSeq come back as they were.
        let header: String = request
            .lines()
            .filter(|line| {
                ["Via:", "From:", "To:", "Call-ID:", "CSeq:"]
                    .iter()
                    .any(|h| line.starts_with(h))
            })
            .flat_map(|line| [line, "\r\n"])
            .collect();
        let retry = if status == 503 {
            "Retry-After: 1\r\n"
        } else {
            ""
        };
        let answer =
            format!("SIP/2.0 {status} Told So\r\n{header}{retry}Content-Length: 0\r\n\r\n");
        let _ = socket.send_to(answer.as_bytes(), from);
    }
}
