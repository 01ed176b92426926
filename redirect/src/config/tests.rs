//! What files are taken, and what is said of the others.

use super::*;

const EXAMPLE: &str = include_str!("../../pointsman-redirect.toml");

#[test]
fn the_example_is_right_and_says_the_defaults() {
    let config = Config::parse(EXAMPLE).expect("the example");
    assert_eq!((config.cluster, config.node), (1, 1));
    let least = "cluster = 1\nnode = 1\nkeys = \"k\"\nstate_dir = \"s\"\n\
        beacon = { groups = [\"239.255.77.1\"], port = 7700, interface = \"eth0\" }\n\
        sip = { server = \"192.0.2.11:5060\" }\ncapacity = { calls = 1000 }\n";
    let least = Config::parse(least).expect("the least there can be");
    assert_eq!(config.beacon.period, least.beacon.period);
    assert_eq!(config.beacon.hold_periods, least.beacon.hold_periods);
    assert_eq!(config.beacon.down_periods, least.beacon.down_periods);
    assert_eq!(config.sip.probe_interval, least.sip.probe_interval);
    assert_eq!(config.sip.probe, least.sip.probe);
    assert_eq!(config.admin.socket, least.admin.socket);
    assert!(least.beacon.addresses.is_empty() && least.metrics.is_none());
}

/// Each wrong line is pointed at, by number and with the reason.
#[test]
fn errors_point_at_the_line() {
    let cases = [
        ("node = 1", "node = 0", "0 is no node id: give 1 to 255"),
        ("node = 1", "node = 256", "256 is no node id"),
        ("node = 1", "node = \"one\"", "invalid type"),
        ("port = 7700", "port = 0", "0 is no port"),
        ("port = 7700", "prot = 7700", "unknown field `prot`"),
        (
            "period_ms = 100",
            "period_ms = 5",
            "5 is no beacon period in milliseconds",
        ),
        (
            "hold_periods = 3",
            "hold_periods = 1",
            "1 is no number of periods",
        ),
        (
            "groups = [",
            "groups = [\"10.0.0.1\"] #",
            "10.0.0.1 is no multicast group",
        ),
        ("groups = [", "groups = [] #", "give at least one group"),
        (
            "period_ms = 100",
            "peers = [\"239.255.77.1:7700\"]",
            "is not the address of one machine",
        ),
        (
            "groups = [",
            "groups = [\"239.0.0.1\", \"239.0.0.2\"] #",
            "one IPv4 address at most",
        ),
        ("groups = [", "groups = [\"lan\"] #", "invalid IP address"),
        (
            "server = ",
            "server = \"0.0.0.0:5060\" #",
            "no server's address",
        ),
        (
            "server = ",
            "server = \"192.0.2.11\" #",
            "invalid socket address",
        ),
        ("probe_ms = 500", "probe_ms = 1", "1 is no probe interval"),
        ("calls = 1000", "calls = -1", "-1 is no number of calls"),
        (
            "# calls_per_second = 200",
            "calls_per_second = 0",
            "0 is no number of calls",
        ),
        (
            "cpu_pressure = 60",
            "cpu_pressure = 101",
            "101 is no pressure in per cent",
        ),
        (
            "mode = \"relay\"",
            "mode = \"mesh\"",
            "unknown variant `mesh`",
        ),
        (
            "# listen = [",
            "listen = [\"224.0.0.1:5060\"] #",
            "no address to listen at",
        ),
        ("cluster = 1", "cluster = 1\ncluster = 2", "duplicate key"),
        ("cluster = 1", "cluster =", "TOML parse error"),
    ];
    for (right, wrong, problem) in cases {
        assert!(EXAMPLE.contains(right), "{right}");
        let at = EXAMPLE.find(right).expect("asserted above");
        let line = EXAMPLE[..at].matches('\n').count() + 1 + wrong.matches('\n').count();
        let error = Config::parse(&EXAMPLE.replacen(right, wrong, 1)).expect_err(wrong);
        let error = error.to_string();
        assert!(error.contains(problem), "{wrong}: {error}");
        assert!(
            error.contains(&format!("line {line}, ")),
            "{wrong}, line {line}: {error}"
        );
    }
}

#[test]
fn missing_and_contradicting_settings_are_named() {
    let without = EXAMPLE.replacen("cluster = 1", "", 1);
    let error = Config::parse(&without).expect_err("no cluster").to_string();
    assert!(error.contains("missing field `cluster`"), "{error}");
    let contrary = EXAMPLE.replacen("hold_periods = 3", "hold_periods = 11", 1);
    let error = Config::parse(&contrary).expect_err("contrary").to_string();
    assert!(
        error.contains("hold_periods = 11") && error.contains("line "),
        "{error}"
    );
    let unheard = EXAMPLE.replacen("groups = [", "# groups = [", 1);
    let error = Config::parse(&unheard).expect_err("nobody").to_string();
    assert!(error.contains("nobody would hear"), "{error}");
    let peers = "peers = [\"192.0.2.1:7700\"] # groups = [";
    let listed = EXAMPLE.replacen("groups = [", peers, 1);
    let config = Config::parse(&listed).expect("peers are heard");
    assert_eq!(
        (config.beacon.groups.len(), config.beacon.peers.len()),
        (0, 1)
    );
    let stranger = EXAMPLE.replacen("# addresses = [", "addresses = [\"fd00::1\"] #", 1);
    let error = Config::parse(&stranger)
        .expect_err("no IPv6 group")
        .to_string();
    assert!(
        error.contains("fd00::1 is of a family that no group or peer is of"),
        "{error}"
    );
    let listeners = [
        ("192.0.2.11:5060", "cannot be the SIP server's address"),
        (
            "[::1]:5062",
            "no address is of the family of the SIP server",
        ),
        (
            "0.0.0.0:5062",
            "say by which address others reach this node",
        ),
        (
            "192.0.2.100:5060\", \"192.0.2.11:5062",
            "which of the addresses in listen is this node's own",
        ),
    ];
    for (listener, problem) in listeners {
        let listen = format!("listen = [\"{listener}\"] #");
        let contrary = EXAMPLE.replacen("# listen = [", &listen, 1);
        let error = Config::parse(&contrary).expect_err(listener).to_string();
        assert!(
            error.contains(problem) && error.contains("line "),
            "{error}"
        );
    }
}

#[test]
fn files_are_named() {
    let path = std::env::temp_dir().join(format!("pm-{}-config.toml", std::process::id()));
    let error = Config::read(&path).expect_err("no file").to_string();
    assert!(error.contains("config.toml"), "{error}");
    fs::write(&path, "cluster = true\n").expect("a temporary directory");
    let error = Config::read(&path).expect_err("no number").to_string();
    fs::remove_file(&path).expect("own file");
    assert!(
        error.contains("config.toml: TOML parse error at line 1"),
        "{error}"
    );
}
