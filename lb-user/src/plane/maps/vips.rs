//! The VIPs: a small open-addressed table, kept such that the program's search finds what is there.

use lb_common::Address;
use lb_common::maps::{VIP_PROBES, VIP_SLOTS, Vip, VipUse, vip_slot};

use super::{AccessError, Maps, beyond};
use crate::plane::tracks;

impl Maps {
    /// Enters a service or status address.
    ///
    /// # Errors
    /// [`AccessError`] of an index out of bounds when the table has no place left
    /// near its slot, which the limit on service addresses makes all but impossible.
    pub fn insert_vip(&self, vip: Vip) -> Result<(), AccessError> {
        let (found, free) = self.find_vip(vip.address, vip.port_be)?;
        match found.or(free) {
            Some(slot) => self.set(&tracks::VIPS, slot, vip),
            None => Err(beyond(vip_slot(vip.address, vip.port_be), VIP_SLOTS)),
        }
    }

    /// Removes an address; returns whether it was there.
    pub fn remove_vip(&self, address: Address, port_be: u16) -> Result<bool, AccessError> {
        let (Some(slot), _) = self.find_vip(address, port_be)? else {
            return Ok(false);
        };
        let removed = Vip {
            purpose: VipUse::Removed as u8,
            ..Vip::default()
        };
        self.set(&tracks::VIPS, slot, removed)?;
        Ok(true)
    }

    /// All service and status addresses.
    pub fn vips(&self) -> Result<Vec<Vip>, AccessError> {
        let all: Result<Vec<Vip>, _> = (0..VIP_SLOTS)
            .map(|slot| self.get(&tracks::VIPS, slot))
            .collect();
        Ok(all?.into_iter().filter(is_in_use).collect())
    }

    /// The slot of an address, and the first slot where it could be entered.
    fn find_vip(
        &self,
        address: Address,
        port_be: u16,
    ) -> Result<(Option<u32>, Option<u32>), AccessError> {
        let start = vip_slot(address, port_be);
        let mut free = None;
        for probe in 0..VIP_PROBES {
            let slot = (start + probe) % VIP_SLOTS;
            let vip = self.get(&tracks::VIPS, slot)?;
            if vip.purpose == VipUse::Empty as u8 {
                return Ok((None, free.or(Some(slot))));
            } else if vip.purpose == VipUse::Removed as u8 {
                free = free.or(Some(slot));
            } else if vip.address == address && vip.port_be == port_be {
                return Ok((Some(slot), free));
            }
        }
        Ok((None, free))
    }
}

fn is_in_use(vip: &Vip) -> bool {
    vip.purpose != VipUse::Empty as u8 && vip.purpose != VipUse::Removed as u8
}
