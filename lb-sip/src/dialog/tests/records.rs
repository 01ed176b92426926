//! What the records give: requests in either direction, pages, and room.

use super::*;
use crate::dialog::table::{Counts, HangUpError, MOST_PER_CALL_ID};

/// A call through proxies on both sides of an observer that records its route.
fn routed() -> (Scene, DialogId) {
    let mut scene = Scene::with(10, 1);
    let begin = MessageFacts {
        record_route: &[b"<sip:own;lr>", b"<sip:p1;lr>"],
        ..invite()
    };
    let id = scene.began(&begin);
    let accepted = MessageFacts {
        record_route: &[
            b"<sip:p3;lr>",
            b"<sip:p2;lr>",
            b"<sip:own;lr>",
            b"<sip:p1;lr>",
        ],
        ..accept(begin)
    };
    scene.known(id, &accepted);
    (scene, id)
}

#[test]
fn byes_go_both_ways() {
    let (mut scene, id) = routed();
    scene.known(id, &from_callee(Method::Other, 41));
    let [to_caller, to_callee] = scene
        .table
        .hang_up(scene.now, id, &mut scene.events)
        .expect("confirmed");
    assert_eq!(to_caller.request_uri, "sip:alice@192.0.2.1");
    assert_eq!(to_caller.routes, ["<sip:p1;lr>"]);
    assert_eq!(to_caller.from, "<sip:bob@example.com>");
    assert_eq!(to_caller.from_tag.as_deref(), Some(&b"bob"[..]));
    assert_eq!(to_caller.to_tag.as_deref(), Some(&b"alice"[..]));
    assert_eq!(to_caller.cseq, 42);
    assert_eq!(to_callee.request_uri, "sip:bob@192.0.2.2");
    assert_eq!(to_callee.routes, ["<sip:p2;lr>", "<sip:p3;lr>"]);
    assert_eq!(to_callee.from_tag.as_deref(), Some(&b"alice"[..]));
    assert_eq!(to_callee.to, "<sip:bob@example.com>");
    assert_eq!(to_callee.call_id, "call");
    assert_eq!(to_callee.cseq, 2);
    assert_eq!(scene.end(id), Some(End::HungUp));
    assert_eq!(
        scene.table.hang_up(scene.now, id, &mut scene.events),
        Err(HangUpError::Gone)
    );
}

#[test]
fn questions_leave_the_numbers_as_they_are() {
    let (mut scene, id) = routed();
    let question = |scene: &Scene, side| scene.dialog(id).question(side).expect("a target").cseq;
    assert_eq!(question(&scene, Side::Callee), 1, "the INVITE's");
    assert_eq!(question(&scene, Side::Caller), 1, "nothing came from there");
    assert_eq!(scene.dialog(id).party(Side::Callee).cseq, None);
    scene.known(id, &within(from_caller(Method::Other, 2)));
    assert_eq!(question(&scene, Side::Callee), 2);
}

#[test]
fn a_user_agent_counts_with_its_own_requests() {
    let (mut scene, id) = Scene::confirmed();
    let next = |scene: &mut Scene| scene.table.next_request(id, Side::Callee).map(|it| it.cseq);
    assert_eq!(next(&mut scene), Some(2));
    assert_eq!(next(&mut scene), Some(3));
    // It feeds in what it sends, like what it receives.
    scene.known(id, &within(from_caller(Method::Bye, 3)));
    scene.known(id, &answer(from_caller(Method::Bye, 3), 200));
    assert_eq!(next(&mut scene), None);
}

#[test]
fn what_cannot_be_hung_up_says_why() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    let hang_up = |scene: &mut Scene| scene.table.hang_up(scene.now, id, &mut scene.events);
    assert_eq!(hang_up(&mut scene), Err(HangUpError::Early));
    let accepted = MessageFacts {
        contact: None,
        ..accept(invite())
    };
    scene.known(id, &accepted);
    assert_eq!(hang_up(&mut scene), Err(HangUpError::NoTarget));
    assert_eq!(scene.state(id), State::Confirmed, "and leaves it");
}

#[test]
fn pages_go_by_urgency_and_then_by_age() {
    let mut scene = Scene::new();
    let calls: [(&[u8], Priority); 5] = [
        (b"1", Priority::Normal),
        (b"2", Priority::Emergency),
        (b"3", Priority::NonUrgent),
        (b"4", Priority::Normal),
        (b"5", Priority::Urgent),
    ];
    for (call_id, priority) in calls {
        scene.began(&MessageFacts {
            call_id,
            priority,
            ..invite()
        });
        scene.now += seconds(1);
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = scene.table.page(after, 2);
        assert!(page.dialogs.len() <= 2);
        seen.extend(
            page.dialogs
                .iter()
                .map(|(_, dialog)| dialog.call_id().clone()),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
        // One that ends between pages, behind and ahead of the cursor, upsets nothing.
        if seen.len() == 2 {
            for call_id in [&b"2"[..], b"4"] {
                let refusal = MessageFacts {
                    call_id,
                    ..answer(invite(), 486)
                };
                scene.observe(&refusal);
            }
        }
    }
    assert_eq!(seen, ["2", "5", "1", "3"]);
    assert!(scene.table.page(None, 0).dialogs.is_empty());
}

#[test]
fn a_full_table_refuses_the_new_and_forgets_the_ended() {
    let mut scene = Scene::with(2, 0);
    let call = |call_id: &'static [u8]| MessageFacts {
        call_id,
        ..invite()
    };
    let first = scene.began(&call(b"1"));
    scene.began(&call(b"2"));
    assert_eq!(scene.observe(&call(b"3")), Observed::Full);
    let fork = MessageFacts {
        to_tag: Some(b"carol"),
        ..answer(call(b"1"), 180)
    };
    scene.known(first, &answer(call(b"1"), 180));
    assert_eq!(scene.observe(&fork), Observed::Full);
    scene.known(first, &answer(call(b"1"), 486));
    scene.began(&call(b"3"));
    assert!(scene.table.get(first).is_none(), "it made room");
    let counts = Counts {
        early: 2,
        ..Counts::default()
    };
    assert_eq!(scene.table.counts(), counts);
}

#[test]
fn one_call_id_has_so_many_dialogs_and_no_more() {
    let mut scene = Scene::new();
    scene.began(&invite());
    let tags: Vec<String> = (0..=MOST_PER_CALL_ID).map(|tag| tag.to_string()).collect();
    let mut results = Vec::new();
    for tag in &tags {
        let ringing = MessageFacts {
            to_tag: Some(tag.as_bytes()),
            ..answer(invite(), 180)
        };
        results.push(scene.observe(&ringing) == Observed::Full);
    }
    let fits = results.iter().filter(|is_full| !**is_full).count();
    assert_eq!(fits, MOST_PER_CALL_ID);
    assert!(results[MOST_PER_CALL_ID]);
}
