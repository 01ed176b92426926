//! Loading the programs while signals come: a reload that is asked for during a start. Needs root.

use std::thread;
use std::time::{Duration, Instant};

use lb_user::plane::{LoadOptions, Plane};

/// Loads once; how long that took.
fn load() -> Duration {
    let begin = Instant::now();
    let plane = Plane::load(&LoadOptions { max_pins: 64 });
    let took = begin.elapsed();
    if let Err(error) = plane {
        panic!("{error:?}");
    }
    took
}

/// This thread gets a signal that does nothing, after this time.
#[expect(unsafe_code, reason = "pthread_kill")]
fn signal_after(time: Duration) -> thread::JoinHandle<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: the handler touches nothing.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    // SAFETY: it only asks who this is.
    let own = unsafe { libc::pthread_self() };
    thread::spawn(move || {
        thread::sleep(time);
        // SAFETY: that thread waits for this one before it ends.
        unsafe { libc::pthread_kill(own, libc::SIGUSR1) };
    })
}

/// The kernel gives up verifying when a signal comes. The second time costs about as much as the first, and not
/// the writing down of every instruction (twenty times as much).
#[test]
fn a_signal_costs_a_load_no_more_than_another() {
    let alone = load();
    for eighths in [2, 4, 6] {
        let sent = signal_after(alone * eighths / 8);
        let took = load();
        sent.join().expect("it only sends");
        assert!(took < alone * 8, "{took:?}, and {alone:?} without a signal");
    }
}
