//! What becomes of messages, and what ends a link.

use super::super::MAX_MESSAGE;
use super::meddler::{Fate, Meddler};
use super::*;
use bytes::Bytes;

/// A message that tells its number and is as long as no other near it.
fn numbered(number: u32) -> Bytes {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(4 + number as usize * 37 % 700, number as u8);
    message.into()
}

/// Both ways at once, past the change of the cipher's key, by a sender that waits for room.
#[tokio::test]
async fn a_hundred_thousand_messages_come_whole_and_in_order() {
    const COUNT: u32 = 100_000;
    let mut site = Site::new(Limits {
        queue: 256 * 1024,
        ..limits()
    });
    let controller = endpoint(CONTROLLER, &site.keys, site.node.limits);
    let to = site.address;
    let (ours, theirs) = site.link(&controller, to).await;
    let ends = [ours, theirs].map(|link| {
        let Link {
            sender,
            mut receiver,
            ..
        } = link;
        let (sending, receiving) = (sender.clone(), async move {
            for number in 0..COUNT {
                let message = receiver.recv().await.expect("a link");
                assert!(message == numbered(number), "message {number}");
            }
            receiver
        });
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                sending.room().await.expect("a link");
                sending.send(numbered(number)).expect("room");
            }
        });
        // The sender stays, since the link ends with it.
        (sending, tokio::spawn(receiving), sender)
    });
    for (sending, receiving, _sender) in ends {
        soon(sending).await.expect("all sent");
        soon(receiving).await.expect("all came");
    }
}

#[tokio::test]
async fn the_longest_message_and_the_empty_one() {
    let mut site = Site::new(limits());
    let to = site.address;
    let controller = site.controller();
    let (ours, mut theirs) = site.link(&controller, to).await;
    let longest = Bytes::from(vec![0x5a; MAX_MESSAGE]);
    let too_long = Bytes::from(vec![0x5a; MAX_MESSAGE + 1]);
    ours.sender.send(longest.clone()).expect("a link");
    let length = too_long.len();
    assert_eq!(
        ours.sender.send(too_long),
        Err(LinkError::TooLong { length })
    );
    ours.sender.send(Bytes::new()).expect("still a link");
    assert_eq!(soon(theirs.receiver.recv()).await, Ok(longest));
    assert_eq!(soon(theirs.receiver.recv()).await, Ok(Bytes::new()));
}

/// The last word comes before the end, and both sides know which end it was.
#[tokio::test]
async fn what_was_queued_is_said_before_the_end() {
    let mut site = Site::new(limits());
    let to = site.address;
    let controller = site.controller();
    let (ours, mut theirs) = site.link(&controller, to).await;
    assert_eq!(controller.counts().open(), 1);
    for number in 0..1000 {
        ours.sender.send(numbered(number)).expect("room");
    }
    drop(ours);
    for number in 0..1000 {
        assert_eq!(soon(theirs.receiver.recv()).await, Ok(numbered(number)));
    }
    assert_eq!(end_of(&mut theirs).await, LinkError::Closed);
    assert_eq!(theirs.sender.send(Bytes::new()), Err(LinkError::Closed));
    assert_eq!(soon(theirs.sender.ended()).await, LinkError::Closed);
    // Each side counts it once, as it saw it.
    soon(until(|| controller.counts().open() == 0)).await;
    soon(until(|| site.node.counts().open() == 0)).await;
    assert_eq!(controller.counts().count("ended"), 1);
    assert_eq!(site.node.counts().count("closed"), 1);
    assert_eq!(
        (controller.counts().made(), site.node.counts().made()),
        (1, 1)
    );
}

#[tokio::test]
async fn either_half_ends_the_link() {
    for half in 0..3 {
        let mut site = Site::new(limits());
        let to = site.address;
        let controller = site.controller();
        let (ours, mut theirs) = site.link(&controller, to).await;
        let Link {
            sender,
            mut receiver,
            ..
        } = ours;
        match half {
            0 => {
                drop(receiver);
                assert_eq!(sender.send(Bytes::new()), Err(LinkError::Ended));
            }
            1 => {
                drop(sender);
                assert_eq!(soon(receiver.recv()).await, Err(LinkError::Ended));
            }
            _ => {
                sender.end();
                assert_eq!(soon(receiver.recv()).await, Err(LinkError::Ended));
                assert_eq!(soon(sender.room()).await, Err(LinkError::Ended));
            }
        }
        assert_eq!(end_of(&mut theirs).await, LinkError::Closed);
    }
}

/// The sender is never held up, the queue never grows past its bound, and the other side gets nothing
/// after a gap.
#[tokio::test]
async fn who_reads_too_slowly_is_cut_off() {
    const QUEUE: usize = 100_000;
    let mut site = Site::new(limits());
    let controller = endpoint(
        CONTROLLER,
        &site.keys,
        Limits {
            queue: QUEUE,
            ..limits()
        },
    );
    let to = site.address;
    let (ours, mut theirs) = site.link(&controller, to).await;
    let (mut sent, mut most) = (0, 0);
    let error = soon(async {
        loop {
            match ours.sender.send(numbered(sent)) {
                Ok(()) => sent += 1,
                Err(error) => return error,
            }
            most = most.max(ours.sender.queued());
            // As many as the system takes, and then some.
            if sent % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    assert_eq!(error, LinkError::Full);
    assert!(most <= QUEUE, "{most}");
    assert_eq!(ours.sender.send(Bytes::new()), Err(LinkError::Full));
    assert_eq!(controller.counts().count("full"), 1);
    drop(ours);
    soon(async {
        for number in 0.. {
            match theirs.receiver.recv().await {
                Ok(message) => {
                    assert!(number < sent);
                    assert!(message == numbered(number), "message {number}");
                }
                Err(error) => {
                    assert!(
                        matches!(error, LinkError::CutOff | LinkError::Closed),
                        "{error:?}"
                    );
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_takes_nothing_for_too_long_is_cut_off() {
    let mut site = Site::new(limits());
    let controller = endpoint(
        CONTROLLER,
        &site.keys,
        Limits {
            progress: SHORT,
            queue: 64 << 20,
            ..limits()
        },
    );
    let to = site.address;
    let (mut ours, _theirs) = site.link(&controller, to).await;
    // More than the system keeps for a connection.
    for _ in 0..1000 {
        ours.sender.send(vec![0; MAX_MESSAGE].into()).expect("room");
    }
    assert_eq!(end_of(&mut ours).await, LinkError::Stuck);
    assert_eq!(controller.counts().count("stuck"), 1);
}

#[tokio::test]
async fn silence_may_have_a_bound() {
    let mut site = Site::new(Limits {
        idle: Some(5 * SHORT),
        ..limits()
    });
    let to = site.address;
    let controller = site.controller();
    let (ours, mut theirs) = site.link(&controller, to).await;
    ours.sender.send("a".into()).expect("a link");
    assert_eq!(soon(theirs.receiver.recv()).await, Ok("a".into()));
    assert_eq!(end_of(&mut theirs).await, LinkError::Idle);
}

/// Sends three messages past somebody who treats the second one in his way: the first comes, and then
/// the end, for this reason.
async fn treated(treat: fn(Vec<u8>) -> Fate, limits: Limits) -> LinkError {
    let mut site = Site::new(limits);
    let meddler = Meddler::new(site.address, move |index, piece| match index {
        3 => treat(piece),
        _ => Fate::Pass(piece),
    })
    .await;
    let controller = site.controller();
    let (ours, mut theirs) = site.link(&controller, meddler.address).await;
    for message in ["first", "second", "third"] {
        ours.sender.send(message.into()).expect("a link");
    }
    assert_eq!(soon(theirs.receiver.recv()).await, Ok("first".into()));
    let error = soon(theirs.receiver.recv()).await.expect_err("the end");
    assert_eq!(site.node.counts().count(error.name()), 1);
    // And it stays the end.
    assert_eq!(soon(theirs.receiver.recv()).await, Err(error.clone()));
    assert_eq!(theirs.sender.send(Bytes::new()), Err(error.clone()));
    error
}

#[tokio::test]
async fn a_message_that_was_changed() {
    let flip = |mut piece: Vec<u8>| {
        piece[4] ^= 0x10;
        Fate::Pass(piece)
    };
    assert_eq!(treated(flip, limits()).await, LinkError::Tampered);
}

#[tokio::test]
async fn a_message_that_was_left_out() {
    let leave_out = |_| Fate::Pass(Vec::new());
    assert_eq!(treated(leave_out, limits()).await, LinkError::Tampered);
}

#[tokio::test]
async fn a_message_that_was_put_in() {
    let put_in = |piece: Vec<u8>| Fate::Pass([vec![0, 16], vec![0; 16], piece].concat());
    assert_eq!(treated(put_in, limits()).await, LinkError::Tampered);
}

#[tokio::test]
async fn a_message_that_was_repeated() {
    let mut site = Site::new(limits());
    let meddler = Meddler::new(site.address, |index, piece| match index {
        2 => Fate::Pass([piece.clone(), piece].concat()),
        _ => Fate::Pass(piece),
    });
    let address = meddler.await.address;
    let controller = site.controller();
    let (ours, mut theirs) = site.link(&controller, address).await;
    ours.sender.send("once".into()).expect("a link");
    assert_eq!(soon(theirs.receiver.recv()).await, Ok("once".into()));
    assert_eq!(end_of(&mut theirs).await, LinkError::Tampered);
}

#[tokio::test]
async fn a_length_that_none_has() {
    for length in [0, 15, 60_017, u16::MAX] {
        let mut site = Site::new(limits());
        let meddler = Meddler::new(site.address, move |index, mut piece| {
            if index == 2 {
                piece[..2].copy_from_slice(&u16::to_be_bytes(length));
            }
            Fate::Pass(piece)
        });
        let address = meddler.await.address;
        let controller = site.controller();
        let (ours, mut theirs) = site.link(&controller, address).await;
        ours.sender.send("a".into()).expect("a link");
        assert_eq!(end_of(&mut theirs).await, LinkError::Length { length });
    }
}

#[tokio::test]
async fn a_message_that_was_cut_off() {
    let cut = |piece: Vec<u8>| Fate::Cut(piece[..5].to_vec());
    assert_eq!(treated(cut, limits()).await, LinkError::CutOff);
    let cut_between = |_| Fate::Cut(Vec::new());
    assert_eq!(treated(cut_between, limits()).await, LinkError::Closed);
}

#[tokio::test]
async fn a_message_that_does_not_go_on() {
    let hold = |piece: Vec<u8>| Fate::Hold(piece[..5].to_vec());
    let limits = Limits {
        progress: SHORT,
        ..limits()
    };
    assert_eq!(treated(hold, limits).await, LinkError::Unfinished);
}

/// A refusal, say: who cannot write any more has still to hear why.
#[tokio::test]
async fn a_last_word_is_heard_though_the_connection_broke() {
    let mut site = Site::new(limits());
    let to = site.address;
    let controller = site.controller();
    let (mut ours, theirs) = site.link(&controller, to).await;
    theirs.sender.send("no".into()).expect("a link");
    soon(until(|| theirs.sender.queued() == 0)).await;
    ours.sender.send("please".into()).expect("a link");
    soon(until(|| ours.sender.queued() == 0)).await;
    // With something unread: the system resets the connection.
    drop(theirs);
    soon(until(|| site.node.counts().open() == 0)).await;
    let error = soon(async {
        loop {
            if let Err(error) = ours.sender.send("please".into()) {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(error, LinkError::Lost { .. }), "{error:?}");
    assert_eq!(soon(ours.receiver.recv()).await, Ok("no".into()));
    assert_eq!(soon(ours.receiver.recv()).await, Err(error));
    assert_eq!(controller.counts().count("lost"), 1);
}
