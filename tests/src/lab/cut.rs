//! Cutting the traffic between machines, one way: a program on the bridge's side of the receiver's
//! port drops what bears the sender's link address.
//!
//! That is finer than what the bridge itself offers (isolated ports cut both ways), and needs no module
//! of the kernel that machines may lack. What a third machine sends on in its own name passes.

use std::fmt;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use super::{Host, Lab};
use crate::bpf::{
    ADD, EXIT, Hook, JUMP_IF_GREATER_REGISTER, JUMP_IF_NOT_EQUAL, LOAD_16, LOAD_32, MOVE,
    MOVE_REGISTER, instruction,
};

// `enum tcx_action_base` of <linux/bpf.h>.
const TCX_NEXT: i32 = -1;
pub(super) const TCX_DROP: i32 = 2;
/// Offsets of `data` and `data_end` in `struct __sk_buff`.
const DATA: i16 = 76;
const DATA_END: i16 = 80;
/// Where a frame's source address is, and where it ends.
const SOURCE: i16 = 6;
const SOURCE_END: i32 = 12;

/// Traffic that is cut; flows again when this value is dropped.
#[must_use]
pub struct Cut {
    _links: Vec<OwnedFd>,
    what: String,
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cut").field(&self.what).finish()
    }
}

impl Lab {
    /// Cuts what `from` sends to `to`, or to everybody as far as `to` is concerned. The other way is as
    /// before.
    ///
    /// # Errors
    /// The kernel does not take the program.
    pub fn cut_one_way(&self, from: &Host, to: &Host) -> Result<Cut> {
        let what = format!("{} to {}", from.namespace.name(), to.namespace.name());
        let mut links = Vec::new();
        for plug in &to.plugs {
            for source in &from.plugs {
                let program = drop_from(source.mac);
                let link = self
                    .bridge
                    .attach(&plug.name, Hook::Egress, "lab_cut", &program);
                links.push(link.with_context(|| format!("cannot cut {what}"))?);
            }
        }
        Ok(Cut {
            _links: links,
            what,
        })
    }

    /// Cuts all traffic between two machines.
    ///
    /// # Errors
    /// As [`Self::cut_one_way`].
    pub fn cut(&self, one: &Host, other: &Host) -> Result<[Cut; 2]> {
        Ok([self.cut_one_way(one, other)?, self.cut_one_way(other, one)?])
    }

    /// Cuts all traffic between machines of different groups.
    ///
    /// # Errors
    /// As [`Self::cut_one_way`].
    pub fn part(&self, groups: &[&[&Host]]) -> Result<Vec<Cut>> {
        let mut cuts = Vec::new();
        for (place, group) in groups.iter().enumerate() {
            let others = groups.iter().skip(place + 1).copied().flatten();
            for other in others {
                for one in *group {
                    cuts.extend(self.cut(one, other)?);
                }
            }
        }
        Ok(cuts)
    }
}

/// The program that drops frames with this source address.
fn drop_from(mac: [u8; 6]) -> Vec<u64> {
    let [a, b, c, d, e, f] = mac;
    let halves = [[a, b], [c, d], [e, f]].map(u16::from_ne_bytes);
    let mut program = vec![
        instruction(LOAD_32, 2, 1, DATA, 0),
        instruction(LOAD_32, 3, 1, DATA_END, 0),
        instruction(MOVE_REGISTER, 4, 2, 0, 0),
        instruction(ADD, 4, 0, 0, SOURCE_END),
        // Past the comparisons and the drop.
        instruction(JUMP_IF_GREATER_REGISTER, 4, 3, 8, 0),
    ];
    for (half, place) in halves.into_iter().zip(0_i16..) {
        program.push(instruction(LOAD_16, 5, 2, SOURCE + 2 * place, 0));
        let to_pass = 6 - 2 * place;
        program.push(instruction(
            JUMP_IF_NOT_EQUAL,
            5,
            0,
            to_pass,
            i32::from(half),
        ));
    }
    program.extend([
        instruction(MOVE, 0, 0, 0, TCX_DROP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(MOVE, 0, 0, 0, TCX_NEXT),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    program
}
