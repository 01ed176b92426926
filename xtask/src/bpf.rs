//! The BPF object: which toolchain can make it, how it is made so that everybody gets the same
//! bytes, and how to tell that the one in the repository still matches its sources.
//!
//! Reading order: [`toolchain`] finds a rustc that can compile for the kernel, [`linker`] has
//! bpf-linker ready for it, [`compile`] owns the one cargo invocation, [`rustc_wrapper`] and
//! [`strip`] make its result the same on every machine, and [`prebuilt`] keeps it in the
//! repository.

pub(crate) mod compile;
pub(crate) mod digest;
pub(crate) mod linker;
pub(crate) mod prebuilt;
pub(crate) mod rustc_wrapper;
pub(crate) mod strip;
pub(crate) mod toolchain;
