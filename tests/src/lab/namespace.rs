//! One network namespace: made, entered, and taken away again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use super::command;
use super::held::Held;
use super::sys;
use crate::bpf::{self, Hook};

/// A network namespace with a name, so that `ip netns exec NAME …` works while one looks for a fault.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace with its loopback up, and without what would only make noise in a lab:
    /// duplicate address detection, reverse path checks, router solicitations.
    pub(super) fn create(name: String) -> Result<Self> {
        Held::Namespace(name.clone()).hold();
        command::run("ip", &format!("netns add {name}"))?;
        let path = Path::new("/run/netns").join(&name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let namespace = Self { name, file };
        for which in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{which}/accept_dad"), "0")?;
            namespace.sysctl(&format!("net/ipv6/conf/{which}/router_solicitations"), "0")?;
            namespace.sysctl(&format!("net/ipv4/conf/{which}/rp_filter"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` with these words in it.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, words: &str) -> Result<String> {
        command::run("ip", &format!("-netns {} {words}", self.name))
    }

    /// Runs a command of the system in it.
    ///
    /// # Errors
    /// What the command says.
    pub fn run(&self, program: &str, words: &str) -> Result<String> {
        command::output(self.command(program).args(words.split_whitespace()))
    }

    /// Sets a kernel parameter of it; `key` is the path below `/proc/sys`.
    ///
    /// # Errors
    /// There is no such parameter, or it does not take the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.inside(|| fs::write(&path, value))?
            .with_context(|| format!("cannot set {key} = {value} in {}", self.name))
    }

    /// A command that will run in it. See [`super::Process`] for what happens at its end.
    ///
    /// The namespace must live until the command has been started.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::confine(&mut command, self.file.as_raw_fd());
        command
    }

    /// Loads a program and attaches it to an interface; it ends with the descriptor. `name` is what it is
    /// called in the kernel.
    pub(crate) fn attach(
        &self,
        interface: &str,
        hook: Hook,
        name: &str,
        instructions: &[u64],
    ) -> Result<OwnedFd> {
        let attached = self.inside(|| {
            let index = sys::interface_index(interface)?;
            bpf::attach(hook, bpf::load(hook, name, instructions)?.as_fd(), index)
        })?;
        attached.with_context(|| format!("cannot attach {name} to {interface} of {}", self.name))
    }

    /// Moves the calling thread into it, for good.
    ///
    /// # Errors
    /// The process lacks the capability (`CAP_SYS_ADMIN`).
    pub fn enter(&self) -> Result<()> {
        sys::enter_network_namespace(self.file.as_fd())
            .with_context(|| format!("cannot enter the network namespace {}", self.name))
    }

    /// Does some work in a thread that is in the namespace: sockets opened there stay there.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| self.enter().map(|()| work()));
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        Held::Namespace(self.name.clone()).release();
    }
}
