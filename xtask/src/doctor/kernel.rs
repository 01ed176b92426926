//! What the kernel offers, and what it lets this user do.

use std::fs;

use super::{Area, Check, State};
use crate::repo;

/// Kernel releases as (major, minor).
type Release = (u32, u32);

/// `bpf_xdp_load_bytes` and `bpf_xdp_store_bytes` came with 5.18.
const OLDEST: Release = (5, 18);
/// The oldest long-term kernel that this is tested on.
const RECOMMENDED: Release = (6, 1);
/// From 5.11 on, memory of BPF maps counts for the control group, not for RLIMIT_MEMLOCK.
const NO_MEMLOCK: Release = (5, 11);

/// Capabilities by their number in `linux/capability.h`.
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

pub(super) fn checks() -> Vec<Check> {
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let running = running.trim();
    let release = parse(running);
    vec![
        version(running, release),
        privileges(),
        bpffs(),
        btf(),
        jit(),
        memlock(release),
    ]
}

fn version(running: &str, release: Option<Release>) -> Check {
    let state = match release {
        Some(release) if release >= RECOMMENDED => State::Ok,
        Some(release) if release >= OLDEST => State::Advised,
        _ => State::Missing,
    };
    Check {
        area: Area::Run,
        name: "kernel",
        state,
        found: running.to_owned(),
        why: "The programs need helpers of Linux 5.18; they have been tried on 6.18 only.",
        fix: "boot a kernel of 6.1 or newer".to_owned(),
    }
}

fn privileges() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lacking = lacking(&status);
    let (state, found, fix) = match (lacking.is_empty(), repo::is_root()) {
        (true, _) => (
            State::Ok,
            CAPABILITIES.map(|(_, name)| name).join(", "),
            String::new(),
        ),
        (false, false) => {
            let fix = "run the load balancer, the tests and the demo as root (sudo)";
            (State::Advised, "not root".to_owned(), fix.to_owned())
        }
        (false, true) => {
            let fix = "this container or service was started without them: grant them there";
            (
                State::Missing,
                format!("root without {}", lacking.join(", ")),
                fix.to_owned(),
            )
        }
    };
    Check {
        area: Area::Run,
        name: "privileges",
        state,
        found,
        why: "Loading and attaching an XDP program needs them; all are dropped afterwards.",
        fix,
    }
}

fn bpffs() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_known = known
        .lines()
        .any(|line| line.split_whitespace().last() == Some("bpf"));
    let mounted = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (dir, kind) = (words.next()?, words.next()?);
        (kind == "bpf").then(|| dir.to_owned())
    });
    let (state, found) = match (is_known, mounted) {
        (_, Some(dir)) => (State::Ok, format!("mounted at {dir}")),
        (true, None) => (
            State::Advised,
            "known to the kernel, not mounted".to_owned(),
        ),
        (false, None) => (State::Missing, "unknown to the kernel".to_owned()),
    };
    Check {
        area: Area::Run,
        name: "bpffs",
        state,
        found,
        why: "The program and its maps are pinned there, so that they outlive the controller.",
        fix: match state {
            State::Missing => "boot a kernel with CONFIG_BPF_SYSCALL".to_owned(),
            _ => "mount -t bpf bpf /sys/fs/bpf".to_owned(),
        },
    }
}

fn btf() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    let there = fs::exists(path).unwrap_or(false);
    Check {
        area: Area::Run,
        name: "BTF",
        state: State::ok_or(there, State::Advised),
        found: if there {
            path.to_owned()
        } else {
            format!("no {path}")
        },
        why: "A kernel that describes its own types also takes the description of our maps.",
        fix: "boot a kernel with CONFIG_DEBUG_INFO_BTF".to_owned(),
    }
}

fn jit() -> Check {
    // Shown to root in the first network namespace only.
    let setting = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    let (state, found) = match setting.as_deref().map(str::trim) {
        Ok("0") => (State::Advised, "off"),
        Ok(_) => (State::Ok, "on"),
        Err(_) => (
            State::Unknown,
            "not shown to this user or in this namespace",
        ),
    };
    Check {
        area: Area::Run,
        name: "JIT",
        state,
        found: found.to_owned(),
        why: "Without the just-in-time compiler every instruction is interpreted, many times slower.",
        fix: "sysctl net.core.bpf_jit_enable=1".to_owned(),
    }
}

fn memlock(release: Option<Release>) -> Check {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("unknown");
    let uncounted = release.is_some_and(|release| release >= NO_MEMLOCK);
    Check {
        area: Area::Run,
        name: "memlock",
        state: State::ok_or(uncounted || limit == "unlimited", State::Advised),
        found: if uncounted {
            "this kernel does not count maps".to_owned()
        } else {
            format!("limited to {limit} bytes")
        },
        why: "Kernels before 5.11 count BPF maps as locked memory, and refuse what is over the limit.",
        fix: "ulimit -l unlimited".to_owned(),
    }
}

/// `6.18` of `6.18.44-cloud-amd64`.
fn parse(release: &str) -> Option<Release> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Which of [`CAPABILITIES`] are not in the effective set that `/proc/self/status` tells.
fn lacking(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    CAPABILITIES
        .into_iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(parse("6.18.44-fc"), Some((6, 18)));
        assert_eq!(parse("6.1-rc3"), Some((6, 1)));
        assert_eq!(parse("unknown"), None);
        assert!(parse("5.9.0") < Some(OLDEST));
        assert!(parse("5.18.0") >= Some(OLDEST));
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert!(lacking("Name:\tx\nCapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(lacking("CapEff:\t0000004000001000\n"), ["CAP_BPF"]);
        assert_eq!(lacking("").len(), CAPABILITIES.len());
    }
}
