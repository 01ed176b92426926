//! What ends calls of which the end was not seen.

use super::*;

fn with_session(interval: u64, refresher: Refresher) -> MessageFacts<'static> {
    MessageFacts {
        session_expires: Some(SessionExpires {
            interval: seconds(interval),
            refresher: Some(refresher),
        }),
        ..accept(invite())
    }
}

#[test]
fn a_lost_bye_ends_with_the_session() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    scene.known(id, &with_session(1_800, Refresher::Uas));
    let session = scene.dialog(id).session().expect("it has one");
    assert_eq!(session.refresher, Some(Side::Callee));
    assert_eq!(session.until, START + seconds(1_800));

    scene.pass(seconds(850));
    let refresh = from_callee(Method::Update, 1);
    scene.known(id, &refresh);
    let refreshed = MessageFacts {
        session_expires: Some(SessionExpires {
            interval: seconds(1_800),
            refresher: Some(Refresher::Uac),
        }),
        ..answer(refresh, 200)
    };
    scene.known(id, &refreshed);
    let session = scene.dialog(id).session().expect("it has one");
    assert_eq!(
        session.refresher,
        Some(Side::Callee),
        "the UAC is the callee now"
    );

    let before = scene.now;
    // Both sides answer that they are there, and still the session is over.
    while scene.end(id).is_none() {
        scene.pass(seconds(1));
        for side in scene.asked() {
            scene
                .table
                .answered(scene.now, id, side, Some(status(200)), &mut scene.events);
        }
    }
    assert_eq!(scene.end(id), Some(End::SessionExpired));
    assert_eq!(scene.now - before, seconds(1_800));
}

#[test]
fn a_refresh_that_fails_does_not_count_and_one_without_a_timer_ends_it() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    scene.known(id, &with_session(1_800, Refresher::Uac));
    scene.pass(seconds(100));
    let refresh = |cseq| within(from_caller(Method::Update, cseq));
    scene.known(id, &refresh(2));
    scene.known(id, &answer(refresh(2), 422));
    assert_eq!(
        scene.dialog(id).session().map(|session| session.until),
        Some(START + seconds(1_800))
    );
    scene.known(id, &refresh(3));
    scene.known(id, &answer(refresh(3), 200));
    assert_eq!(scene.dialog(id).session(), None);
}

#[test]
fn no_session_is_shorter_than_90_seconds() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    scene.known(id, &with_session(1, Refresher::Uac));
    scene.pass(seconds(89));
    assert_eq!(scene.state(id), State::Confirmed);
    scene.pass(seconds(1));
    assert_eq!(scene.end(id), Some(End::SessionExpired));
}

#[test]
fn a_session_of_any_length_is_borne() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    let forever = MessageFacts {
        session_expires: Some(SessionExpires {
            interval: Duration::MAX,
            refresher: None,
        }),
        ..accept(invite())
    };
    scene.known(id, &forever);
    let session = scene.dialog(id).session().expect("it has one");
    assert_eq!(session.until, START + seconds(u32::MAX.into()));
}

#[test]
fn silence_is_asked_about_and_a_denial_ends_it() {
    for (code, expected) in [
        (200, None),
        (405, None),
        (481, Some(End::Gone)),
        (408, Some(End::Gone)),
        (503, None),
    ] {
        let (mut scene, id) = Scene::confirmed();
        scene.pass(POLICY.silence);
        assert_eq!(scene.asked(), Side::BOTH, "both were silent");
        let answer = Some(status(code));
        scene
            .table
            .answered(scene.now, id, Side::Caller, answer, &mut scene.events);
        assert!(scene.table.is_consistent());
        assert_eq!(scene.end(id), expected, "{code}");
    }
}

#[test]
fn two_questions_without_an_answer_end_it() {
    let (mut scene, id) = Scene::confirmed();
    scene.pass(POLICY.silence);
    scene.asked();
    let miss = |scene: &mut Scene| {
        scene
            .table
            .answered(scene.now, id, Side::Callee, None, &mut scene.events);
    };
    miss(&mut scene);
    miss(&mut scene);
    assert_eq!(
        scene.end(id),
        None,
        "one question, however often it is missed"
    );
    scene.pass(POLICY.retry);
    assert_eq!(scene.asked(), [Side::Callee]);
    miss(&mut scene);
    assert_eq!(scene.end(id), Some(End::Unresponsive));
}

#[test]
fn who_is_heard_is_not_asked() {
    let (mut scene, id) = Scene::confirmed();
    scene.pass(POLICY.silence - seconds(1));
    let info = within(from_caller(Method::Other, 2));
    scene.known(id, &info);
    scene.pass(seconds(1));
    assert_eq!(scene.asked(), [Side::Callee]);
    // An answer of the callee's serves as well as one to the question.
    scene.known(id, &answer(info, 200));
    scene.pass(POLICY.silence - seconds(1));
    assert_eq!(scene.asked(), [Side::Caller]);
}

#[test]
fn a_100_or_a_503_may_be_anybodys() {
    let (mut scene, id) = Scene::confirmed();
    scene.pass(POLICY.silence - seconds(1));
    let info = within(from_caller(Method::Other, 2));
    for facts in [info, answer(info, 100), answer(info, 503)] {
        scene.known(id, &facts);
    }
    scene.pass(seconds(1));
    assert_eq!(scene.asked(), [Side::Callee]);
}

#[test]
fn long_ringing_is_no_silence() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    scene.pass(seconds(200));
    scene.known(id, &accept(invite()));
    scene.pass(POLICY.silence - seconds(1));
    assert!(scene.asked().is_empty());
    scene.pass(seconds(1));
    assert_eq!(scene.asked(), Side::BOTH);
}

#[test]
fn nobody_is_asked_when_the_other_is_absent() {
    let (mut scene, id) = Scene::confirmed();
    // So that the caller is due in the moment when the callee has missed its second question.
    let second_miss = (POLICY.silence + POLICY.give_up * 4 + POLICY.retry).as_secs();
    scene.pass(seconds(second_miss) - POLICY.silence);
    scene.known(id, &within(from_caller(Method::Other, 2)));
    scene.pass(POLICY.silence - seconds(1));
    assert_eq!(scene.asked(), [Side::Callee; 2]);
    scene.pass(seconds(1));
    assert_eq!(scene.end(id), Some(End::Unresponsive));
    assert!(scene.asked().is_empty());
}

#[test]
fn in_dialog_denials_end_it_whoever_asked() {
    let cases = [
        (Method::Other, 481, true),
        (Method::Other, 408, true),
        (Method::Invite, 481, true),
        (Method::Update, 408, true),
        (Method::Invite, 488, false),
        (Method::Other, 415, false),
        // About a subscription, a reliable provisional response, a transaction.
        (Method::Aside, 481, false),
        (Method::Cancel, 481, false),
    ];
    for (method, code, ends) in cases {
        let (mut scene, id) = Scene::confirmed();
        let request = within(from_caller(method, 2));
        scene.known(id, &request);
        scene.known(id, &answer(request, code));
        let expected = ends.then_some(End::Gone);
        assert_eq!(scene.end(id), expected, "{method:?} {code}");
    }
}

#[test]
fn a_bye_ends_it_answered_or_not_unless_it_is_challenged() {
    for code in [200, 404, 408, 481, 500] {
        let (mut scene, id) = Scene::confirmed();
        let bye = within(from_caller(Method::Bye, 2));
        scene.known(id, &bye);
        scene.known(id, &answer(bye, code));
        assert_eq!(scene.end(id), Some(End::Bye), "{code}");
    }
    let (mut scene, id) = Scene::confirmed();
    scene.known(id, &within(from_caller(Method::Bye, 2)));
    scene.pass(POLICY.give_up);
    assert_eq!(scene.end(id), Some(End::Bye));

    let (mut scene, id) = Scene::confirmed();
    let bye = within(from_caller(Method::Bye, 2));
    scene.known(id, &bye);
    scene.known(id, &answer(bye, 407));
    scene.pass(POLICY.give_up * 2);
    assert_eq!(scene.state(id), State::Confirmed);
    let bye = within(from_caller(Method::Bye, 3));
    scene.known(id, &bye);
    scene.known(id, &answer(bye, 200));
    assert_eq!(scene.end(id), Some(End::Bye));
}

#[test]
fn an_invite_without_an_answer_ends() {
    let mut scene = Scene::new();
    let id = scene.began(&invite());
    scene.pass(POLICY.early - seconds(1));
    scene.known(id, &answer(invite(), 180));
    scene.pass(POLICY.early - seconds(1));
    assert_eq!(scene.state(id), State::Early, "it rang again");
    scene.pass(seconds(1));
    assert_eq!(scene.end(id), Some(End::NeverAnswered));
}

#[test]
fn no_call_lasts_for_ever() {
    let (mut scene, id) = Scene::confirmed();
    let begin = scene.now;
    scene.pass(seconds(600));
    // A BYE that is challenged and never comes again buys no time.
    let bye = within(from_caller(Method::Bye, 2));
    scene.known(id, &bye);
    scene.known(id, &answer(bye, 401));
    while scene.end(id).is_none() {
        scene.pass(seconds(60));
        // Peers that answer whatever they are asked.
        for side in scene.asked() {
            scene
                .table
                .answered(scene.now, id, side, Some(status(200)), &mut scene.events);
        }
    }
    assert_eq!(scene.end(id), Some(End::TooLong));
    assert!(scene.now - begin <= POLICY.longest + seconds(60));
}
