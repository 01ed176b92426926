//! Where a data plane lives on when its controller does not: a directory of pins.
//!
//! ```text
//! <bpffs>/v1/TRACKS …       one pin a map; v1 is the layout's version
//! <bpffs>/v1/program        the steering program
//! <bpffs>/v1/clock          the program that tells the time
//! <bpffs>/v1/link-<name>    one a network interface: as long as it is there, frames are steered
//! ```
//! A first start fills a directory beside it and renames it when all is attached, so that a site is
//! whole or not there. Every later start loads its own program over the same maps and puts it into
//! the links, which the kernel does between two packets.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::ProgramError;
use lb_common::maps::LAYOUT_VERSION;

use super::bpffs::{self, BpffsError, Claim, Prepared};
use super::links::{self, Links};
use super::load::{LoadError, LoadOptions, Plane};
use super::shape::{self, ShapeError};
use super::{object, sys};

/// The pin of the steering program.
pub const PROGRAM_PIN: &str = "program";
/// The pin of the clock program.
pub const CLOCK_PIN: &str = "clock";

/// Directories of the first start, before they are renamed.
const STAGING: &str = "new-";

/// The data plane of a site could not be opened, or its pins not be made.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The directory.
    #[error(transparent)]
    Bpffs(#[from] BpffsError),
    /// Something is pinned there that this version cannot adopt.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program is not loaded.
    #[error("program {name}")]
    Program {
        /// The program.
        name: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// A pin could not be made, moved or removed.
    #[error("{path}: {what}")]
    Pin {
        /// The pin or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl SiteError {
    pub(super) fn pin(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Pin { path, what, source }
    }
}

/// The layout-versioned directory below a bpffs directory: what readers open.
pub fn layout_dir(bpffs: &Path) -> PathBuf {
    bpffs.join(format!("v{LAYOUT_VERSION}"))
}

/// A bpffs directory that is this process's alone.
pub struct Site {
    bpffs: PathBuf,
    dir: PathBuf,
    _claim: Claim,
}

impl Site {
    /// Claims a bpffs directory, making and mounting it if need be, and clears away what a first
    /// start that was killed has left.
    ///
    /// # Errors
    /// [`SiteError`].
    pub fn claim(bpffs: &Path) -> Result<(Self, Prepared), SiteError> {
        let prepared = bpffs::prepare(bpffs)?;
        let claim = Claim::take(bpffs)?;
        let site = Self {
            bpffs: bpffs.to_owned(),
            dir: layout_dir(bpffs),
            _claim: claim,
        };
        for dir in subdirectories(bpffs, |name| name.starts_with(STAGING))? {
            remove(&dir, Fate::Unpin)?;
        }
        Ok((site, prepared))
    }

    /// The layout-versioned directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Loads the programs: over the maps that are pinned here, if there are any, else over fresh
    /// ones. Nothing is attached or changed yet.
    ///
    /// # Errors
    /// [`SiteError`]; [`SiteError::Shape`] when the pinned maps are not this version's.
    pub fn open(&self, options: &LoadOptions) -> Result<Opened, SiteError> {
        if self.dir.exists() {
            shape::check(&self.dir)?;
            Ok(Opened {
                plane: Plane::reuse(&self.dir)?,
                is_adopted: true,
            })
        } else {
            Ok(Opened {
                plane: Plane::load(options)?,
                is_adopted: false,
            })
        }
    }

    /// The links of every layout version below the bpffs directory.
    pub(super) fn links(&self) -> Result<Links, SiteError> {
        let mut links = Links::default();
        for dir in layouts(&self.bpffs)? {
            links.read(&dir)?;
        }
        Ok(links)
    }

    /// Where pins are made: here, or in a directory that will be renamed to here.
    pub(super) fn workplace(&self) -> PathBuf {
        if self.dir.exists() {
            self.dir.clone()
        } else {
            self.bpffs.join(format!("{STAGING}{}", std::process::id()))
        }
    }

    /// Pins maps and programs. In an adopted site the programs' pins are replaced.
    pub(super) fn pin(&self, plane: &Plane) -> Result<(), SiteError> {
        let place = self.workplace();
        if place != self.dir {
            fs::create_dir(&place).map_err(SiteError::pin(&place, "making the directory"))?;
            for shape in &object::MAPS {
                let path = place.join(shape.name);
                let map = plane.map_fd(shape.name)?;
                sys::pin(map, &path).map_err(SiteError::pin(&path, "pinning the map"))?;
            }
        }
        for (name, pin) in [(object::STEERING, PROGRAM_PIN), (object::CLOCK, CLOCK_PIN)] {
            let program = plane.program(name).ok_or(LoadError::NoProgram(name))?;
            let fd = program
                .fd()
                .map_err(|source| SiteError::Program { name, source })?;
            let path = place.join(pin);
            let fresh = place.join(format!("{pin}-new"));
            let _ = fs::remove_file(&fresh);
            sys::pin(fd.as_fd(), &fresh).map_err(SiteError::pin(&fresh, "pinning the program"))?;
            fs::rename(&fresh, &path).map_err(SiteError::pin(&path, "renaming the pin"))?;
        }
        Ok(())
    }

    /// Makes a first start's pins the site's, and removes the sites of other layout versions.
    pub(super) fn settle(&self) -> Result<(), SiteError> {
        let place = self.workplace();
        if place != self.dir {
            fs::rename(&place, &self.dir)
                .map_err(SiteError::pin(&self.dir, "renaming the directory"))?;
        }
        for other in layouts(&self.bpffs)? {
            if other != self.dir {
                remove(&other, Fate::Unpin)?;
            }
        }
        Ok(())
    }

    /// Undoes an unfinished first start.
    pub(super) fn abandon(&self) {
        let place = self.workplace();
        if place != self.dir && place.exists() {
            // Best effort: the next start clears away what is left.
            let _ = remove(&place, Fate::Unpin);
        }
    }
}

/// A site's data plane, loaded.
pub struct Opened {
    /// The data plane.
    pub plane: Plane,
    /// Its maps were there: they hold what is being served.
    pub is_adopted: bool,
}

/// What `detach` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// Interfaces whose frames are no longer steered.
    pub interfaces: Vec<String>,
    /// Directories removed.
    pub directories: Vec<PathBuf>,
    /// A controller that is still running over them.
    pub controller: Option<u32>,
}

/// Ends the data plane: detaches the program from every interface and removes all pins. From then
/// on frames for the VIPs go wherever the network stack takes them.
///
/// # Errors
/// [`SiteError`]. Detaching nothing is none.
pub fn detach(bpffs: &Path) -> Result<Detached, SiteError> {
    let mut detached = Detached::default();
    if !bpffs.exists() {
        return Ok(detached);
    }
    let on_bpffs = bpffs::is_bpffs(bpffs).map_err(SiteError::pin(bpffs, "reading"))?;
    if !on_bpffs {
        return Ok(detached);
    }
    detached.controller = bpffs::holder(bpffs);
    for dir in subdirectories(bpffs, |name| is_layout(name) || name.starts_with(STAGING))? {
        detached.interfaces.extend(links::names(&dir)?);
        remove(&dir, Fate::End)?;
        detached.directories.push(dir);
    }
    detached.interfaces.sort();
    detached.interfaces.dedup();
    Ok(detached)
}

fn layouts(bpffs: &Path) -> Result<Vec<PathBuf>, SiteError> {
    subdirectories(bpffs, is_layout)
}

fn is_layout(name: &str) -> bool {
    name.strip_prefix('v')
        .is_some_and(|version| version.parse::<u32>().is_ok())
}

fn subdirectories(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, SiteError> {
    let mut found: Vec<PathBuf> = entries(dir)?
        .into_iter()
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(&wanted) && path.is_dir()
        })
        .collect();
    found.sort();
    Ok(found)
}

pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, SiteError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    read().map_err(SiteError::pin(dir, "reading the directory"))
}

/// Removes a directory of pins, links first: no frame is steered by a half-removed plane.
fn remove(dir: &Path, links: Fate) -> Result<(), SiteError> {
    let mut pins = entries(dir)?;
    pins.sort_by_key(|path| !links::is_link(path));
    for pin in pins {
        match links {
            Fate::End if links::is_link(&pin) => links::end(&pin)?,
            _ => fs::remove_file(&pin).map_err(SiteError::pin(&pin, "removing the pin"))?,
        }
    }
    fs::remove_dir(dir).map_err(SiteError::pin(dir, "removing the directory"))
}

/// What becomes of links whose pins are removed.
#[derive(Clone, Copy)]
enum Fate {
    /// They end.
    End,
    /// They go on if they are pinned elsewhere too.
    Unpin,
}
