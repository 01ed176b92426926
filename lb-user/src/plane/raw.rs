//! The bridge from the shared types to aya's notion of plain data.

use lb_common::Shared;

/// A shared value as aya takes it. Neither the trait nor the types are this crate's, hence the
/// wrapper.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Raw<T: Shared>(pub(super) T);

#[expect(unsafe_code, reason = "lb_common::Shared promises the same")]
// SAFETY: `Shared` promises no padding and no invalid bit pattern, and the wrapper is transparent.
unsafe impl<T: Shared> aya::Pod for Raw<T> {}

/// A value read from a byte slice that holds it at its start, at any alignment.
#[expect(unsafe_code, reason = "reading a plain value from bytes")]
pub(super) fn from_bytes<T: Shared>(bytes: &[u8]) -> Option<T> {
    (bytes.len() >= size_of::<T>()).then(|| {
        // SAFETY: the slice is long enough, and every bit pattern is a value of a shared type.
        unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
    })
}
