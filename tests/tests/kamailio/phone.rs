//! One end of calls, played by hand: a test says when it sends what, and what it expects.
//!
//! What every SIP phone does unasked, it does too, so that a slow machine changes no outcome: a request
//! that was answered and comes again gets the same answer, a 200 that was acknowledged and comes again
//! the same ACK (RFC 3261 §17.2, §13.2.2.4).

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use lb_sip::build::{ack_for, cancel_for, via};
use lb_sip::headers::NameAddr;
use lb_sip::{Message, Method, Name, RequestBuilder, ResponseBuilder};
use pointsman_tests::daemons::PATIENCE;
use pointsman_tests::lab::Host;

/// A message, and who sent it.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) message: Message,
    pub(crate) from: SocketAddr,
}

/// A call from the point of view of one end (RFC 3261 §12).
#[derive(Debug)]
pub(crate) struct Leg {
    call_id: Vec<u8>,
    /// This end, as it stands in From.
    local: Vec<u8>,
    /// The other, as it stands in To.
    remote: Vec<u8>,
    target: Vec<u8>,
    routes: Vec<Vec<u8>>,
    cseq: u32,
    /// Where requests are sent: the switch sends all to the VIP, a phone to the first Route.
    hop: SocketAddr,
    /// The last INVITE that was sent.
    invite: Option<Message>,
    /// The last request that was sent.
    last: Bytes,
}

impl Leg {
    /// The values of Route that its requests have.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &[u8]> {
        self.routes.iter().map(Vec::as_slice)
    }
}

/// One end, at an address of its own.
pub(crate) struct Phone {
    socket: UdpSocket,
    address: SocketAddr,
    user: &'static str,
    branches: u32,
    /// Answers by method and branch of the request.
    answers: HashMap<(Vec<u8>, Vec<u8>), Bytes>,
    /// ACKs of 200s by the number of the INVITE, and where they went.
    acks: HashMap<(Vec<u8>, u32), (Bytes, SocketAddr)>,
}

impl Phone {
    /// A phone of this user on a machine of the lab.
    pub(crate) fn open(host: &Host, port: u16, user: &'static str) -> Result<Self> {
        let address = SocketAddr::new(host.v4.into(), port);
        let socket = host.namespace.inside(|| UdpSocket::bind(address))?;
        Ok(Self {
            socket: socket.with_context(|| format!("cannot bind {address}"))?,
            address,
            user,
            branches: 0,
            answers: HashMap::new(),
            acks: HashMap::new(),
        })
    }

    pub(crate) fn user(&self) -> &'static str {
        self.user
    }

    fn uri(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.address)
    }

    fn via(&mut self) -> String {
        self.branches += 1;
        let branch = format!("{}{}", self.user, self.branches);
        via("UDP", self.address, &branch)
    }

    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddr) -> Result<()> {
        self.socket.send_to(bytes, to).context("cannot send")?;
        Ok(())
    }

    /// Registers with `domain`, whose server is reached at `at`.
    pub(crate) fn register(
        &mut self,
        at: SocketAddr,
        domain: SocketAddr,
        call_id: &str,
    ) -> Result<()> {
        let record = format!("<sip:{}@{}>", self.user, domain.ip());
        let register = RequestBuilder::new("REGISTER", format!("sip:{}", domain.ip()))
            .header(Name::Via, self.via())
            .header(Name::From, format!("{record};tag=registers"))
            .header(Name::To, record)
            .header(Name::CallId, call_id)
            .cseq(1)
            .header(Name::Contact, self.uri())
            .header(Name::Expires, "600");
        self.send(&register.finish()?, at)?;
        let registered = self.expect(Method::Register, 200)?;
        ensure!(registered.from == at, "answered by {}", registered.from);
        let contact = registered.message.contact()?.context("no Contact")?;
        ensure!(contact.uri == self.uri().trim_matches(['<', '>']).as_bytes());
        Ok(())
    }

    /// Asks what is at `at` how it is.
    pub(crate) fn options(&mut self, at: SocketAddr, call_id: &str) -> Result<Arrived> {
        let options = RequestBuilder::new("OPTIONS", format!("sip:{at}"))
            .header(Name::Via, self.via())
            .header(Name::From, format!("{};tag=asks", self.uri()))
            .header(Name::To, format!("<sip:{at}>"))
            .header(Name::CallId, call_id)
            .cseq(1);
        self.send(&options.finish()?, at)?;
        self.expect(Method::Options, 200)
    }

    /// Calls a user of the service at `at`, and sends everything of the call there.
    pub(crate) fn call(&mut self, user: &str, at: SocketAddr, call_id: &str) -> Result<Leg> {
        let mut leg = Leg {
            call_id: call_id.into(),
            local: format!("{};tag=caller", self.uri()).into(),
            remote: format!("<sip:{user}@{at}>").into(),
            target: format!("sip:{user}@{at}").into(),
            routes: Vec::new(),
            cseq: 0,
            hop: at,
            invite: None,
            last: Bytes::new(),
        };
        self.request(&mut leg, Method::Invite, Some("sendrecv"))?;
        Ok(leg)
    }

    /// Sends a request of the call, with a session description if its direction is given.
    pub(crate) fn request(
        &mut self,
        leg: &mut Leg,
        method: Method,
        direction: Option<&str>,
    ) -> Result<()> {
        leg.cseq += 1;
        let mut request = RequestBuilder::in_dialog(method.as_str(), &leg.target, &leg.routes)?
            .header(Name::Via, self.via())
            .header(Name::From, &leg.local)
            .header(Name::To, &leg.remote)
            .header(Name::CallId, &leg.call_id)
            .cseq(leg.cseq)
            .header(Name::Contact, self.uri());
        if let Some(direction) = direction {
            request = request.body("application/sdp", session(direction));
        }
        let request = request.finish()?;
        self.send(&request, leg.hop)?;
        leg.last = request.clone();
        if method == Method::Invite {
            leg.invite = Some(Message::from_datagram(request)?);
        }
        Ok(())
    }

    /// Sends the last request again, byte by byte.
    pub(crate) fn repeat(&self, leg: &Leg) -> Result<()> {
        self.send(&leg.last, leg.hop)
    }

    /// Cancels the last INVITE.
    pub(crate) fn cancel(&self, leg: &Leg) -> Result<()> {
        let invite = leg.invite.as_ref().context("no INVITE was sent")?;
        self.send(&cancel_for(invite)?, leg.hop)
    }

    /// Acknowledges the refusal of the last INVITE, as its transaction does (§17.1.1.3).
    pub(crate) fn acknowledge_refusal(&self, leg: &Leg, refusal: &Arrived) -> Result<()> {
        let invite = leg.invite.as_ref().context("no INVITE was sent")?;
        self.send(&ack_for(invite, &refusal.message)?, leg.hop)
    }

    /// Takes over what the answer to an INVITE says of the call, and acknowledges it.
    pub(crate) fn acknowledge(&mut self, leg: &mut Leg, answer: &Arrived) -> Result<()> {
        let message = &answer.message;
        if leg.routes.is_empty() {
            let routes = message.elements(Name::RecordRoute).map(<[u8]>::to_vec);
            leg.routes = routes.collect();
            leg.routes.reverse();
        }
        leg.remote = trimmed(message, Name::To)?;
        leg.target = message.contact()?.context("no Contact")?.uri.to_vec();
        let ack = RequestBuilder::in_dialog("ACK", &leg.target, &leg.routes)?
            .header(Name::Via, self.via())
            .header(Name::From, &leg.local)
            .header(Name::To, &leg.remote)
            .header(Name::CallId, &leg.call_id)
            .cseq(leg.cseq)
            .finish()?;
        self.send(&ack, leg.hop)?;
        let key = (leg.call_id.clone(), leg.cseq);
        self.acks.insert(key, (ack, leg.hop));
        Ok(())
    }

    /// Answers a request; an INVITE with a session description if its direction is given.
    pub(crate) fn answer(
        &mut self,
        request: &Arrived,
        status: u16,
        direction: Option<&str>,
    ) -> Result<()> {
        let body = direction.map(session).unwrap_or_default();
        let mut answer = ResponseBuilder::new(&request.message, status)
            .to_tag("callee")
            .header(Name::Contact, self.uri());
        if direction.is_some() {
            answer = answer.body("application/sdp", body.as_bytes());
        }
        let answer = answer.finish()?;
        self.send(&answer, request.from)?;
        self.answers.insert(identity(&request.message)?, answer);
        Ok(())
    }

    /// Sends the answer to a request once more, as a phone does whose 200 is not acknowledged.
    pub(crate) fn answer_again(&self, request: &Arrived) -> Result<()> {
        let answer = self.answers.get(&identity(&request.message)?);
        self.send(answer.context("not answered yet")?, request.from)
    }

    /// The call that an INVITE has begun, for the one who is called.
    pub(crate) fn leg_of(&self, invite: &Arrived) -> Result<Leg> {
        let message = &invite.message;
        let mut local = trimmed(message, Name::To)?;
        local.extend_from_slice(b";tag=callee");
        Ok(Leg {
            call_id: message.call_id()?.to_vec(),
            local,
            remote: trimmed(message, Name::From)?,
            target: message.contact()?.context("no Contact")?.uri.to_vec(),
            routes: message
                .elements(Name::RecordRoute)
                .map(<[u8]>::to_vec)
                .collect(),
            cseq: 0,
            hop: invite.from,
            invite: None,
            last: Bytes::new(),
        })
    }

    /// The next request, which is to be of this method.
    pub(crate) fn take(&mut self, method: Method) -> Result<Arrived> {
        let what = method.as_str();
        let arrived = self.next(PATIENCE)?;
        let arrived = arrived.with_context(|| format!("{} waits for {what}", self.user))?;
        ensure!(
            arrived.message.method() == Some(method),
            "{} expects {what}, not\n{}",
            self.user,
            shown(&arrived.message)
        );
        Ok(arrived)
    }

    /// The next response but 100, which is to be this one to a request of this method.
    pub(crate) fn expect(&mut self, method: Method, status: u16) -> Result<Arrived> {
        let what = format!("{status} to {}", method.as_str());
        loop {
            let arrived = self.next(PATIENCE)?;
            let arrived = arrived.with_context(|| format!("{} waits for {what}", self.user))?;
            let message = &arrived.message;
            if message.status() == Some(100) {
                continue;
            }
            let is_it = message.status() == Some(status)
                && message.cseq()?.method == method.as_str().as_bytes();
            ensure!(
                is_it,
                "{} expects {what}, not\n{}",
                self.user,
                shown(message)
            );
            return Ok(arrived);
        }
    }

    /// Fails if anything comes that has not come before.
    pub(crate) fn expect_nothing(&mut self, within: Duration) -> Result<()> {
        match self.next(within)? {
            None => Ok(()),
            Some(arrived) => bail!(
                "{} expects nothing, not\n{}",
                self.user,
                shown(&arrived.message)
            ),
        }
    }

    /// The next message that does not answer itself. What has come already is found however late it is.
    fn next(&mut self, limit: Duration) -> Result<Option<Arrived>> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A time-out of nothing would wait for ever.
            self.socket.set_nonblocking(left.is_zero())?;
            self.socket
                .set_read_timeout((!left.is_zero()).then_some(left))?;
            let (len, from) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if left.is_zero() {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => return Err(error).context("a phone's socket fails"),
            };
            let message = Message::from_datagram(Bytes::copy_from_slice(&buffer[..len]))?;
            if !self.did_repeat(&message, from)? {
                return Ok(Some(Arrived { message, from }));
            }
        }
    }

    /// Does with what has come again what was done the first time.
    fn did_repeat(&self, message: &Message, from: SocketAddr) -> Result<bool> {
        if message.is_request() {
            let Some(answer) = self.answers.get(&identity(message)?) else {
                return Ok(false);
            };
            self.send(answer, from)?;
            return Ok(true);
        }
        let cseq = message.cseq()?;
        let is_answer = message.status() == Some(200) && cseq.method == b"INVITE";
        let key = (message.call_id()?.to_vec(), cseq.number);
        match self.acks.get(&key).filter(|_| is_answer) {
            Some((ack, to)) => {
                self.send(ack, *to)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// What tells a request from others (§17.2.3).
fn identity(request: &Message) -> Result<(Vec<u8>, Vec<u8>)> {
    let branch = request.top_via()?.branch().context("no branch")?.to_vec();
    Ok((request.cseq()?.method.to_vec(), branch))
}

fn trimmed(message: &Message, name: Name) -> Result<Vec<u8>> {
    let header = message.header(name).context("a header is missing")?;
    Ok(header.raw.trim_ascii().to_vec())
}

/// A session description of one stream.
fn session(direction: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 6000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na={direction}\r\n"
    )
}

fn shown(message: &Message) -> String {
    String::from_utf8_lossy(message.bytes()).into_owned()
}

/// The address in a value of Route.
pub(crate) fn address_of(route: &[u8]) -> Option<SocketAddr> {
    let uri = NameAddr::parse(route)?.uri().ok()?.sip()?;
    Some(SocketAddr::new(uri.host.address()?, uri.port_or_default()))
}
