//! Keys change under links.

use super::*;

async fn passes(from: &Link, to: &mut Link) {
    from.sender.send("are you there?".into()).expect("a link");
    assert_eq!(soon(to.receiver.recv()).await, Ok("are you there?".into()));
}

/// As the key file says to do it: append everywhere, move to the top everywhere, remove everywhere.
/// The two sides read their files one after the other.
#[tokio::test]
async fn a_change_of_keys_in_the_order_of_the_book() {
    let (old, new) = ((1, 0x11), (2, 0x22));
    let mut site = Site::new(limits());
    let to = site.address;
    let ours = watch::Sender::new(ring(&[old]));
    let controller = endpoint(CONTROLLER, &ours, limits());
    let (mut first, mut first_far) = site.link(&controller, to).await;
    assert_eq!((first.key_id, first_far.key_id), (1, 1));

    for keys in [&[old, new], &[new, old]] {
        site.keys.send_replace(ring(keys));
        passes(&first, &mut first_far).await;
        ours.send_replace(ring(keys));
        passes(&first_far, &mut first).await;
    }
    let (second, mut second_far) = site.link(&controller, to).await;
    assert_eq!((second.key_id, second_far.key_id), (2, 2));

    site.keys.send_replace(ring(&[new]));
    let removed = LinkError::KeyRemoved { id: 1 };
    assert_eq!(end_of(&mut first_far).await, removed);
    assert_eq!(first_far.sender.send("a".into()), Err(removed));
    assert_eq!(end_of(&mut first).await, LinkError::Closed);
    ours.send_replace(ring(&[new]));
    passes(&second, &mut second_far).await;
    assert_eq!(site.node.counts().count("key_removed"), 1);
}

#[tokio::test]
async fn another_key_under_the_same_id_is_another_key() {
    let mut site = Site::new(limits());
    let to = site.address;
    let controller = site.controller();
    let (mut ours, mut theirs) = site.link(&controller, to).await;
    site.keys.send_replace(ring(&[(1, 0x33)]));
    // Both sides have the same file here; whoever is first, the other hears of it.
    for link in [&mut ours, &mut theirs] {
        let error = end_of(link).await;
        let expected = [LinkError::KeyRemoved { id: 1 }, LinkError::Closed];
        assert!(expected.contains(&error), "{error:?}");
    }
}

/// A link that writes to somebody who does not read is no exception.
#[tokio::test]
async fn a_removed_key_ends_a_link_in_the_middle_of_a_write() {
    let mut site = Site::new(limits());
    let to = site.address;
    let ours = watch::Sender::new(ring(&[(1, 0x11)]));
    let controller = endpoint(
        CONTROLLER,
        &ours,
        Limits {
            queue: 64 << 20,
            ..limits()
        },
    );
    let (mut link, _far) = site.link(&controller, to).await;
    for _ in 0..1000 {
        let message = vec![0; super::super::MAX_MESSAGE];
        link.sender.send(message.into()).expect("room");
    }
    ours.send_replace(ring(&[(2, 0x22)]));
    assert_eq!(end_of(&mut link).await, LinkError::KeyRemoved { id: 1 });
    soon(until(|| controller.counts().open() == 0)).await;
}

/// The daemon stops, and with it who could change the keys: no reason to end links early.
#[tokio::test]
async fn links_outlive_who_reads_the_key_file() {
    let mut site = Site::new(limits());
    let to = site.address;
    let keys = watch::Sender::new(ring(&[(1, 0x11)]));
    let controller = endpoint(CONTROLLER, &keys, limits());
    let (ours, mut theirs) = site.link(&controller, to).await;
    drop(keys);
    passes(&ours, &mut theirs).await;
    passes(&ours, &mut theirs).await;
}
