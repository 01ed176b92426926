//! A data plane's life in the kernel: attached, pinned, adopted, replaced, detached. Needs root.
//!
//! Every test has a network namespace and a BPF file system of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lb_user::netlink::{Link, Netlink};
use lb_user::plane::attach::{AttachError, Attachment, How, Wanted, XdpMode};
use lb_user::plane::bpffs::{BpffsError, Prepared};
use lb_user::plane::shape::ShapeError;
use lb_user::plane::site::{Detached, SiteError, detach};
use lb_user::plane::{LoadOptions, Maps, Site, layout_dir};

/// The two ends of a cable in a namespace of the test's own, and a directory for pins.
struct Lab {
    bpffs: PathBuf,
    /// What is mounted, to be unmounted.
    mount: PathBuf,
}

impl Lab {
    /// Moves this thread into a fresh network namespace. It stays there; tests have threads of
    /// their own.
    fn new(name: &str) -> Self {
        sweep();
        unshare_network();
        ip("link add pm0 type veth peer name pm1");
        for interface in ["lo", "pm0", "pm1"] {
            ip(&format!("link set {interface} up"));
        }
        let mount = std::env::temp_dir().join(format!("pm-{}-life-{name}", std::process::id()));
        Self {
            bpffs: mount.clone(),
            mount,
        }
    }

    fn claim(&self) -> Site {
        Site::claim(&self.bpffs).expect("root").0
    }

    /// A controller's start as far as the kernel is concerned; then its end.
    fn serve(&self, interfaces: &[Wanted]) -> Result<Attachment, AttachError> {
        let site = self.claim();
        let opened = site.open(&LoadOptions { max_pins: 64 })?;
        site.attach(&opened.plane, interfaces)
    }

    /// Directories of pins, of any layout and in any state.
    fn directories(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.bpffs).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.is_dir()).collect()
    }

    fn pins(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(layout_dir(&self.bpffs))
            .expect("a site")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        let _ = fs::remove_dir(&self.mount);
    }
}

/// Removes what tests that were killed have left behind.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let pid = name
            .strip_prefix("pm-")
            .and_then(|rest| rest.split_once("-life-"));
        if pid.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            drop(Lab {
                bpffs: path.clone(),
                mount: path,
            });
        }
    }
}

#[expect(unsafe_code, reason = "unshare")]
fn unshare_network() {
    // SAFETY: only this thread's network namespace changes.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "this takes root");
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

fn wanted(name: &str, mode: XdpMode) -> Wanted {
    Wanted {
        name: name.to_owned(),
        mode,
    }
}

fn auto(name: &str) -> [Wanted; 1] {
    [wanted(name, XdpMode::Auto)]
}

fn link(name: &str) -> Link {
    Netlink::open()
        .expect("netlink")
        .link_named(name)
        .expect("netlink")
        .expect("an interface")
}

/// The program on an interface.
fn program(name: &str) -> Option<u32> {
    link(name).xdp.first().map(|program| program.id)
}

#[test]
fn what_is_attached_stays_when_its_controller_goes() {
    let lab = Lab::new("stays");
    let attachment = lab.serve(&auto("pm0")).expect("attached");
    assert_eq!(attachment.interfaces.len(), 1);
    let attached = &attachment.interfaces[0];
    assert_eq!(
        (attached.name.as_str(), attached.ifindex),
        ("pm0", link("pm0").index)
    );
    assert_eq!(attached.how, How::Created { not_native: None });
    assert!(!attached.is_generic && program("pm0").is_some());
    let maps = Maps::open(&layout_dir(&lab.bpffs)).expect("pinned maps");
    assert_eq!(maps.max_pins(), 64);
    assert!(lab.pins().contains(&"link-pm0".to_owned()));
}

#[test]
fn a_restart_adopts_the_maps_and_replaces_the_program() {
    let lab = Lab::new("adopts");
    lab.serve(&auto("pm0")).expect("attached");
    let (pins, first) = (lab.pins(), program("pm0").expect("a program"));
    let dir = layout_dir(&lab.bpffs);
    let turnout = lb_common::maps::Turnout { word: 3, term: 9 };
    Maps::open(&dir)
        .expect("maps")
        .set_turnout(turnout)
        .expect("written");
    let mut last = first;
    for _ in 0..5 {
        let attachment = lab.serve(&auto("pm0")).expect("attached");
        assert_eq!(
            attachment.interfaces[0].how,
            How::Replaced { program_id: last }
        );
        last = program("pm0").expect("a program");
        assert_ne!(last, first);
    }
    assert_eq!(
        Maps::open(&dir).expect("maps").turnout().expect("read"),
        turnout
    );
    assert_eq!(lab.pins(), pins, "nothing grows");
}

#[test]
fn interfaces_come_and_go_with_the_configuration() {
    let lab = Lab::new("interfaces");
    lab.serve(&auto("pm0")).expect("attached");
    let kept = program("pm0");
    let both = [wanted("pm0", XdpMode::Auto), wanted("pm1", XdpMode::Auto)];
    let attachment = lab.serve(&both).expect("attached");
    assert!(matches!(attachment.interfaces[0].how, How::Replaced { .. }));
    assert!(matches!(attachment.interfaces[1].how, How::Created { .. }));
    assert_ne!(program("pm0"), kept);
    let attachment = lab.serve(&auto("pm1")).expect("attached");
    assert_eq!(attachment.released, ["pm0"]);
    assert_eq!((program("pm0"), program("pm1").is_some()), (None, true));
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() {
    let lab = Lab::new("anew");
    lab.serve(&auto("pm0")).expect("attached");
    ip("link del pm0");
    ip("link add pm0 type veth peer name pm1");
    let attachment = lab.serve(&auto("pm0")).expect("attached");
    assert!(matches!(attachment.interfaces[0].how, How::Created { .. }));
    assert!(program("pm0").is_some());
}

#[test]
fn a_renamed_interface_keeps_its_link() {
    let lab = Lab::new("renamed");
    lab.serve(&auto("pm0")).expect("attached");
    ip("link set pm0 down");
    ip("link set pm0 name pm0.7");
    let attachment = lab.serve(&auto("pm0.7")).expect("attached");
    assert!(matches!(attachment.interfaces[0].how, How::Replaced { .. }));
    assert_eq!(attachment.released, [] as [&str; 0]);
    assert!(lab.pins().contains(&"link-pm0%2e7".to_owned()));
}

#[test]
fn another_layout_hands_its_links_over() {
    let lab = Lab::new("layout");
    lab.serve(&auto("pm0")).expect("attached");
    let former = program("pm0").expect("a program");
    fs::rename(layout_dir(&lab.bpffs), lab.bpffs.join("v0")).expect("renamed");
    let attachment = lab.serve(&auto("pm0")).expect("attached");
    assert_eq!(
        attachment.interfaces[0].how,
        How::Replaced { program_id: former }
    );
    assert!(!lab.bpffs.join("v0").exists());
}

#[test]
fn where_the_driver_cannot_the_network_stack_does_and_says_so() {
    let lab = Lab::new("generic");
    ip("link add pm-br type bridge");
    let refused = lab
        .serve(&[wanted("pm-br", XdpMode::Native)])
        .expect_err("no native XDP");
    assert!(
        matches!(refused, AttachError::Refused { mode: "native", .. }),
        "{refused}"
    );
    assert_eq!(lab.directories(), [] as [PathBuf; 0], "nothing is left");
    let attachment = lab.serve(&auto("pm-br")).expect("attached");
    let attached = &attachment.interfaces[0];
    assert!(attached.is_generic);
    assert!(matches!(&attached.how, How::Created { not_native: Some(why) } if !why.is_empty()));
}

#[test]
fn a_foreign_program_is_named_and_left_alone() {
    let lab = Lab::new("foreign");
    lab.serve(&auto("pm0")).expect("attached");
    let foreign = program("pm0").expect("a program");
    let other = Lab {
        bpffs: lab.bpffs.join("other"),
        mount: lab.bpffs.join("nothing"),
    };
    let error = other.serve(&auto("pm0")).expect_err("taken");
    let AttachError::Foreign {
        id, program: by, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*id, foreign, "{error:?}");
    assert_eq!(by, "named \"pointsman\"", "{error:?}");
    assert_eq!(program("pm0"), Some(foreign));
    assert_eq!(other.directories(), [] as [PathBuf; 0], "nothing is left");
}

#[test]
fn nothing_is_touched_when_one_interface_is_wrong() {
    let lab = Lab::new("wrong");
    for (name, what) in [("nothing", "there is none"), ("lo", "not an Ethernet")] {
        let both = [wanted("pm0", XdpMode::Auto), wanted(name, XdpMode::Auto)];
        let error = lab.serve(&both).expect_err(name);
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(program("pm0"), None);
    }
}

#[test]
fn a_pin_of_another_shape_is_refused_by_name() {
    let lab = Lab::new("shape");
    lab.serve(&auto("pm0")).expect("attached");
    let served = program("pm0");
    let pin = layout_dir(&lab.bpffs).join("KEYS");
    let replace = |arguments: &str| {
        fs::remove_file(&pin).expect("a pin");
        let output = Command::new("bpftool")
            .args(["map", "create"])
            .arg(&pin)
            .args(arguments.split(' '))
            .args(["name", "KEYS"])
            .output()
            .expect("bpftool");
        assert!(output.status.success(), "{output:?}");
    };
    let size = size_of::<lb_common::maps::BeaconKey>();
    let shapes = [
        (
            "type array key 4 value 8 entries 256 flags 0x80".to_owned(),
            "value size 8",
        ),
        (
            format!("type array key 4 value {size} entries 255 flags 0x80"),
            "size 255",
        ),
        (
            format!("type array key 4 value {size} entries 256"),
            "flags 0x0",
        ),
        (
            format!("type hash key 4 value {size} entries 256 flags 0x80"),
            "type Hash",
        ),
    ];
    for (arguments, what) in shapes {
        replace(&arguments);
        let error = lab.serve(&auto("pm0")).expect_err(what).to_string();
        assert!(
            error.contains("/v1/KEYS") && error.contains(what),
            "{error}"
        );
        assert!(error.contains("pointsman detach"), "{error}");
    }
    fs::remove_file(&pin).expect("a pin");
    let error = lab.serve(&auto("pm0")).expect_err("missing");
    assert!(
        matches!(&error, AttachError::Site(SiteError::Shape(ShapeError::Missing { path })) if *path == pin),
        "{error}"
    );
    assert_eq!(program("pm0"), served, "it goes on steering");
}

#[test]
fn detaching_is_final_and_may_be_repeated() {
    let lab = Lab::new("detach");
    assert_eq!(
        detach(&lab.bpffs).expect("nothing to do"),
        Detached::default()
    );
    lab.serve(&[
        wanted("pm0", XdpMode::Auto),
        wanted("pm1", XdpMode::Generic),
    ])
    .expect("attached");
    assert!(link("pm1").xdp[0].is_generic);
    let detached = detach(&lab.bpffs).expect("detached");
    assert_eq!(detached.interfaces, ["pm0", "pm1"]);
    assert_eq!(
        (program("pm0"), program("pm1"), detached.controller),
        (None, None, None)
    );
    assert_eq!(
        detach(&lab.bpffs).expect("nothing to do"),
        Detached::default()
    );
}

#[test]
fn two_controllers_do_not_share_a_directory() {
    let lab = Lab::new("claim");
    let (first, prepared) = Site::claim(&lab.bpffs).expect("root");
    assert!(matches!(prepared, Prepared::Mounted { at, .. } if at == lab.bpffs));
    let error = Site::claim(&lab.bpffs).err().expect("taken");
    let own = std::process::id();
    assert!(
        matches!(error, SiteError::Bpffs(BpffsError::Taken { holder, .. }) if holder == Some(own)),
        "{error}"
    );
    drop(first);
    let (_again, prepared) = Site::claim(&lab.bpffs).expect("free again");
    assert_eq!(prepared, Prepared::Ready);
}

#[test]
fn no_file_is_hidden_by_a_mount() {
    let lab = Lab::new("hidden");
    fs::create_dir(&lab.bpffs).expect("a directory");
    let file = lab.bpffs.join("somebody's");
    fs::write(&file, "").expect("a file");
    let error = Site::claim(&lab.bpffs).err().expect("occupied");
    assert!(
        matches!(error, SiteError::Bpffs(BpffsError::Occupied { .. })),
        "{error}"
    );
    fs::remove_file(file).expect("own file");
}

#[test]
fn what_a_killed_first_start_left_is_cleared_away() {
    let lab = Lab::new("killed");
    lab.serve(&auto("pm0")).expect("attached");
    fs::rename(layout_dir(&lab.bpffs), lab.bpffs.join("new-1")).expect("renamed");
    let attachment = lab.serve(&auto("pm0")).expect("attached");
    assert!(matches!(attachment.interfaces[0].how, How::Created { .. }));
    assert!(!lab.bpffs.join("new-1").exists());
}
