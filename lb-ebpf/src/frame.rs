//! The kernel's window on a frame: the only place where packet memory is read or written.

use core::arch::asm;

use aya_ebpf::bindings::xdp_md;
use lb_common::{BLOCK, Window, tail_of};

/// Offsets are below this. Frames that XDP shows in one piece are shorter; the mask is what the
/// verifier wants to see.
const OFFSET_MASK: u32 = 0x3fff;

/// Zero, which the verifier cannot know: it lies in a map that userspace could write.
#[unsafe(no_mangle)]
static mut UNKNOWN_ZERO: u32 = 0;

/// The same number, as one of which the verifier knows no more than that it fits the mask.
#[inline(always)]
pub(crate) fn forget(number: u32, mask: u32) -> u32 {
    // SAFETY: a read of four aligned bytes that nobody writes.
    (number + unsafe { (&raw const UNKNOWN_ZERO).read_volatile() }) & mask
}

/// The bytes between the two ends of the packet.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    ctx: *mut xdp_md,
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame that the program was called for.
    #[inline(always)]
    pub(crate) fn of(ctx: *mut xdp_md) -> Self {
        // SAFETY: the kernel calls the program with a valid context.
        let (start, end) = unsafe { ((*ctx).data, (*ctx).data_end) };
        Self {
            ctx,
            start: start as usize,
            end: end as usize,
        }
    }

    /// Bytes of frame.
    #[inline(always)]
    pub(crate) fn len(self) -> u32 {
        (self.end - self.start) as u32
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> Option<T> {
        let at = self.start + (offset & OFFSET_MASK) as usize;
        if at + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the bytes lie within the packet, as just checked; T is an integer.
        Some(unsafe { (at as *const T).read_unaligned() })
    }

    #[inline(always)]
    fn block_at(self, mut at: usize) -> Option<Block> {
        // The compiler must not compute the address anew behind the check: the verifier would take it
        // for another one.
        // SAFETY: a move of a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) at, options(pure, nomem, nostack)) };
        if at + BLOCK as usize > self.end {
            return None;
        }
        Some(Block(at))
    }

    /// Writes both link addresses, destination first.
    #[inline(always)]
    pub(crate) fn set_link_addresses(self, destination: [u8; 6], source: [u8; 6]) -> Option<()> {
        if self.start + 12 > self.end {
            return None;
        }
        // SAFETY: the first twelve bytes lie within the packet, as just checked.
        unsafe {
            (self.start as *mut [u8; 6]).write_unaligned(destination);
            ((self.start + 6) as *mut [u8; 6]).write_unaligned(source);
        }
        Some(())
    }

    /// Writes a word, for the programs that answer in the frame itself.
    #[inline(always)]
    pub(crate) fn set_word(self, offset: u32, word: u64) -> Option<()> {
        let at = self.start + (offset & OFFSET_MASK) as usize;
        if at + 8 > self.end {
            return None;
        }
        // SAFETY: the eight bytes lie within the packet, as just checked.
        unsafe { (at as *mut u64).write_unaligned(word) };
        Some(())
    }
}

/// Where [`BLOCK`] bytes of packet are proven to be.
#[derive(Clone, Copy)]
pub(crate) struct Block(usize);

impl Window for Frame {
    type Block = Block;

    #[inline(always)]
    fn block(self, offset: u32) -> Option<Block> {
        self.block_at(self.start + (offset & OFFSET_MASK) as usize)
    }

    #[inline(always)]
    fn block_after(self, block: Block) -> Option<Block> {
        self.block_at(block.0 + BLOCK as usize)
    }

    #[inline(always)]
    fn word_in(self, block: Block, place: u32) -> u64 {
        let at = block.0 + place.min(BLOCK - 8) as usize;
        // SAFETY: the bytes are there, as checked when the block was made; the word ends within it.
        unsafe { (at as *const u64).read_unaligned() }
    }

    #[inline(always)]
    fn word_from(self, block: Block, at: u32, place: u32) -> Option<u64> {
        let at = block.0 + place as usize + at as usize;
        if at + 8 > self.end {
            return None;
        }
        // SAFETY: the bytes lie within the packet, as just checked.
        Some(unsafe { (at as *const u64).read_unaligned() })
    }

    #[inline(always)]
    fn offset_in(self, block: Block, place: u32) -> u32 {
        (block.0 - self.start) as u32 + place
    }

    #[inline(always)]
    fn byte(self, offset: u32) -> Option<u8> {
        let at = self.start + (offset & OFFSET_MASK) as usize;
        let mut past = at;
        // Written out, because the compiler would turn `at + 1 > end` into `at >= end`, from which
        // the verifier learns nothing.
        // SAFETY: one addition.
        unsafe { asm!("{} += 1", inout(reg) past, options(pure, nomem, nostack)) };
        if past > self.end {
            return None;
        }
        // SAFETY: the byte lies within the packet, as just checked.
        Some(unsafe { *(at as *const u8) })
    }

    #[inline(always)]
    fn word(self, offset: u32) -> Option<u64> {
        self.read(offset)
    }

    #[inline(always)]
    fn be16(self, offset: u32) -> Option<u16> {
        self.read(offset).map(u16::from_be)
    }

    #[inline(always)]
    fn be32(self, offset: u32) -> Option<u32> {
        self.read(offset).map(u32::from_be)
    }

    #[inline(always)]
    fn forget(self, offset: u32) -> u32 {
        forget(offset, OFFSET_MASK)
    }

    #[inline(always)]
    fn keep(self, mut constant: u64) -> u64 {
        // SAFETY: a move of a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) constant, options(pure, nomem, nostack)) };
        constant
    }

    #[inline(always)]
    fn advance(self, offset: u32, by: u32) -> u32 {
        (offset + by) & OFFSET_MASK
    }

    #[inline(always)]
    fn tail(self, offset: u32, fill: u8) -> u64 {
        tail_word(self.ctx, offset, fill.into())
    }
}

/// The last bytes of the frame, as a function that the verifier looks at once, whatever its callers
/// know: see [`Window::tail`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tail_word(ctx: *mut xdp_md, offset: u32, fill: u32) -> u64 {
    tail_of(Frame::of(ctx), offset, fill as u8)
}
