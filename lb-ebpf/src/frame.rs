//! The kernel's window on a frame: the only place where packet memory is read or written, but for the loops
//! of [`by_hand`], which are given addresses that were proven here.

use core::arch::asm;
use core::num::NonZeroU32;

use aya_ebpf::bindings::xdp_md;
use lb_common::sip::CallKey;
use lb_common::siphash::SipKey;
use lb_common::{BLOCK, Window, tail_of};

use crate::by_hand;

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

    /// The address of `len` bytes at `offset`, if they are there.
    #[inline(always)]
    fn address<const LEN: usize>(self, offset: u32) -> Option<usize> {
        let mut at = self.start + (offset & OFFSET_MASK) as usize;
        // The compiler must not compute the address anew behind the check: the verifier would take it
        // for another one.
        // SAFETY: a move of a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) at, options(pure, nomem, nostack)) };
        if at + LEN > self.end {
            return None;
        }
        Some(at)
    }

    /// Where the Call-ID's value starts in the plain message at `start`; else from where to read on.
    #[inline(always)]
    pub(crate) fn plain_value(self, start: u32) -> Result<u32, u32> {
        let Some(before) = self.address::<{ by_hand::LOOK }>(start.wrapping_sub(8)) else {
            return Err(start);
        };
        // SAFETY: the byte is among those that are there.
        if !matches!(unsafe { *((before + 8) as *const u8) }, 0x21..=0x7e) {
            return Err(start);
        }
        match by_hand::find_value(before, self.end) {
            Ok(value) => Ok((value - self.start) as u32),
            Err(stop) => {
                let at = (stop - self.start) as u32;
                // Behind a carriage return, it is the line feed of a line end.
                let is_half = at > start && self.byte(at - 1) == Some(b'\r');
                Err(at - u32::from(is_half))
            }
        }
    }

    /// The key of the plain Call-ID at `at`.
    #[inline(always)]
    pub(crate) fn plain_call_id(self, at: u32, secret: &SipKey) -> Option<CallKey> {
        let address = self.address::<{ by_hand::WHOLE }>(at)?;
        let (hash, len) = by_hand::plain_call_id(address, self.end, secret);
        let len = NonZeroU32::new(len as u32)?;
        Some(CallKey { hash, len, at })
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
        self.address::<{ BLOCK as usize }>(offset).map(Block)
    }

    #[inline(always)]
    fn word_in(self, block: Block, place: u32) -> u64 {
        let at = block.0 + place.min(BLOCK - 8) as usize;
        // SAFETY: the bytes are there, as checked when the block was made; the word ends within it.
        unsafe { (at as *const u64).read_unaligned() }
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
