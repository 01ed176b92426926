use super::*;
use crate::failover::LONGEST_LEASE;
use crate::failover::fixtures::{CLUSTER, controller, keep_alive, ms};
use crate::failover::wire::{CONTROL_LEN, Datagram, LeaseRequest, Reason, Verdict};
use crate::fixtures::KEY;

/// The machine starts long after what it had granted can be over.
const START: Duration = ms(100_000);

fn address(id: u8) -> IpAddr {
    [10, 0, 0, id].into()
}

fn grant(term: u64, holder: u8) -> Grant {
    Grant {
        term: Term(term),
        holder: controller(holder),
        lease: ms(100),
    }
}

/// A node and the two controllers that send to it.
struct Bench {
    witness: Witness,
    senders: [Stamper; 2],
    now: Duration,
}

impl Bench {
    /// With a disk on which controller 1 held term 1, which is over.
    fn new() -> Self {
        let mut bench = Self::started_with(Some(grant(1, 1)));
        bench.now += ms(200);
        bench
    }

    fn started_with(kept: Option<Grant>) -> Self {
        let ids = [1, 2];
        let setup = Setup {
            node: NodeId::new(5).expect("in range"),
            cluster: CLUSTER,
            epoch: 1,
            kept,
            longest_lease: LONGEST_LEASE,
        };
        let members = Members {
            controllers: ids.map(|id| (controller(id), vec![address(id)])).into(),
            nodes: BTreeMap::new(),
        };
        Self {
            witness: Witness::new(START, setup, vec![KEY], members),
            senders: ids.map(|id| Stamper::new(Party::Controller(controller(id)), CLUSTER, 1)),
            now: START,
        }
    }

    fn write(&mut self, from: u8, term: u64, reigns: bool, body: Body) -> Bytes {
        let marks = Marks {
            reigns,
            is_urgent: false,
        };
        let sender = &mut self.senders[usize::from(from) - 1];
        sender.write(KEY, 0, Term(term), marks, body).1
    }

    fn send(&mut self, from: u8, term: u64, body: Body) -> Result<(), Refusal> {
        let reigns = matches!(body, Body::KeepAlive(_));
        let bytes = self.write(from, term, reigns, body);
        self.witness.receive(self.now, address(from), &bytes)
    }

    /// A candidate's request.
    fn ask(&mut self, from: u8, term: u64) -> Result<(), Refusal> {
        let request = LeaseRequest {
            nonce: 77,
            lease: ms(100),
            reason: Reason::Loss,
        };
        self.send(from, term, Body::LeaseRequest(request))
    }

    /// A main's keep-alive.
    fn keep(&mut self, from: u8, term: u64) -> Result<(), Refusal> {
        self.send(from, term, keep_alive())
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.witness.poll_output()).collect()
    }

    /// What is answered, and to whom; what is to be kept is.
    fn answers(&mut self) -> Vec<(u8, Body)> {
        let mut answers = Vec::new();
        while let Some(output) = self.witness.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    let datagram = Datagram::read(&bytes, &[KEY]).expect("genuine");
                    answers.push((to.get(), datagram.body));
                }
                Output::Persist(grant) => self.witness.persisted(self.now, grant.term),
                Output::Event(_) => {}
            }
        }
        answers
    }

    fn verdicts(&mut self) -> Vec<(u8, Verdict)> {
        let verdict = |(to, body)| match body {
            Body::LeaseAnswer(answer) => Some((to, answer.verdict)),
            _ => None,
        };
        self.answers().into_iter().filter_map(verdict).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        let event = |output| match output {
            Output::Event(event) => Some(event),
            Output::Send { .. } | Output::Persist(_) => None,
        };
        self.outputs().into_iter().filter_map(event).collect()
    }

    fn accepted(&self) -> Option<(u64, u8)> {
        let accepted = self.witness.accepted(self.now);
        accepted.map(|(term, id)| (term.0, id.get()))
    }

    /// Time passes, and the machine looks at it as often as it wants to.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.witness.next_timeout(self.now).filter(|at| *at <= end) {
            self.now = self.now.max(next);
            let before = self.witness.next_timeout(self.now);
            self.witness.handle_timeout(self.now);
            if self.witness.next_timeout(self.now) == before {
                self.now += ms(1);
            }
        }
        self.now = end;
        self.witness.handle_timeout(self.now);
    }
}

#[test]
fn a_lease_is_on_the_disk_before_anybody_hears_of_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.outputs(), [Output::Persist(grant(4, 2))]);
    assert_eq!(bench.accepted(), None);
    // Asked again while the disk turns, it is not written twice.
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.outputs(), []);
    // Another of the same term has come too late.
    assert_eq!(bench.ask(1, 4), Err(Refusal::LowerTerm));
    assert_eq!(bench.verdicts(), [(1, Verdict::LowerTerm)]);
    bench.witness.persisted(bench.now, Term(3));
    assert_eq!(bench.accepted(), None);
    bench.witness.persisted(bench.now, Term(4));
    assert_eq!(bench.accepted(), Some((4, 2)));
    assert_eq!(bench.verdicts(), [(2, Verdict::Granted)]);
    bench.witness.persisted(bench.now, Term(4));
    assert_eq!(bench.outputs(), []);
}

#[test]
fn a_disk_that_fails_grants_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(2, 4), Ok(()));
    bench.witness.persist_failed(Term(4));
    bench.witness.persisted(bench.now, Term(4));
    assert_eq!(bench.outputs(), [Output::Persist(grant(4, 2))]);
    assert_eq!(bench.accepted(), None);
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::Granted)]);
}

#[test]
fn a_node_that_hears_the_main_says_so() {
    let mut bench = Bench::new();
    assert_eq!(bench.keep(1, 3), Ok(()));
    assert!(matches!(bench.answers()[..], [(1, Body::Ack(_))]));
    assert_eq!(bench.accepted(), Some((3, 1)));
    bench.pass(ms(59));
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::HearsMain)]);
    bench.pass(ms(1));
    let missed = Event::Missed {
        controller: controller(1),
        term: Term(3),
        silence: ms(60),
    };
    assert_eq!(bench.events(), [missed]);
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::LeaseRuns)]);
    // 100 ms, an eighth, and one more.
    bench.pass(ms(53));
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::LeaseRuns)]);
    bench.pass(ms(1));
    assert_eq!(bench.accepted(), None);
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::Granted)]);
    assert_eq!(bench.accepted(), Some((4, 2)));
}

#[test]
fn a_main_that_was_missed_and_is_heard() {
    let mut bench = Bench::new();
    assert_eq!(bench.keep(1, 3), Ok(()));
    bench.answers();
    bench.pass(ms(80));
    assert_eq!(bench.events().len(), 1);
    assert!(bench.witness.view(bench.now).is_missed);
    assert_eq!(bench.keep(1, 3), Ok(()));
    let (controller, term) = (controller(1), Term(3));
    assert_eq!(bench.events(), [Event::Heard { controller, term }]);
    bench.pass(ms(200));
    let events = bench.events();
    assert!(matches!(events[0], Event::Missed { .. }));
    assert_eq!(events[1], Event::Expired { controller, term });
}

#[test]
fn lower_terms_are_refused_answered_and_counted() {
    let mut bench = Bench::new();
    assert_eq!(bench.keep(2, 8), Ok(()));
    bench.answers();
    for (round, term) in (1..=8).enumerate() {
        assert_eq!(bench.keep(1, term), Err(Refusal::LowerTerm));
        assert_eq!(bench.ask(1, term), Err(Refusal::LowerTerm));
        let answers = bench.answers();
        assert_eq!(answers.len(), 2);
        for (to, body) in answers {
            let Body::LeaseAnswer(answer) = body else {
                panic!("{body:?}");
            };
            assert_eq!((to, answer.verdict), (1, Verdict::LowerTerm));
            assert_eq!(
                (answer.highest, answer.holder),
                (Term(8), Some(controller(2)))
            );
        }
        let counted = bench.witness.view(bench.now).refusals;
        assert_eq!(counted.get(Refusal::LowerTerm), round as u64 * 2 + 2);
    }
    assert_eq!(bench.send(2, 7, Body::Release), Err(Refusal::LowerTerm));
    assert_eq!(bench.accepted(), Some((8, 2)));
}

#[test]
fn what_is_released_is_anybodys() {
    let mut bench = Bench::new();
    assert_eq!(bench.keep(1, 3), Ok(()));
    bench.answers();
    // Not his to give up.
    assert_eq!(bench.send(2, 3, Body::Release), Ok(()));
    assert_eq!(bench.accepted(), Some((3, 1)));
    assert_eq!(bench.send(1, 3, Body::Release), Ok(()));
    let (controller, term) = (controller(1), Term(3));
    assert_eq!(bench.events(), [Event::Released { controller, term }]);
    assert_eq!(bench.accepted(), None);
    assert_eq!(bench.keep(1, 3), Err(Refusal::LowerTerm));
    assert_eq!(bench.ask(2, 4), Ok(()));
    bench.answers();
    assert_eq!(bench.accepted(), Some((4, 2)));
}

#[test]
fn a_higher_term_of_the_same_main_does_not_interrupt_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.keep(1, 3), Ok(()));
    bench.answers();
    assert_eq!(bench.ask(1, 5), Ok(()));
    assert_eq!(bench.outputs(), [Output::Persist(grant(5, 1))]);
    // The disk takes its time.
    for _ in 0..20 {
        bench.pass(ms(20));
        assert_eq!(bench.keep(1, 3), Ok(()));
        assert!(matches!(bench.answers()[..], [(1, Body::Ack(_))]));
        assert_eq!(bench.accepted(), Some((3, 1)));
    }
    bench.witness.persisted(bench.now, Term(5));
    assert_eq!(bench.verdicts(), [(1, Verdict::Granted)]);
    assert_eq!(bench.accepted(), Some((5, 1)));
    assert_eq!(bench.keep(1, 3), Err(Refusal::LowerTerm));
}

#[test]
fn keep_alives_are_forwarded_to_who_asked_for_as_long() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(2, 0, Body::RelayRequest), Ok(()));
    let forwarded = |bench: &mut Bench, reigns| {
        let bytes = bench.write(1, 3, reigns, keep_alive());
        assert_eq!(bench.witness.receive(bench.now, address(1), &bytes), Ok(()));
        let to_other = Output::Send {
            to: controller(2),
            bytes,
        };
        bench.outputs().contains(&to_other)
    };
    assert!(forwarded(&mut bench, true));
    assert!(!forwarded(&mut bench, false));
    bench.now += RELAY_FOR - ms(1);
    assert!(forwarded(&mut bench, true));
    assert_eq!(bench.witness.view(bench.now).relays, [controller(2)]);
    bench.now += ms(1);
    assert!(!forwarded(&mut bench, true));
    // Nobody has one's own sent back.
    assert_eq!(bench.send(1, 0, Body::RelayRequest), Ok(()));
    bench.outputs();
    assert!(!forwarded(&mut bench, true));
}

#[test]
fn what_is_missing_is_said() {
    let mut bench = Bench::new();
    for link in [true, false] {
        bench.witness.set_missing(Missing { link });
        assert_eq!(bench.keep(1, 3), Ok(()));
        let answers = bench.answers();
        let [(1, Body::Ack(ack))] = answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(ack.missing, Missing { link });
    }
}

#[test]
fn a_node_without_its_disk_waits() {
    let mut bench = Bench::started_with(None);
    assert_eq!(bench.ask(2, 9), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::Starting)]);
    assert_eq!(bench.keep(1, 9), Ok(()));
    assert_eq!(bench.verdicts(), [(1, Verdict::Starting)]);
    bench.now += LONGEST_LEASE * 9 / 8;
    assert_eq!(bench.ask(2, 9), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::Starting)]);
    bench.now += ms(1);
    assert_eq!(bench.ask(2, 9), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::Granted)]);
}

#[test]
fn a_restarted_node_keeps_to_what_it_granted() {
    let mut bench = Bench::started_with(Some(grant(5, 1)));
    // Nobody is obeyed before it is heard.
    assert_eq!(bench.accepted(), None);
    assert_eq!(bench.ask(2, 6), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::LeaseRuns)]);
    assert_eq!(bench.keep(1, 5), Ok(()));
    bench.answers();
    assert_eq!(bench.accepted(), Some((5, 1)));
}

#[test]
fn a_stall_is_not_the_mains_silence() {
    let mut bench = Bench::new();
    assert_eq!(bench.keep(1, 3), Ok(()));
    bench.answers();
    bench.pass(ms(10));
    // 90 ms without a turn; the keep-alives wait behind a candidate's request.
    bench.now += ms(90);
    bench.witness.handle_timeout(bench.now);
    assert_eq!(bench.events(), [Event::Stalled(ms(90))]);
    assert_eq!(bench.ask(2, 4), Ok(()));
    assert_eq!(bench.verdicts(), [(2, Verdict::HearsMain)]);
}

#[test]
fn what_is_not_for_nodes_is_refused() {
    let mut bench = Bench::new();
    let bodies = [
        Body::Query { nonce: 1 },
        Body::Yield {
            reason: Reason::Loss,
        },
        Body::Ask {
            successor: controller(1),
            reason: Reason::Command,
        },
    ];
    for body in bodies {
        assert_eq!(bench.send(1, 9, body), Err(Refusal::Recipient));
    }
    assert_eq!(bench.outputs(), []);
    let counted = bench.witness.view(bench.now).refusals;
    assert_eq!(counted.get(Refusal::Recipient), 3);
}

#[test]
fn nobody_drains_it() {
    let mut bench = Bench::new();
    for _ in 0..1_000 {
        assert_eq!(bench.keep(1, 3), Ok(()));
    }
    // The first keep-alive waits for the disk.
    bench.answers();
    for _ in 0..1_000 {
        assert_eq!(bench.keep(1, 3), Ok(()));
    }
    let view = bench.witness.view(bench.now);
    assert_eq!(view.dropped, 1_000 - OUTPUTS as u64);
    assert_eq!(bench.outputs().len(), OUTPUTS);
    let [seen] = view.controllers[..] else {
        panic!("{:?}", view.controllers);
    };
    assert_eq!((seen.controller, seen.configuration), (controller(1), 4));
    assert_eq!(CONTROL_LEN, 112);
}
