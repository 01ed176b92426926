//! A program that runs in a lab: its log is kept, and it never outlives the lab.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::held::Held;
use super::{Lab, command, sys};

/// A signal, as far as labs send any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Cannot be handled: the process is gone at once, like in a power cut.
    Kill,
    /// Please end.
    Terminate,
    /// End when the work under way is done (SIPp: no new calls).
    User1,
    /// Read the configuration again.
    Reload,
    /// Stand still, as a machine does that is short of everything. [`Self::Continue`] ends it.
    Stop,
    /// Go on.
    Continue,
}

impl Signal {
    const fn number(self) -> libc::c_int {
        match self {
            Self::Kill => libc::SIGKILL,
            Self::Terminate => libc::SIGTERM,
            Self::User1 => libc::SIGUSR1,
            Self::Reload => libc::SIGHUP,
            Self::Stop => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
        }
    }
}

/// A running program, with all the processes it starts.
///
/// They are killed when this value is dropped, on Ctrl-C, and when the thread that started them
/// ends: start a program in the thread that will wait for it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    exit: Option<ExitStatus>,
    readiness: Option<UnixDatagram>,
    is_ready: bool,
}

impl Process {
    /// Starts a command (see [`super::Namespace::command`]); what it says goes to `<name>.log` in
    /// the lab's directory, behind what earlier programs of the same name have said.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start(lab: &Lab, name: &str, mut command: Command) -> Result<Self> {
        let log = lab.directory().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .current_dir(lab.directory())
            .spawn()
            .with_context(|| format!("cannot start `{}`", command::shown(&command)))?;
        Held::Processes(child.id()).hold();
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            exit: None,
            readiness: None,
            is_ready: false,
        })
    }

    /// The same for a daemon that tells systemd when it is ready: see [`Self::wait_until_ready`].
    ///
    /// # Errors
    /// The program is not there.
    pub fn start_daemon(lab: &Lab, name: &str, mut command: Command) -> Result<Self> {
        let path = lab.directory().join(format!("{name}.notify"));
        let _ = fs::remove_file(&path);
        let socket =
            UnixDatagram::bind(&path).with_context(|| format!("cannot make {}", path.display()))?;
        socket.set_nonblocking(true)?;
        command.env("NOTIFY_SOCKET", &path);
        let mut process = Self::start(lab, name, command)?;
        process.readiness = Some(socket);
        Ok(process)
    }

    /// Whether a daemon has said by now that it serves.
    ///
    /// # Errors
    /// It has ended instead.
    pub fn is_ready(&mut self) -> Result<bool> {
        let Some(socket) = &self.readiness else {
            bail!("{} does not say when it is ready", self.name)
        };
        let mut message = [0; 1024];
        while let Ok(len) = socket.recv(&mut message) {
            let mut lines = message[..len].split(|byte| *byte == b'\n');
            self.is_ready |= lines.any(|line| line == b"READY=1");
        }
        if !self.is_ready {
            self.expect_running()?;
        }
        Ok(self.is_ready)
    }

    /// Waits until a daemon has said that it serves.
    ///
    /// # Errors
    /// It ends instead, or takes too long.
    pub fn wait_until_ready(&mut self, limit: Duration) -> Result<()> {
        let what = format!("{} to be ready", self.name);
        eventually(&what, limit, || self.is_ready())
            .with_context(|| format!("it said nothing of the kind{}", self.last_words()))
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it and to what it has started.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(exit) = self.poll()? {
            bail!(
                "{} had already ended ({exit}){}",
                self.name,
                self.last_words()
            );
        }
        sys::signal_group(self.child.id(), signal.number())
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It had ended before, which nobody expected.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.exit = Some(self.child.wait()?);
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait()?;
        }
        Ok(self.exit)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended in time.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait_until(&what, limit, || self.poll())
            .with_context(|| format!("it is still running{}", self.last_words()))
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// It has ended; with its last words.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.poll()? {
            None => Ok(()),
            Some(exit) => bail!("{} ended early ({exit}){}", self.name, self.last_words()),
        }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log, for errors.
    pub fn last_words(&self) -> String {
        const LINES: usize = 15;
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
        if last.trim().is_empty() {
            return String::new();
        }
        format!("; its last words:\n  {last}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        Held::Processes(self.child.id()).release();
        let _ = self.child.wait();
    }
}

/// Asks `question` until it has an answer.
///
/// # Errors
/// It has none within `limit`, or fails.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so.
///
/// # Errors
/// It is not so within `limit`, or cannot be told.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_until(what, limit, || Ok(is_so()?.then_some(())))
}
