//! The daemon as it is run: real processes, real multicast on the loopback, a SIP server that does as
//! it is told.

mod calls;
mod ear;
mod fixture;
mod phone;
mod sip_server;

use ear::Ear;
use fixture::{Fixture, KEY_ID, PATIENCE, beacon_key, eventually};
use lb_common::Admission;
use lb_common::siphash::SipKey;
use lb_net::interface::Interface;
use lb_net::multicast::source_address;
use lb_proto::status::query::Query;
use sip_server::SipServer;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn beacons_verify_and_maps_show_everybody() {
    let fixture = Fixture::new("maps");
    let sip = SipServer::start(200);
    let mut ear = Ear::open(&fixture);
    let first = fixture.daemon(1, &sip).start();
    let heard = ear.beacon_of(1).await;
    assert_eq!((heard.cluster, heard.key_id), (fixture.cluster(), KEY_ID));
    assert_eq!(
        (heard.admission, heard.capacity, heard.headroom),
        (Admission::Idle, 500, 500)
    );
    assert_eq!((heard.active, heard.period_ms), (0, 20));
    assert_eq!(heard.sip_port, sip.address().port());
    assert_eq!(std::net::IpAddr::from(heard.address_v4), fixture.address(1));
    let next = ear.beacon_of(1).await;
    assert!(next.stamp() > heard.stamp() && next.epoch == heard.epoch);

    let second = fixture.daemon(2, &sip).start();
    let report = eventually("both maps show both nodes", || {
        let reports = [first.status(), second.status()];
        let both_up = |report: &serde_json::Value| {
            let nodes = report["nodes"].as_array().cloned().unwrap_or_default();
            let ids: Vec<_> = nodes.iter().map(|node| node["node"].as_u64()).collect();
            ids == [Some(1), Some(2)] && nodes.iter().all(|node| node["liveness"] == "Up")
        };
        reports
            .iter()
            .flatten()
            .all(both_up)
            .then(|| reports[1].clone())
            .flatten()
    });
    assert_eq!(report["sip_server"]["verdict"], "alive");
    assert_eq!(report["sip_server"]["last_status"], 200);
    assert_eq!(report["plane"]["broken"], false);
    let screen = second.screen();
    assert!(
        screen.contains("2 (this)") && screen.contains("Idle, 0 of 500 calls"),
        "{screen}"
    );

    // Forged and replayed beacons are counted, and change nothing.
    let mut forged = next.write(SipKey { k0: 1, k1: 2 }).to_vec();
    ear.shout(&forged).await;
    ear.shout(&next.write(beacon_key())).await;
    forged.truncate(20);
    ear.shout(&forged).await;
    eventually("the second counts them", || {
        let refused = second.status()?["refused"].clone();
        let counted = ["beacon-forged", "beacon-replayed", "beacon-malformed"];
        counted
            .iter()
            .all(|reason| refused[reason].as_u64() == Some(1))
            .then_some(())
    });

    // A dead node turns Stale, then Down, in the other's map.
    first.kill();
    eventually("the second misses the first", || {
        let report = second.status()?;
        (report["nodes"][0]["liveness"] == "Down").then_some(())
    });
}

#[tokio::test]
async fn beacons_stop_with_the_sip_server_and_come_back_with_it() {
    let fixture = Fixture::new("sip");
    let sip = SipServer::start(200);
    let mut ear = Ear::open(&fixture);
    let daemon = fixture.daemon(1, &sip).start();
    let before = ear.beacon_of(1).await;

    // 503: no new calls for a second.
    sip.answer(503);
    let busy = ear
        .until(|beacon| beacon.admission == Admission::Busy)
        .await;
    assert_eq!(busy.oc_permille, 0);
    sip.answer(200);
    ear.until(|beacon| beacon.admission == Admission::Idle)
        .await;

    // No answers: a last beacon that drains, then nothing, and no answer to queries.
    sip.answer(0);
    let last = ear
        .until(|beacon| beacon.admission == Admission::Draining)
        .await;
    ear.ask(1, fixture.address(1)).await;
    ear.silence(Duration::from_millis(300)).await;
    let report = daemon.status().expect("it answers");
    assert_eq!(report["sip_server"]["verdict"], "dead");
    assert_eq!(report["speaking"], false);
    assert!(daemon.screen().contains("silent, because its SIP server"));

    sip.answer(200);
    let back = ear.beacon_of(1).await;
    assert_eq!(
        (back.admission, back.epoch),
        (Admission::Idle, before.epoch)
    );
    assert!(back.sequence > last.sequence);

    // A server that crashes (its port is closed) is noticed by the closed port.
    let address = sip.address();
    drop(sip);
    ear.until(|beacon| beacon.admission == Admission::Draining)
        .await;
    ear.silence(Duration::from_millis(100)).await;
    let _sip = SipServer::start_at(address, 404);
    assert_eq!(
        ear.beacon_of(1).await.admission,
        Admission::Idle,
        "404 is an answer"
    );
}

#[tokio::test]
async fn nothing_is_said_before_the_sip_server_answers() {
    let fixture = Fixture::new("early");
    let sip = SipServer::start(0);
    let mut ear = Ear::open(&fixture);
    let daemon = fixture.daemon(1, &sip).start();
    daemon.wait_until_serving();
    ear.silence(Duration::from_millis(100)).await;
    let blind = fixture
        .daemon(2, &sip)
        .with("[sip]", "[sip]\nprobe = false")
        .start();
    assert_eq!(ear.beacon_of(2).await.admission, Admission::Idle);
    assert_eq!(
        blind.status().expect("it answers")["sip_server"]["verdict"],
        "trusted"
    );
    sip.answer(200);
    ear.beacon_of(1).await;
}

#[tokio::test]
async fn every_life_has_a_higher_epoch_and_a_good_end() {
    let fixture = Fixture::new("lives");
    let sip = SipServer::start(200);
    let mut ear = Ear::open(&fixture);
    let setup = fixture.daemon(1, &sip);
    let mut daemon = setup.start();
    let first = ear.beacon_of(1).await;
    assert!(daemon.is_socket_there());

    let mut rival = setup.start();
    let (status, log) = rival.end();
    assert!(
        !status.success() && log.contains("is this one running already?"),
        "{log}"
    );

    daemon.terminate();
    let last = ear
        .until(|beacon| beacon.admission == Admission::Draining)
        .await;
    assert_eq!(last.epoch, first.epoch);
    let (status, log) = daemon.end();
    assert!(status.success(), "{log}");
    assert!(!daemon.is_socket_there());
    ear.silence(Duration::from_millis(60)).await;

    let daemon = setup.start();
    let second = ear.beacon_of(1).await;
    assert!(
        second.epoch > first.epoch && second.sequence < 5,
        "{second:?}"
    );
    daemon.kill();
    ear.silence(Duration::from_millis(60)).await;
    assert!(daemon.is_socket_there(), "left behind");
    let _daemon = setup.start();
    assert!(ear.until(|beacon| beacon.epoch != second.epoch).await.epoch > second.epoch);
}

/// With the state lost and the clock of no help, the node asks, is told, and goes on with an epoch
/// that is taken, kept before anything of it is heard.
#[tokio::test]
async fn a_lost_epoch_is_found_by_asking() {
    let fixture = Fixture::new("challenge");
    let sip = SipServer::start(200);
    let mut ear = Ear::open(&fixture);
    let setup = fixture.daemon(1, &sip);
    let witness = fixture.daemon(2, &sip).start();
    let daemon = setup.start();
    let first = ear.beacon_of(1).await;
    // Its own last beacon, of a life that it does not know of.
    let later = lb_common::beacon::Beacon {
        epoch: first.epoch + 1_000_000,
        ..first
    };
    eventually("the second hears the first", || {
        (witness.status()?["nodes"][0]["node"] == 1).then_some(())
    });
    ear.shout_from(fixture.address(1), &later.write(beacon_key()))
        .await;
    let reborn = ear.until(|beacon| beacon.epoch > later.epoch).await;
    assert_eq!(reborn.epoch, later.epoch + 1);
    assert_eq!(setup.kept_epoch(), Some(reborn.epoch));
    eventually("the second takes it", || {
        let status = witness.status()?;
        (status["nodes"][0]["epoch"].as_u64() == Some(reborn.epoch.into())).then_some(())
    });
    drop(daemon);
}

#[tokio::test]
async fn keys_change_by_sighup_without_a_missed_beacon() {
    let fixture = Fixture::new("rotation");
    let sip = SipServer::start(200);
    let mut ear = Ear::open(&fixture);
    let (first, second) = (
        fixture.daemon(1, &sip).start(),
        fixture.daemon(2, &sip).start(),
    );
    ear.beacon_of(1).await;
    second.wait_until_serving();
    let old = format!("beacon {KEY_ID} {}\n", "22".repeat(16));
    let new = format!("beacon 9 {}\n", "33".repeat(16));
    let rings = [
        (format!("{old}{new}"), vec![KEY_ID, 9]),
        (format!("{new}{old}"), vec![9, KEY_ID]),
        (new, vec![9]),
    ];
    for (ring, ids) in rings {
        fixture.write_keys(&ring);
        for daemon in [&first, &second] {
            daemon.hang_up();
            eventually("it has them", || {
                (daemon.status()?["keys"] == serde_json::json!(ids)).then_some(())
            });
        }
        eventually("both are heard under it", || {
            let status = second.status()?;
            let nodes = status["nodes"].as_array()?;
            let used = nodes.iter().map(|node| node["key_id"].as_u64());
            used.eq([Some(u64::from(ids[0])); 2]).then_some(())
        });
    }
    let status = second.status().expect("it answers");
    for node in status["nodes"].as_array().expect("nodes") {
        assert_eq!(node["liveness"], "Up");
    }
    let refused = status["refused"].as_object().expect("counts");
    assert!(refused.get("beacon-unknown-key").is_none(), "{refused:?}");
    fixture.write_keys("nonsense\n");
    second.hang_up();
    eventually("a bad file changes nothing", || {
        let status = second.status()?;
        (status["nodes"][0]["liveness"] == "Up").then_some(())
    });
}

/// Without multicast: each has the other in its list.
#[tokio::test]
async fn peers_hear_each_other_without_a_group() {
    let fixture = Fixture::new("peers");
    let sip = SipServer::start(200);
    let daemon = |node: u16, other: u16| {
        let peer = std::net::SocketAddr::new(fixture.address(other), fixture.port());
        let peers = format!("peers = [\"{peer}\"]\n# groups = [");
        fixture
            .daemon(node, &sip)
            .with("groups = [", &peers)
            .start()
    };
    let (first, second) = (daemon(1, 2), daemon(2, 1));
    for (daemon, other) in [(&first, 2), (&second, 1)] {
        eventually("the other is Up", || {
            let status = daemon.status()?;
            let nodes = status["nodes"].as_array()?;
            let is_up =
                |node: &serde_json::Value| node["node"] == other && node["liveness"] == "Up";
            nodes.iter().any(is_up).then_some(())
        });
    }
}

#[tokio::test]
async fn a_query_is_answered_to_whoever_asks() {
    let fixture = Fixture::new("query");
    let sip = SipServer::start(200);
    let mut ear = Ear::open(&fixture);
    let period = ("period_ms = 20", "period_ms = 5000");
    let daemon = fixture.daemon(1, &sip).with(period.0, period.1).start();
    let heard = ear.beacon_of(1).await;
    // Long before the next beacon is due.
    for step in 1..=3 {
        ear.ask(1, fixture.address(1)).await;
        let answer = ear.answer().await;
        assert_eq!((answer.node, answer.stamp()), (1, heard.stamp() + step));
    }
    // For another node, or forged: no answer.
    ear.ask(2, fixture.address(1)).await;
    let cluster = fixture.cluster();
    let forged = Query {
        cluster,
        node: 1,
        key_id: KEY_ID,
        nonce: 1,
    }
    .write(SipKey::default());
    ear.tell(&forged, fixture.address(1)).await;
    eventually("the forged query is counted", || {
        (daemon.status()?["refused"]["query-forged"] == 1).then_some(())
    });
    assert!(!ear.has_answer());
    assert_eq!(daemon.status().expect("it answers")["sent"]["answers"], 3);
}

#[tokio::test]
async fn prometheus_gets_its_numbers() {
    let fixture = Fixture::new("metrics");
    let sip = SipServer::start(200);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = port.local_addr().expect("bound");
    drop(port);
    let metrics = format!("[metrics]\nlisten = \"{listen}\"\n[sip]");
    let daemon = fixture.daemon(1, &sip).with("[sip]", &metrics).start();
    Ear::open(&fixture).beacon_of(1).await;
    daemon.wait_until_serving();
    let mut stream = TcpStream::connect(listen).await.expect("a server");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("it reads");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("it answers");
    for line in [
        "pointsman_redirect_speaking 1\n",
        "pointsman_redirect_sip_server{verdict=\"alive\"} 1\n",
        "pointsman_redirect_plane_broken 0\n",
        "pointsman_redirect_node{node=\"1\",liveness=\"Up\",admission=\"Idle\"} 1\n",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
}

/// Says to the inner run of [`both_families_on_a_real_interface`] that it is one.
const INSIDE: &str = "POINTSMAN_TEST_INSIDE";

/// In a network namespace of its own, because the loopback has no IPv6 multicast: runs itself there.
#[tokio::test]
async fn both_families_on_a_real_interface() {
    if std::env::var_os(INSIDE).is_none() {
        let run = Command::new("unshare")
            .args(["--net", "--map-root-user", "--"])
            .arg(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "both_families_on_a_real_interface",
                "--nocapture",
            ])
            .env(INSIDE, "1")
            .output()
            .expect("unshare of util-linux");
        let told = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    // Node 1 starts while its IPv6 address is still being tried (duplicate address detection).
    let setup = "ip link set lo up && ip link add pm0 type veth peer name pm1
        ip link set pm1 up && ip link set pm0 up
        ip address add 192.0.2.2/24 dev pm0 && ip address add fd00::2/64 dev pm0
        ip address add 192.0.2.1/24 dev pm0";
    let run = Command::new("sh").args(["-c", setup]).output().expect("sh");
    assert!(run.status.success(), "{run:?}");
    let fixture = Fixture::new("families");
    let sip = SipServer::start(200);
    let group_v6 = std::net::Ipv6Addr::from([0xff05, 0, 0, 0, 0, 0, 0x4d, 1]);
    let groups = format!("groups = [\"{group_v6}\", ");
    let daemon = |node: u16, addresses: &str| {
        fixture
            .daemon(node, &sip)
            .with("groups = [", &groups)
            .with("\"lo\"", "\"pm0\"")
            .with(
                &format!("addresses = [\"{}\"]", fixture.address(node)),
                addresses,
            )
            .start()
    };
    let own = |text: &str| text.parse::<std::net::IpAddr>().expect("an address");
    let first = daemon(1, "");
    let pm0 = Interface::find("pm0").expect("set up");
    eventually("the IPv6 address is good", || {
        source_address(group_v6.into(), &pm0)
    });
    let mut v4 = Ear::open_at(&fixture, "pm0", fixture.group().into(), own("192.0.2.1"));
    let mut v6 = Ear::open_at(&fixture, "pm0", group_v6.into(), own("fd00::2"));
    let second = daemon(2, "addresses = [\"192.0.2.2\", \"fd00::2\"]");
    for ear in [&mut v4, &mut v6] {
        let beacon = ear.beacon_of(2).await;
        let addresses = [beacon.address_v4, beacon.address_v6].map(std::net::IpAddr::from);
        assert_eq!(addresses, [own("192.0.2.2"), own("fd00::2")]);
        let named = ear
            .until(|beacon| beacon.node == 1 && beacon.address_v6.low != 0)
            .await;
        let found = std::net::IpAddr::from(named.address_v6);
        assert_eq!(found, own("fd00::2"), "the one address of the interface");
    }
    v6.ask(2, own("fd00::2")).await;
    assert_eq!(v6.answer().await.node, 2);
    v4.ask(2, own("192.0.2.2")).await;
    assert_eq!(v4.answer().await.node, 2);
    eventually("both hear plenty of both", || {
        let nodes = [
            first.status()?["nodes"].clone(),
            second.status()?["nodes"].clone(),
        ];
        let plenty = |node: &serde_json::Value| node["beacons"].as_u64() > Some(40);
        nodes
            .iter()
            .all(|n| {
                n.as_array()
                    .is_some_and(|n| n.iter().filter(|n| plenty(n)).count() == 2)
            })
            .then_some(())
    });
    // Apart from the odd one that two sockets were read in the wrong order for.
    let refused = second.status().expect("it answers")["refused"]["beacon-replayed"].as_u64();
    assert!(
        refused.unwrap_or_default() < 10,
        "{refused:?} taken for replays"
    );
}

#[tokio::test]
async fn the_service_manager_is_told() {
    let fixture = Fixture::new("systemd");
    let sip = SipServer::start(0);
    let setup = fixture.daemon(1, &sip);
    let manager = UnixDatagram::bind(setup.notify_socket()).expect("own directory");
    manager.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let told = || {
        let mut bytes = [0; 1000];
        let len = manager.recv(&mut bytes).expect("told in time");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    let mut daemon = setup.start();
    let ready = told();
    assert!(ready.contains("READY=1\n"), "{ready}");
    assert!(
        ready.contains("STATUS=Node 1: silent, its SIP server is unknown"),
        "{ready}"
    );
    while told() != "STATUS=Node 1: silent, its SIP server is dead\n" {}
    sip.answer(200);
    while told() != "STATUS=Node 1: Idle\n" {}
    daemon.terminate();
    while told() != "STOPPING=1\n" {}
    assert!(daemon.end().0.success());
}

#[test]
fn a_daemon_that_cannot_serve_says_why() {
    let fixture = Fixture::new("errors");
    let sip = SipServer::start(200);
    let setup = || fixture.daemon(1, &sip);
    let cases = [
        (
            setup().with("node = 1", "node = 1000"),
            "line 2",
            "give 1 to 255",
        ),
        (
            setup().with("[capacity]", "[capacity]\nhats = 3"),
            "line ",
            "unknown field `hats`",
        ),
        (
            setup().with("\"lo\"", "\"pm-none\""),
            "no network interface `pm-none`",
            "ip link",
        ),
        (
            setup().with("addresses = [\"", "addresses = [\"192.0.2.1\"] # "),
            "192.0.2.1",
            "lo",
        ),
        (
            setup().with("state_dir = \"", "state_dir = \"/proc/"),
            "boot epoch",
            "/proc/",
        ),
    ];
    for (setup, what, advice) in cases {
        let (status, log) = setup.start().end();
        assert!(!status.success());
        assert!(
            log.contains(what) && log.contains(advice),
            "{what}, {advice}: {log}"
        );
    }
    let (status, log) = setup().check().end();
    assert!(status.success(), "{log}");
    let keys = fixture.keys();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("own file");
    let (status, log) = setup().check().end();
    assert!(!status.success() && log.contains("chmod 600"), "{log}");
}
