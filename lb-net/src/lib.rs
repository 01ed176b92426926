//! The thin edges between the daemons and the operating system, on tokio.
//!
//! - [`admin`]: the socket that a daemon is asked at, and how to ask.
//! - [`keys`]: reads the key file, if nobody else can.
//! - [`epoch`]: which life of a machine this is.
//! - [`kept`]: a line of text that outlives the process.
//! - [`interface`]: network interfaces by name.
//! - [`link`]: encrypted connections between controllers and nodes.
//! - [`multicast`]: the sockets of the status plane.
//! - [`metrics`]: a page of numbers for Prometheus, and the server that hands it out.
//! - [`shutdown`]: SIGTERM and SIGINT as a value to wait for.
//! - [`systemd`]: tells the service manager what the daemon is about.
//! - [`telemetry`]: where log lines go.
//! - [`random`]: random bytes from the kernel.
//!
//! No protocol lives here: what the bytes mean is lb-proto's.

pub mod admin;
pub mod epoch;
pub mod interface;
pub mod kept;
pub mod keys;
pub mod link;
pub mod metrics;
pub mod multicast;
pub mod random;
pub mod shutdown;
pub mod systemd;
pub mod telemetry;
