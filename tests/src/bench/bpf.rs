//! bpf(2), as measuring needs it: small programs made on the spot, maps for them, test runs with a
//! repeat count, and what the kernel says of a program.
#![expect(
    unsafe_code,
    reason = "the bpf system call has no safe wrapper in the standard library"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::bpf::{
    ADD, CALL, EXIT, Hook, JUMP_IF_EQUAL, JUMP_IF_GREATER_REGISTER, JUMP_IF_NOT_EQUAL, LOAD_32,
    LOAD_64, LOAD_IMMEDIATE, MOVE, MOVE_REGISTER, STORE_REGISTER_32, STORE_REGISTER_64, bpf,
    instruction, load, only,
};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const TEST_RUN: libc::c_int = 10;
const OBJECT_INFO: libc::c_int = 15;

/// What programs are called in the kernel.
const NAME: &str = "pm_bench";

const ARRAY: u32 = 2;
const PROGRAM_ARRAY: u32 = 3;

/// `BPF_F_TEST_XDP_LIVE_FRAMES`: the frames are real and go where the program sends them.
pub const LIVE_FRAMES: u32 = 1 << 1;

/// The attributes of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    len_in: u32,
    len_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_len_in: u32,
    context_len_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress: u32,
    queue: u32,
    egress: u32,
}

/// Runs a program over a frame, again and again, and returns the last result.
///
/// # Errors
/// The kernel does not take the frame.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ingress: u32,
    repeat: u32,
    flags: u32,
) -> io::Result<u32> {
    let context = Context {
        data_end: frame.len() as u32,
        ingress,
        ..Context::default()
    };
    let mut run = TestRun {
        program: program.as_raw_fd() as u32,
        len_in: frame.len() as u32,
        data_in: frame.as_ptr().expose_provenance() as u64,
        repeat,
        context_len_in: size_of::<Context>() as u32,
        context_in: (&raw const context).expose_provenance() as u64,
        flags,
        ..TestRun::default()
    };
    // SAFETY: the layout of BPF_PROG_TEST_RUN; frame and context outlive the call and are only read.
    unsafe { bpf(TEST_RUN, &mut run) }?;
    Ok(run.result)
}

/// The time that the calling thread has spent on a CPU, in nanoseconds.
pub fn thread_time_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec; this clock exists since Linux 2.6.12.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What the kernel says of a program.
#[derive(Clone, Copy, Debug)]
pub struct ProgramFacts {
    /// Instructions that the verifier looked at.
    pub verified_instructions: u32,
    /// Bytes of bytecode after verification.
    pub translated_len: u32,
    /// Bytes of machine code.
    pub machine_len: u32,
}

/// Words of `struct bpf_prog_info` up to and with `verified_insns` (Linux 5.16).
const INFO_WORDS: usize = 55;

/// Asks the kernel about a program.
///
/// # Errors
/// The descriptor is not a program's.
pub fn program_facts(program: BorrowedFd<'_>) -> io::Result<ProgramFacts> {
    #[repr(C)]
    struct Request {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut info = [0u32; INFO_WORDS + 1];
    let mut request = Request {
        fd: program.as_raw_fd() as u32,
        len: size_of_val(&info) as u32,
        info: info.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: the layout of BPF_OBJ_GET_INFO_BY_FD; the kernel writes at most `len` bytes of info,
    // and since all of it was zero, follows no pointers in it.
    unsafe { bpf(OBJECT_INFO, &mut request) }?;
    Ok(ProgramFacts {
        machine_len: info[4],
        translated_len: info[5],
        verified_instructions: info[INFO_WORDS - 1],
    })
}

const MAP_BY_DESCRIPTOR: u8 = 1;
const LOOK_UP: i32 = 1;
const TAIL_CALL: i32 = 12;

/// A program that returns this action and does nothing else.
///
/// # Errors
/// Mostly: not root.
pub fn empty(action: u32) -> io::Result<OwnedFd> {
    load(Hook::NativeXdp, NAME, &only(action))
}

fn map(kind: u32, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    /// The attributes of `BPF_MAP_CREATE`.
    #[repr(C)]
    struct Create {
        kind: u32,
        key_size: u32,
        value_size: u32,
        entries: u32,
        flags: u32,
    }
    let mut map = Create {
        kind,
        key_size: 4,
        value_size,
        entries,
        flags: 0,
    };
    // SAFETY: the layout of BPF_MAP_CREATE, without pointers; it returns a new descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(MAP_CREATE, &mut map)?)) }
}

/// Writes an element, whose value must be of the map's size.
fn update<T>(map: &OwnedFd, key: u32, value: &T) -> io::Result<()> {
    /// The attributes of `BPF_MAP_UPDATE_ELEM`.
    #[repr(C)]
    struct Update {
        map: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut element = Update {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const key).expose_provenance() as u64,
        value: (&raw const *value).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: the layout of BPF_MAP_UPDATE_ELEM; key and value outlive the call, and the callers in
    // this file made the map with values of this size.
    unsafe { bpf(MAP_UPDATE, &mut element) }.map(drop)
}

/// A program in front of another: each round it writes the next of many eight-byte words into the
/// packet, at a fixed place, and calls the other.
pub struct Feeder {
    program: OwnedFd,
    _maps: [OwnedFd; 3],
}

impl Feeder {
    /// Feeds `program` with `count` different words at `offset` of the packet.
    ///
    /// # Errors
    /// Mostly: not root.
    pub fn new(
        program: BorrowedFd<'_>,
        offset: usize,
        count: u32,
        word: impl Fn(u32) -> [u8; 8],
    ) -> io::Result<Self> {
        let words = map(ARRAY, 8, count)?;
        for index in 0..count {
            update(&words, index, &word(index))?;
        }
        let place = map(ARRAY, 8, 1)?;
        let programs = map(PROGRAM_ARRAY, 4, 1)?;
        update(&programs, 0, &(program.as_raw_fd() as u32))?;
        let at = |map: &OwnedFd, register| {
            let low = instruction(
                LOAD_IMMEDIATE,
                register,
                MAP_BY_DESCRIPTOR,
                0,
                map.as_raw_fd(),
            );
            [low, 0]
        };
        let [place_low, place_high] = at(&place, 1);
        let [words_low, words_high] = at(&words, 1);
        let [programs_low, programs_high] = at(&programs, 2);
        let offset = offset as i16;
        let program = load(
            Hook::NativeXdp,
            NAME,
            &[
                // r6 = context; key 0 on the stack
                instruction(MOVE_REGISTER, 6, 1, 0, 0),
                instruction(MOVE, 0, 0, 0, 0),
                instruction(STORE_REGISTER_32, 10, 0, -4, 0),
                // r0 = where the number of the next word is
                place_low,
                place_high,
                instruction(MOVE_REGISTER, 2, 10, 0, 0),
                instruction(ADD, 2, 0, 0, -4),
                instruction(CALL, 0, 0, 0, LOOK_UP),
                instruction(JUMP_IF_EQUAL, 0, 0, 24, 0),
                // The number goes onto the stack; the one after it, or 0 behind the last, into the map.
                instruction(LOAD_64, 7, 0, 0, 0),
                instruction(STORE_REGISTER_32, 10, 7, -4, 0),
                instruction(ADD, 7, 0, 0, 1),
                instruction(JUMP_IF_NOT_EQUAL, 7, 0, 1, count as i32),
                instruction(MOVE, 7, 0, 0, 0),
                instruction(STORE_REGISTER_64, 0, 7, 0, 0),
                // r0 = the word
                words_low,
                words_high,
                instruction(MOVE_REGISTER, 2, 10, 0, 0),
                instruction(ADD, 2, 0, 0, -4),
                instruction(CALL, 0, 0, 0, LOOK_UP),
                instruction(JUMP_IF_EQUAL, 0, 0, 12, 0),
                instruction(LOAD_64, 1, 0, 0, 0),
                // Into the packet, if it is long enough.
                instruction(LOAD_32, 2, 6, 0, 0),
                instruction(LOAD_32, 3, 6, 4, 0),
                instruction(MOVE_REGISTER, 4, 2, 0, 0),
                instruction(ADD, 4, 0, 0, i32::from(offset) + 8),
                instruction(JUMP_IF_GREATER_REGISTER, 4, 3, 6, 0),
                instruction(STORE_REGISTER_64, 2, 1, offset, 0),
                instruction(MOVE_REGISTER, 1, 6, 0, 0),
                programs_low,
                programs_high,
                instruction(MOVE, 3, 0, 0, 0),
                instruction(CALL, 0, 0, 0, TAIL_CALL),
                // XDP_ABORTED: no frame comes here.
                instruction(MOVE, 0, 0, 0, 0),
                instruction(EXIT, 0, 0, 0, 0),
            ],
        )?;
        Ok(Self {
            program,
            _maps: [words, place, programs],
        })
    }
}

impl AsFd for Feeder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
