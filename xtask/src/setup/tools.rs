//! The programs that tests and the demo run, and where they come from.

use crate::command;

/// A program that has to be there.
pub(crate) struct Tool {
    /// Its name on `PATH`.
    pub(crate) program: &'static str,
    /// The Debian package that holds it.
    pub(crate) package: &'static str,
    /// What it is needed for.
    pub(crate) why: &'static str,
}

impl Tool {
    /// Whether the program is on this machine, wherever it came from.
    pub(crate) fn is_there(&self) -> bool {
        command::which(self.program).is_some()
    }
}

/// What the tests, the demo and the benchmarks run.
pub(crate) const LAB: [Tool; 10] = [
    Tool {
        program: "ip",
        package: "iproute2",
        why: "Builds the network of namespaces that stands for switch, load balancer and nodes.",
    },
    Tool {
        program: "sipp",
        package: "sip-tester",
        why: "SIPp plays the switch: it makes calls and counts those that fail.",
    },
    Tool {
        program: "kamailio",
        package: "kamailio",
        why: "Kamailio plays the SIP server of a node.",
    },
    Tool {
        program: "bird",
        package: "bird2",
        why: "BIRD announces VIPs, and plays the router that follows it.",
    },
    Tool {
        program: "bpftool",
        package: "bpftool",
        why: "Loads the object with libbpf, to hold aya and libbpf to the same result.",
    },
    Tool {
        program: "ethtool",
        package: "ethtool",
        why: "Turns checksum offload off, which would leave frames on veth with half a checksum.",
    },
    Tool {
        program: "tcpdump",
        package: "tcpdump",
        why: "Captures what was on a link when a test fails.",
    },
    Tool {
        program: "sysctl",
        package: "procps",
        why: "Sets how the nodes' namespaces answer ARP for the VIP.",
    },
    Tool {
        program: "nsenter",
        package: "util-linux",
        why: "Runs a program inside a namespace.",
    },
    Tool {
        program: "gcc",
        package: "gcc",
        why: "Links what rustc compiles.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_and_a_missing_one_is_not() {
        let tool = |program| Tool {
            program,
            package: "",
            why: "",
        };
        assert!(tool("sh").is_there());
        assert!(!tool("no-program-has-this-name").is_there());
    }
}
