//! What messages do.

use super::*;

#[test]
fn a_call_from_invite_to_bye() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    scene.known(id, &answer(invite(), 180));
    assert_eq!(scene.state(id), State::Early);
    scene.known(id, &accept(invite()));
    scene.known(id, &within(from_caller(Method::Ack, 1)));
    assert_eq!(scene.state(id), State::Confirmed);
    assert_eq!(
        (scene.table.calls(), scene.table.counts().confirmed),
        (1, 1)
    );
    let bye = from_callee(Method::Bye, 7);
    scene.known(id, &bye);
    assert_eq!(scene.state(id), State::Confirmed, "not answered yet");
    scene.known(id, &answer(bye, 200));
    assert_eq!(
        (scene.state(id), scene.end(id)),
        (State::Ended, Some(End::Bye))
    );
    assert_eq!(scene.table.calls(), 0);
    let step = |from, to| Event::State { id, from, to };
    assert_eq!(
        scene.events,
        [
            step(None, State::Early),
            step(Some(State::Early), State::Confirmed),
            step(Some(State::Confirmed), State::Ended),
        ]
    );
    scene.pass(POLICY.remember);
    assert!(scene.table.get(id).is_none(), "forgotten");
    assert_eq!(scene.table.next_timeout(), None);
}

#[test]
fn copies_change_nothing() {
    let (mut scene, id) = Scene::confirmed();
    scene.known(id, &invite());
    scene.known(id, &answer(invite(), 180));
    scene.known(id, &accept(invite()));
    scene.known(id, &within(from_caller(Method::Ack, 1)));
    assert!(scene.events.is_empty());
    let bye = within(from_caller(Method::Bye, 2));
    for _ in 0..2 {
        scene.known(id, &bye);
    }
    for _ in 0..2 {
        scene.known(id, &answer(bye, 200));
    }
    scene.known(id, &invite());
    assert_eq!(scene.events.len(), 1, "it ended once: {:?}", scene.events);
}

#[test]
fn a_refused_call_ends_and_a_new_attempt_begins() {
    let mut scene = Scene::new();
    let first = scene.began(&invite());
    scene.known(first, &answer(invite(), 407));
    assert_eq!(scene.end(first), Some(End::Refused));
    let again = MessageFacts {
        cseq: 2,
        ..invite()
    };
    let second = scene.began(&again);
    scene.known(first, &invite());
    scene.known(second, &accept(again));
    assert_eq!(scene.state(second), State::Confirmed);
    assert_eq!(scene.table.calls(), 1);
}

#[test]
fn an_attempt_whose_refusal_was_not_seen_gives_way_to_the_next() {
    let mut scene = Scene::new();
    let first = scene.began(&invite());
    let second = scene.began(&MessageFacts {
        cseq: 2,
        ..invite()
    });
    assert_eq!(scene.end(first), Some(End::Refused));
    assert_eq!(scene.state(second), State::Early);
}

#[test]
fn every_side_counts_its_requests() {
    let (mut scene, id) = Scene::confirmed();
    scene.known(id, &within(from_caller(Method::Other, 5)));
    scene.known(id, &from_callee(Method::Other, 900));
    assert_eq!(
        scene.observe(&within(from_caller(Method::Other, 4))),
        Observed::OutOfOrder(id)
    );
    assert_eq!(
        scene.observe(&from_callee(Method::Bye, 899)),
        Observed::OutOfOrder(id)
    );
    assert_eq!(scene.state(id), State::Confirmed);
    assert_eq!(scene.dialog(id).party(Side::Caller).cseq, Some(5));
    assert_eq!(scene.dialog(id).party(Side::Callee).cseq, Some(900));
    // The ACK and the CANCEL of an INVITE have its number, also after others.
    scene.known(id, &within(from_caller(Method::Ack, 1)));
    assert_eq!(scene.dialog(id).party(Side::Caller).cseq, Some(5));
}

#[test]
fn a_reinvite_moves_targets_when_it_succeeds() {
    let (mut scene, id) = Scene::confirmed();
    let target = |scene: &Scene, side| scene.dialog(id).party(side).target.clone();
    for (method, cseq) in [(Method::Invite, 2), (Method::Update, 4)] {
        let moved: &'static [u8] = match method {
            Method::Update => b"sip:alice@192.0.2.22",
            _ => b"sip:alice@192.0.2.11",
        };
        let before = target(&scene, Side::Caller);
        let request = |cseq| {
            within(MessageFacts {
                contact: Some(moved),
                ..from_caller(method, cseq)
            })
        };
        scene.known(id, &request(cseq));
        scene.known(id, &answer(request(cseq), 488));
        assert_eq!(target(&scene, Side::Caller), before, "refused");
        scene.known(id, &request(cseq + 1));
        let accepted = MessageFacts {
            contact: Some(b"sip:bob@192.0.2.33"),
            ..answer(request(cseq + 1), 200)
        };
        scene.known(id, &accepted);
        assert_eq!(target(&scene, Side::Caller).as_deref(), Some(moved));
        assert_eq!(
            target(&scene, Side::Callee).as_deref(),
            Some(&b"sip:bob@192.0.2.33"[..])
        );
    }
}

#[test]
fn hold_and_resume_by_either_side() {
    let (mut scene, id) = Scene::confirmed();
    let offers = |facts: MessageFacts<'static>, media| {
        within(MessageFacts {
            media: Some(media),
            ..facts
        })
    };
    let exchange = |scene: &mut Scene, request: MessageFacts<'static>, reply| {
        scene.known(id, &request);
        let accepted = MessageFacts {
            media: Some(reply),
            ..answer(request, 200)
        };
        scene.known(id, &accepted);
    };
    let held = |scene: &Scene| Side::BOTH.map(|side| scene.dialog(id).holds(side));

    let hold = offers(from_caller(Method::Invite, 2), Media::SendOnly);
    exchange(&mut scene, hold, Media::RecvOnly);
    assert_eq!(
        (scene.state(id), held(&scene)),
        (State::Held, [true, false])
    );
    assert_eq!(scene.table.counts().held, 1);

    let both = offers(from_callee(Method::Update, 1), Media::Inactive);
    exchange(&mut scene, both, Media::Inactive);
    assert_eq!((scene.state(id), held(&scene)), (State::Held, [true, true]));

    let refused = offers(from_caller(Method::Invite, 3), Media::SendRecv);
    scene.known(id, &refused);
    scene.known(id, &answer(refused, 491));
    assert_eq!(held(&scene), [true, true]);

    let resume = offers(from_caller(Method::Invite, 4), Media::SendRecv);
    exchange(&mut scene, resume, Media::SendOnly);
    assert_eq!(
        (scene.state(id), held(&scene)),
        (State::Held, [false, true])
    );
    let resume = offers(from_callee(Method::Invite, 2), Media::SendRecv);
    exchange(&mut scene, resume, Media::SendRecv);
    assert_eq!(scene.state(id), State::Confirmed);
}

#[test]
fn an_offer_in_the_answer_is_answered_in_the_ack() {
    let (mut scene, id) = Scene::confirmed();
    let empty = within(from_caller(Method::Invite, 2));
    scene.known(id, &empty);
    let offer = MessageFacts {
        media: Some(Media::SendOnly),
        ..answer(empty, 200)
    };
    scene.known(id, &offer);
    assert_eq!(scene.state(id), State::Confirmed, "not before the ACK");
    let ack = within(MessageFacts {
        media: Some(Media::RecvOnly),
        ..from_caller(Method::Ack, 2)
    });
    scene.known(id, &ack);
    assert!(scene.dialog(id).holds(Side::Callee));

    let mut scene = Scene::new();
    let begin = MessageFacts {
        media: None,
        ..invite()
    };
    let id = scene.began(&begin);
    scene.known(id, &accept(begin));
    let ack = within(MessageFacts {
        media: Some(Media::Inactive),
        ..from_caller(Method::Ack, 1)
    });
    scene.known(id, &ack);
    assert!(scene.dialog(id).holds(Side::Caller));
}

#[test]
fn of_several_descriptions_the_first_is_the_answer() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    let early = MessageFacts {
        media: Some(Media::SendRecv),
        ..answer(invite(), 183)
    };
    scene.known(id, &early);
    let accepted = MessageFacts {
        media: Some(Media::Inactive),
        ..accept(invite())
    };
    scene.known(id, &accepted);
    assert_eq!(scene.state(id), State::Confirmed, "§13.2.1");
}

#[test]
fn forks_are_dialogs_of_one_call() {
    let mut scene = Scene::new();
    let bob = scene.began(&invite());
    scene.known(bob, &answer(invite(), 180));
    let fork = |tag: &'static [u8], code| MessageFacts {
        to_tag: Some(tag),
        ..answer(invite(), code)
    };
    let carol = scene.forked(&fork(b"carol", 180));
    let dave = scene.forked(&fork(b"dave", 183));
    assert_eq!((scene.table.calls(), scene.table.counts().early), (1, 3));

    // One fork says that it is over, and one that nobody knows as well.
    scene.known(dave, &fork(b"dave", 199));
    assert_eq!(scene.end(dave), Some(End::Refused));
    assert_eq!(scene.observe(&fork(b"erin", 199)), Observed::Known(bob));

    let accepted = MessageFacts {
        contact: Some(b"sip:carol@192.0.2.3"),
        ..fork(b"carol", 200)
    };
    scene.known(carol, &accepted);
    assert_eq!(scene.state(carol), State::Confirmed);
    assert_eq!(scene.state(bob), State::Early);

    // Another success may come, also of one that never rang.
    let frank = scene.forked(&fork(b"frank", 200));
    assert_eq!(scene.state(frank), State::Confirmed);

    scene.pass(POLICY.give_up);
    assert_eq!(scene.end(bob), Some(End::OtherFork));
    assert_eq!(scene.state(carol), State::Confirmed);
    assert_eq!(
        (scene.table.calls(), scene.table.counts().confirmed),
        (1, 2)
    );

    let bye = MessageFacts {
        to_tag: Some(b"carol"),
        ..from_caller(Method::Bye, 2)
    };
    scene.known(carol, &bye);
    let done = MessageFacts {
        status: Some(status(200)),
        ..bye
    };
    scene.known(carol, &done);
    assert_eq!(scene.table.calls(), 1, "frank is there");
}

#[test]
fn a_failure_ends_all_early_forks_whoever_signs_it() {
    let mut scene = Scene::new();
    let bob = scene.began(&invite());
    scene.known(bob, &answer(invite(), 180));
    let carol = scene.forked(&MessageFacts {
        to_tag: Some(b"carol"),
        ..answer(invite(), 180)
    });
    let busy = MessageFacts {
        to_tag: Some(b"proxy"),
        ..answer(invite(), 486)
    };
    scene.observe(&busy);
    assert_eq!(scene.end(bob), Some(End::Refused));
    assert_eq!(scene.end(carol), Some(End::Refused));
    assert_eq!(scene.table.calls(), 0);
    // What rings late begins nothing; who accepts late is there (§16.7 step 5).
    let late = |code| MessageFacts {
        to_tag: Some(b"dave"),
        ..answer(invite(), code)
    };
    assert_eq!(scene.observe(&late(180)), Observed::Known(bob));
    let dave = scene.forked(&late(200));
    assert_eq!(scene.state(dave), State::Confirmed);
}

#[test]
fn a_callee_without_a_tag_is_known_by_none() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    let untagged = |facts| MessageFacts {
        to_tag: None,
        ..facts
    };
    scene.known(id, &untagged(answer(invite(), 180)));
    scene.known(id, &untagged(accept(invite())));
    assert_eq!(scene.state(id), State::Confirmed);
    let question = scene.dialog(id).question(Side::Callee).expect("a target");
    assert_eq!(question.to_tag, None);
    let bye = from_caller(Method::Bye, 2);
    scene.known(id, &bye);
    scene.known(id, &untagged(answer(bye, 200)));
    assert_eq!(scene.end(id), Some(End::Bye));
}

#[test]
fn strangers_are_unknown() {
    let (mut scene, id) = Scene::confirmed();
    let strangers = [
        within(MessageFacts {
            call_id: b"CALL",
            ..from_caller(Method::Bye, 2)
        }),
        MessageFacts {
            to_tag: Some(b"carol"),
            ..from_caller(Method::Bye, 2)
        },
        MessageFacts {
            from_tag: b"mallory",
            ..within(from_caller(Method::Bye, 2))
        },
        from_caller(Method::Other, 2),
        from_caller(Method::Bye, 2),
    ];
    for stranger in &strangers {
        assert_eq!(scene.observe(stranger), Observed::Unknown, "{stranger:?}");
        let response = MessageFacts {
            status: Some(status(481)),
            ..*stranger
        };
        assert_eq!(scene.observe(&response), Observed::Unknown);
    }
    assert_eq!(scene.state(id), State::Confirmed);
}

#[test]
fn an_invite_older_than_what_is_known_begins_nothing() {
    let mut scene = Scene::new();
    let second = scene.began(&MessageFacts {
        cseq: 2,
        ..invite()
    });
    scene.known(second, &invite());
    assert_eq!(scene.state(second), State::Early);
}

#[test]
fn forks_ring_side_by_side_until_one_is_accepted() {
    let mut scene = Scene::new();
    let bob = scene.began(&invite());
    let fork = |tag: &'static [u8], code, media| MessageFacts {
        to_tag: Some(tag),
        media: Some(media),
        ..answer(invite(), code)
    };
    scene.known(bob, &fork(b"bob", 183, Media::Inactive));
    let carol = scene.forked(&fork(b"carol", 183, Media::SendRecv));
    scene.pass(POLICY.give_up * 2);
    assert_eq!(scene.table.counts().early, 2, "ringing ends nobody");

    let accepted = MessageFacts {
        session_expires: Some(SessionExpires {
            interval: seconds(1_800),
            refresher: None,
        }),
        ..fork(b"bob", 200, Media::SendRecv)
    };
    scene.known(bob, &accepted);
    assert_eq!(scene.state(bob), State::Held, "its 183 had the answer");
    // What one fork agreed on is nothing to the others.
    let dave = scene.forked(&fork(b"dave", 180, Media::SendRecv));
    assert_eq!(scene.dialog(dave).session(), None);
    let erin = scene.forked(&fork(b"erin", 200, Media::SendRecv));
    assert_eq!(scene.state(erin), State::Confirmed);

    scene.pass(POLICY.give_up);
    for late in [carol, dave] {
        assert_eq!(scene.end(late), Some(End::OtherFork));
    }
    assert_eq!(scene.table.counts().confirmed, 1);
}

#[test]
fn a_reinvite_takes_the_first_description_too() {
    let (mut scene, id) = Scene::confirmed();
    let request = within(MessageFacts {
        media: Some(Media::SendRecv),
        ..from_caller(Method::Invite, 2)
    });
    scene.known(id, &request);
    for (code, media) in [(183, Media::SendOnly), (200, Media::SendRecv)] {
        let reply = MessageFacts {
            media: Some(media),
            ..answer(request, code)
        };
        scene.known(id, &reply);
    }
    assert!(scene.dialog(id).holds(Side::Callee));
}
