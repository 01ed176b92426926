//! Who forwards, and what CPU time it has taken.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use crate::daemons::{Daemons, PATIENCE};
use crate::lab::{Host, Lab, Process, eventually};
use crate::traffic::start_kamailio_with;

const DISPATCHER: &str = include_str!("../../../scenarios/dispatcher.cfg");
/// What Kamailio does beside, where it does what a proxy must that stays in the path of a call.
const HEADERS: &str = "if (!mf_process_maxfwd_header(\"10\")) { exit; }\n    \
                       if (has_totag()) { loose_route(); } else { record_route(); }";

/// Kamailio's fast allocator. The one that it takes by itself is made for finding faults: with it
/// Kamailio forwards a quarter as much.
const ALLOCATOR: [&str; 4] = ["-x", "fm", "-X", "fm"];

/// Something that forwards.
pub(super) struct Subject {
    pub(super) name: &'static str,
    /// Where it takes requests.
    pub(super) address: SocketAddr,
    worker: Worker,
}

enum Worker {
    Process(Process),
    Floor(Floor),
}

impl Subject {
    /// The redirect server of node 1, as it is. Its SIP server is where the sink is.
    pub(super) fn redirect(daemons: &Daemons<'_>) -> Result<Self> {
        let mut process = daemons.start_redirect(1)?;
        process.wait_until_ready(PATIENCE)?;
        eventually("the redirect server to take calls", PATIENCE, || {
            Ok(daemons.ask_redirect(1, "status")?["speaking"] == true)
        })?;
        Ok(Self {
            name: "redirect",
            address: daemons.redirect_server(1),
            worker: Worker::Process(process),
        })
    }

    /// Kamailio, which chooses among one destination, the sink.
    pub(super) fn kamailio(
        lab: &Lab,
        name: &'static str,
        listen: SocketAddr,
        sink: SocketAddr,
        does_headers: bool,
    ) -> Result<Self> {
        let list = lab.directory().join("dispatcher.list");
        fs::write(&list, format!("1 sip:{sink}\n"))?;
        let configuration = DISPATCHER
            .replace("@LISTEN@", &listen.to_string())
            .replace("@LIST@", &list.display().to_string())
            .replace("@HEADERS@", if does_headers { HEADERS } else { "" });
        let process =
            start_kamailio_with(lab, lab.node(1), name, listen, &configuration, &ALLOCATOR)?;
        Ok(Self {
            name,
            address: listen,
            worker: Worker::Process(process),
        })
    }

    /// The least that forwarding can cost with one system call to receive and one to send: what comes
    /// from the sink goes to the caller, all else to the sink.
    pub(super) fn floor(host: &Host, address: SocketAddr, sink: SocketAddr) -> Result<Self> {
        Ok(Self {
            name: "udp-floor",
            address,
            worker: Worker::Floor(Floor::start(host, address, sink)?),
        })
    }

    /// The CPU time that it has taken, with all its threads and processes, in nanoseconds.
    pub(super) fn cpu_time_ns(&self) -> Result<u64> {
        match &self.worker {
            Worker::Process(process) => time_of_process(process.id()),
            Worker::Floor(floor) => time_of_task(&floor.task),
        }
    }
}

fn time_of_process(process: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        sum += time_of_task(&task)?;
        for child in fs::read_to_string(task.join("children"))?.split_whitespace() {
            sum += time_of_process(child.parse()?)?;
        }
    }
    Ok(sum)
}

fn time_of_task(task: &Path) -> Result<u64> {
    let path = task.join("schedstat");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let first = text.split_whitespace().next();
    Ok(first.context("an empty schedstat")?.parse()?)
}

/// A thread that forwards datagrams and does nothing else.
struct Floor {
    address: SocketAddr,
    socket: UdpSocket,
    /// Its directory below `/proc`.
    task: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Floor {
    fn start(host: &Host, address: SocketAddr, sink: SocketAddr) -> Result<Self> {
        let socket = host.namespace.inside(|| UdpSocket::bind(address))??;
        let (ours, (tell, told)) = (socket.try_clone()?, std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            // Whoever started it is waiting for this.
            let _ = tell.send(fs::read_link("/proc/thread-self"));
            forward(&ours, sink);
        });
        let task = told.recv().context("the floor's thread ended")??;
        Ok(Self {
            address,
            socket,
            task: Path::new("/proc").join(task),
            thread: Some(thread),
        })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // An empty datagram is its end.
        let sent = self.socket.send_to(b"", self.address);
        if let Some(thread) = self.thread.take().filter(|_| sent.is_ok()) {
            let _ = thread.join();
        }
    }
}

fn forward(socket: &UdpSocket, sink: SocketAddr) {
    let mut buffer = [0; 4096];
    let mut caller = sink;
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if len == 0 {
            return;
        }
        let to = if from == sink {
            caller
        } else {
            caller = from;
            sink
        };
        // What is lost is missed at the other end.
        let _ = socket.send_to(&buffer[..len], to);
    }
}
