//! Where a call should go: the same table and the same key as the data plane's, asked from outside.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lb_common::maps::slot_of;
use lb_common::siphash::siphash13;
use lb_user::plane::Maps;

use crate::daemons::call_secret;

/// The pinned maps of a lab's controller, read only for what they say of homes.
pub struct Homes {
    maps: Maps,
}

impl Homes {
    /// Opens them.
    ///
    /// # Errors
    /// Nothing is pinned there.
    pub fn open(pins: &Path) -> Result<Self> {
        Ok(Self {
            maps: Maps::open(pins).context("cannot open the pinned maps")?,
        })
    }

    /// The maps, for whatever else a test wants to know.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The home of a call.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn of(&self, call_id: &str) -> Result<u16> {
        let generation = (self.maps.turnout()?.word & 1) as u32;
        let key = siphash13(call_secret(), call_id.as_bytes());
        Ok(self.maps.home(generation, slot_of(key))?)
    }

    /// Call-IDs `<name>-0@switch`, `-1@switch` … whose home is `node`.
    ///
    /// # Errors
    /// The maps cannot be read, or no call has its home there.
    pub fn call_ids(&self, name: &str, node: u16, count: usize) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for number in 0..10_000 {
            let call_id = format!("{name}-{number}@switch");
            if self.of(&call_id)? == node {
                found.push(call_id);
                if found.len() == count {
                    return Ok(found);
                }
            }
        }
        bail!(
            "of 10,000 calls only {} have their home at node {node}",
            found.len()
        )
    }
}
