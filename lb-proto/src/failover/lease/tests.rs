use super::*;
use crate::failover::fixtures::ms;
use proptest::prelude::*;

const LONGEST: Duration = ms(5_000);

fn id(id: u8) -> ControllerId {
    ControllerId::new(id).expect("in range")
}

fn grant(term: u64, holder: u8, lease: u64) -> Grant {
    Grant {
        term: Term(term),
        holder: id(holder),
        lease: ms(lease),
    }
}

/// A node that has had nothing to wait for.
fn fresh() -> Book {
    let mut book = Book::new(ms(0), None, LONGEST);
    book.blocked_until = ms(0);
    book
}

#[test]
fn a_lease_excludes_others_for_an_eighth_longer() {
    let mut book = fresh();
    assert_eq!(book.grant(ms(10), grant(1, 1, 80)), Ok(()));
    // 80 ms, an eighth, and one more.
    assert_eq!(book.until(ms(10)), Some(ms(10 + 80 + 10 + 1)));
    assert_eq!(book.grant(ms(100), grant(2, 2, 80)), Err(Refused::Runs));
    assert_eq!(book.remaining(ms(100)), ms(1));
    assert_eq!(book.grant(ms(101), grant(2, 2, 80)), Ok(()));
    assert_eq!(book.running(ms(101)), Some(grant(2, 2, 80)));
}

#[test]
fn the_whole_table_of_terms() {
    let cases = [
        // Who asks, for which term, and what a node says that leased term 5 to 1.
        (1, 4, Err(Refused::LowerTerm)),
        (1, 5, Ok(())),
        (1, 6, Ok(())),
        (2, 4, Err(Refused::LowerTerm)),
        (2, 5, Err(Refused::LowerTerm)),
        (2, 6, Err(Refused::Runs)),
    ];
    for (holder, term, expected) in cases {
        let mut book = fresh();
        assert_eq!(book.grant(ms(0), grant(5, 1, 100)), Ok(()));
        let wanted = grant(term, holder, 100);
        assert_eq!(book.check(ms(50), wanted), expected, "{holder} {term}");
        assert_eq!(book.grant(ms(50), wanted), expected, "{holder} {term}");
        // When it is over, the same but that nobody is in the way.
        let over = expected.or_else(|why| {
            if why == Refused::Runs {
                Ok(())
            } else {
                Err(why)
            }
        });
        assert_eq!(book.check(ms(500), wanted), over, "{holder} {term}");
    }
    let mut book = fresh();
    assert_eq!(book.grant(ms(0), grant(1, 1, 5_001)), Err(Refused::TooLong));
}

#[test]
fn what_is_released_is_spent() {
    let mut book = fresh();
    assert_eq!(book.grant(ms(0), grant(5, 1, 100)), Ok(()));
    // Of an earlier reign, that came late.
    assert_eq!(book.release(id(1), Term(4)), Err(Refused::LowerTerm));
    // Somebody else's.
    assert_eq!(book.release(id(2), Term(9)), Ok(()));
    assert_eq!(book.running(ms(1)), Some(grant(5, 1, 100)));
    assert_eq!(book.release(id(1), Term(5)), Ok(()));
    assert_eq!(book.running(ms(1)), None);
    // A keep-alive that was overtaken by the release.
    assert_eq!(book.grant(ms(2), grant(5, 1, 100)), Err(Refused::LowerTerm));
    assert_eq!(book.grant(ms(2), grant(6, 2, 100)), Ok(()));
}

#[test]
fn after_a_start() {
    // What had been granted runs once more.
    let mut book = Book::new(ms(1_000), Some(grant(5, 1, 80)), LONGEST);
    assert_eq!(book.grant(ms(1_000), grant(6, 2, 80)), Err(Refused::Runs));
    assert_eq!(book.check(ms(1_000), grant(5, 1, 80)), Ok(()));
    assert_eq!(book.check(ms(1_000), grant(6, 1, 80)), Ok(()));
    assert_eq!(book.grant(ms(1_091), grant(6, 2, 80)), Ok(()));
    // What is not known may be anybody's, and as long as any.
    let mut book = Book::new(ms(1_000), None, LONGEST);
    let last = ms(1_000 + 5_000 + 625);
    assert_eq!(book.grant(last, grant(1, 1, 80)), Err(Refused::Starting));
    assert_eq!(book.grant(last + ms(1), grant(1, 1, 80)), Ok(()));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u64, u8, u64),
    Release(u8, u64),
    Wait(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1..8u64, 1..4u8, 20..400u64).prop_map(|(term, id, lease)| Step::Ask(term, id, lease)),
        1 => (1..4u8, 1..8u64).prop_map(|(id, term)| Step::Release(id, term)),
        4 => (0..300u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever is asked: nobody gets a lease while somebody else could count on one, by a clock an
    /// eighth slower, unless that one gave it up; and terms only grow.
    #[test]
    fn leases_never_overlap(steps in steps()) {
        let mut now = ms(10_000);
        let mut book = fresh();
        // Until when each may count on it, by the node's clock.
        let mut counts = [Duration::ZERO; 4];
        let mut highest = Term(0);
        for step in steps {
            match step {
                Step::Ask(term, holder, lease) => {
                    let wanted = grant(term, holder, lease);
                    if book.grant(now, wanted).is_err() {
                        continue;
                    }
                    prop_assert!(wanted.term >= highest);
                    highest = wanted.term;
                    for (other, until) in counts.iter().enumerate() {
                        prop_assert!(other == usize::from(holder) || *until <= now, "{other} {holder}");
                    }
                    let slow = ms(lease) * 9 / 8;
                    let own = &mut counts[usize::from(holder)];
                    *own = (*own).max(now + slow);
                }
                Step::Release(holder, term) => {
                    // Only who holds none of a higher term gives up all that it has.
                    let holds_higher = book.last().is_some_and(|last| last.holder == id(holder) && last.term > Term(term));
                    let result = book.release(id(holder), Term(term));
                    prop_assert_eq!(result.is_err(), holds_higher);
                    if result.is_ok() {
                        counts[usize::from(holder)] = Duration::ZERO;
                    }
                }
                Step::Wait(time) => now += ms(time),
                Step::Restart => {
                    let kept = book.last();
                    if kept.is_some() {
                        book = Book::new(now, kept, LONGEST);
                    }
                }
            }
            prop_assert_eq!(book.highest(), highest);
        }
    }
}
