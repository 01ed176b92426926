//! A message as lines of text.

use std::net::SocketAddr;

/// A message's first line and its header fields.
pub(super) struct Text<'a> {
    first: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Text<'a> {
    /// Nothing of what is no text.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let (head, _) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let first = lines.next()?;
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.trim(), value.trim()));
        Some(Self {
            first,
            fields: fields.collect(),
        })
    }

    /// The values of all fields of this name, from the top.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let of_name = move |(own, _): &&(&str, &str)| own.eq_ignore_ascii_case(name);
        let fields: Vec<_> = self.fields.iter().filter(of_name).copied().collect();
        fields.into_iter().map(|(_, value)| value)
    }

    /// The first of them.
    pub(super) fn one(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// A response's status.
    pub(super) fn status(&self) -> Option<u16> {
        self.first.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// A request's method.
    pub(super) fn method(&self) -> Option<&'a str> {
        let (method, _) = self.first.split_once(' ')?;
        (method != "SIP/2.0").then_some(method)
    }

    /// The number and the method of its CSeq.
    pub(super) fn cseq(&self) -> Option<(u32, &'a str)> {
        let (number, method) = self.one("CSeq")?.split_once(' ')?;
        Some((number.parse().ok()?, method.trim()))
    }

    /// The tag in its To field.
    pub(super) fn to_tag(&self) -> Option<&'a str> {
        let (_, tag) = self.one("To")?.split_once(";tag=")?;
        tag.split(';').next()
    }

    /// The header fields of a response to this request that come from the request; Via first.
    pub(super) fn echo(&self, tag: Option<&str>) -> String {
        let mut text = String::new();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in self.all(name) {
                text += &format!("{name}: {value}");
                if name == "To"
                    && self.to_tag().is_none()
                    && let Some(tag) = tag
                {
                    text += &format!(";tag={tag}");
                }
                text += "\r\n";
            }
        }
        text
    }
}

/// The URI between angle brackets.
pub(super) fn bracketed(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once('<')?;
    rest.split_once('>').map(|(uri, _)| uri)
}

/// The address that a URI names.
pub(super) fn address_of(uri: &str) -> Option<SocketAddr> {
    let rest = uri.strip_prefix("sip:")?;
    let host = rest.split(['?', ';']).next()?;
    // Parameters may stand in the user part, too, and its `;` before the `@`.
    let host = match rest.rsplit_once('@') {
        Some((_, host)) => host.split(['?', ';']).next()?,
        None => host,
    };
    host.parse().ok()
}
