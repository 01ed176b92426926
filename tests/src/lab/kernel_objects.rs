//! BPF programs and maps that exist on this machine: whether a daemon leaves any behind.
#![expect(
    unsafe_code,
    reason = "the bpf system call has no safe wrapper in the standard library"
)]

const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
const BPF_MAP_GET_NEXT_ID: libc::c_int = 12;

/// How many there are, whosever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelObjects {
    /// BPF programs.
    pub programs: usize,
    /// BPF maps.
    pub maps: usize,
}

impl KernelObjects {
    /// Counts them.
    pub fn count() -> Self {
        Self {
            programs: count(BPF_PROG_GET_NEXT_ID),
            maps: count(BPF_MAP_GET_NEXT_ID),
        }
    }

    /// Whether there are no more of either than in `before`.
    pub fn is_within(self, before: Self) -> bool {
        self.programs <= before.programs && self.maps <= before.maps
    }
}

/// The start of the kernel's `union bpf_attr` for these commands.
#[repr(C)]
struct NextId {
    start: u32,
    next: u32,
    flags: u32,
}

fn count(command: libc::c_int) -> usize {
    let mut id = NextId {
        start: 0,
        next: 0,
        flags: 0,
    };
    let mut count = 0;
    loop {
        // SAFETY: NextId is laid out as the kernel reads and writes this command; its length is
        // said.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut id, size_of::<NextId>()) };
        if result != 0 {
            return count;
        }
        count += 1;
        id.start = id.next;
    }
}
