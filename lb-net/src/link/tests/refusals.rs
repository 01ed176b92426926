//! Who gets no link, and what is counted.

use super::super::handshake::{self, NOISE_LEN, PROLOGUE_LEN, PROOF_LEN};
use super::meddler::{Fate, Meddler};
use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;

/// A controller that the node refuses, and why.
async fn refused(controller: Endpoint, name: &str) {
    let mut site = Site::new(limits());
    let address = site.address;
    let connecting = tokio::spawn(async move {
        let link = controller.connect(NODE, address, None).await;
        (link.map(|_| ()), controller)
    });
    site.refuses(name).await;
    let (link, controller) = soon(connecting).await.expect("no panic");
    assert_eq!(link, Err(LinkError::Refused));
    assert_eq!(controller.counts().count("refused"), 1);
}

fn stranger(cluster: u32, keys: &[(u8, u8)]) -> Endpoint {
    // Nobody changes the keys: the sender may go.
    let keys = watch::Sender::new(ring(keys)).subscribe();
    Endpoint::new(cluster, CONTROLLER, keys, limits())
}

#[tokio::test]
async fn another_key_under_the_same_id() {
    refused(stranger(CLUSTER, &[(1, 0x22)]), "not_authentic").await;
}

#[tokio::test]
async fn a_key_that_is_not_in_the_ring() {
    refused(stranger(CLUSTER, &[(2, 0x11)]), "unknown_key").await;
}

#[tokio::test]
async fn another_cluster() {
    refused(stranger(CLUSTER + 1, &[(1, 0x11)]), "other_cluster").await;
}

#[tokio::test]
async fn another_cluster_that_somebody_has_passed_off_as_this_one() {
    let mut site = Site::new(limits());
    let meddler = Meddler::new(site.address, |index, mut piece| {
        if index == 0 {
            piece[8..12].copy_from_slice(&CLUSTER.to_be_bytes());
        }
        Fate::Pass(piece)
    });
    let address = meddler.await.address;
    let controller = stranger(CLUSTER + 1, &[(1, 0x11)]);
    let connecting = tokio::spawn(async move { controller.connect(NODE, address, None).await });
    site.refuses("not_authentic").await;
    let link = soon(connecting).await.expect("no panic");
    assert!(matches!(link, Err(LinkError::Refused)), "{link:?}");
}

/// Sends these bytes, and tells whether a single one was answered.
async fn say(to: SocketAddr, bytes: &[u8], then_close: bool) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("somebody listens");
    // Who is refused at once may be refused while he still speaks.
    let _ = stream.write_all(bytes).await;
    if then_close {
        let _ = stream.shutdown().await;
    }
    stream
}

async fn is_not_answered(mut stream: TcpStream) {
    let mut answer = Vec::new();
    // An end in good order, or a reset.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn garbage_is_not_answered() {
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0; 200],
        &[0xff; 12],
    ] {
        let mut site = Site::new(limits());
        let stream = say(site.address, garbage, false).await;
        site.refuses("not_a_link").await;
        is_not_answered(stream).await;
    }
}

#[tokio::test]
async fn another_version_is_not_answered() {
    let mut site = Site::new(limits());
    let stream = say(site.address, b"PML1\x02\x01\0\0\0\0\0\x03", false).await;
    site.refuses("version").await;
    is_not_answered(stream).await;
}

#[tokio::test]
async fn half_a_hello_and_then_the_end() {
    let mut site = Site::new(limits());
    let stream = say(site.address, b"PML1\x01\x01\0\0\0\0\0\x03abc", true).await;
    site.refuses("refused").await;
    is_not_answered(stream).await;
}

#[tokio::test]
async fn half_a_hello_and_then_nothing() {
    let mut site = Site::new(Limits {
        handshake: SHORT,
        ..limits()
    });
    let stream = say(site.address, b"PML1\x01\x01\0\0\0\0\0\x03abc", false).await;
    site.refuses("handshake_timeout").await;
    is_not_answered(stream).await;
}

#[tokio::test]
async fn nobody_answers_the_initiator() {
    let silent = tokio::net::TcpListener::bind((local(1), 0)).await;
    let silent = silent.expect("a port");
    let keys = watch::Sender::new(ring(&[(1, 0x11)]));
    let controller = endpoint(
        CONTROLLER,
        &keys,
        Limits {
            handshake: SHORT,
            ..limits()
        },
    );
    let to = silent.local_addr().expect("bound");
    let link = soon(controller.connect(NODE, to, None)).await;
    assert!(matches!(link, Err(LinkError::HandshakeTimeout)), "{link:?}");
    drop(silent);
    let link = soon(controller.connect(NODE, to, None)).await;
    assert!(matches!(link, Err(LinkError::Connect { .. })), "{link:?}");
    assert_eq!(controller.counts().count("handshake_timeout"), 1);
    assert_eq!(controller.counts().count("connect"), 1);
}

#[tokio::test]
async fn what_a_member_once_said_is_worth_nothing_now() {
    let mut site = Site::new(limits());
    let meddler = Meddler::new(site.address, |_, piece| Fate::Pass(piece)).await;
    let controller = site.controller();
    let (ours, mut theirs) = site.link(&controller, meddler.address).await;
    ours.sender.send("drop the call".into()).expect("a link");
    let message = soon(theirs.receiver.recv()).await.expect("a message");
    assert_eq!(&message[..], b"drop the call");
    let recording = meddler.recording();
    assert!(recording.len() > PROLOGUE_LEN + NOISE_LEN + PROOF_LEN);
    assert!(!recording.windows(4).any(|bytes| bytes == b"call"));

    // To the same node, and to one that has just started.
    let node = site.node.clone();
    let stream = say(site.address, &recording, false).await;
    soon(async {
        tokio::select! {
            link = site.listener.accept() => panic!("{link:?}"),
            () = until(|| node.counts().count("played_back") == 1) => {}
        }
    })
    .await;
    drop(stream);
    let mut restarted = Site::new(limits());
    let _stream = say(restarted.address, &recording, false).await;
    restarted.refuses("played_back").await;
}

#[tokio::test]
async fn an_address_that_no_member_has() {
    let mut site = Site::with(limits(), &[(CONTROLLER, local(9))]);
    let controller = site.controller();
    let address = site.address;
    let connecting = tokio::spawn(async move { controller.connect(NODE, address, None).await });
    site.refuses("unknown_source").await;
    let link = soon(connecting).await.expect("no panic");
    assert!(link.is_err(), "{link:?}");
    // From the right one it is welcome.
    let controller = site.controller();
    let connecting = controller.connect(NODE, address, Some(local(9)));
    let (ours, theirs) = soon(async { tokio::join!(connecting, site.listener.accept()) }).await;
    assert_eq!(theirs.remote.ip(), local(9));
    assert_eq!((theirs.peer, theirs.key_id), (CONTROLLER, 1));
    let ours = ours.expect("a link");
    assert_eq!((ours.peer, ours.remote), (NODE, address));
}

#[tokio::test]
async fn a_member_at_the_address_of_another() {
    let roster = [(CONTROLLER, local(1)), (Identity::Controller(2), local(2))];
    let mut site = Site::with(limits(), &roster);
    let posing = endpoint(Identity::Controller(2), &site.keys, limits());
    let address = site.address;
    let connecting = tokio::spawn(async move { posing.connect(NODE, address, None).await });
    site.refuses("wrong_member").await;
    let link = soon(connecting).await.expect("no panic");
    assert!(matches!(link, Err(LinkError::Refused)), "{link:?}");
}

#[tokio::test]
async fn another_node_than_the_one_that_was_meant() {
    let mut site = Site::new(limits());
    let controller = site.controller();
    let meant = Identity::Node(8);
    let connecting = controller.connect(meant, site.address, None);
    let link = soon(async {
        tokio::select! {
            link = connecting => link.map(|_| ()),
            link = site.listener.accept() => panic!("{link:?}"),
        }
    })
    .await;
    assert_eq!(link, Err(LinkError::WrongMember { found: NODE }));
    assert_eq!(controller.counts().count("wrong_member"), 1);
    site.refuses("refused").await;
}

/// One address fills its share of handshakes and no more; another member gets through meanwhile.
#[tokio::test]
async fn a_flood_of_handshakes_is_bounded() {
    let other = Identity::Controller(2);
    let limits = Limits {
        handshakes: 5,
        handshakes_of_one: 3,
        ..limits()
    };
    let roster = [(CONTROLLER, local(1)), (other, local(2)), (other, local(3))];
    let mut site = Site::with(limits, &roster);
    let mut flood = Vec::new();
    for _ in 0..50 {
        flood.push(say(site.address, b"PML1", false).await);
    }
    let node = site.node.clone();
    let accepting = async {
        tokio::select! {
            link = site.listener.accept() => panic!("{link:?}"),
            () = until(|| node.counts().count("busy") == 47) => {}
        }
    };
    soon(accepting).await;
    let second = endpoint(other, &site.keys, limits);
    for address in [local(2), local(3), local(2)] {
        let connecting = second.connect(NODE, site.address, Some(address));
        let (link, theirs) = soon(async { tokio::join!(connecting, site.listener.accept()) }).await;
        assert!(link.is_ok(), "{link:?}");
        assert_eq!(theirs.peer, other);
    }
    assert_eq!(node.counts().count("busy"), 47);
    // When the flood ends, its address is welcome again.
    drop(flood);
    soon(async {
        tokio::select! {
            link = site.listener.accept() => panic!("{link:?}"),
            () = until(|| node.counts().count("refused") == 3) => {}
        }
    })
    .await;
    let controller = site.controller();
    let address = site.address;
    let (_, theirs) = site.link(&controller, address).await;
    assert_eq!(theirs.peer, CONTROLLER);
}

/// All addresses together have their bound, too.
#[tokio::test]
async fn a_flood_from_many_addresses_is_bounded() {
    let limits = Limits {
        handshakes: 5,
        handshakes_of_one: 3,
        ..limits()
    };
    let roster: Vec<_> = (1..=10).map(|last| (CONTROLLER, local(last))).collect();
    let mut site = Site::with(limits, &roster);
    let mut flood = Vec::new();
    for last in 1..=10 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((local(last), 0).into()).expect("a port");
        let stream = soon(socket.connect(site.address)).await;
        flood.push(stream.expect("somebody listens"));
    }
    let node = site.node.clone();
    soon(async {
        tokio::select! {
            link = site.listener.accept() => panic!("{link:?}"),
            () = until(|| node.counts().count("busy") == 5) => {}
        }
    })
    .await;
}

/// A handshake over a pipe, in which `meddle` may change what each side says.
fn shake_hands(
    meddle: impl Fn(usize, &mut Vec<u8>),
) -> (Result<Identity, LinkError>, Result<Identity, LinkError>) {
    let keys = watch::Sender::new(ring(&[(1, 0x11)]));
    let (controller, node) = (
        endpoint(CONTROLLER, &keys, limits()),
        endpoint(NODE, &keys, limits()),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (mut a, mut a_far) = duplex(1024);
    let (mut b, mut b_far) = duplex(1024);
    let pass = async {
        let order = [PROLOGUE_LEN + NOISE_LEN, NOISE_LEN, PROOF_LEN];
        for (index, length) in order.into_iter().enumerate() {
            let mut piece = vec![0; length];
            let (from, to): (&mut DuplexStream, &mut DuplexStream) = if index == 1 {
                (&mut b_far, &mut a_far)
            } else {
                (&mut a_far, &mut b_far)
            };
            if from.read_exact(&mut piece).await.is_err() {
                break;
            }
            meddle(index, &mut piece);
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        // Whoever still waits learns that there is nothing more.
        drop((a_far, b_far));
    };
    let initiate = async {
        let key = controller.keys.borrow().sending();
        let agreed = handshake::initiate(&mut a, &controller, key, NODE).await;
        drop(a);
        agreed.map(|agreed| agreed.peer)
    };
    let respond = async {
        let agreed = handshake::respond(&mut b, &node, |member| member == CONTROLLER).await;
        drop(b);
        agreed.map(|agreed| agreed.peer)
    };
    let (initiated, responded, ()) = runtime
        .expect("a runtime")
        .block_on(async { tokio::join!(initiate, respond, pass) });
    (initiated, responded)
}

/// Every bit of the handshake, one at a time: the responder never believes it, and where the bit is in
/// the answer, neither does the initiator.
#[test]
fn a_bit_that_is_flipped_in_the_handshake_is_noticed() {
    assert_eq!(shake_hands(|_, _| ()), (Ok(NODE), Ok(CONTROLLER)));
    let lengths = [PROLOGUE_LEN + NOISE_LEN, NOISE_LEN, PROOF_LEN];
    for (index, length) in lengths.into_iter().enumerate() {
        for bit in 0..length * 8 {
            let (initiated, responded) = shake_hands(|at, piece| {
                if at == index {
                    piece[bit / 8] ^= 1 << (bit % 8);
                }
            });
            let error = responded.expect_err("a changed handshake");
            let why = format!("piece {index}, bit {bit}: {error:?}, {initiated:?}");
            match index {
                0 if bit < 32 => assert_eq!(error, LinkError::NotALink, "{why}"),
                0 if bit < 40 => assert_eq!(error.name(), "version", "{why}"),
                0 if bit < 48 => assert_eq!(error.name(), "unknown_key", "{why}"),
                0 if (64..96).contains(&bit) => {
                    assert_eq!(error.name(), "other_cluster", "{why}");
                }
                0 => assert_eq!(error, LinkError::NotAuthentic, "{why}"),
                1 => {
                    assert_eq!(initiated, Err(LinkError::NotAuthentic), "{why}");
                    assert_eq!(error, LinkError::Refused, "{why}");
                }
                _ => assert_eq!(error, LinkError::PlayedBack, "{why}"),
            }
        }
    }
}

proptest! {
    /// Whatever comes instead of a hello, there is a named end to it.
    #[test]
    fn any_bytes_are_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        like in 0..=12_usize,
    ) {
        let good = b"PML1\x01\x01\0\0\0\0\0\x03";
        let like = like.min(bytes.len());
        bytes[..like].copy_from_slice(&good[..like]);
        let keys = watch::Sender::new(ring(&[(1, 0x11)]));
        let node = endpoint(NODE, &keys, limits());
        let (mut near, mut far) = duplex(1024);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let error = runtime.expect("a runtime").block_on(async {
            far.write_all(&bytes).await.expect("room");
            far.shutdown().await.expect("open");
            handshake::respond(&mut near, &node, |_| true).await.map(|_| ())
        });
        let error = error.expect_err("no handshake");
        let names = ["refused", "not_a_link", "version", "other_cluster", "unknown_key", "not_authentic"];
        prop_assert!(names.contains(&error.name()), "{:?}", error);
    }
}
