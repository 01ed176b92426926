//! Loading the object: programs into the kernel, maps made anew or taken over.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use aya::programs::{Program, ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use aya_log::EbpfLogger;
use lb_common::maps::DEFAULT_MAX_PINS;

use super::maps::{self, Maps, OpenError};
use super::object;

/// What is chosen when maps are made.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Pins that fit.
    pub max_pins: u32,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            max_pins: DEFAULT_MAX_PINS,
        }
    }
}

/// The object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object is damaged, or the kernel refuses a map. Mostly: not root.
    #[error("loading the BPF object (this takes root, or CAP_BPF and CAP_NET_ADMIN)")]
    Object(#[from] EbpfError),
    /// The object lacks a program: it was built from other sources.
    #[error("the BPF object has no XDP program {0}")]
    NoProgram(&'static str),
    /// The kernel's verifier refuses a program.
    #[error("the kernel refuses program {name}")]
    Program {
        /// The program.
        name: &'static str,
        /// Why; with the verifier's words.
        #[source]
        source: ProgramError,
    },
    /// A map is not as it should be.
    #[error(transparent)]
    Maps(#[from] OpenError),
}

/// The programs, loaded, and their maps. Attached to nothing; what is not pinned ends with this
/// value.
pub struct Plane {
    programs: Ebpf,
    maps: Arc<Maps>,
    /// The maps' descriptors, to pin them by.
    descriptors: HashMap<&'static str, OwnedFd>,
}

impl Plane {
    /// Loads the programs over fresh maps: for a first start, for `explain` and for tests.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(options: &LoadOptions) -> Result<Self, LoadError> {
        Self::load_object(object::BYTES, options)
    }

    /// [`Plane::load`] with another object than the embedded one: that which logs.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load_object(bytes: &[u8], options: &LoadOptions) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("PINS", options.max_pins);
        Self::load_by(&mut loader, bytes)
    }

    /// What the programs log from now on goes to `logger`, each time the result is flushed.
    ///
    /// # Errors
    /// The object was built without logging.
    pub fn log_to<L: log::Log>(&mut self, logger: L) -> Result<EbpfLogger<L>, aya_log::Error> {
        EbpfLogger::init_with_logger(&mut self.programs, logger)
    }

    /// Loads the programs over the maps that are pinned in `dir`, whose shapes have been checked.
    pub(super) fn reuse(dir: &Path) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        for shape in &object::MAPS {
            loader.map_pin_path(shape.name, dir.join(shape.name));
        }
        Self::load_by(&mut loader, object::BYTES)
    }

    /// A signal that comes while the kernel verifies a program ends that (`EAGAIN`), and whatever was refused
    /// aya asks for again with the verifier's words. With those about every instruction, megabytes, that takes
    /// twenty times as long, and once they are more than aya makes room for the kernel refuses a good program
    /// for it (`ENOSPC`). So they are to be few at first; all of them are for a program that is refused again.
    fn load_by(loader: &mut EbpfLoader<'_>, bytes: &[u8]) -> Result<Self, LoadError> {
        loader.verifier_log_level(VerifierLogLevel::STATS);
        match Self::from_loaded(loader.load(bytes)?) {
            Err(LoadError::Program { .. }) => {
                loader.verifier_log_level(VerifierLogLevel::default());
                Self::from_loaded(loader.load(bytes)?)
            }
            loaded => loaded,
        }
    }

    fn from_loaded(mut programs: Ebpf) -> Result<Self, LoadError> {
        // Before the maps are taken: instructions name maps by the descriptors they have now.
        for name in [object::STEERING, object::CLOCK] {
            xdp(&mut programs, name)?
                .load()
                .map_err(|source| LoadError::Program { name, source })?;
        }
        let mut descriptors = HashMap::new();
        let maps = Maps::from_source(|name| {
            let map = programs
                .take_map(name)
                .ok_or(OpenError::Absent { map: name })?;
            let fd = maps::descriptor(name, &map)?.as_fd().try_clone_to_owned();
            let fd = fd.map_err(|error| OpenError::Map {
                map: name,
                source: error.into(),
            })?;
            descriptors.insert(name, fd);
            Ok(map)
        })?;
        Ok(Self {
            programs,
            maps: Arc::new(maps),
            descriptors,
        })
    }

    /// The maps.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// A map's descriptor.
    pub(super) fn map_fd(&self, map: &'static str) -> Result<BorrowedFd<'_>, LoadError> {
        let fd = self.descriptors.get(map).ok_or(OpenError::Absent { map })?;
        Ok(fd.as_fd())
    }

    /// The steering program's descriptor, for who measures it by bpf(2) itself.
    pub fn steering_fd(&self) -> Option<BorrowedFd<'_>> {
        let program = self.program(object::STEERING)?;
        program.fd().ok().map(AsFd::as_fd)
    }

    /// One of the programs.
    pub(super) fn program(&self, name: &'static str) -> Option<&Xdp> {
        match self.programs.program(name) {
            Some(Program::Xdp(program)) => Some(program),
            _ => None,
        }
    }

    /// The maps, for tasks of their own.
    pub fn shared_maps(&self) -> Arc<Maps> {
        self.maps.clone()
    }
}

/// The program of this name, to be loaded, attached or pinned.
pub(super) fn xdp<'a>(
    programs: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Xdp, LoadError> {
    match programs.program_mut(name) {
        Some(Program::Xdp(program)) => Ok(program),
        _ => Err(LoadError::NoProgram(name)),
    }
}
