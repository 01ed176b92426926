//! The way of a request within a dialog (RFC 3261 §12.1, §12.2.1.1).

use bytes::Bytes;

/// The way from the observer to the caller: the Record-Route of the INVITE as it left the observer,
/// from the top (§12.1.1), without the observer's `own` entries.
pub(super) fn to_caller(record_route: &[&[u8]], own: usize) -> Vec<Bytes> {
    record_route
        .iter()
        .skip(own)
        .map(|value| Bytes::copy_from_slice(value))
        .collect()
}

/// The way from the observer to the callee: what the response's Record-Route has on top of the
/// request's `known` entries, from the bottom (§12.1.2).
///
/// Entries are counted and not compared, since proxies may rewrite theirs on the way back
/// (§16.7 step 8).
pub(super) fn to_callee(record_route: &[&[u8]], known: usize) -> Vec<Bytes> {
    record_route
        .iter()
        .rev()
        .skip(known)
        .map(|value| Bytes::copy_from_slice(value))
        .collect()
}

/// The Request-URI and the Route values, from the top, of a request to `target` by way of `route`.
///
/// If the first proxy is a strict router (no `lr`), it gets its own URI as the Request-URI, and the
/// target goes to the end of the route.
pub fn request_line(target: &Bytes, route: &[Bytes]) -> (Bytes, Vec<Bytes>) {
    match route.split_first() {
        Some((first, rest)) if !is_loose(first) => {
            let mut routes = rest.to_vec();
            routes.push([b"<", &target[..], b">"].concat().into());
            (as_request_uri(uri_of(first)), routes)
        }
        Some(_) | None => (target.clone(), route.to_vec()),
    }
}

/// The URI of a Route value: what stands between the angle brackets that it must have (§20.34).
fn uri_of(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|byte| *byte == b'<');
    let uri = begin.map_or(value, |begin| &value[begin + 1..]);
    let end = uri.iter().position(|byte| *byte == b'>');
    end.map_or(uri, |end| &uri[..end])
}

/// The parameters of a URI, which follow host and port and end where headers begin.
fn split_parameters(uri: &[u8]) -> (&[u8], impl Iterator<Item = &[u8]>) {
    // A user part may contain `;` and `?`.
    let host = uri.iter().rposition(|byte| *byte == b'@').unwrap_or(0);
    let headers = uri[host..].iter().position(|byte| *byte == b'?');
    let uri = headers.map_or(uri, |at| &uri[..host + at]);
    let parameters = uri[host..].iter().position(|byte| *byte == b';');
    let (base, parameters) = uri.split_at(parameters.map_or(uri.len(), |at| host + at));
    let parameters = parameters.split(|byte| *byte == b';');
    (base, parameters.filter(|parameter| !parameter.is_empty()))
}

fn name_of(parameter: &[u8]) -> &[u8] {
    let end = parameter.iter().position(|byte| *byte == b'=');
    &parameter[..end.unwrap_or(parameter.len())]
}

fn is_loose(value: &[u8]) -> bool {
    split_parameters(uri_of(value))
        .1
        .any(|parameter| name_of(parameter).eq_ignore_ascii_case(b"lr"))
}

/// Without what a Request-URI must not have: headers and `method` (§19.1.1, Table 1).
fn as_request_uri(uri: &[u8]) -> Bytes {
    let (base, parameters) = split_parameters(uri);
    let mut uri = base.to_vec();
    for parameter in parameters {
        if !name_of(parameter).eq_ignore_ascii_case(b"method") {
            uri.push(b';');
            uri.extend_from_slice(parameter);
        }
    }
    uri.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &'static str, route: &[&'static str]) -> (Bytes, Vec<Bytes>) {
        let route: Vec<Bytes> = route.iter().map(|value| Bytes::from(*value)).collect();
        request_line(&Bytes::from(target), &route)
    }

    #[test]
    fn loose_routers_are_routes() {
        assert_eq!(
            line("sip:b@192.0.2.4", &[]),
            ("sip:b@192.0.2.4".into(), vec![])
        );
        for first in [
            "<sip:p1;lr>",
            "<sip:p1;x=1;LR>",
            "<sip:p1;lr=on>;x",
            "P <sip:u;v@p1;lr?h=1>",
        ] {
            assert_eq!(
                line("sip:b@192.0.2.4", &[first, "<sip:p2>"]),
                (
                    "sip:b@192.0.2.4".into(),
                    vec![first.into(), "<sip:p2>".into()]
                ),
                "{first}"
            );
        }
    }

    #[test]
    fn a_strict_router_gets_its_own_uri() {
        // The example of §12.2.1.1's last paragraph, with a method and headers to strip.
        assert_eq!(
            line(
                "sip:user@remoteua",
                &["<sip:proxy1;method=INVITE;x=1?h=1>", "<sip:proxy2;lr>"]
            ),
            (
                "sip:proxy1;x=1".into(),
                vec!["<sip:proxy2;lr>".into(), "<sip:user@remoteua>".into()]
            )
        );
        for first in [
            "<sip:p1>;lr",
            "<sip:lr@p1>",
            "<sip:a;lr@p1>",
            "<sip:p1;lrx>",
            "<sip:p1?lr>",
        ] {
            assert_eq!(line("sip:b", &[first]).1, ["<sip:b>"], "{first}");
        }
    }

    #[test]
    fn any_bytes_are_borne() {
        for value in [
            "",
            "<",
            ">",
            "<>",
            ";",
            "?",
            "@",
            "<;lr",
            "<@?;=>",
            "<sip:p;;;lr",
        ] {
            let (uri, routes) = line("sip:b", &[value]);
            assert_eq!(routes.len(), 1, "{value} {uri:?}");
        }
    }

    #[test]
    fn ways_of_user_agents_and_of_those_between() {
        let request: [&[u8]; 3] = [b"<sip:own;lr>", b"<sip:p2;lr>", b"<sip:p1;lr>"];
        let response: [&[u8]; 5] = [
            b"<sip:p4;lr>",
            b"<sip:p3;lr>",
            b"<sip:own;lr>",
            b"<sip:p2;lr>",
            b"<sip:p1;lr>",
        ];
        assert_eq!(to_caller(&request, 1), ["<sip:p2;lr>", "<sip:p1;lr>"]);
        assert_eq!(to_callee(&response, 3), ["<sip:p3;lr>", "<sip:p4;lr>"]);
        // §12.1.1: a UAS takes all of the request's, from the top.
        assert_eq!(to_caller(&request, 0).len(), 3);
        // §12.1.2: a UAC takes all of the response's, from the bottom.
        assert_eq!(to_callee(&response, 0)[0], "<sip:p1;lr>");
        assert_eq!(to_callee(&response, 0)[4], "<sip:p4;lr>");
        // Who took entries away leaves none.
        assert!(to_callee(&response[..1], 3).is_empty());
        assert!(to_caller(&[], 1).is_empty());
    }
}
