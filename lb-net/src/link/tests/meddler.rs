//! Somebody between the two sides, who sees every byte and may change it.

use super::super::handshake::{NOISE_LEN, PROLOGUE_LEN, PROOF_LEN};
use super::local;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a piece that the initiator sends.
pub(super) enum Fate {
    /// It is passed on, perhaps changed.
    Pass(Vec<u8>),
    /// The connection is closed after these bytes.
    Cut(Vec<u8>),
    /// The connection stays open after these bytes, and no more come.
    Hold(Vec<u8>),
}

/// A proxy in front of the responder.
pub(super) struct Meddler {
    /// Where the initiator is to connect.
    pub address: SocketAddr,
    /// All that the initiator said, in pieces: hello, proof, then one message each.
    pub heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Meddler {
    /// Passes on one connection, from which `decide` may take what it likes, piece by piece.
    pub(super) async fn new(
        to: SocketAddr,
        decide: impl FnMut(usize, Vec<u8>) -> Fate + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((local(1), 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let heard = Arc::default();
        let record = Arc::clone(&heard);
        tokio::spawn(async move {
            let (initiator, _) = listener.accept().await.expect("the initiator");
            let responder = TcpStream::connect(to).await.expect("the responder");
            initiator.set_nodelay(true).expect("a socket");
            responder.set_nodelay(true).expect("a socket");
            let (mut from_responder, to_responder) = responder.into_split();
            let (from_initiator, mut to_initiator) = initiator.into_split();
            tokio::spawn(async move {
                let _ = copy(&mut from_responder, &mut to_initiator).await;
            });
            pass(from_initiator, to_responder, decide, &record).await;
        });
        Self { address, heard }
    }

    /// What the initiator said, as it was sent.
    pub(super) fn recording(&self) -> Vec<u8> {
        self.heard.lock().expect("nobody panicked").concat()
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut decide: impl FnMut(usize, Vec<u8>) -> Fate,
    heard: &Mutex<Vec<Vec<u8>>>,
) {
    for index in 0.. {
        let Some(piece) = piece(&mut from, index).await else {
            return;
        };
        heard.lock().expect("nobody panicked").push(piece.clone());
        let (bytes, goes_on) = match decide(index, piece) {
            Fate::Pass(bytes) => (bytes, true),
            Fate::Cut(bytes) => {
                let _ = to.write_all(&bytes).await;
                return;
            }
            Fate::Hold(bytes) => (bytes, false),
        };
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        if !goes_on {
            // Until the initiator has gone.
            let _ = copy(&mut from, &mut tokio::io::sink()).await;
            return;
        }
    }
}

async fn piece(from: &mut OwnedReadHalf, index: usize) -> Option<Vec<u8>> {
    let mut piece = match index {
        0 => vec![0; PROLOGUE_LEN + NOISE_LEN],
        1 => vec![0; PROOF_LEN],
        _ => {
            let length = from.read_u16().await.ok()?;
            let mut piece = length.to_be_bytes().to_vec();
            piece.resize(2 + usize::from(length), 0);
            from.read_exact(&mut piece[2..]).await.ok()?;
            return Some(piece);
        }
    };
    from.read_exact(&mut piece).await.ok()?;
    Some(piece)
}
