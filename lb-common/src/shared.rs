//! The one way to declare a type that lies in a BPF map.
//!
//! The kernel compares keys byte by byte, padding included, and neither side knows how the other's
//! compiler pads: a key with hidden padding loads fine and then never matches. So shared structs
//! have none, and the compiler proves it.

/// Marks types whose every bit pattern is a value and that have no padding.
///
/// # Safety
/// Only the macro `shared!` implements it, having checked the layout; fields are integers, arrays of them,
/// or other shared types.
#[expect(unsafe_code, reason = "the promise that the macro below checks")]
pub unsafe trait Shared: Copy + 'static {}

/// Declares a `repr(C)` struct that both sides of the kernel boundary read, and asserts that it has
/// no padding.
#[macro_export]
macro_rules! shared {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)+ }

        const _: () = assert!(
            size_of::<$name>() == 0 $(+ size_of::<$type>())+,
            concat!("padding in ", stringify!($name)),
        );

        // SAFETY: repr(C), without padding as asserted above, and made of integers only.
        #[expect(unsafe_code, reason = "layout checked by the assertion above")]
        unsafe impl $crate::Shared for $name {}

        /// All zero, as the kernel makes the elements of maps.
        impl Default for $name {
            #[inline(always)]
            fn default() -> Self {
                // SAFETY: every bit pattern is a value.
                #[expect(unsafe_code, reason = "the promise of Shared, just made")]
                unsafe { core::mem::zeroed() }
            }
        }
    };
}

// SAFETY: an integer has no padding and no invalid bit pattern.
#[expect(unsafe_code, reason = "integers have no padding")]
unsafe impl Shared for u64 {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "integers have no padding")]
unsafe impl Shared for u32 {}
