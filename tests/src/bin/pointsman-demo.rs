//! demo
use pointsman_tests::lab::*;
use pointsman_tests::traffic::*;
use std::time::Duration;
fn main() -> anyhow::Result<()> {
    let a: Vec<u32> = std::env::args()
        .skip(1)
        .map(|a| a.parse().unwrap())
        .collect();
    let lab = Lab::start(Plan {
        nodes: 3,
        arms: Arms::One,
    })?;
    let at = std::net::SocketAddr::new(lab.node(1).v4.into(), 5060);
    let at6 = std::net::SocketAddr::new(lab.node(1).v6.into(), 5060);
    let at3 = std::net::SocketAddr::new(lab.node(3).v4.into(), 5060);
    let _s = start_sipp_server(&lab, lab.node(1), "sipp-1", at)?;
    let _s6 = start_sipp_server(&lab, lab.node(1), "sipp-6", at6)?;
    let _k = start_kamailio(&lab, lab.node(3), "kam-3", at3)?;
    println!("{}", lab.directory().display());
    for (n, target) in [("a", at), ("b", at6), ("c", at3)] {
        let mut sw = Switch::start(
            &lab,
            &format!("sw{n}"),
            &CallLoad {
                target,
                calls: a[0],
                rate: a[1],
                talk: Duration::from_millis(100),
            },
        )?;
        let r = sw.wait(Duration::from_secs(60));
        println!("{r:?}");
        if r.is_err() {
            std::thread::sleep(Duration::from_secs(a[2].into()));
        }
    }
    std::thread::sleep(Duration::from_secs(a[2].into()));
    Ok(())
}
