//! The handshake: who is there, and do they have the key?
//!
//! All three parts have a fixed length, so what is read is bounded by the type of its buffer.

use super::{Endpoint, Identity, LinkError};
use hkdf::Hkdf;
use lb_common::siphash::SipKey;
use lb_proto::keys::NumberedKey;
use sha2::Sha256;
use snow::params::NoiseParams;
use snow::{HandshakeState, TransportState};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
const LABEL: &[u8] = b"pointsman link 1";
const MAGIC: [u8; 4] = *b"PML1";
const VERSION: u8 = 1;

/// Bytes that encryption adds.
pub(super) const TAG_LEN: usize = 16;
const EPHEMERAL_LEN: usize = 32;
const IDENTITY_LEN: usize = 3;

pub(super) const PROLOGUE_LEN: usize = 12;
/// Bytes of either Noise message.
pub(super) const NOISE_LEN: usize = EPHEMERAL_LEN + IDENTITY_LEN + TAG_LEN;
/// Bytes of the proof.
pub(super) const PROOF_LEN: usize = TAG_LEN;

/// A handshake that both sides have finished.
pub(super) struct Agreed {
    pub transport: TransportState,
    pub peer: Identity,
    pub key: NumberedKey,
}

/// What is said in the clear, and bound into the handshake.
struct Prologue {
    key_id: u8,
    cluster: u32,
}

impl Prologue {
    fn write(&self) -> [u8; PROLOGUE_LEN] {
        let mut bytes = [0; PROLOGUE_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.key_id;
        bytes[8..].copy_from_slice(&self.cluster.to_be_bytes());
        bytes
    }

    /// Reserved bytes are ignored, but must arrive as they were sent.
    fn read(bytes: &[u8; PROLOGUE_LEN]) -> Result<Self, LinkError> {
        let [m0, m1, m2, m3, version, key_id, _, _, cluster @ ..] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(LinkError::NotALink);
        }
        if version != VERSION {
            return Err(LinkError::Version { version });
        }
        Ok(Self {
            key_id,
            cluster: u32::from_be_bytes(cluster),
        })
    }
}

impl Identity {
    fn write(self) -> [u8; IDENTITY_LEN] {
        let (kind, id) = match self {
            Self::Controller(id) => (0, id),
            Self::Node(id) => (1, id),
        };
        let [high, low] = id.to_be_bytes();
        [kind, high, low]
    }

    /// `None`: a kind that this program does not know.
    fn read([kind, high, low]: [u8; IDENTITY_LEN]) -> Option<Self> {
        let id = u16::from_be_bytes([high, low]);
        match kind {
            0 => Some(Self::Controller(id)),
            1 => Some(Self::Node(id)),
            _ => None,
        }
    }
}

/// The initiator's part, with the member that is to be there.
pub(super) async fn initiate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    own: &Endpoint,
    key: NumberedKey,
    expected: Identity,
) -> Result<Agreed, LinkError> {
    let prologue = Prologue {
        key_id: key.id,
        cluster: own.cluster,
    };
    let prologue = prologue.write();
    let mut noise = begin(key.key, &prologue, Side::Initiator)?;
    let mut hello = [0; PROLOGUE_LEN + NOISE_LEN];
    hello[..PROLOGUE_LEN].copy_from_slice(&prologue);
    write(&mut noise, own.identity, &mut hello[PROLOGUE_LEN..])?;
    stream.write_all(&hello).await.map_err(broke)?;

    let mut answer = [0; NOISE_LEN];
    stream.read_exact(&mut answer).await.map_err(broke)?;
    let peer = read(&mut noise, &answer)?;
    if peer != expected {
        return Err(LinkError::WrongMember { found: peer });
    }
    let mut transport = finish(noise)?;
    let mut proof = [0; PROOF_LEN];
    transport
        .write_message(&[], &mut proof)
        .map_err(not_authentic)?;
    stream.write_all(&proof).await.map_err(broke)?;
    Ok(Agreed {
        transport,
        peer,
        key,
    })
}

/// The responder's part: answers only a member that `may_be` here.
pub(super) async fn respond(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    own: &Endpoint,
    may_be: impl FnOnce(Identity) -> bool,
) -> Result<Agreed, LinkError> {
    let mut prologue = [0; PROLOGUE_LEN];
    stream.read_exact(&mut prologue).await.map_err(broke)?;
    let Prologue {
        key_id: id,
        cluster,
    } = Prologue::read(&prologue)?;
    if cluster != own.cluster {
        return Err(LinkError::OtherCluster { cluster });
    }
    let key = own.keys.borrow().beacon(id);
    let key = NumberedKey {
        id,
        key: key.ok_or(LinkError::UnknownKey { id })?,
    };
    let mut hello = [0; NOISE_LEN];
    stream.read_exact(&mut hello).await.map_err(broke)?;
    let mut noise = begin(key.key, &prologue, Side::Responder)?;
    let peer = read(&mut noise, &hello)?;
    if !may_be(peer) {
        return Err(LinkError::WrongMember { found: peer });
    }
    let mut answer = [0; NOISE_LEN];
    write(&mut noise, own.identity, &mut answer)?;
    stream.write_all(&answer).await.map_err(broke)?;

    let mut transport = finish(noise)?;
    let mut proof = [0; PROOF_LEN];
    stream.read_exact(&mut proof).await.map_err(broke)?;
    if transport.read_message(&proof, &mut []).is_err() {
        return Err(LinkError::PlayedBack);
    }
    Ok(Agreed {
        transport,
        peer,
        key,
    })
}

#[derive(Clone, Copy)]
enum Side {
    Initiator,
    Responder,
}

fn begin(key: SipKey, prologue: &[u8], side: Side) -> Result<HandshakeState, LinkError> {
    // The pattern is one that snow knows, and its parts are compiled in: the handshakes of the tests
    // would not be otherwise.
    let pattern: NoiseParams = PATTERN.parse().map_err(not_authentic)?;
    let psk = pre_shared(key);
    let builder = snow::Builder::new(pattern)
        .psk(0, &psk)
        .and_then(|builder| builder.prologue(prologue))
        .map_err(not_authentic)?;
    match side {
        Side::Initiator => builder.build_initiator(),
        Side::Responder => builder.build_responder(),
    }
    .map_err(not_authentic)
}

/// What the handshake has of the beacon key: nobody can tell either from the other without the key,
/// nor beacons' MACs from it.
fn pre_shared(key: SipKey) -> [u8; 32] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.k0.to_le_bytes());
    bytes[8..].copy_from_slice(&key.k1.to_le_bytes());
    let mut okm = [0; 32];
    Hkdf::<Sha256>::new(None, &bytes)
        .expand(LABEL, &mut okm)
        .expect("32 bytes are less than 255 hashes (RFC 5869 §2.3)");
    okm
}

fn write(noise: &mut HandshakeState, own: Identity, into: &mut [u8]) -> Result<(), LinkError> {
    noise
        .write_message(&own.write(), into)
        .map(|_| ())
        .map_err(not_authentic)
}

fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Identity, LinkError> {
    let mut identity = [0; IDENTITY_LEN];
    match noise.read_message(message, &mut identity) {
        Ok(IDENTITY_LEN) => Identity::read(identity).ok_or(LinkError::NotALink),
        _ => Err(LinkError::NotAuthentic),
    }
}

fn finish(noise: HandshakeState) -> Result<TransportState, LinkError> {
    noise.into_transport_mode().map_err(not_authentic)
}

fn not_authentic(_: snow::Error) -> LinkError {
    LinkError::NotAuthentic
}

/// A connection that ends during the handshake was ended by the other side, in one way or another.
fn broke(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => LinkError::Refused,
        kind => LinkError::Lost { kind },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869's construction, worked by hand with another implementation (Python's `hmac`), so that
    /// the derivation cannot change unnoticed: members of different versions would not understand
    /// each other.
    #[test]
    fn the_pre_shared_key_is_what_it_always_was() {
        let key = SipKey::from_bytes(std::array::from_fn(|i| i as u8));
        let hex: String = pre_shared(key).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "3ba63bafa4c0931aeb214ff7c2d85e6c92da85ae1868149602200c1edddf6040"
        );
    }

    #[test]
    fn a_prologue_is_as_written_in_the_book() {
        let prologue = Prologue {
            key_id: 7,
            cluster: 0x0102_0304,
        };
        let bytes = prologue.write();
        assert_eq!(bytes, *b"PML1\x01\x07\0\0\x01\x02\x03\x04");
        let read = Prologue::read(&bytes).expect("own writing");
        assert_eq!((read.key_id, read.cluster), (7, 0x0102_0304));
        let mut other = bytes;
        other[4] = 2;
        let error = Prologue::read(&other).map(|_| ());
        assert_eq!(error, Err(LinkError::Version { version: 2 }));
        other[0] = b'G';
        let error = Prologue::read(&other).map(|_| ());
        assert_eq!(error, Err(LinkError::NotALink));
    }

    #[test]
    fn identities_are_read_as_written() {
        for identity in [
            Identity::Controller(1),
            Identity::Node(255),
            Identity::Node(u16::MAX),
        ] {
            assert_eq!(Identity::read(identity.write()), Some(identity));
        }
        assert_eq!(Identity::read([2, 0, 1]), None);
    }
}
