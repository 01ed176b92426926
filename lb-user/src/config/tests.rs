use std::path::Path;
use std::time::Duration;

use super::*;
use crate::plane::attach::XdpMode;

const MINIMAL: &str = r#"
cluster = 1
keys = "/etc/pointsman/keys"
[status]
groups = ["239.255.77.1"]
[[interface]]
name = "eth0"
[[vip]]
address = "192.0.2.10"
[[node]]
id = 1
address = "192.0.2.11"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("pointsman.toml"), text).map_err(|error| error.to_string())
}

/// The report of what is wrong when `from` is replaced by `to` in the minimal file.
fn refusal(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from}");
    parse(&MINIMAL.replacen(from, to, 1)).expect_err(to)
}

#[test]
fn defaults_fill_the_minimal_file() {
    let config = parse(MINIMAL).expect("a good file");
    assert_eq!(
        config,
        Config {
            cluster: 1,
            keys: "/etc/pointsman/keys".into(),
            bpffs: "/sys/fs/bpf/pointsman".into(),
            status: Status {
                groups: vec!["239.255.77.1".parse().expect("a group")],
                addresses: Vec::new(),
                discovery: None,
                port: 7700,
                timing: Timing::DEFAULT,
            },
            interfaces: vec![Wanted {
                name: "eth0".into(),
                mode: XdpMode::Auto
            }],
            vips: vec!["192.0.2.10:5060".parse().expect("a VIP")],
            nodes: vec![NodeConfig {
                id: 1,
                address: "192.0.2.11".parse().expect("an address"),
                weight: 1,
                mac: None,
                interface: None,
                is_silent: false,
            }],
            pair: None,
            pins: PinLimits {
                max: 262_144,
                session: Duration::from_secs(14_400)
            },
            drain: Duration::from_secs(3600),
            metrics: None,
            event_sample: 0,
        }
    );
}

#[test]
fn everything_can_be_said() {
    let config = parse(
        r#"
        cluster = 4294967295
        keys = "keys"
        bpffs = "/run/pointsman/bpf"
        [status]
        groups = ["239.255.77.1", "ff05::4d:1"]
        port = 7701
        period_ms = 20
        hold_periods = 4
        down_periods = 20
        [[interface]]
        name = "eth0.100"
        mode = "native"
        [[interface]]
        name = "eth1"
        mode = "generic"
        [[vip]]
        address = "2001:db8::10"
        port = 5080
        [[node]]
        id = 255
        address = "2001:db8::11"
        weight = 3
        mac = "02:00:00:00:00:11"
        interface = "eth1"
        silent = true
        [[node]]
        id = 2
        address = "192.0.2.11"
        weight = 0
        [pins]
        max = 1000
        session_limit_s = 64
        [table]
        drain_s = 0
        [metrics]
        listen = "127.0.0.1:9464"
        [events]
        sample = 100
        "#,
    )
    .expect("a good file");
    assert_eq!(config.status.timing.hold(), Duration::from_millis(80));
    assert_eq!(config.interfaces[1].mode, XdpMode::Generic);
    assert_eq!(config.nodes[0].id, 2, "in the order of ids");
    assert_eq!(config.nodes[1].mac, Some([2, 0, 0, 0, 0, 0x11]));
    assert_eq!(config.speaking_nodes().count(), 1);
    assert_eq!((config.event_sample, config.drain), (100, Duration::ZERO));
}

#[test]
fn a_problem_is_pointed_at() {
    assert_eq!(
        refusal("id = 1", "id = 256"),
        "pointsman.toml:11:6: 256 is out of range\n   \
         11 | id = 256\n      |      ^^^\n      = anything from 1 to 255"
    );
}

#[test]
fn all_problems_are_told_in_order() {
    let text = MINIMAL
        .replace("cluster = 1", "cluster = -1")
        .replace("239.255.77.1", "10.0.0.1")
        .replace("192.0.2.10", "0.0.0.0")
        .replace("id = 1", "id = 0");
    let report = parse(&text).expect_err("four problems");
    let lines: Vec<&str> = report
        .lines()
        .filter_map(|line| line.strip_prefix("pointsman.toml:"))
        .collect();
    let starts = ["2:11: -1", "5:11: 10.0.0.1", "9:11: 0.0.0.0", "11:6: 0"];
    assert_eq!(lines.len(), starts.len(), "{report}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line} {start}");
    }
}

#[test]
fn every_rule_is_kept() {
    let node = "[[node]]\nid = 1\naddress = \"192.0.2.11\"\n";
    let cases: &[(&str, &str, &str)] = &[
        // Form.
        ("cluster = 1", "cluster = \"1\"", "2:11: invalid type"),
        ("cluster = 1", "clutser = 1", "unknown field `clutser`"),
        ("cluster = 1\n", "", "missing field `cluster`"),
        ("cluster = 1", "cluster = ", "2:11:"),
        ("192.0.2.10", "192.0.2.300", "9:11:"),
        ("192.0.2.10", "127.0.0.1", "9:11: 127.0.0.1 never leaves"),
        ("id = 1", "id = 1\nid = 2", "12:1: duplicate key"),
        // Sections that must be there.
        ("[[vip]]\naddress = \"192.0.2.10\"\n", "", "no [[vip]]"),
        ("[[interface]]\nname = \"eth0\"\n", "", "no [[interface]]"),
        (node, "", "no [[node]]"),
        ("[status]\ngroups = [\"239.255.77.1\"]\n", "", "no [status]"),
        // The status plane.
        ("\"239.255.77.1\"", "", "between 1 and 8 groups"),
        (
            "\"239.255.77.1\"",
            "\"239.255.77.1\", \"239.255.77.1\"",
            "there twice",
        ),
        (
            "[[interface]]",
            "port = 0\n[[interface]]",
            "6:8: 0 is out of range",
        ),
        (
            "[[interface]]",
            "period_ms = 9\n[[interface]]",
            "6:13: 9 is out of range",
        ),
        (
            "[[interface]]",
            "hold_periods = 10\n[[interface]]",
            "6:16: a node would be Down",
        ),
        (
            "[[interface]]",
            "down_periods = 3\n[[interface]]",
            "6:16: a node would be Down",
        ),
        (
            "[[interface]]",
            "discover_max = 256\n[[interface]]",
            "6:16: 256 is out of range",
        ),
        (
            "[[interface]]",
            "discover_forget_s = 59\n[[interface]]",
            "6:21: 59 is out of range",
        ),
        (
            "[[interface]]",
            "period_ms = 10000\ndiscover = true\ndiscover_forget_s = 99\n[[interface]]",
            "8:21: a node would be forgotten before it is Down",
        ),
        // Interfaces.
        ("\"eth0\"", "\"sixteen-letters!\"", "7:8: not a name"),
        ("\"eth0\"", "\"a/b\"", "7:8: not a name"),
        (
            "\"eth0\"",
            "\"eth0\"\nmode = \"fast\"",
            "8:8: unknown variant",
        ),
        (
            "[[vip]]",
            "[[interface]]\nname = \"eth0\"\n[[vip]]",
            "9:8: interface eth0 is there twice",
        ),
        // VIPs.
        (
            "\"192.0.2.10\"",
            "\"192.0.2.10\"\nport = 65536",
            "10:8: 65536 is out of range",
        ),
        ("\"192.0.2.10\"", "\"224.0.0.1\"", "it is a group's"),
        ("\"192.0.2.10\"", "\"::ffff:192.0.2.10\"", "in disguise"),
        ("\"192.0.2.10\"", "\"192.0.2.11\"", "a node's address too"),
        (
            "[[node]]",
            "[[vip]]\naddress = \"192.0.2.10\"\n[[node]]",
            "VIP 192.0.2.10:5060 is there",
        ),
        // Nodes.
        (node, &[node, node].concat(), "node id 1 is there twice"),
        (
            node,
            &[node, &node.replace("id = 1", "id = 2")].concat(),
            "address of node 1 already",
        ),
        ("192.0.2.11", "255.255.255.255", "it is for everybody"),
        ("id = 1", "id = 1\nweight = 0", "every node has weight 0"),
        ("id = 1", "id = 1\nweight = 10001", "10001 is out of range"),
        (
            "id = 1",
            "id = 1\nmac = \"02:00:00:00:00\"",
            "12:7: not a link address",
        ),
        (
            "id = 1",
            "id = 1\nmac = \"2:0:0:0:0:11\"",
            "12:7: not a link address",
        ),
        (
            "id = 1",
            "id = 1\nmac = \"01:00:5e:00:00:01\"",
            "12:7: not one station's",
        ),
        ("id = 1", "id = 1\ninterface = \"\"", "12:13: not a name"),
        // The rest.
        (
            "[status]",
            "bpffs = \"bpf\"\n[status]",
            "4:9: a relative path",
        ),
        (
            "[status]",
            "bpffs = \"/sys/fs/bpf/a.b\"\n[status]",
            "4:9: a dot",
        ),
        (
            "[status]",
            "[pins]\nmax = 0\n[status]",
            "5:7: 0 is out of range",
        ),
        (
            "[status]",
            "[pins]\nsession_limit_s = 63\n[status]",
            "5:19: 63 is out of range",
        ),
        (
            "[status]",
            "[table]\ndrain_s = -1\n[status]",
            "5:11: -1 is out of range",
        ),
        (
            "[status]",
            "[metrics]\nlisten = \"localhost\"\n[status]",
            "5:10:",
        ),
    ];
    for (from, to, expected) in cases {
        let report = refusal(from, to);
        assert!(
            report.contains(expected),
            "{to:?}: {expected:?} not in\n{report}"
        );
    }
}

#[test]
fn the_examples_pair_is_good_and_says_the_defaults() {
    let example = include_str!("../../pointsman.example.toml");
    let start = example.find("# [pair]").expect("it is there");
    let uncommented: Vec<&str> = example[start..]
        .lines()
        .map(|line| line.trim_start_matches("# "))
        .filter(|line| line.starts_with('[') || line.contains(" = \"") || line.contains(" = "))
        .collect();
    let text = [&example[..start], &uncommented.join("\n")].concat();
    let pair = parse(&text).expect(&text).pair.expect("a pair");
    assert_eq!(with_pair("", "").expect("a good file").pair, Some(pair));
}

#[test]
fn who_is_learnt_need_not_be_named() {
    let node = "[[node]]\nid = 1\naddress = \"192.0.2.11\"\n";
    let text = MINIMAL.replace(node, "");
    let learnt = |more: &str| {
        let to = format!("[status]\ndiscover = true\n{more}");
        let config = parse(&text.replace("[status]\n", &to)).expect("a good file");
        config.status.discovery.expect("nodes are learnt")
    };
    assert_eq!(learnt(""), Discovery::ANY);
    let few = learnt("discover_max = 3\ndiscover_forget_s = 60\n");
    assert_eq!((few.most, few.forget_after), (3, Duration::from_secs(60)));
}

#[test]
fn silent_nodes_need_no_status_plane() {
    let text = MINIMAL
        .replace("[status]\ngroups = [\"239.255.77.1\"]\n", "")
        .replace("id = 1", "id = 1\nsilent = true");
    assert!(parse(&text).expect("a good file").status.groups.is_empty());
}

#[test]
fn a_table_of_vips_can_be_full_but_no_fuller() {
    let vips = |count: u8| -> String {
        (0..count)
            .map(|n| format!("[[vip]]\naddress = \"198.51.100.{n}\"\n"))
            .collect()
    };
    let with = |vips: &str| MINIMAL.replace("[[vip]]\naddress = \"192.0.2.10\"\n", vips);
    assert!(parse(&with(&vips(48))).is_ok());
    let report = parse(&with(&vips(49))).expect_err("too many");
    assert!(report.contains("more than 48 VIPs"), "{report}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/nowhere/pointsman.toml")).expect_err("no file");
    assert_eq!(error.to_string(), "/nowhere/pointsman.toml: cannot be read");
}

#[test]
fn the_example_is_good_and_says_the_defaults() {
    let text = include_str!("../../pointsman.example.toml");
    let config = parse(text).expect("a good file");
    // Uncommenting the settings (not the sentences) of one interface, VIP and node changes nothing.
    let is_setting = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or_default();
        let name = rest.split(" = ").next().unwrap_or_default();
        rest.contains(" = ")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let said: Vec<&str> = text
        .lines()
        .map(|line| {
            if is_setting(line) {
                line.trim_start_matches("# ")
            } else {
                line
            }
        })
        .filter(|line| !line.starts_with("mac") && !line.starts_with("interface ="))
        .collect();
    assert_eq!(parse(&said.join("\n")), Ok(config));
}

const PAIR: &str = r#"
[pair]
id = 1
vip_interface = "eth0"
[[controller]]
id = 1
address = "192.0.2.21"
[[controller]]
id = 2
address = "192.0.2.22"
"#;

fn with_pair(from: &str, to: &str) -> Result<Config, String> {
    let text = [MINIMAL, PAIR].concat();
    assert!(text.contains(from), "{from}");
    parse(&text.replacen(from, to, 1))
}

#[test]
fn a_pair_has_its_defaults() {
    use super::pair::{Standby, Switchback, Takeover};

    let pair = with_pair("", "")
        .expect("a good file")
        .pair
        .expect("a pair");
    let addresses = ["192.0.2.21", "192.0.2.22"].map(|at| at.parse().expect("an address"));
    let expected = Pair {
        id: 1,
        controllers: [1, 2].into_iter().zip(addresses).collect(),
        state_dir: "/var/lib/pointsman".into(),
        keep_alive: Duration::from_millis(100),
        misses: 3,
        mode: Standby::Hot,
        switchback: Switchback::Stay,
        takeover: Takeover::Address("eth0".to_owned()),
        version: 1,
        serve_outdated: false,
        admin: "/run/pointsman/controller.sock".into(),
    };
    assert_eq!(pair, expected);
    assert_eq!(pair.own_address(), Some(addresses[0]));
    assert_eq!(pair.others().collect::<Vec<_>>(), [(2, addresses[1])]);
}

#[test]
fn everything_can_be_said_of_a_pair() {
    use super::pair::{Designated, Standby, Switchback, Takeover};

    let text = "[pair]\nid = 2\nstate_dir = \"/state\"\nkeepalive_ms = 20\nmisses = 4\n\
                mode = \"cold\"\ndesignated_state = \"reinitialise\"\nswitchback = \"resume\"\n\
                vip = \"announce\"\nversion = 7\nadmin = \"/run/admin\"\n";
    let config = with_pair("[pair]\nid = 1\n", text).expect("a good file");
    let pair = config.pair.expect("a pair");
    assert_eq!((pair.id, pair.misses, pair.version), (2, 4, 7));
    assert_eq!(pair.keep_alive, Duration::from_millis(20));
    assert_eq!(pair.mode, Standby::Cold(Designated::Reinitialise));
    assert_eq!(pair.switchback, Switchback::Resume);
    assert_eq!(pair.takeover, Takeover::Announce("eth0".to_owned()));
    assert_eq!(pair.state_dir, Path::new("/state"));
    assert_eq!(pair.admin, Path::new("/run/admin"));
}

#[test]
fn every_rule_of_a_pair_is_kept() {
    let second = "[[controller]]\nid = 2\naddress = \"192.0.2.22\"\n";
    let cases: &[(&str, &str, &str)] = &[
        (
            "[pair]\nid = 1",
            "[pair]\nid = 3",
            "15:6: no [[controller]] has this id",
        ),
        (
            "[pair]\nid = 1",
            "[pair]\nid = 16",
            "15:6: 16 is out of range",
        ),
        (
            "[pair]\nid = 1\nvip_interface = \"eth0\"\n",
            "",
            "[[controller]] without [pair]",
        ),
        (second, "", "a pair of fewer than two"),
        ("id = 2", "id = 1", "controller 1 is there twice"),
        ("192.0.2.22", "192.0.2.21", "is somebody else's, or a VIP"),
        ("192.0.2.22", "192.0.2.10", "is somebody else's, or a VIP"),
        ("192.0.2.22", "192.0.2.11", "is somebody else's, or a VIP"),
        ("192.0.2.22", "2001:db8::2", "controllers at IPv4 and IPv6"),
        ("192.0.2.22", "0.0.0.0", "stands for all addresses"),
        ("vip_interface = \"eth0\"\n", "", "no vip_interface"),
        (
            "vip_interface = \"eth0\"",
            "vip_interface = \"\"",
            "not a name",
        ),
        (
            "vip_interface",
            "designated_state = \"idle\"\nvip_interface",
            "16:20: a designated state, but mode",
        ),
        (
            "vip_interface",
            "keepalive_ms = 9\nvip_interface",
            "9 is out of range",
        ),
        (
            "vip_interface",
            "misses = 0\nvip_interface",
            "0 is out of range",
        ),
        (
            "vip_interface",
            "keepalive_ms = 1000\nmisses = 4\nvip_interface",
            "17:10: a lease of 6s",
        ),
        (
            "vip_interface",
            "version = 0\nvip_interface",
            "0 is out of range",
        ),
        (
            "vip_interface",
            "admin = \"x\"\nvip_interface",
            "16:9: a relative path",
        ),
        (
            "vip_interface",
            "state_dir = \"x\"\nvip_interface",
            "a relative path",
        ),
        (
            "[status]",
            "[status]\ndiscover = true",
            "a pair that learns its nodes",
        ),
        (
            "address = \"192.0.2.11\"",
            "address = \"192.0.2.11\"\nsilent = true",
            "nobody can witness",
        ),
    ];
    for (from, to, expected) in cases {
        let report = with_pair(from, to).expect_err(to);
        assert!(
            report.contains(expected),
            "{to:?}: {expected:?} not in\n{report}"
        );
    }
}
