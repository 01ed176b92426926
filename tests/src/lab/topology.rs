//! Laying out a lab: which machines there are, their addresses, and how they are plugged together.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::host::{PORT, Port};
use super::pass::PassProgram;
use super::{Bpffs, Host, Namespace, command, held};
use held::Held;

/// How the LB is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arms {
    /// In and out by one port.
    #[default]
    One,
    /// In by `eth0`, out by `eth1`, where the nodes are. The switch has a leg there too: answers
    /// take the direct way, as they do with one arm.
    Two,
}

/// What a lab should be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Access nodes, 1 to 80; their ids are 1 up.
    pub nodes: u16,
    /// How the LB is connected.
    pub arms: Arms,
}

/// The UDP port of the VIP.
const SIP_PORT: u16 = 5060;

const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;
/// Last byte of each address.
const SWITCH: u8 = 1;
/// Beside the LB, where no node's address comes.
const STAND_BY: u8 = 9;
const LB: u8 = 10;
const FIRST_NODE: u8 = 11;
const VIP: u8 = 100;

/// A running lab. What runs in it ends before it does.
#[derive(Debug)]
pub struct Lab {
    // In the order in which they are to be dropped: the pins hold the LB's program in place, which
    // holds its port; namespaces hold what is plugged into them.
    bpffs: Bpffs,
    stand_by: Option<StandBy>,
    _passes: Vec<PassProgram>,
    /// The switch.
    pub switch: Host,
    /// The load balancer.
    pub lb: Host,
    /// The access nodes; node `n` is at `n - 1`.
    pub nodes: Vec<Host>,
    pub(super) bridge: Namespace,
    directory: Directory,
    plan: Plan,
}

/// The second LB.
#[derive(Debug)]
struct StandBy {
    bpffs: Bpffs,
    host: Host,
}

/// A controller's id: the LB's, and that of its stand-by.
pub const CONTROLLERS: [u16; 2] = [1, 2];

impl Lab {
    /// Builds a lab. Takes about half a second for four nodes.
    ///
    /// # Errors
    /// Not root, or a command of the system is missing or failed.
    pub fn start(plan: Plan) -> Result<Self> {
        let lab = Self::build(plan, false)?;
        lab.lb.assign(PORT, lab.vip_v4().ip(), 32)?;
        lab.lb.assign(PORT, lab.vip_v6().ip(), 128)?;
        Ok(lab)
    }

    /// Builds a lab with two LBs, of which neither has the VIPs: their controllers move them.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_pair(plan: Plan) -> Result<Self> {
        Self::build(plan, true)
    }

    /// A lab of so many nodes, whose LB has one port.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn of(nodes: u16) -> Result<Self> {
        let arms = Arms::One;
        Self::start(Plan { nodes, arms })
    }

    /// A lab of so many nodes and two LBs, each with one port.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn pair_of(nodes: u16) -> Result<Self> {
        let arms = Arms::One;
        Self::start_pair(Plan { nodes, arms })
    }

    fn build(plan: Plan, is_pair: bool) -> Result<Self> {
        held::start();
        static LABS: AtomicU32 = AtomicU32::new(1);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = |part: &str| format!("{}{number}-{part}", held::prefix());

        let path = std::env::temp_dir().join(name("lab"));
        // What controllers and nodes keep of leases must be on the disk before they go on. Machines of a
        // pair have a disk each; those of a lab would share one, with whatever else writes there.
        let directory = Directory::create(path, is_pair)?;
        let bpffs = Bpffs::mount(directory.path.join("bpf"))?;
        let bridge = Namespace::create(name("bridge"))?;
        for network in Network::all(plan.arms) {
            bridge.ip(&format!(
                "link add {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                network.bridge
            ))?;
            bridge.ip(&format!("link set {} up", network.bridge))?;
        }
        let nodes_network = Network::of_nodes(plan.arms);
        let host = |part: &str, network: Network, last: u8| -> Result<Host> {
            let mut host = Host {
                namespace: Namespace::create(name(part))?,
                v4: network.v4(last),
                v6: network.v6(last),
                mac: network.mac(last),
                plugs: Vec::new(),
            };
            network.plug(&mut host, PORT, &bridge, part, last)?;
            Ok(host)
        };
        let mut switch = host("switch", Network::SWITCH_SIDE, SWITCH)?;
        if plan.arms == Arms::Two {
            nodes_network.plug(&mut switch, "eth1", &bridge, "switch1", SWITCH)?;
        }
        let mut passes = Vec::new();
        let mut balancer = |part: &str, last: u8| -> Result<Host> {
            let mut lb = host(part, Network::SWITCH_SIDE, last)?;
            if plan.arms == Arms::Two {
                nodes_network.plug(&mut lb, "eth1", &bridge, &format!("{part}1"), last)?;
            }
            for plug in &lb.plugs {
                passes.push(PassProgram::attach(&bridge, &plug.name)?);
            }
            Ok(lb)
        };
        let lb = balancer("lb", LB)?;
        let stand_by = if is_pair {
            let bpffs = Bpffs::mount(directory.path.join("bpf2"))?;
            let host = balancer("standby", STAND_BY)?;
            Some(StandBy { bpffs, host })
        } else {
            None
        };
        let mut nodes = Vec::new();
        for index in 0..u8::try_from(plan.nodes).context("too many nodes")? {
            let node = host(
                &format!("node{}", index + 1),
                nodes_network,
                FIRST_NODE + index,
            )?;
            take_in_for_vip(&node, plan.arms)?;
            nodes.push(node);
        }
        Ok(Self {
            bpffs,
            stand_by,
            _passes: passes,
            switch,
            lb,
            nodes,
            bridge,
            directory,
            plan,
        })
    }

    /// Whether there are two LBs.
    pub fn is_pair(&self) -> bool {
        self.stand_by.is_some()
    }

    /// Ids of the controllers.
    pub fn controllers(&self) -> &'static [u16] {
        if self.is_pair() {
            &CONTROLLERS
        } else {
            &CONTROLLERS[..1]
        }
    }

    /// The LB of this controller.
    ///
    /// # Panics
    /// There is no such controller.
    pub fn balancer(&self, controller: u16) -> &Host {
        match (controller, &self.stand_by) {
            (1, _) => &self.lb,
            (2, Some(stand_by)) => &stand_by.host,
            _ => panic!("no controller {controller} in this lab"),
        }
    }

    /// A BPF file system of this controller's own.
    ///
    /// # Panics
    /// There is no such controller.
    pub fn bpffs_of(&self, controller: u16) -> &Path {
        match (controller, &self.stand_by) {
            (1, _) => self.bpffs.path(),
            (2, Some(stand_by)) => stand_by.bpffs.path(),
            _ => panic!("no controller {controller} in this lab"),
        }
    }

    /// The VIP, IPv4.
    pub fn vip_v4(&self) -> SocketAddr {
        SocketAddr::new(Network::SWITCH_SIDE.v4(VIP).into(), SIP_PORT)
    }

    /// The VIP, IPv6.
    pub fn vip_v6(&self) -> SocketAddr {
        SocketAddr::new(Network::SWITCH_SIDE.v6(VIP).into(), SIP_PORT)
    }

    /// The namespace of the bridges.
    pub fn bridge(&self) -> &Namespace {
        &self.bridge
    }

    /// How the LB is connected.
    pub fn arms(&self) -> Arms {
        self.plan.arms
    }

    /// The LB's ports.
    pub fn lb_ports(&self) -> &'static [&'static str] {
        match self.plan.arms {
            Arms::One => &[PORT],
            Arms::Two => &[PORT, "eth1"],
        }
    }

    /// The LB's port that the nodes are behind.
    pub fn lb_port_to_nodes(&self) -> &'static str {
        match self.plan.arms {
            Arms::One => PORT,
            Arms::Two => "eth1",
        }
    }

    /// The lab's own BPF file system.
    pub fn bpffs(&self) -> &Path {
        self.bpffs.path()
    }

    /// The lab's own directory, for configuration, logs and state.
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// Ids of the nodes.
    pub fn node_ids(&self) -> std::ops::RangeInclusive<u16> {
        1..=self.plan.nodes
    }

    /// The node with this id.
    ///
    /// # Panics
    /// There is no such node.
    pub fn node(&self, id: u16) -> &Host {
        &self.nodes[usize::from(id) - 1]
    }
}

/// Has a node take in what comes for the VIP without ever saying that the VIP is there.
fn take_in_for_vip(node: &Host, arms: Arms) -> Result<()> {
    for which in ["all", "default", PORT] {
        node.namespace
            .sysctl(&format!("net/ipv4/conf/{which}/arp_ignore"), "1")?;
        node.namespace
            .sysctl(&format!("net/ipv4/conf/{which}/arp_announce"), "2")?;
    }
    let (v4, v6) = (Network::SWITCH_SIDE.v4(VIP), Network::SWITCH_SIDE.v6(VIP));
    node.assign("lo", v4.into(), 32)?;
    node.assign("lo", v6.into(), 128)?;
    if arms == Arms::Two {
        let (near, far) = (Network::NODE_SIDE, Network::SWITCH_SIDE);
        for (to, via) in [
            (IpAddr::from(far.v4(SWITCH)), IpAddr::from(near.v4(SWITCH))),
            (far.v6(SWITCH).into(), near.v6(SWITCH).into()),
        ] {
            node.namespace
                .ip(&format!("route add {to} via {via} dev {PORT}"))?;
        }
    }
    Ok(())
}

/// One of the lab's networks.
#[derive(Clone, Copy)]
struct Network {
    bridge: &'static str,
    number: u8,
}

impl Network {
    const SWITCH_SIDE: Self = Self {
        bridge: "br0",
        number: 77,
    };
    const NODE_SIDE: Self = Self {
        bridge: "br1",
        number: 78,
    };

    fn all(arms: Arms) -> &'static [Self] {
        match arms {
            Arms::One => &[Self::SWITCH_SIDE],
            Arms::Two => &[Self::SWITCH_SIDE, Self::NODE_SIDE],
        }
    }

    fn of_nodes(arms: Arms) -> Self {
        match arms {
            Arms::One => Self::SWITCH_SIDE,
            Arms::Two => Self::NODE_SIDE,
        }
    }

    fn v4(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.number, 0, last)
    }

    /// Written so that the IPv6 address reads like the IPv4 one: `fd77::11`.
    fn v6(self, last: u8) -> Ipv6Addr {
        let as_read = |number: u8| u16::from_str_radix(&number.to_string(), 16).unwrap_or(0);
        Ipv6Addr::new(
            0xfd00 | as_read(self.number),
            0,
            0,
            0,
            0,
            0,
            0,
            as_read(last),
        )
    }

    fn mac(self, last: u8) -> [u8; 6] {
        [2, 0, 0, 0, self.number, last]
    }

    fn plug(
        self,
        host: &mut Host,
        port: &str,
        bridge: &Namespace,
        plug: &str,
        last: u8,
    ) -> Result<()> {
        let mac = self.mac(last);
        host.plug(&Port {
            name: port,
            mac,
            bridge,
            master: self.bridge,
            plug,
        })?;
        host.assign(port, self.v4(last).into(), PREFIX_V4)?;
        host.assign(port, self.v6(last).into(), PREFIX_V6)
    }
}

/// A directory that goes with its owner.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    is_in_memory: bool,
}

impl Directory {
    fn create(path: PathBuf, is_in_memory: bool) -> Result<Self> {
        Held::Directory(path.clone()).hold();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        if is_in_memory {
            Held::Mount(path.clone()).hold();
            command::run("mount", &format!("-t tmpfs lab {}", path.display()))?;
        }
        Ok(Self { path, is_in_memory })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_in_memory {
            Held::Mount(self.path.clone()).release();
        }
        Held::Directory(self.path.clone()).release();
    }
}
