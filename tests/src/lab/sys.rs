//! The system calls that a lab needs and that the standard library has no words for.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper in the standard library"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Moves the calling thread, and only it, into a network namespace.
pub(super) fn enter_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns takes two integers; the descriptor is open for as long as it is borrowed.
    checked(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Has the command start in a network namespace, in a process group of its own, and be killed when
/// the *thread* that starts it ends.
///
/// `namespace` must stay open until the command has been started.
pub(super) fn confine(command: &mut Command, namespace: RawFd) {
    command.process_group(0);
    // SAFETY: between fork and exec only two system calls are made, both safe after fork (they
    // neither allocate nor lock), and they touch nothing but the child.
    unsafe {
        command.pre_exec(move || {
            checked(libc::setns(namespace, libc::CLONE_NEWNET))?;
            checked(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
        });
    }
}

/// Sends a signal to every process of a group.
pub(super) fn signal_group(leader: u32, signal: i32) -> io::Result<()> {
    let group = libc::pid_t::try_from(leader).map_err(io::Error::other)?;
    // SAFETY: kill takes two integers.
    checked(unsafe { libc::kill(-group, signal) })
}

/// The index of an interface of the calling thread's namespace.
pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the name is a string that ends in a zero byte and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Where the signal handler writes the signal's number. −1: not installed.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn forward_signal(signal: libc::c_int) {
    let byte = signal as u8;
    let pipe = SIGNAL_PIPE.load(Ordering::Relaxed);
    // SAFETY: write is async-signal-safe; the byte lives on this stack; the pipe is never closed.
    // Nothing can be done here if it fails.
    let _ = unsafe { libc::write(pipe, (&raw const byte).cast(), 1) };
}

/// From now on SIGINT, SIGTERM and SIGHUP are written, one byte each, to `pipe`, which must stay
/// open for good.
pub(super) fn forward_signals(pipe: RawFd) -> io::Result<()> {
    SIGNAL_PIPE.store(pipe, Ordering::Relaxed);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: all-zero is a valid sigaction (no flags, empty mask).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = forward_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the structure is initialised; the handler makes only an async-signal-safe call.
        checked(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}

/// How a thread is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// Like everything else.
    Ordinary,
    /// Before everything that is not of this kind.
    RealTime,
}

/// Keeps the calling thread on one CPU, before other threads if the system allows it, and says
/// which scheduling it got.
///
/// # Errors
/// There is no such CPU.
pub fn run_on_cpu(cpu: usize, wanted: Scheduling) -> io::Result<Scheduling> {
    // SAFETY: all-zero is an empty set of CPUs.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET refuses numbers that lie outside of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: 0 means the calling thread; the set is as long as said.
    checked(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })?;
    if wanted == Scheduling::RealTime {
        let priority = libc::sched_param { sched_priority: 1 };
        // SAFETY: 0 means the calling thread; the parameter outlives the call.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) } == 0 {
            return Ok(Scheduling::RealTime);
        }
    }
    Ok(Scheduling::Ordinary)
}

/// CPUs that the calling thread may use.
pub fn cpus() -> Vec<usize> {
    // SAFETY: all-zero is an empty set of CPUs.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: 0 means the calling thread; the kernel writes at most as many bytes as said.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return vec![0];
    }
    let all = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: only numbers within the set are asked for.
    all.filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect()
}

/// Has the kernel keep some thousand datagrams for a socket, as far as it will.
pub fn grow_receive_buffer(socket: &impl AsRawFd) {
    let bytes: libc::c_int = 16 << 20;
    // SAFETY: the option's value is one integer, which outlives the call. What the kernel makes of it
    // does not matter: datagrams without room come again.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        );
    }
}

/// Nanoseconds since 1970 by the system's clock: the clock of the kernel's packet time stamps.
pub fn realtime_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
