//! What labs hold of the machine, so that nothing outlives them: neither a drop, nor Ctrl-C, nor,
//! past the next lab's start, a crash.

use std::fs;
use std::io::{Read, Write as _, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once};
use std::thread;

use super::{command, sys};

/// Something that must be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// A group of processes, by its leader's id.
    Processes(u32),
    /// A named network namespace.
    Namespace(String),
    /// A file system of ours.
    Mount(PathBuf),
    /// A directory with all that is in it.
    Directory(PathBuf),
}

/// In the order in which it was taken; given back in reverse.
static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

fn lock() -> MutexGuard<'static, Vec<Held>> {
    // A panic while the list is locked leaves a list all the same.
    HELD.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Held {
    /// Notes that this is held now. Call it before the thing comes to be.
    pub(crate) fn hold(self) {
        lock().push(self);
    }

    /// Gives it back and strikes it from the list. What cannot be given back is left to the next
    /// start: this runs in destructors, which have nobody to tell.
    pub(crate) fn release(&self) {
        self.give_back();
        lock().retain(|held| held != self);
    }

    fn give_back(&self) {
        match self {
            Self::Processes(leader) => drop(sys::signal_group(*leader, libc::SIGKILL)),
            Self::Namespace(name) => drop(command::run("ip", &format!("netns delete {name}"))),
            Self::Mount(path) => {
                drop(command::run(
                    "umount",
                    &format!("--lazy {}", path.display()),
                ));
            }
            Self::Directory(path) => drop(fs::remove_dir_all(path)),
        }
    }
}

/// The first part of every name that this process gives: `pm-<pid>-`.
pub(crate) fn prefix() -> String {
    format!("pm-{}-", std::process::id())
}

/// Takes away what dead processes left, and sees to it that Ctrl-C leaves nothing. Once a process.
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        sweep();
        // Without it a lab works all the same; Ctrl-C then leaves its remains to the next sweep.
        drop(clean_up_on_signals());
    });
}

fn clean_up_on_signals() -> std::io::Result<()> {
    let (mut reader, writer) = pipe()?;
    let writer = OwnedFd::from(writer);
    sys::forward_signals(writer.as_raw_fd())?;
    // The handler may write at any time from now on: the pipe is never closed.
    std::mem::forget(writer);
    thread::Builder::new()
        .name("clean-up".to_owned())
        .spawn(move || {
            let mut signal = [0];
            if reader.read_exact(&mut signal).is_err() {
                return;
            }
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "\nInterrupted: taking the lab down.");
            let mut held = lock();
            while let Some(last) = held.pop() {
                last.give_back();
            }
            // As a shell says it: ended by this signal.
            std::process::exit(128 + i32::from(signal[0]));
        })?;
    Ok(())
}

/// Takes away namespaces and directories of processes that are no more.
fn sweep() {
    for name in names_in(Path::new("/run/netns")).filter(|name| is_orphan(name)) {
        let pids = command::run("ip", &format!("netns pids {name}")).unwrap_or_default();
        for pid in pids.split_whitespace() {
            drop(command::run("kill", &format!("-KILL {pid}")));
        }
        Held::Namespace(name).give_back();
    }
    let directories = std::env::temp_dir();
    for name in names_in(&directories).filter(|name| is_orphan(name)) {
        let directory = directories.join(name);
        for mount in ["bpf", "bpf2", "."].map(|name| directory.join(name)) {
            // The last is one in the lab of a pair only; where it is not, this does nothing.
            if mount.exists() {
                Held::Mount(mount).give_back();
            }
        }
        Held::Directory(directory).give_back();
    }
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether this is a name of ours whose process is dead.
fn is_orphan(name: &str) -> bool {
    let pid = name
        .strip_prefix("pm-")
        .and_then(|rest| rest.split('-').next());
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_swept() {
        assert!(!is_orphan(&format!("{}1-lb", prefix())));
        // Above the largest id that Linux gives (2²²).
        assert!(is_orphan("pm-4999999-1-lb"));
        assert!(!is_orphan("pm-x-1"));
        assert!(!is_orphan("other"));
    }
}
