//! bpf(2): programs of a few instructions, written out by hand, and their attachment to an interface.
#![expect(
    unsafe_code,
    reason = "the bpf system call has no safe wrapper in the standard library"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

// <linux/bpf.h>: what an instruction does. Numbers are its own unless it says that they are a register's.
pub(crate) const MOVE: u8 = 0xb7;
pub(crate) const MOVE_REGISTER: u8 = 0xbf;
pub(crate) const ADD: u8 = 0x07;
pub(crate) const LOAD_16: u8 = 0x69;
pub(crate) const LOAD_32: u8 = 0x61;
pub(crate) const LOAD_64: u8 = 0x79;
pub(crate) const STORE_REGISTER_32: u8 = 0x63;
pub(crate) const STORE_REGISTER_64: u8 = 0x7b;
pub(crate) const LOAD_IMMEDIATE: u8 = 0x18;
pub(crate) const JUMP_IF_EQUAL: u8 = 0x15;
pub(crate) const JUMP_IF_NOT_EQUAL: u8 = 0x55;
pub(crate) const JUMP_IF_GREATER_REGISTER: u8 = 0x2d;
pub(crate) const CALL: u8 = 0x85;
pub(crate) const EXIT: u8 = 0x95;

const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

/// An instruction as the kernel lays it out (`struct bpf_insn`): what it does, destination and source
/// registers, offset, number.
pub(crate) const fn instruction(
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> u64 {
    let registers = destination | (source << 4);
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

/// A program that returns this action and does nothing else.
pub(crate) const fn only(action: u32) -> [u64; 2] {
    [
        instruction(MOVE, 0, 0, 0, action.cast_signed()),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// On what comes in, in the driver.
    NativeXdp,
    /// On what comes in, behind the driver (Linux 6.6).
    Ingress,
    /// On what goes out (Linux 6.6).
    Egress,
}

impl Hook {
    /// `enum bpf_prog_type`.
    const fn program_type(self) -> u32 {
        match self {
            Self::NativeXdp => 6,
            Self::Ingress | Self::Egress => 3,
        }
    }

    /// `enum bpf_attach_type`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::NativeXdp => 37,
            Self::Ingress => 46,
            Self::Egress => 47,
        }
    }

    const fn flags(self) -> u32 {
        match self {
            // XDP_FLAGS_DRV_MODE.
            Self::NativeXdp => 1 << 2,
            Self::Ingress | Self::Egress => 0,
        }
    }
}

/// Loads a program. `name` is what it is called in the kernel, which has room for 15 bytes of it.
pub(crate) fn load(hook: Hook, name: &str, instructions: &[u64]) -> io::Result<OwnedFd> {
    /// The start of the attributes of `BPF_PROG_LOAD`.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    let mut program = Load {
        kind: hook.program_type(),
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: bytes,
        interface: 0,
        // A program may tail-call only those that say the same as itself, and aya says it.
        attach_type: hook.attach_type(),
    };
    // SAFETY: the layout of BPF_PROG_LOAD; what it points to outlives the call; it returns a new
    // descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(PROGRAM_LOAD, &mut program)?)) }
}

/// Attaches a program to an interface; the attachment ends with the descriptor.
pub(crate) fn attach(hook: Hook, program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    /// The start of the attributes of `BPF_LINK_CREATE`.
    #[repr(C)]
    struct Link {
        program: u32,
        interface: u32,
        attach_type: u32,
        flags: u32,
        /// Which other program it is relative to: none.
        relative: [u32; 4],
    }
    let mut link = Link {
        program: program.as_raw_fd().cast_unsigned(),
        interface,
        attach_type: hook.attach_type(),
        flags: hook.flags(),
        relative: [0; 4],
    };
    // SAFETY: the layout of BPF_LINK_CREATE, without pointers; it returns a new descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(LINK_CREATE, &mut link)?)) }
}

/// Calls bpf(2).
///
/// # Safety
/// `attributes` is laid out as the kernel reads it for `command`, and its addresses are valid.
pub(crate) unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the kernel touches as many bytes as said; the caller answers for what they mean.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut *attributes,
            size_of::<T>() as libc::c_ulong,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        // `r0 = 2` and `exit`, as `bpftool prog dump xlated … opcodes` shows them.
        let bytes = only(2).map(u64::to_ne_bytes);
        assert_eq!(
            bytes,
            [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]
        );
        // `r5 = *(u16 *)(r2 + 6)`.
        let bytes = instruction(LOAD_16, 5, 2, 6, 0).to_ne_bytes();
        assert_eq!(bytes, [0x69, 0x25, 6, 0, 0, 0, 0, 0]);
    }
}
