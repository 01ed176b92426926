//! What the start and reloads have to tell, as log lines.

use crate::apply::{Applied, TableChange};
use crate::config::Config;
use crate::plane::Maps;
use crate::plane::attach::{Attached, Attachment, How, XdpMode};
use crate::plane::bpffs::Prepared;

pub(super) fn fixed_sizes(config: &Config, maps: &Maps) {
    let (wanted, present) = (config.pins.max, maps.max_pins());
    if wanted != present {
        tracing::warn!(
            wanted,
            present,
            "the map of pins keeps its size; `pointsman detach` and a fresh start change it"
        );
    }
}

pub(super) fn bpffs(prepared: &Prepared) {
    match prepared {
        Prepared::Ready => {}
        Prepared::Mounted {
            at,
            is_private: false,
        } => {
            tracing::info!(at = %at.display(), "mounted a BPF file system");
        }
        Prepared::Mounted {
            at,
            is_private: true,
        } => {
            tracing::warn!(
                at = %at.display(),
                "mounted a BPF file system in this process's own mount namespace: it goes when the \
                 last process in there ends, and the data plane with it; mount it outside before \
                 starting"
            );
        }
    }
}

pub(super) fn applied(applied: &Applied) {
    if !applied.added.is_empty() {
        tracing::info!(nodes = ?applied.added, "nodes added");
    }
    if !applied.removed.is_empty() {
        tracing::info!(nodes = ?applied.removed, "nodes removed");
    }
    match applied.table {
        TableChange::Same => {}
        TableChange::First => tracing::info!("filled the steering table"),
        TableChange::Flipped { cut_short: false } => {
            tracing::info!("flipped to a new steering table; the old one keeps its dialogs");
        }
        TableChange::Flipped { cut_short: true } => {
            tracing::warn!(
                "flipped to a new steering table before the one before the last had drained: calls \
                 from before the earlier change may move"
            );
        }
    }
}

pub(super) fn attachment(config: &Config, attachment: &Attachment) {
    for attached in &attachment.interfaces {
        let Attached {
            name,
            is_generic,
            how,
            ..
        } = attached;
        let mode = if *is_generic { "generic" } else { "native" };
        match how {
            How::Created { not_native: None } => {
                tracing::info!(interface = name, mode, "attached");
            }
            How::Created {
                not_native: Some(why),
            } => {
                tracing::warn!(
                    interface = name,
                    mode,
                    why,
                    "attached in the network stack, several times slower: the driver refuses native XDP"
                );
            }
            How::Replaced { program_id } => {
                tracing::info!(interface = name, mode, program_id, "replaced the program");
            }
        }
        let wanted = config.interfaces.iter().find(|wanted| wanted.name == *name);
        let is_other = match wanted.map(|wanted| wanted.mode) {
            Some(XdpMode::Native) => *is_generic,
            Some(XdpMode::Generic) => !*is_generic,
            Some(XdpMode::Auto) | None => false,
        };
        if is_other {
            tracing::warn!(
                interface = name,
                mode,
                "attached in another mode than configured; `pointsman detach` and a fresh start \
                 change it"
            );
        }
    }
    for name in &attachment.released {
        tracing::warn!(
            interface = name,
            "not configured any more, or gone: detached from it"
        );
    }
}
