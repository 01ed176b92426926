//! What plain packets ask for, seen by the program: one look-up, and from there on no more than additions.

use core::arch::asm;

use lb_common::maps::{
    MAX_NODES, NO_NODE, Node, NodeStatus, Settings, StatusPlane, TABLE_ROW, Tracks as Layout,
    Turnout, Vip, pin_hint_of,
};

use crate::maps::TRACKS;

/// The one value of `TRACKS`. It lives as long as the program; its fields change at any moment.
#[derive(Clone, Copy)]
pub(crate) struct Tracks(*mut Layout);

impl Tracks {
    /// Looks it up. It is always there; only the verifier does not know.
    #[inline(always)]
    pub(crate) fn open() -> Option<Self> {
        TRACKS.get_ptr_mut(0).map(Self)
    }

    #[inline(always)]
    pub(crate) fn settings(self) -> &'static Settings {
        // SAFETY: see the type: a field of a value that lives as long as the program.
        unsafe { &(*self.0).settings }
    }

    #[inline(always)]
    pub(crate) fn turnout(self) -> &'static Turnout {
        // SAFETY: as above.
        unsafe { &(*self.0).turnout }
    }

    #[inline(always)]
    pub(crate) fn plane(self) -> &'static StatusPlane {
        // SAFETY: as above.
        unsafe { &(*self.0).plane }
    }

    /// To be written.
    ///
    /// # Safety
    /// This program holds no other reference to it. Other CPUs may write the same meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn plane_mut(self) -> &'static mut StatusPlane {
        // SAFETY: as above; alone, by the caller's promise.
        unsafe { &mut (*self.0).plane }
    }

    #[inline(always)]
    pub(crate) fn vip(self, slot: u32) -> &'static Vip {
        // SAFETY: as above.
        unsafe { &*element(&raw mut (*self.0).vips, slot) }
    }

    /// `None` beyond the highest id.
    #[inline(always)]
    pub(crate) fn node(self, id: u32) -> Option<&'static Node> {
        if id >= MAX_NODES {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { &*element(&raw mut (*self.0).nodes, id) })
    }

    /// `None` beyond the highest id.
    #[inline(always)]
    pub(crate) fn status(self, id: u32) -> Option<&'static NodeStatus> {
        // SAFETY: as above.
        self.status_at(id).map(|status| unsafe { &*status })
    }

    /// To be written; `None` beyond the highest id.
    ///
    /// # Safety
    /// As [`Tracks::plane_mut`].
    #[inline(always)]
    pub(crate) unsafe fn status_mut(self, id: u32) -> Option<&'static mut NodeStatus> {
        // SAFETY: as above; alone, by the caller's promise.
        self.status_at(id).map(|status| unsafe { &mut *status })
    }

    #[inline(always)]
    fn status_at(self, id: u32) -> Option<*mut NodeStatus> {
        if id >= MAX_NODES {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { element(&raw mut (*self.0).status, id) })
    }

    /// The node that a generation of the table gives for a slot.
    #[inline(always)]
    pub(crate) fn home(self, generation: u32, slot: u32) -> u16 {
        let place = (generation & 1) * TABLE_ROW as u32 + slot;
        if place >= 2 * TABLE_ROW as u32 {
            return NO_NODE;
        }
        // SAFETY: as above; the index is within the table.
        unsafe {
            (&raw const (*self.0).table)
                .cast::<u16>()
                .add(place as usize)
                .read_volatile()
        }
    }

    #[inline(always)]
    pub(crate) fn pins(self) -> *mut u64 {
        // SAFETY: as above.
        unsafe { &raw mut (*self.0).pins }
    }

    #[inline(always)]
    pub(crate) fn pin_hint(self, key: u64) -> *mut u64 {
        // SAFETY: as above.
        unsafe { element(&raw mut (*self.0).pin_hints, pin_hint_of(key)) }
    }

    #[inline(always)]
    pub(crate) fn memory(self, word: u32) -> *mut u64 {
        // SAFETY: as above.
        unsafe { element(&raw mut (*self.0).memory, word) }
    }
}

/// An element of an array whose length is a power of two, the index taken modulo that: in a way that the compiler
/// does not take apart before the verifier sees it.
///
/// # Safety
/// The array is there.
#[inline(always)]
unsafe fn element<T, const LEN: usize>(array: *mut [T; LEN], index: u32) -> *mut T {
    const { assert!(LEN.is_power_of_two()) };
    let mut index = index as usize;
    // SAFETY: an operation on a register; the index is within the array then.
    unsafe {
        asm!("{0} &= {1}", inout(reg) index, const LEN - 1, options(pure, nomem, nostack));
        array.cast::<T>().add(index)
    }
}
