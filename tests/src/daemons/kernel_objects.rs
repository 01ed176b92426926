//! What a controller keeps in the kernel: programs, maps and pins, and whether they grow.
//!
//! Told by what holds them, not by their number on the machine, where others load programs too. A
//! map lives as long as a pin, a descriptor or a program holds it; a program as long as a pin, a
//! descriptor or a link does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::{Namespace, Process};

/// A controller's kernel objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelObjects {
    /// Pins in its directory.
    pub pins: BTreeSet<String>,
    /// Programs, of this controller or any before, that use the pinned maps.
    pub programs_on_maps: usize,
    /// Programs that the daemon holds open.
    pub programs_held: usize,
    /// Maps that the daemon holds open.
    pub maps_held: usize,
}

impl KernelObjects {
    /// Counts them.
    ///
    /// # Errors
    /// The daemon has ended, or nothing is pinned.
    pub fn of(host: &Namespace, pins: &Path, controller: &Process) -> Result<Self> {
        let tracks = pins.join("TRACKS");
        let map = bpftool(host, &format!("map show pinned {}", tracks.display()))?;
        let map = map["id"]
            .as_u64()
            .context("bpftool does not say the map's id")?;
        let programs = bpftool(host, "prog show")?;
        let Value::Array(programs) = programs else {
            bail!("bpftool does not list programs")
        };
        let uses_map = |program: &&Value| {
            let maps = program["map_ids"].as_array();
            maps.is_some_and(|maps| maps.iter().any(|id| id.as_u64() == Some(map)))
        };
        let (maps_held, programs_held) = held(controller.id())?;
        let pins = fs::read_dir(pins)?.map(|pin| Ok(pin?.file_name().display().to_string()));
        Ok(Self {
            pins: pins.collect::<Result<_>>()?,
            programs_on_maps: programs.iter().filter(uses_map).count(),
            programs_held,
            maps_held,
        })
    }
}

fn bpftool(host: &Namespace, words: &str) -> Result<Value> {
    let answer = host.run("bpftool", &format!("--json {words}"))?;
    serde_json::from_str(&answer).with_context(|| format!("`bpftool {words}` prints no JSON"))
}

/// Different maps and programs that a process has descriptors of.
fn held(process: u32) -> Result<(usize, usize)> {
    let (mut maps, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        // A descriptor may be closed between the two system calls.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        for line in text.lines() {
            match line.split_once(':') {
                Some(("map_id", id)) => drop(maps.insert(id.trim().to_owned())),
                Some(("prog_id", id)) => drop(programs.insert(id.trim().to_owned())),
                _ => {}
            }
        }
    }
    Ok((maps.len(), programs.len()))
}
