//! Whether two SIP URIs mean the same (RFC 3261 §19.1.4).

use super::SipUri;
use crate::headers::Params;

/// Parameters that must be in both URIs or in neither.
const TELLING: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

pub(super) fn are_same(a: &SipUri<'_>, b: &SipUri<'_>) -> bool {
    // A port that is left out is not the same as the default one.
    a.secure == b.secure
        && are_same_text(a.user, b.user, Case::Counts)
        && are_same_text(a.password, b.password, Case::Counts)
        && a.host.is_same_as(&b.host)
        && a.port == b.port
        && are_compatible(a.params, b.params)
        && are_same_headers(a.headers.unwrap_or_default(), b.headers.unwrap_or_default())
}

/// Parameters in both must agree; of those in one alone, the telling ones are a difference.
fn are_compatible(a: Params<'_>, b: Params<'_>) -> bool {
    // Of parameters that are repeated, which none may be, the first counts.
    fn first<'a>(params: Params<'a>, name: &[u8]) -> Option<Option<&'a [u8]>> {
        let mut all = params.iter();
        let param = all.find(|param| is_same(param.name, name, Case::DoesNot))?;
        Some(param.value)
    }
    let agree = a
        .iter()
        .all(|param| match (first(a, param.name), first(b, param.name)) {
            (Some(a), Some(b)) => are_same_text(a, b, Case::DoesNot),
            (None, _) | (_, None) => true,
        });
    agree && TELLING.iter().all(|name| a.has(name) == b.has(name))
}

/// All headers must be in both, in any order.
fn are_same_headers(a: &[u8], b: &[u8]) -> bool {
    fn all(text: &[u8]) -> impl Iterator<Item = &[u8]> {
        let headers = text.split(|byte| *byte == b'&');
        headers.filter(|header| !header.is_empty())
    }
    let within = |a: &[u8], b: &[u8]| {
        all(a).all(|header| all(b).any(|other| is_same(header, other, Case::DoesNot)))
    };
    all(a).count() == all(b).count() && within(a, b) && within(b, a)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Counts,
    DoesNot,
}

fn are_same_text(a: Option<&[u8]>, b: Option<&[u8]>, case: Case) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => is_same(a, b, case),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn is_same(a: &[u8], b: &[u8], case: Case) -> bool {
    letters(a, case).eq(letters(b, case))
}

/// The letters of a text, and of each whether it is escaped for being reserved: `%61` is the same as
/// `a`, but `%3B` is not the same as `;`.
fn letters(text: &[u8], case: Case) -> impl Iterator<Item = (u8, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (letter, escaped) = match rest {
            [] => return None,
            [b'%', high, low, behind @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest = behind;
                let letter = hex(*high) << 4 | hex(*low);
                (letter, b";/?:@&=+$,%".contains(&letter))
            }
            [letter, behind @ ..] => {
                rest = behind;
                (*letter, false)
            }
        };
        let letter = match case {
            Case::Counts => letter,
            Case::DoesNot => letter.to_ascii_lowercase(),
        };
        Some((letter, escaped))
    })
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
