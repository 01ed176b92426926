//! Attaching the steering program to network interfaces, so that it stays when the controller goes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::programs::loaded_programs;

use super::links::{self, Links, PinnedLink};
use super::load::{LoadError, Plane};
use super::site::{Site, SiteError};
use super::{object, sys};
use crate::netlink::{Link, Netlink, NetlinkError};

/// `XDP_FLAGS_SKB_MODE`.
const GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
const NATIVE: u32 = 1 << 2;

/// How the program is to run on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Native if the driver can, else generic, said aloud.
    #[default]
    Auto,
    /// In the driver, before anything else sees the frame.
    Native,
    /// In the network stack: works with any interface, several times slower.
    Generic,
}

/// An interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// How.
    pub mode: XdpMode,
}

/// An interface that is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Its number.
    pub ifindex: u32,
    /// The program runs in the network stack.
    pub is_generic: bool,
    /// How it came to be attached.
    pub how: How,
}

/// How an interface came to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// By a new link.
    Created {
        /// Why not natively, when that was tried first.
        not_native: Option<String>,
    },
    /// The link was there, and its program was replaced.
    Replaced {
        /// The program before.
        program_id: u32,
    },
}

/// What attaching did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Every interface that was wanted.
    pub interfaces: Vec<Attached>,
    /// Interfaces that were attached to, and are not wanted any more or gone.
    pub released: Vec<String>,
}

/// The program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No such interface.
    #[error("interface {name}: there is none of this name here (`ip link` lists them)")]
    NoInterface {
        /// The name.
        name: String,
    },
    /// Not Ethernet: frames have no addresses to rewrite.
    #[error("interface {name}: not an Ethernet, so its frames cannot be steered")]
    NotEthernet {
        /// The name.
        name: String,
    },
    /// Somebody else's XDP program is there.
    #[error(
        "interface {name}: another XDP program is attached (id {id}, {program}); it is left alone. \
         `ip link show {name}` and `bpftool prog show id {id}` tell whose it is; if it is a \
         pointsman's with another `bpffs` directory, `pointsman detach` with that one's \
         configuration removes it"
    )]
    Foreign {
        /// The interface.
        name: String,
        /// The program's id.
        id: u32,
        /// The program's name.
        program: String,
    },
    /// The kernel or the driver refuses.
    #[error("interface {name}: {mode} XDP is refused{hint}")]
    Refused {
        /// The interface.
        name: String,
        /// In which mode.
        mode: &'static str,
        /// What to do.
        hint: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The links could not be looked at.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The pins.
    #[error(transparent)]
    Site(#[from] SiteError),
}

impl From<LoadError> for AttachError {
    fn from(error: LoadError) -> Self {
        Self::Site(error.into())
    }
}

impl Site {
    /// Attaches the program to all wanted interfaces and pins everything. Where a link exists, its
    /// program is replaced between two packets.
    ///
    /// All or nothing for a first start: when an interface fails, nothing stays attached.
    ///
    /// # Errors
    /// [`AttachError`]. Interfaces are looked at before the first is touched.
    pub fn attach(&self, plane: &Plane, wanted: &[Wanted]) -> Result<Attachment, AttachError> {
        let result = self.try_attach(plane, wanted);
        if result.is_err() {
            self.abandon();
        }
        result
    }

    fn try_attach(&self, plane: &Plane, wanted: &[Wanted]) -> Result<Attachment, AttachError> {
        let mut netlink = Netlink::open()?;
        let links = self.links()?;
        let mut found = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            found.push((wanted, inspect(&mut netlink, &links, &wanted.name)?));
        }
        self.pin(plane)?;
        let name = object::STEERING;
        let program = plane.program(name).ok_or(LoadError::NoProgram(name))?;
        let program = program
            .fd()
            .map_err(|source| SiteError::Program { name, source })?
            .as_fd();
        let mut attachment = Attachment::default();
        let mut pins = Vec::with_capacity(found.len());
        for (wanted, link) in found {
            let (how, pin) = match links.at(link.index) {
                Some(pinned) => self.replace(pinned, program, &link)?,
                None => self.create(wanted.mode, program, &link)?,
            };
            pins.push(pin);
            let now = netlink.link_at(link.index)?;
            attachment.interfaces.push(Attached {
                name: link.name,
                ifindex: link.index,
                is_generic: now.is_some_and(|now| now.xdp.iter().any(|xdp| xdp.is_generic)),
                how,
            });
        }
        // What is not wanted, not there any more, or pinned under another name by now.
        for link in links.iter().filter(|link| !pins.contains(&link.path)) {
            let is_kept = |now: &Attached| now.ifindex == link.facts.ifindex;
            if attachment.interfaces.iter().any(is_kept) {
                unpin(&link.path)?;
            } else {
                attachment.released.push(link.name());
                links::end(&link.path)?;
            }
        }
        self.settle()?;
        Ok(attachment)
    }

    /// Puts the program into a link; pins it anew where it was in another layout's directory, or
    /// under the interface's former name.
    fn replace(
        &self,
        pinned: &PinnedLink,
        program: BorrowedFd<'_>,
        link: &Link,
    ) -> Result<(How, PathBuf), AttachError> {
        sys::link_update(pinned.fd.as_fd(), program).map_err(|source| AttachError::Refused {
            name: link.name.clone(),
            mode: "replacing the program of",
            hint: "; `pointsman detach` and a fresh start get around it",
            source,
        })?;
        let path = self.workplace().join(links::pin_name(&link.name));
        if path != pinned.path {
            pin(pinned.fd.as_fd(), &path)?;
        }
        Ok((
            How::Replaced {
                program_id: pinned.facts.program_id,
            },
            path,
        ))
    }

    /// Makes a link and pins it.
    fn create(
        &self,
        mode: XdpMode,
        program: BorrowedFd<'_>,
        link: &Link,
    ) -> Result<(How, PathBuf), AttachError> {
        let refused = |mode, hint| {
            let name = link.name.clone();
            move |source| AttachError::Refused {
                name,
                mode,
                hint,
                source,
            }
        };
        let try_mode = |flags| sys::link_create(program, link.index, flags);
        let (fd, not_native) = match mode {
            XdpMode::Generic => (try_mode(GENERIC).map_err(refused("generic", ""))?, None),
            XdpMode::Native => {
                let hint = "; with mode = \"auto\" or \"generic\" it is run by the network stack";
                (try_mode(NATIVE).map_err(refused("native", hint))?, None)
            }
            XdpMode::Auto => match try_mode(NATIVE) {
                Ok(fd) => (fd, None),
                Err(error) if is_about_the_driver(&error) => (
                    try_mode(GENERIC).map_err(refused("generic", ""))?,
                    Some(error.to_string()),
                ),
                Err(error) => return Err(refused("native", "")(error)),
            },
        };
        let path = self.workplace().join(links::pin_name(&link.name));
        pin(fd.as_fd(), &path)?;
        Ok((How::Created { not_native }, path))
    }
}

/// Pins a link in place of whatever has the name: the link of an interface that is gone, or one
/// that is open here and will be pinned elsewhere.
fn pin(link: BorrowedFd<'_>, path: &Path) -> Result<(), SiteError> {
    unpin(path)?;
    sys::pin(link, path).map_err(SiteError::pin(path, "pinning the link"))
}

fn unpin(path: &Path) -> Result<(), SiteError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SiteError::pin(path, "removing the pin")(error))
        }
        _ => Ok(()),
    }
}

/// The interface, if it can be attached to.
fn inspect(netlink: &mut Netlink, links: &Links, name: &str) -> Result<Link, AttachError> {
    let named = || name.to_owned();
    let link = netlink
        .link_named(name)?
        .ok_or_else(|| AttachError::NoInterface { name: named() })?;
    if link.mac.is_none() {
        return Err(AttachError::NotEthernet { name: named() });
    }
    let ours = links.at(link.index).map(|ours| ours.facts.program_id);
    if let Some(foreign) = link.xdp.iter().find(|program| Some(program.id) != ours) {
        let id = foreign.id;
        return Err(AttachError::Foreign {
            name: named(),
            id,
            program: program_name(id),
        });
    }
    Ok(link)
}

fn program_name(id: u32) -> String {
    let found = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id);
    let name = found.and_then(|program| program.name_as_str().map(str::to_owned));
    name.map_or("of unknown name".to_owned(), |name| {
        format!("named \"{name}\"")
    })
}

/// Whether another mode may work: the driver cannot, or not as the interface is set up.
fn is_about_the_driver(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EBUSY | libc::EEXIST | libc::ENODEV)
    )
}
