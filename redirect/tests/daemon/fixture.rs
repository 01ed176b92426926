//! Daemons of one test: their files, their processes, and an end to both.

use crate::sip_server::SipServer;
use lb_common::siphash::SipKey;
use std::fs::{self, File, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that is bound to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const KEY_ID: u8 = 3;
const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman-redirect");

pub(crate) fn beacon_key() -> SipKey {
    SipKey::from_bytes([0x22; 16])
}

/// What one test has to itself: a directory, a group, a port and a cluster.
pub(crate) struct Fixture {
    directory: PathBuf,
    group: Ipv4Addr,
    port: u16,
    number: u16,
}

impl Fixture {
    pub(crate) fn new(name: &str) -> Self {
        static TESTS: AtomicU16 = AtomicU16::new(0);
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let directory = std::env::temp_dir().join(format!("pm-{pid}-{name}"));
        fs::create_dir_all(&directory).expect("a temporary directory");
        let [high, low] = (pid as u16).to_be_bytes();
        let group = Ipv4Addr::new(239, 255, high, low);
        // One that nobody has now; others of these tests may share it, being of other groups.
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("bound").port();
        let fixture = Self {
            directory,
            group,
            port,
            number,
        };
        let keys = format!(
            "call {}\nbeacon {KEY_ID} {}\n",
            "11".repeat(16),
            "22".repeat(16)
        );
        fs::write(fixture.keys(), keys).expect("own directory");
        fs::set_permissions(fixture.keys(), Permissions::from_mode(0o600)).expect("own file");
        fixture
    }

    /// Replaces the beacon keys.
    pub(crate) fn write_keys(&self, beacons: &str) {
        let fresh = self.directory.join("keys.new");
        fs::write(&fresh, format!("call {}\n{beacons}", "11".repeat(16))).expect("own directory");
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).expect("own file");
        fs::rename(fresh, self.keys()).expect("own file");
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.directory.join("keys")
    }

    pub(crate) fn cluster(&self) -> u32 {
        u32::from(self.number) << 16 | std::process::id() & 0xffff
    }

    pub(crate) fn group(&self) -> Ipv4Addr {
        self.group
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A loopback address of a node's own, so that several can be asked at one port.
    pub(crate) fn address(&self, node: u16) -> IpAddr {
        Ipv4Addr::new(127, 0, 100 + self.number as u8, node as u8).into()
    }

    /// A daemon, yet to be started: beacons every 20 ms, a question to the SIP server every 50 ms.
    pub(crate) fn daemon(&self, node: u16, sip: &SipServer) -> Setup {
        self.daemon_beside(node, sip.address())
    }

    /// The same, beside the SIP server of this address.
    pub(crate) fn daemon_beside(&self, node: u16, server: SocketAddr) -> Setup {
        let directory = self.directory.join(node.to_string());
        fs::create_dir_all(&directory).expect("own directory");
        let config = format!(
            "cluster = {cluster}\nnode = {node}\nkeys = \"{keys}\"\nstate_dir = \"{here}\"\n\
             [beacon]\ngroups = [\"{group}\"]\nport = {port}\ninterface = \"lo\"\nperiod_ms = 20\n\
             addresses = [\"{address}\"]\n\
             [sip]\nserver = \"{server}\"\nprobe_ms = 50\n\
             [capacity]\ncalls = 500\n[admin]\nsocket = \"{here}/redirect.sock\"\n",
            cluster = self.cluster(),
            keys = self.keys().display(),
            here = directory.display(),
            group = self.group,
            port = self.port,
            address = self.address(node),
        );
        Setup { directory, config }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A daemon's configuration.
pub(crate) struct Setup {
    directory: PathBuf,
    config: String,
}

impl Setup {
    /// Changes the configuration where it says `from`.
    pub(crate) fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.config.contains(from), "{from}");
        self.config = self.config.replacen(from, to, 1);
        self
    }

    pub(crate) fn start(&self) -> Daemon {
        self.run(&[])
    }

    /// Only checks the configuration.
    pub(crate) fn check(&self) -> Daemon {
        self.run(&["--check-config"])
    }

    /// Where the daemon finds its service manager, if the test has put one there.
    pub(crate) fn notify_socket(&self) -> PathBuf {
        self.directory.join("notify.sock")
    }

    /// The epoch on the disk.
    pub(crate) fn kept_epoch(&self) -> Option<u32> {
        let text = fs::read_to_string(self.directory.join("epoch")).ok()?;
        text.trim().parse().ok()
    }

    fn run(&self, arguments: &[&str]) -> Daemon {
        let config = self.directory.join("config.toml");
        let notify = self.notify_socket();
        fs::write(&config, &self.config).expect("own directory");
        let log = self.directory.join("log");
        let output = File::create(&log).expect("own directory");
        let child = Command::new(PROGRAM)
            .args(["run", "--config"])
            .arg(&config)
            .args(arguments)
            .env("NOTIFY_SOCKET", notify)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("an open file"))
            .stderr(output)
            .spawn()
            .expect("the program under test");
        Daemon {
            child,
            directory: self.directory.clone(),
        }
    }
}

/// A daemon's process; killed with it.
pub(crate) struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    /// What `status --json` says, if the daemon answers.
    pub(crate) fn status(&self) -> Option<serde_json::Value> {
        let text = self.ask("status", &["--json"])?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    /// What `status` shows.
    pub(crate) fn screen(&self) -> String {
        self.say("status", &[])
    }

    /// What another verb shows.
    pub(crate) fn say(&self, verb: &str, arguments: &[&str]) -> String {
        self.ask(verb, arguments).expect("it answers")
    }

    fn ask(&self, verb: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new(PROGRAM)
            .args([verb, "--config"])
            .arg(self.directory.join("config.toml"))
            .args(arguments)
            .output()
            .expect("the program under test");
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).expect("text"))
    }

    pub(crate) fn wait_until_serving(&self) {
        eventually("the daemon serves", || self.status());
    }

    pub(crate) fn is_socket_there(&self) -> bool {
        self.directory.join("redirect.sock").exists()
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("own child");
    }

    /// Waits for it to end: how it did, and what it said.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let status = eventually("the daemon ends", || {
            self.child.try_wait().expect("own child")
        });
        let log = fs::read_to_string(self.directory.join("log")).expect("own file");
        (status, log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("--- {}\n{log}", self.directory.display());
        }
    }
}

/// Tries until it succeeds, or patience ends.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(success) = attempt() {
            return success;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
