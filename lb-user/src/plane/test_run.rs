//! Running a frame through a real program in the kernel, without a network (`BPF_PROG_TEST_RUN`).

use std::io;

use aya::TestRunOptions;
use aya::programs::{ProgramError, TestRun as _, Xdp};
use aya::sys::SyscallError;

use super::{Plane, object};

/// Bytes that a program may add to a frame, with room to spare.
const GROWTH: usize = 512;

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// The XDP action that the program returned (`XDP_ABORTED` = 0 … `XDP_REDIRECT` = 4).
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// The frame could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TestRunError {
    /// The kernel takes no such frame: shorter than an Ethernet header, or longer than a page.
    #[error("the kernel refuses a frame of {len} bytes")]
    Refused {
        /// Its length.
        len: usize,
    },
    /// The program is not loaded.
    #[error("program {0} is not loaded")]
    NoProgram(&'static str),
    /// The test run itself failed.
    #[error("test run of an XDP program")]
    Kernel(#[source] ProgramError),
}

/// `struct xdp_md`.
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

impl Plane {
    /// Runs a frame through the steering program, as if it had come in by `ingress_ifindex`, an
    /// interface of this network namespace; 0 for none in particular.
    ///
    /// # Errors
    /// [`TestRunError`].
    pub fn test_run(&self, frame: &[u8], ingress_ifindex: u32) -> Result<TestRun, TestRunError> {
        let program = self
            .program(object::STEERING)
            .ok_or(TestRunError::NoProgram(object::STEERING))?;
        run(program, frame, ingress_ifindex)
    }
}

pub(super) fn run(
    program: &Xdp,
    frame: &[u8],
    ingress_ifindex: u32,
) -> Result<TestRun, TestRunError> {
    let context = Context {
        data: 0,
        data_end: frame.len() as u32,
        data_meta: 0,
        ingress_ifindex,
        rx_queue_index: 0,
        egress_ifindex: 0,
    };
    let mut after = vec![0; frame.len() + GROWTH];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut after),
        ctx_in: (ingress_ifindex != 0).then_some(bytes_of(&context)),
        ..TestRunOptions::new()
    });
    match result {
        Ok(result) => {
            after.truncate(result.data_size_out as usize);
            Ok(TestRun {
                action: result.return_value,
                frame: after,
            })
        }
        Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == io::ErrorKind::InvalidInput =>
        {
            Err(TestRunError::Refused { len: frame.len() })
        }
        Err(error) => Err(TestRunError::Kernel(error)),
    }
}

#[expect(unsafe_code, reason = "the kernel takes the context as bytes")]
fn bytes_of(context: &Context) -> &[u8] {
    // SAFETY: six u32 in a row have no padding, and the slice borrows them.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(context).cast(), size_of::<Context>()) }
}
