//! VIPs that move between two machines of a lab: who answers for them, what the link believes, and
//! what the machines' own traffic says it comes from.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;

use anyhow::{Context, Result};
use lb_user::netlink::{Address, Mac, Netlink};
use lb_user::takeover::{Keeper, Mode, Mover, TakeoverError};
use lb_user::turn;
use pointsman_tests::daemons::{Daemons, PATIENCE, Settings};
use pointsman_tests::homes::Homes;
use pointsman_tests::lab::{Host, Lab, eventually};
use tokio::runtime::{Builder, Runtime};

const PORT: &str = "eth0";

fn lab() -> Result<Lab> {
    Lab::pair_of(1)
}

fn vips(lab: &Lab) -> [IpAddr; 2] {
    [lab.vip_v4().ip(), lab.vip_v6().ip()]
}

/// A controller's part that moves VIPs, on one of the lab's machines.
struct Machine<'lab> {
    host: &'lab Host,
    mover: Mover,
    keeper: Option<Keeper>,
    runtime: Option<Runtime>,
}

impl<'lab> Machine<'lab> {
    fn open(
        lab: &'lab Lab,
        host: &'lab Host,
        interface: &str,
        mode: Mode,
    ) -> Result<Result<Self, TakeoverError>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let opened = host.namespace.inside(|| {
            let _guard = runtime.enter();
            Mover::open(interface, vips(lab), mode)
        })?;
        Ok(opened.map(|(mover, keeper)| Self {
            host,
            mover,
            keeper: Some(keeper),
            runtime: Some(runtime),
        }))
    }

    fn by_address(lab: &'lab Lab, host: &'lab Host) -> Result<Self> {
        Ok(Self::open(lab, host, PORT, Mode::Address)??)
    }

    /// Sets its keeper to work, for as long as the test runs.
    fn keep(&mut self) -> Result<()> {
        let keeper = self.keeper.take().context("it works already")?;
        let runtime = self.runtime.take().context("it works already")?;
        thread::spawn(move || runtime.block_on(keeper.run()));
        Ok(())
    }

    fn claim(&self) {
        let moved = self.mover.claim();
        assert!(moved.failed.is_empty(), "{moved}");
    }

    fn release(&self) {
        let moved = self.mover.release();
        assert!(moved.failed.is_empty(), "{moved}");
    }
}

fn addresses(host: &Host) -> Result<Vec<Address>> {
    let mut addresses = host.namespace.inside(|| Netlink::open()?.addresses())??;
    addresses.sort_by_key(|found| (found.address, found.ifindex));
    Ok(addresses)
}

/// Where a machine believes an address to be.
fn believed(host: &Host, address: IpAddr) -> Result<Option<Mac>> {
    let ifindex = host.port_index(PORT)?;
    let neighbour = host
        .namespace
        .inside(|| Netlink::open()?.neighbour(ifindex, address))??;
    Ok(neighbour.and_then(|known| known.mac))
}

/// Sends a datagram to an address of the link, and waits until it is known where that is.
fn ask_for(host: &Host, address: IpAddr) -> Result<Mac> {
    host.namespace.inside(|| -> std::io::Result<()> {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        UdpSocket::bind(any)?.send_to(b"?", SocketAddr::new(address, 9))?;
        Ok(())
    })??;
    let mut found = None;
    eventually("the address to be known", PATIENCE, || {
        found = believed(host, address)?;
        Ok(found.is_some())
    })?;
    found.context("no link address")
}

/// Expects what the switch sends to an address to arrive here. Not the very first datagram: the kernel
/// takes in what comes for an IPv6 address a moment after the address is there.
fn expect_arrival(lab: &Lab, at: &Host, vip: IpAddr) -> Result<()> {
    let open = |host: &Host, address, port| {
        host.namespace
            .inside(|| UdpSocket::bind(SocketAddr::new(address, port)))
    };
    let to = open(at, vip, 7777)??;
    to.set_nonblocking(true)?;
    let from = open(&lab.switch, lab.switch.address(vip), 0)??;
    let what = format!("a datagram to {vip} at {}", at.namespace.name());
    eventually(&what, PATIENCE, || {
        from.send_to(b"!", to.local_addr()?)?;
        Ok(to.recv_from(&mut [0; 8]).is_ok())
    })
}

/// One announcement is enough for the link to follow, whether the old holder has let go or not, and
/// although the neighbour's entry has just been confirmed.
#[test]
fn the_link_follows_a_claim() -> Result<()> {
    let lab = lab()?;
    let first = Machine::by_address(&lab, lab.balancer(1))?;
    let second = Machine::by_address(&lab, lab.balancer(2))?;
    first.claim();
    for vip in vips(&lab) {
        assert_eq!(ask_for(&lab.switch, vip)?, first.host.mac);
        expect_arrival(&lab, first.host, vip)?;
    }

    // As it is when the first has been cut off, or stands still: it goes on answering.
    second.claim();
    expect_link_to_follow(&lab, second.host)?;
    first.claim();
    expect_link_to_follow(&lab, first.host)?;
    // As it is when all goes well.
    second.release();
    first.release();
    second.claim();
    expect_link_to_follow(&lab, second.host)
}

fn expect_link_to_follow(lab: &Lab, holder: &Host) -> Result<()> {
    for vip in vips(lab) {
        eventually(
            &format!("{vip} to be where it was claimed"),
            PATIENCE,
            || Ok(believed(&lab.switch, vip)? == Some(holder.mac)),
        )?;
        expect_arrival(lab, holder, vip)?;
    }
    Ok(())
}

/// Where a machine's datagrams to an address would say that they come from.
fn source(host: &Host, to: IpAddr) -> Result<IpAddr> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let local = host.namespace.inside(|| -> std::io::Result<SocketAddr> {
        let socket = UdpSocket::bind(any)?;
        socket.connect((to, 9))?;
        socket.local_addr()
    })??;
    Ok(local.ip())
}

/// What a machine sends of itself comes from its own address, wherever it goes: its peers believe no
/// other.
#[test]
fn a_vip_is_not_chosen_as_source() -> Result<()> {
    let lab = lab()?;
    let host = lab.balancer(1);
    let machine = Machine::by_address(&lab, host)?;
    // Before its own addresses, as after a restart of the network under a controller that lives.
    machine.claim();
    for (own, prefix_len) in [(IpAddr::from(host.v4), 24), (host.v6.into(), 64)] {
        let name = format!("{own}/{prefix_len} dev {PORT}");
        host.namespace.ip(&format!("address delete {name}"))?;
        host.namespace.ip(&format!("address add {name}"))?;
    }
    for route in [
        "192.0.2.0/24 dev eth0",
        "default via 10.77.0.1",
        "2001:db8::/64 dev eth0",
        "default via fd77::1",
    ] {
        host.namespace.ip(&format!("route add {route}"))?;
    }
    let destinations = [
        "10.77.0.11",
        "10.77.0.101",
        "192.0.2.1",
        "198.51.100.1",
        "239.255.77.1",
        "224.0.0.5",
        "fd77::11",
        "fd77::101",
        "2001:db8::1",
        "2001:db8:1::1",
        "ff05::4d:1",
    ];
    for to in destinations {
        let to: IpAddr = to.parse()?;
        assert_eq!(source(host, to)?, host.address(to), "to {to}");
    }

    // The test can tell: with a plain address, as `ip address add` gives it, it is not so.
    machine.release();
    let vip = lab.vip_v6().ip();
    host.namespace
        .ip(&format!("address add {vip}/128 dev {PORT} nodad"))?;
    assert_eq!(source(host, "fd77::101".parse()?)?, vip);
    Ok(())
}

/// The next life of a controller finds what a killed one has left, and takes that away and nothing else.
#[test]
fn what_a_crash_left_is_released() -> Result<()> {
    let lab = lab()?;
    let host = lab.balancer(1);
    host.namespace.ip("address add 10.77.0.101/32 dev eth0")?;
    let before = addresses(host)?;
    let killed = Machine::by_address(&lab, host)?;
    assert!(killed.mover.present()?.is_empty());
    killed.claim();
    killed.claim();
    drop(killed);
    assert_eq!(addresses(host)?.len(), before.len() + 2);

    let next = Machine::by_address(&lab, host)?;
    assert_eq!(next.mover.present()?, vips(&lab).into());
    let released = next.mover.release();
    assert_eq!(released.changed, vips(&lab), "{released}");
    assert_eq!(addresses(host)?, before);
    next.release();
    assert_eq!(addresses(host)?, before);
    Ok(())
}

/// What a crash has left disturbs nobody: a data plane that is passive keeps questions for VIPs from the
/// kernel, which would answer them.
#[test]
fn a_passive_machine_does_not_answer() -> Result<()> {
    let lab = lab()?;
    let daemons = Daemons::configure(&lab, Settings::default())?;
    let mut controller = daemons.start_controller()?;
    controller.wait_until_ready(PATIENCE)?;
    let old = Machine::by_address(&lab, lab.balancer(1))?;
    old.claim();
    for vip in vips(&lab) {
        assert_eq!(ask_for(&lab.switch, vip)?, old.host.mac);
    }
    controller.kill()?;
    let homes = Homes::open(&daemons.pins())?;
    turn::deactivate(homes.maps())?;

    let new = Machine::by_address(&lab, lab.balancer(2))?;
    new.claim();
    for _ in 0..20 {
        lab.switch.namespace.ip("neighbour flush dev eth0")?;
        for vip in vips(&lab) {
            assert_eq!(ask_for(&lab.switch, vip)?, new.host.mac);
        }
    }

    // It is the data plane that kept silent.
    new.release();
    turn::activate_for_good(homes.maps())?;
    lab.switch.namespace.ip("neighbour flush dev eth0")?;
    for vip in vips(&lab) {
        assert_eq!(ask_for(&lab.switch, vip)?, old.host.mac);
    }
    Ok(())
}

/// With other VIPs, those that are none any more go.
#[test]
fn a_reload_moves_what_has_changed() -> Result<()> {
    let lab = lab()?;
    let host = lab.balancer(1);
    let before = addresses(host)?;
    let machine = Machine::by_address(&lab, host)?;
    let other: IpAddr = "10.77.0.102".parse()?;
    let moved = machine.mover.configure([lab.vip_v4().ip()]);
    assert!(moved.changed.is_empty(), "nobody has claimed anything yet");
    machine.claim();
    let moved = machine.mover.configure([other]);
    assert!(moved.failed.is_empty(), "{moved}");
    assert_eq!(moved.changed, [lab.vip_v4().ip(), other]);
    assert_eq!(addresses(host)?.len(), before.len() + 1);
    machine.release();
    assert_eq!(addresses(host)?, before);
    Ok(())
}

/// A VIP that somebody else has configured would stay where it must go.
#[test]
fn a_vip_that_others_manage_is_refused() -> Result<()> {
    let lab = lab()?;
    let host = lab.balancer(1);
    let open = |interface, mode| -> Result<String> {
        let Err(error) = Machine::open(&lab, host, interface, mode)? else {
            return Ok("opened".to_owned());
        };
        Ok(error.to_string())
    };
    for (address, interface) in [
        ("10.77.0.100/24", "eth0"),
        ("10.77.0.100/32", "lo"),
        ("fd77::100/64", "eth0"),
        ("fd77::100/128", "lo"),
    ] {
        let name = format!("{address} dev {interface}");
        host.namespace.ip(&format!("address add {name}"))?;
        let said = open(PORT, Mode::Address)?;
        assert!(
            said.contains(&format!("`ip address delete {name}`")),
            "{said}"
        );
        host.namespace.ip(&format!("address delete {name}"))?;
    }
    assert!(open("eth7", Mode::Address)?.contains("eth7"));
    assert!(open("lo", Mode::Address)?.contains("no Ethernet"));
    assert_eq!(open("eth7", Mode::None)?, "opened");
    assert_eq!(open(PORT, Mode::Address)?, "opened");
    Ok(())
}

/// Announcements are repeated, and what others change is put right, on the main and on the stand-by.
#[test]
fn a_claim_holds() -> Result<()> {
    let lab = lab()?;
    let host = lab.balancer(1);
    let mut machine = Machine::by_address(&lab, host)?;
    machine.keep()?;
    machine.claim();
    let counts = machine.mover.counts();
    // Two ARP packets and one advertisement each time.
    eventually("announcements to be repeated", PATIENCE, || {
        Ok(counts.announcements() >= 3 * 3)
    })?;

    let are_there = || Ok(machine.mover.present()? == vips(&lab).into());
    let is_running = || -> Result<bool> {
        let link = || Netlink::open()?.link_named(PORT);
        let link = host.namespace.inside(link)??;
        Ok(link.is_some_and(|link| link.is_running))
    };
    lab.set_ports_down(host)?;
    lab.set_ports_up(host)?;
    eventually("both VIPs to be back", PATIENCE, are_there)?;
    eventually("the port to be up", PATIENCE, is_running)?;
    for vip in vips(&lab) {
        let prefix_len = if vip.is_ipv4() { 32 } else { 128 };
        host.namespace
            .ip(&format!("address delete {vip}/{prefix_len} dev {PORT}"))?;
        eventually("the VIP to be back", PATIENCE, are_there)?;
    }
    assert!(counts.restored() >= 3, "{}", counts.restored());

    // A port that has been away for a while is announced anew.
    let losses = counts.lost_ports();
    lab.unplug(host)?;
    eventually("the carrier to be missed", PATIENCE, || {
        Ok(counts.lost_ports() > losses)
    })?;
    let before = counts.announcements();
    lab.replug(host)?;
    eventually("the port to be announced", PATIENCE, || {
        Ok(counts.announcements() >= before + 3)
    })?;

    machine.release();
    let vip = lab.vip_v4().ip();
    host.namespace
        .ip(&format!("address add {vip}/32 dev {PORT}"))?;
    eventually("the stand-by to let go", PATIENCE, || {
        Ok(machine.mover.present()?.is_empty())
    })?;
    Ok(())
}

/// For a routing daemon the VIPs stand on the loopback, with the routes that it redistributes, and the
/// link hears nothing.
#[test]
fn for_a_routing_daemon_the_loopback_has_them() -> Result<()> {
    let lab = lab()?;
    let host = lab.balancer(1);
    let before = addresses(host)?;
    let machine = Machine::open(&lab, host, "lo", Mode::Announce)??;
    machine.claim();
    assert_eq!(machine.mover.present()?, vips(&lab).into());
    let shown = host.namespace.ip("-6 route show dev lo")?;
    assert!(shown.contains("fd77::100"), "{shown}");
    assert_eq!(machine.mover.counts().announcements(), 0);
    for to in ["10.77.0.11", "fd77::101"] {
        let to: IpAddr = to.parse()?;
        assert_eq!(source(host, to)?, host.address(to), "to {to}");
    }
    machine.release();
    assert_eq!(addresses(host)?, before);

    let idle = Machine::open(&lab, host, PORT, Mode::None)??;
    idle.claim();
    assert_eq!(addresses(host)?, before);
    Ok(())
}
