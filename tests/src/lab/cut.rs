//! Cutting the traffic between machines, one way: a program on the bridge's side of the receiver's
//! port drops what bears the sender's link address.
//!
//! That is finer than what the bridge itself offers (isolated ports cut both ways), and needs no module
//! of the kernel that machines may lack. What a third machine sends on in its own name passes.

use std::fmt;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use super::program::{Hook, attach, instruction};
use super::{Host, Lab};

// <linux/bpf.h> and <linux/pkt_cls.h>.
const LOAD_WORD: u8 = 0x61;
const LOAD_HALF: u8 = 0x69;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const JUMP_IF_GREATER: u8 = 0x2d;
const JUMP_IF_NOT_NUMBER: u8 = 0x55;
const EXIT: u8 = 0x95;
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
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
                let link = attach(&self.bridge, &plug.name, Hook::Egress, &program)?
                    .with_context(|| format!("cannot cut {what}"))?;
                links.push(link);
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
        instruction(LOAD_WORD, 2, 1, DATA, 0),
        instruction(LOAD_WORD, 3, 1, DATA_END, 0),
        instruction(MOVE, 4, 2, 0, 0),
        instruction(ADD_NUMBER, 4, 0, 0, SOURCE_END),
        // Past the comparisons and the drop.
        instruction(JUMP_IF_GREATER, 4, 3, 8, 0),
    ];
    for (half, place) in halves.into_iter().zip(0_i16..) {
        program.push(instruction(LOAD_HALF, 5, 2, SOURCE + 2 * place, 0));
        let to_pass = 6 - 2 * place;
        program.push(instruction(
            JUMP_IF_NOT_NUMBER,
            5,
            0,
            to_pass,
            i32::from(half),
        ));
    }
    program.extend([
        instruction(MOVE_NUMBER, 0, 0, 0, TCX_DROP),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(MOVE_NUMBER, 0, 0, 0, TCX_NEXT),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    program
}
