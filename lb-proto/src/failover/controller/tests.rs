use super::*;
use crate::failover::fixtures::{CLUSTER, controller, ms, node};
use crate::failover::trust::Marks;
use crate::failover::wire::{Ack, Bytes, Datagram, LeaseAnswer, Stamp, Status};
use crate::fixtures::KEY;

const NODES: u16 = 12;

fn address(party: Party) -> IpAddr {
    let kind = u8::from(matches!(party, Party::Node(_)));
    [10, 0, kind, party.id() as u8].into()
}

/// One controller, and everybody else in its place.
struct Bench {
    controller: Controller,
    others: BTreeMap<Party, Stamper>,
    now: Duration,
}

impl Bench {
    fn new(id: u8, timing: Timing) -> Self {
        let now = ms(50_000);
        let members = Members {
            controllers: [1, 2]
                .map(|id| {
                    (
                        controller(id),
                        vec![address(Party::Controller(controller(id)))],
                    )
                })
                .into(),
            nodes: (1..=NODES)
                .map(|id| (node(id), vec![address(Party::Node(node(id)))]))
                .collect(),
        };
        let setup = Setup {
            id: controller(id),
            cluster: CLUSTER,
            epoch: 1,
            term: Term(10),
            electors: None,
            seed: 3,
        };
        let config = Config {
            keys: vec![KEY],
            members,
            timing,
            switchback: Switchback::Stay,
            switchback_after: ms(1_000),
            version: 5,
            digest: 0,
            force: false,
        };
        let nodes = (1..=NODES).map(|id| Party::Node(node(id)));
        let all = [1, 2].map(|id| Party::Controller(controller(id)));
        let others = all.into_iter().chain(nodes);
        Self {
            controller: Controller::new(now, setup, config),
            others: others
                .map(|party| (party, Stamper::new(party, CLUSTER, 1)))
                .collect(),
            now,
        }
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.controller.poll_output()).collect()
    }

    fn sent(&mut self) -> Vec<(Party, Datagram)> {
        let sent = |output| match output {
            Output::Send { to, bytes } => {
                Some((to, Datagram::read(&bytes, &[KEY]).expect("genuine")))
            }
            _ => None,
        };
        self.outputs().into_iter().filter_map(sent).collect()
    }

    fn write(&mut self, from: Party, term: u64, reigns: bool, body: Body) -> Bytes {
        let marks = Marks {
            reigns,
            is_urgent: false,
        };
        let stamper = self.others.get_mut(&from).expect("a member");
        stamper.write(KEY, 0, Term(term), marks, body).1
    }

    fn receive(&mut self, from: Party, term: u64, reigns: bool, body: Body) -> Result<(), Refusal> {
        let bytes = self.write(from, term, reigns, body);
        self.controller.receive(self.now, address(from), &bytes)
    }

    fn hear_main(&mut self, term: u64, nonce: u64) -> Result<(), Refusal> {
        let life = KeepAlive {
            nonce,
            ..life(Role::Main)
        };
        let body = if nonce == 0 {
            Body::KeepAlive(life)
        } else {
            Body::Answer(life)
        };
        self.receive(Party::Controller(controller(1)), term, true, body)
    }

    fn turn(&mut self) {
        self.controller.handle_timeout(self.now);
    }

    /// Time passes, a turn every time that one is wanted.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self
                .controller
                .next_timeout()
                .max(self.now + Duration::from_micros(10));
            if next > end {
                break;
            }
            self.now = next;
            self.turn();
        }
        self.now = end;
    }

    /// Grants what is asked for.
    fn grant(&mut self, requests: &[(Party, Datagram)]) {
        for (to, datagram) in requests {
            if let Body::LeaseRequest(request) = datagram.body {
                let answer = LeaseAnswer {
                    nonce: request.nonce,
                    echo: datagram.header.stamp,
                    verdict: Verdict::Granted,
                    holder: None,
                    remaining: ms(0),
                    highest: datagram.header.term,
                };
                let term = datagram.header.term.0;
                // After the majority the rest count, too.
                assert_eq!(
                    self.receive(*to, term, false, Body::LeaseAnswer(answer)),
                    Ok(())
                );
            }
        }
    }

    /// Lets it become main.
    fn crown(&mut self) -> Term {
        let persist = loop {
            self.pass(ms(50));
            let outputs = self.outputs();
            let mut terms = outputs.iter().filter_map(|output| match output {
                Output::Persist { term } => Some(*term),
                _ => None,
            });
            if let Some(term) = terms.next() {
                break term;
            }
        };
        self.controller.persisted(self.now, persist);
        let requests = self.sent();
        self.grant(&requests);
        assert_eq!(self.controller.reigns(self.now), Some(persist));
        persist
    }
}

fn life(role: Role) -> KeepAlive {
    KeepAlive {
        wall_ms: 0,
        monotonic_ms: 0,
        report: Report::default(),
        role,
        configuration: 5,
        digest: 0,
        is_joining: false,
        lease: ms(500),
        interval: ms(100),
        misses: 3,
        nonce: 0,
    }
}

fn is_request(datagram: &Datagram) -> bool {
    matches!(datagram.body, Body::LeaseRequest(_))
}

#[test]
fn nobody_is_asked_before_the_term_is_kept() {
    let mut bench = Bench::new(1, Timing::DEFAULT);
    // It gives up what it held in an earlier life.
    bench.turn();
    let released = bench.sent();
    assert!(
        released
            .iter()
            .any(|(_, one)| one.body == Body::Release && one.header.term == Term(10))
    );
    bench.pass(ms(799));
    assert_eq!(bench.controller.role(), Role::StandBy);
    bench.pass(ms(400));
    assert_eq!(bench.controller.role(), Role::Candidate);
    let outputs = bench.outputs();
    assert!(outputs.contains(&Output::Persist { term: Term(11) }));
    bench.pass(ms(400));
    assert!(!bench.sent().iter().any(|(_, one)| is_request(one)));
    bench.controller.persisted(bench.now, Term(10));
    assert!(!bench.sent().iter().any(|(_, one)| is_request(one)));
    bench.controller.persisted(bench.now, Term(11));
    let requests = |bench: &mut Bench| {
        let mut requests = bench.sent();
        requests.retain(|(_, one)| is_request(one));
        requests
    };
    let first = requests(&mut bench);
    assert_eq!(first.len(), 12);
    // Those that have granted are not asked again; seven make it main.
    bench.grant(&first[..6]);
    assert_eq!(bench.controller.role(), Role::Candidate);
    bench.pass(ms(30));
    let again = requests(&mut bench);
    assert_eq!(again.len(), 6);
    bench.grant(&again[..1]);
    assert_eq!(bench.controller.role(), Role::Main);
}

#[test]
fn a_term_that_cannot_be_kept_is_not_asked_for() {
    let mut bench = Bench::new(1, Timing::DEFAULT);
    bench.pass(ms(1_000));
    assert_eq!(bench.controller.role(), Role::Candidate);
    bench.controller.persist_failed(bench.now, Term(11));
    assert_eq!(bench.controller.role(), Role::StandBy);
    assert!(!bench.sent().iter().any(|(_, one)| is_request(one)));
    bench.pass(ms(1_500));
    let outputs = bench.outputs();
    assert!(outputs.contains(&Output::Persist { term: Term(12) }));
}

#[test]
fn a_main_counts_from_when_it_sent() {
    let mut bench = Bench::new(1, Timing::DEFAULT);
    let term = bench.crown();
    let crowned = bench.now;
    bench.outputs();
    // A keep-alive is confirmed, after a while, by all.
    bench.pass(ms(150));
    let sent = bench.sent();
    let (_, last) = sent.last().expect("keep-alives");
    let echo = last.header.stamp;
    let sent_at = bench.controller.last_keep_alive;
    assert!(sent_at > crowned);
    bench.pass(ms(200));
    let ack = |echo| {
        Body::Ack(Ack {
            echo,
            missing: Missing { link: true },
        })
    };
    for id in 1..=7 {
        assert_eq!(
            bench.receive(Party::Node(node(id)), term.0, false, ack(echo)),
            Ok(())
        );
    }
    // What was never sent, and what was sent under another term.
    let never = Stamp {
        sequence: 9_999,
        ..echo
    };
    let party = Party::Node(node(8));
    assert_eq!(
        bench.receive(party, term.0, false, ack(never)),
        Err(Refusal::OutOfTurn)
    );
    let lower = term.0 - 1;
    assert_eq!(
        bench.receive(party, lower, false, ack(echo)),
        Err(Refusal::LowerTerm)
    );
    let view = bench.controller.view(bench.now);
    assert_eq!(view.reign_left, Some(sent_at + ms(500) - bench.now));
    assert_eq!(view.leases.iter().filter(|one| one.missing.link).count(), 7);
    bench.pass(sent_at + ms(500) - bench.now - ms(1));
    assert_eq!(bench.controller.reigns(bench.now), Some(term));
    bench.outputs();
    bench.pass(ms(1));
    assert_eq!(bench.controller.reigns(bench.now), None);
    let why = Deactivation::LostMajority;
    let outputs = bench.outputs();
    let mut others = outputs
        .iter()
        .filter(|output| !matches!(output, Output::Send { .. }));
    assert_eq!(others.next(), Some(&Output::Deactivate { why }));
}

/// Whatever it does first when it runs again after too long: first of all it is main no more.
#[test]
fn every_way_in_looks_at_the_time() {
    type Act = fn(&mut Bench);
    let acts: [Act; 6] = [
        |bench| bench.turn(),
        |bench| {
            let _ = bench.hear_main(1, 0);
        },
        |bench| bench.controller.persisted(bench.now, Term(99)),
        |bench| bench.controller.persist_failed(bench.now, Term(99)),
        |bench| {
            let config = bench.controller.config.clone();
            bench.controller.configure(bench.now, config);
        },
        |bench| {
            let _ = bench.controller.fail_over(bench.now, controller(2));
        },
    ];
    for (place, act) in acts.into_iter().enumerate() {
        let mut bench = Bench::new(1, Timing::DEFAULT);
        bench.crown();
        bench.outputs();
        bench.now += ms(600);
        act(&mut bench);
        let outputs = bench.outputs();
        let first = outputs.first();
        assert!(
            matches!(first, Some(Output::Deactivate { .. })),
            "{place}: {first:?}"
        );
    }
}

#[test]
fn keep_alives_are_jittered_and_news_is_bounded() {
    let mut bench = Bench::new(1, Timing::DEFAULT);
    bench.crown();
    let mut times = Vec::new();
    let mut urgent = 0;
    for round in 0..2_000u32 {
        bench.pass(ms(1));
        let mut confirmed = None;
        for (to, datagram) in bench.sent() {
            let is_one = matches!(datagram.body, Body::KeepAlive(_));
            if is_one && to == Party::Controller(controller(2)) {
                times.push(bench.now);
                urgent += u32::from(datagram.header.is_urgent);
                confirmed = Some(datagram.header);
                let Body::KeepAlive(life) = datagram.body else {
                    unreachable!();
                };
                assert_eq!(life.report.calls, if round >= 1_000 { round } else { 0 });
            }
        }
        if let Some(header) = confirmed {
            let ack = Body::Ack(Ack {
                echo: header.stamp,
                missing: Missing::default(),
            });
            for id in 1..=NODES {
                let party = Party::Node(node(id));
                assert_eq!(bench.receive(party, header.term.0, false, ack), Ok(()));
            }
        }
        // In the second half there is news every millisecond.
        if round >= 999 {
            let report = Report {
                calls: round + 1,
                nodes_alive: (round % 7) as u16,
                status: Status::Serving,
                capacity: 9,
            };
            bench.controller.set_report(bench.now, report);
        }
    }
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let regular = &gaps[..8];
    assert!(
        regular.iter().all(|gap| (ms(89)..=ms(111)).contains(gap)),
        "{regular:?}"
    );
    assert!(regular.iter().any(|gap| gap != &regular[0]), "{regular:?}");
    assert!(gaps.iter().all(|gap| *gap >= ms(24)), "{gaps:?}");
    assert!((38..=42).contains(&urgent), "{urgent}");
}

#[test]
fn a_query_is_answered_and_an_answer_must_be_to_it() {
    let mut bench = Bench::new(2, Timing::DEFAULT);
    assert_eq!(bench.hear_main(20, 0), Ok(()));
    bench.outputs();
    bench.pass(ms(299));
    assert!(
        bench
            .outputs()
            .iter()
            .all(|output| !matches!(output, Output::Event(_)))
    );
    bench.pass(ms(1));
    let nonces: Vec<u64> = bench
        .sent()
        .iter()
        .filter_map(|(to, one)| match one.body {
            Body::Query { nonce } if *to == Party::Controller(controller(1)) => Some(nonce),
            _ => None,
        })
        .collect();
    let [nonce] = nonces[..] else {
        panic!("{nonces:?}");
    };
    assert_eq!(bench.hear_main(20, nonce ^ 1), Err(Refusal::OutOfTurn));
    bench.pass(ms(60));
    let again = bench.sent();
    let again = again
        .iter()
        .filter(|(_, one)| one.body == Body::Query { nonce });
    assert_eq!(again.count(), 2);
    assert_eq!(bench.hear_main(20, nonce), Ok(()));
    let view = bench.controller.view(bench.now);
    assert_eq!(view.silence, Some(ms(0)));
    assert_eq!((view.counts.missed, view.counts.candidacies), (1, 0));
    // And itself, when it is asked.
    let from = Party::Controller(controller(1));
    assert_eq!(
        bench.receive(from, 20, true, Body::Query { nonce: 66 }),
        Ok(())
    );
    let answers = bench.sent();
    let answer = answers.iter().find_map(|(to, one)| match one.body {
        Body::Answer(life) => Some((*to, life.nonce, one.header.reigns)),
        _ => None,
    });
    assert_eq!(answer, Some((from, 66, false)));
}

#[test]
fn each_step_of_a_takeover_has_its_duration() {
    let mut bench = Bench::new(2, Timing::DEFAULT);
    assert_eq!(bench.hear_main(20, 0), Ok(()));
    bench.outputs();
    bench.pass(ms(400));
    let outputs = bench.outputs();
    assert!(outputs.contains(&Output::Persist { term: Term(21) }));
    bench.pass(ms(7));
    bench.controller.persisted(bench.now, Term(21));
    let requests = bench.sent();
    bench.grant(&requests);
    let steps = Steps {
        silence: ms(300),
        query: ms(100),
        leases: ms(7),
    };
    assert_eq!(steps.total(), ms(407));
    let reason = crate::failover::wire::Reason::Loss;
    let activate = Output::Activate {
        term: Term(21),
        reason,
        steps,
    };
    assert!(bench.outputs().contains(&activate));
    let switch = bench.controller.view(bench.now).last_switch;
    let switch = switch.expect("it has just been");
    assert_eq!(
        (switch.from, switch.to),
        (Some(controller(1)), controller(2))
    );
    assert_eq!(switch.own, Some((reason, steps)));
}

#[test]
fn two_nodes_forward_and_eight_in_need() {
    let mut bench = Bench::new(2, Timing::DEFAULT);
    let relays = |bench: &mut Bench| {
        let sent = bench.sent();
        let asked = sent
            .iter()
            .filter(|(_, one)| one.body == Body::RelayRequest);
        asked.map(|(to, _)| *to).collect::<Vec<_>>()
    };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let mut asked = Vec::new();
        for _ in 0..20 {
            assert_eq!(bench.hear_main(20, 0), Ok(()));
            bench.pass(ms(50));
            asked.extend(relays(&mut bench));
        }
        if !seen.is_empty() {
            assert_eq!(asked.len(), 2, "{asked:?}");
        }
        seen.extend(asked);
    }
    assert!(seen.len() > 8, "others every time: {seen:?}");
    bench.pass(ms(250));
    let asked = relays(&mut bench);
    assert_eq!(asked.len(), 8, "{asked:?}");
    // They are heard from then on, and it is known by which path.
    let life = Body::KeepAlive(life(Role::Main));
    let from = Party::Controller(controller(1));
    let bytes = bench.write(from, 20, true, life);
    let relay = address(asked[0]);
    assert_eq!(bench.controller.receive(bench.now, relay, &bytes), Ok(()));
    let view = bench.controller.view(bench.now);
    let Party::Node(first) = asked[0] else {
        panic!("{asked:?}");
    };
    let ages: Vec<Duration> = [Path::Relayed(first), Path::Direct]
        .map(|path| {
            let mut paths = view.paths.iter();
            paths.find(|one| one.path == path).expect("heard").age
        })
        .into();
    assert_eq!(ages, [ms(0), ms(300)]);
    assert_eq!(view.silence, Some(ms(0)));
}

#[test]
fn nobody_drains_it() {
    let mut bench = Bench::new(2, Timing::DEFAULT);
    assert_eq!(bench.outputs(), [Output::KeepElectors]);
    let from = Party::Controller(controller(1));
    for nonce in 0..2 * OUTPUTS as u64 {
        assert_eq!(bench.receive(from, 20, true, Body::Query { nonce }), Ok(()));
    }
    let dropped = bench.controller.view(bench.now).counts.dropped;
    assert_eq!(dropped, OUTPUTS as u64);
    // What changes the role is not dropped.
    bench.pass(ms(3_000));
    let outputs = bench.outputs();
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Persist { .. }))
    );
}

#[test]
fn what_could_not_be_kept_is_to_be_kept_again() {
    let mut bench = Bench::new(2, Timing::DEFAULT);
    let is_asked = |bench: &mut Bench| bench.outputs().contains(&Output::KeepElectors);
    assert!(is_asked(&mut bench));
    let (number, electors) = bench.controller.electors();
    assert_eq!(electors.present.len(), usize::from(NODES));
    bench.controller.electors_not_kept(bench.now, number);
    bench.pass(ms(900));
    assert!(!is_asked(&mut bench));
    bench.pass(ms(200));
    assert!(is_asked(&mut bench));
    assert_eq!(bench.controller.electors(), (number, electors));
    bench.controller.electors_kept(bench.now, number);
    bench.pass(ms(2_000));
    assert!(!is_asked(&mut bench));
}

#[test]
fn a_main_of_a_lower_term_is_none() {
    // For a stand-by that follows one of a higher term: it is not even a sign of life.
    let mut bench = Bench::new(2, Timing::DEFAULT);
    assert_eq!(bench.hear_main(20, 0), Ok(()));
    bench.pass(ms(100));
    assert_eq!(bench.hear_main(19, 0), Err(Refusal::LowerTerm));
    let view = bench.controller.view(bench.now);
    assert_eq!(view.main, Some((Term(20), controller(1))));
    assert_eq!(view.silence, Some(ms(100)));
    assert_eq!(view.refusals.get(Refusal::LowerTerm), 1);

    // And for a main, whom nobody of its own term can dethrone either.
    let mut bench = Bench::new(2, Timing::DEFAULT);
    let term = bench.crown().0;
    assert_eq!(bench.hear_main(term - 1, 0), Err(Refusal::LowerTerm));
    assert_eq!(bench.hear_main(term, 0), Err(Refusal::OutOfTurn));
    assert_eq!(bench.controller.role(), Role::Main);
    assert_eq!(bench.hear_main(term + 1, 0), Ok(()));
    assert_eq!(bench.controller.role(), Role::StandBy);
    let why = Deactivation::HigherTerm {
        by: controller(1),
        term: Term(term + 1),
    };
    assert!(bench.outputs().contains(&Output::Deactivate { why }));
}
