//! What the record of a call wants to know of a message.

use lb_sip::dialog::{Media, MessageFacts, Method, Priority, Refresher, SessionExpires};
use lb_sip::headers::{self, NameAddr};
use lb_sip::sdp::Direction;
use lb_sip::transaction::Status;
use lb_sip::{Essentials, Message, Name};

/// The facts of a message that was validated. `own_route` is the Record-Route that the request leaves
/// with on top; `routes` is room for the values of that header.
pub(crate) fn of<'a, 'r>(
    message: &'a Message,
    essentials: &Essentials<'a>,
    own_route: Option<&'a [u8]>,
    routes: &'r mut Vec<&'a [u8]>,
) -> Option<MessageFacts<'r>>
where
    'a: 'r,
{
    let Essentials {
        call_id,
        cseq,
        from,
        to,
        contact,
        ..
    } = essentials;
    let method = Method::of(cseq.method);
    let status = match message.status() {
        Some(code) => Some(Status::new(code)?),
        None => None,
    };
    // What may say where a side is or how long the session lasts (RFC 3261 §12.2, RFC 4028 §3).
    let is_refresh = matches!(method, Method::Invite | Method::Update);
    let has_media = matches!(method, Method::Invite | Method::Ack | Method::Update);
    if method == Method::Invite {
        routes.extend(own_route);
        routes.extend(message.elements(Name::RecordRoute));
    }
    Some(MessageFacts {
        call_id,
        from_tag: from.tag().unwrap_or_default(),
        from: without_params(message, Name::From, from),
        to_tag: to.tag(),
        to: without_params(message, Name::To, to),
        cseq: cseq.number,
        method,
        status,
        contact: match contact {
            Some(contact) if is_refresh => Some(contact.uri),
            None if is_refresh && status.is_some() => {
                message.contact().ok().flatten().map(|contact| contact.uri)
            }
            _ => None,
        },
        record_route: routes,
        media: if has_media { media(message) } else { None },
        session_expires: if is_refresh {
            message.session_expires().ok().flatten().map(session)
        } else {
            None
        },
        priority: if method == Method::Invite {
            priority(message)
        } else {
            Priority::Normal
        },
    })
}

/// Name and address as written, without the tag and other parameters.
fn without_params<'a>(message: &'a Message, name: Name, address: &NameAddr<'a>) -> &'a [u8] {
    let raw = message.header(name).map_or(&b""[..], |header| header.raw);
    let raw = raw.trim_ascii();
    // The parameters are what the value ends with.
    let end = raw.len().saturating_sub(address.params.as_bytes().len());
    raw.get(..end).unwrap_or_default().trim_ascii_end()
}

/// Of several streams, the direction that permits most.
fn media(message: &Message) -> Option<Media> {
    let rank = |media: &Media| match media {
        Media::SendRecv => 3,
        Media::RecvOnly => 2,
        Media::SendOnly => 1,
        Media::Inactive => 0,
    };
    let sdp = message.sdp()?;
    let streams = sdp.media().filter(|stream| stream.port != 0);
    streams
        .map(|stream| match stream.direction {
            _ if stream.address == Some(b"0.0.0.0") => Media::SendOnly,
            Direction::SendRecv => Media::SendRecv,
            Direction::SendOnly => Media::SendOnly,
            Direction::RecvOnly => Media::RecvOnly,
            Direction::Inactive => Media::Inactive,
        })
        .max_by_key(rank)
}

fn session(expires: headers::SessionExpires<'_>) -> SessionExpires {
    SessionExpires {
        interval: expires.interval,
        refresher: expires.refresher.map(|refresher| match refresher {
            headers::Refresher::Uac => Refresher::Uac,
            headers::Refresher::Uas => Refresher::Uas,
        }),
    }
}

fn priority(message: &Message) -> Priority {
    let Some(word) = message.priority() else {
        return Priority::Normal;
    };
    let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
    if is("emergency") {
        Priority::Emergency
    } else if is("urgent") {
        Priority::Urgent
    } else if is("non-urgent") {
        Priority::NonUrgent
    } else {
        Priority::Normal
    }
}
