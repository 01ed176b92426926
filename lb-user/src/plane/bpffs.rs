//! The directory of pins: on a BPF file system, and one controller's alone.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// `BPF_FS_MAGIC` of <linux/magic.h>.
const MAGIC: i64 = 0xcafe_4a11;
/// Where systemd and everybody else mounts the BPF file system.
const USUAL: &str = "/sys/fs/bpf";
/// How long to wait for another controller that is ending: the kernel frees a killed one's maps, and
/// with them its claim, some time after the signal.
const PATIENCE: Duration = Duration::from_secs(2);

/// The directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BpffsError {
    /// A system call on the directory failed.
    #[error("{path}: {what}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Mounting there would hide files.
    #[error(
        "{path} is not on a BPF file system, and not empty: choose another `bpffs` directory, or \
         mount one there (mount -t bpf bpf {path})"
    )]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// Not on a BPF file system, so nothing can be pinned in it.
    #[error("{path} is not on a BPF file system: nothing is served from there")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Another controller serves from it.
    #[error(
        "{path}: another controller{} serves from this directory; stop it first (traffic keeps \
         flowing), or choose another `bpffs` directory",
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Taken {
        /// The directory.
        path: PathBuf,
        /// The other's process, if it can be seen.
        holder: Option<u32>,
    },
}

/// What had to be done to have the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// It is on a BPF file system already.
    Ready,
    /// A BPF file system was mounted.
    Mounted {
        /// Where.
        at: PathBuf,
        /// The mount ends with this process's mount namespace, and so would the pins.
        is_private: bool,
    },
}

/// Makes the directory, on a BPF file system that is mounted if need be: at `/sys/fs/bpf` for what
/// lies below that, else at the directory itself.
///
/// # Errors
/// [`BpffsError`].
pub fn prepare(dir: &Path) -> Result<Prepared, BpffsError> {
    let failed = |what| {
        move |source| BpffsError::Io {
            path: dir.to_owned(),
            what,
            source,
        }
    };
    let existing = dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if is_bpffs(existing).map_err(failed("asking for its file system"))? {
        fs::create_dir_all(dir).map_err(failed("making the directory"))?;
        return Ok(Prepared::Ready);
    }
    let at = if dir.starts_with(USUAL) && Path::new(USUAL).is_dir() {
        Path::new(USUAL)
    } else {
        fs::create_dir_all(dir).map_err(failed("making the directory"))?;
        let mut content = fs::read_dir(dir).map_err(failed("reading the directory"))?;
        if content.next().is_some() {
            return Err(BpffsError::Occupied {
                path: dir.to_owned(),
            });
        }
        dir
    };
    mount(at).map_err(failed("mounting a BPF file system (this takes root)"))?;
    fs::create_dir_all(dir).map_err(failed("making the directory"))?;
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    // Whose namespace the first process's is cannot always be seen.
    let is_private =
        namespace("1").is_some_and(|first| namespace("self").is_some_and(|own| own != first));
    Ok(Prepared::Mounted {
        at: at.to_owned(),
        is_private,
    })
}

/// Whether a path lies on a BPF file system.
///
/// # Errors
/// What `statfs` says.
#[expect(unsafe_code, reason = "statfs")]
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a `statfs`, and the kernel overwrites it.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is terminated, and the kernel writes one `statfs`.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut facts) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(facts.f_type as i64 & 0xffff_ffff == MAGIC)
}

#[expect(unsafe_code, reason = "mount")]
fn mount(at: &Path) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_bytes())?;
    let name = c"bpf".as_ptr();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RELATIME;
    // SAFETY: all strings are terminated and outlive the call.
    let result =
        unsafe { libc::mount(name, at.as_ptr(), name, flags, c"mode=0700".as_ptr().cast()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The sole right to serve from a directory, for as long as this value, and its process, lives.
#[derive(Debug)]
pub struct Claim {
    _dir: File,
}

impl Claim {
    /// Claims the directory. Waits a little for a holder that is just ending.
    ///
    /// # Errors
    /// [`BpffsError::Taken`] when another process has it.
    pub fn take(dir: &Path) -> Result<Self, BpffsError> {
        let failed = |source| BpffsError::Io {
            path: dir.to_owned(),
            what: "locking",
            source,
        };
        let file = File::open(dir).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lock(&file) {
                Ok(()) => return Ok(Self { _dir: file }),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(failed(error));
                }
                Err(_) if Instant::now() < deadline => thread::sleep(PATIENCE / 20),
                Err(_) => {
                    return Err(BpffsError::Taken {
                        path: dir.to_owned(),
                        holder: holder(dir),
                    });
                }
            }
        }
    }
}

#[expect(unsafe_code, reason = "flock")]
fn lock(file: &File) -> io::Result<()> {
    // SAFETY: a descriptor that is open.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The process that has claimed a directory, if one has and it can be seen.
pub fn holder(dir: &Path) -> Option<u32> {
    let facts = fs::metadata(dir).ok()?;
    let (major, minor) = (libc::major(facts.dev()), libc::minor(facts.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", facts.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 4711 00:2a:137 0 EOF
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, "WRITE", pid, inode, ..] if inode == place => {
                pid.parse().ok().filter(|pid| *pid != 0)
            }
            _ => None,
        }
    })
}
