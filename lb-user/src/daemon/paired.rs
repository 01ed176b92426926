//! What a controller of a pair has beside a single one: the pair's task, the VIPs' mover, the admin socket.

use std::net::SocketAddr;
use std::sync::Arc;

use caps::Capability;
use lb_net::admin::Admin;
use lb_net::shutdown::Shutdown;

use super::Intent;
use crate::config::Config;
use crate::config::pair::{Pair, Takeover};
use crate::pair::{PairTask, Ports, Wires};
use crate::plane::Maps;
use crate::plane::clock::Clock;
use crate::takeover::{Keeper, Mode, Mover, TakeoverError};
use crate::turn;

/// All of it, before it is sent off.
pub(super) struct Paired {
    pub(super) task: PairTask,
    pub(super) keeper: Keeper,
    pub(super) ports: Ports,
    pub(super) admin: Admin,
    pub(super) wires: Wires,
    /// Those that must be kept.
    pub(super) capabilities: &'static [Capability],
}

impl Paired {
    /// Opens it. `is_adopted`: the data plane was there before this process.
    pub(super) fn open(
        intent: &Intent,
        pair: &Pair,
        maps: &Arc<Maps>,
        clock: &Arc<Clock>,
        is_adopted: bool,
    ) -> anyhow::Result<Self> {
        let (mover, keeper) = mover(&intent.config, pair)?;
        let heard = maps.plane_status()?.term_heard;
        let is_at_work = is_adopted && maps.turnout()?.is_active(heard);
        turn::join_pair(maps)?;
        let (ports, is_reached) = Ports::open(&intent.config, pair)?;
        let both = (maps.clone(), clock.clone());
        let machine = (mover, is_reached);
        let (task, wires) = PairTask::open(intent, pair, both, machine, is_at_work)?;
        Ok(Self {
            task,
            keeper,
            ports,
            admin: Admin::open(&pair.admin)?,
            wires,
            capabilities: takeover(pair).1.keeps(),
        })
    }
}

/// Where the VIPs come to, and how.
fn takeover(pair: &Pair) -> (&str, Mode) {
    match &pair.takeover {
        Takeover::Address(interface) => (interface, Mode::Address),
        Takeover::Announce(interface) => (interface, Mode::Announce),
        Takeover::Nothing => ("", Mode::None),
    }
}

/// What moves the VIPs.
pub(super) fn mover(config: &Config, pair: &Pair) -> Result<(Mover, Keeper), TakeoverError> {
    let (interface, mode) = takeover(pair);
    Mover::open(interface, config.vips.iter().map(SocketAddr::ip), mode)
}

/// Answers at the admin socket.
pub(super) async fn answer(admin: Admin, wires: crate::pair::Asker, shutdown: Shutdown) {
    admin
        .serve(shutdown, move |question| wires.clone().ask(question))
        .await;
}
