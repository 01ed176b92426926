//! Parts of URIs, and when two are the same.

use super::*;

fn sip(text: &str) -> SipUri<'_> {
    let uri = Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    uri.sip()
        .unwrap_or_else(|| panic!("{text}: another scheme"))
}

#[test]
fn parts_are_found() {
    let uri = sip("sips:a;b?c:d:e@[2001:DB8::1]:5061;lr;p=%41?Subject=x&to=y");
    assert!(uri.secure && uri.is_loose_router());
    assert_eq!(
        (uri.user, uri.password),
        (Some(&b"a;b?c"[..]), Some(&b"d:e"[..]))
    );
    assert_eq!(
        uri.host,
        Host::V6("2001:db8::1".parse().expect("an address"))
    );
    assert_eq!(uri.port, Some(5061));
    assert_eq!(uri.params.get("p"), Some(&b"%41"[..]));
    assert_eq!(uri.headers, Some(&b"Subject=x&to=y"[..]));
    assert_eq!(sip("sip:192.0.2.1").host, Host::V4([192, 0, 2, 1].into()));
    assert_eq!(sip("sip:1.example").host, Host::Name("1.example"));
    assert_eq!(
        sip("sip:[::ffff:192.0.2.1]").host.address(),
        "192.0.2.1".parse().ok()
    );
    assert_eq!(
        (
            sip("sip:a").port_or_default(),
            sip("sips:a").port_or_default()
        ),
        (5060, 5061)
    );
    let tel = Uri::parse(b"TEL:+1-201").expect("a URI");
    assert_eq!(
        tel,
        Uri::Other {
            scheme: "TEL",
            rest: b"+1-201"
        }
    );
}

#[test]
fn what_is_no_uri_says_why() {
    for (text, error) in [
        ("", UriError::Scheme),
        ("alice", UriError::Scheme),
        ("1a:b", UriError::Scheme),
        ("sip:a b", UriError::Letters),
        ("<sip:a>", UriError::Letters),
        ("sip:\u{7f}", UriError::Letters),
        ("sip:", UriError::Host),
        ("sip:@a", UriError::Host),
        ("sip:a@", UriError::Host),
        ("sip:a@b@c", UriError::Host),
        ("sip:a:", UriError::Host),
        ("sip:a:65536", UriError::Host),
        ("sip:2001:db8::1", UriError::Host),
        ("sip:[2001:db8::1", UriError::Host),
        ("sip:[::1]x", UriError::Host),
        ("sip:[fe80::1%25eth0]", UriError::Host),
        ("sip:b\u{fc}cher.example", UriError::Host),
    ] {
        assert_eq!(Uri::parse(text.as_bytes()), Err(error), "{text}");
    }
}

#[test]
fn equality_is_that_of_the_rfc() {
    // RFC 3261 §19.1.4, both lists.
    for (a, b) in [
        (
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
        ),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        (
            "sip:carol@chicago.com;newparam=5",
            "sip:carol@chicago.com;security=on",
        ),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::0:1]"),
    ] {
        assert!(
            sip(a).is_same_as(&sip(b)) && sip(b).is_same_as(&sip(a)),
            "{a} {b}"
        );
    }
    for (a, b) in [
        (
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
        ),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        (
            "sip:bob@biloxi.com",
            "sip:bob@biloxi.com:6000;transport=tcp",
        ),
        (
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
        ),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        (
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;security=off",
        ),
        ("sip:a;b@h", "sip:a%3Bb@h"),
        ("sip:a@h", "sips:a@h"),
        ("sip:a@h", "sip:a:@h"),
    ] {
        assert!(
            !sip(a).is_same_as(&sip(b)) && !sip(b).is_same_as(&sip(a)),
            "{a} {b}"
        );
    }
}

#[test]
fn ipv4_is_read_as_the_standard_library_reads_it() {
    for text in [
        "192.0.2.1",
        "0.0.0.0",
        "255.255.255.255",
        "256.0.0.1",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.",
        "1..2.3",
        "01.2.3.4",
        "1.2.3.00",
        "1.2.3.4a",
        "18446744073709551617.0.0.1",
    ] {
        let expected: Option<std::net::Ipv4Addr> = text.parse().ok();
        assert_eq!(super::v4_address(text.as_bytes()), expected, "{text}");
    }
}
