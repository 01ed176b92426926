//! Parameters behind a value: `;name`, `;name=value`, `;name="value"`.

use std::borrow::Cow;

use crate::text::{
    find_unquoted, is_token, is_token_byte, is_value_byte, quoted_len, trim, trim_end,
};

/// Parameters, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a [u8]);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Name and value as written, without the semicolon.
    pub text: &'a [u8],
    /// To be compared without regard to case.
    pub name: &'a [u8],
    /// The value, quotes included; `None` without an equals sign.
    pub value: Option<&'a [u8]>,
}

impl<'a> Param<'a> {
    fn of(text: &'a [u8]) -> Self {
        let text = trim(text);
        match text.iter().position(|byte| *byte == b'=') {
            Some(equals) => Self {
                text,
                name: trim_end(&text[..equals]),
                value: Some(trim(&text[equals + 1..])),
            },
            None => Self {
                text,
                name: text,
                value: None,
            },
        }
    }

    /// The value without quotes and backslashes.
    pub fn unquoted(&self) -> Option<Cow<'a, [u8]>> {
        self.value.map(unquote)
    }

    fn is_well_formed(&self) -> bool {
        let value_fits = match self.value {
            None => true,
            Some([]) => false,
            Some(value @ [b'"', ..]) => quoted_len(value) == Some(value.len()),
            Some(value) => value.iter().all(|byte| is_value_byte(*byte)),
        };
        is_token(self.name) && value_fits
    }
}

/// A quoted string's text; anything else as it is.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = value else {
        return Cow::Borrowed(value);
    };
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' {
            bytes.next()
        } else {
            Some(byte)
        };
        text.extend(byte);
    }
    Cow::Owned(text)
}

impl<'a> Params<'a> {
    /// Parts a value from the parameters behind it.
    pub(crate) fn split(text: &'a [u8]) -> (&'a [u8], Self) {
        match find_unquoted(text, b';') {
            Some(at) => (&text[..at], Self(&text[at..])),
            None => (text, Self(&[])),
        }
    }

    /// Parameters that start with the semicolon of the first one.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// All of them as written, from the first semicolon on.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// One after the other. Empty ones, which no grammar allows, are left out.
    pub fn iter(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                rest = rest.get(1..)?;
                let end = find_unquoted(rest, b';').unwrap_or(rest.len());
                let (text, after) = rest.split_at(end);
                rest = after;
                let param = Param::of(text);
                if !param.text.is_empty() {
                    return Some(param);
                }
            }
        })
    }

    /// The parameter of this name; the first, if there are several.
    pub fn find(&self, name: &str) -> Option<Param<'a>> {
        self.iter()
            .find(|param| param.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The value of this parameter, quotes included; `None` without one.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.find(name)?.value
    }

    /// Whether this parameter is there, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether they follow the grammar of header parameters (RFC 3261 §25.1).
    pub fn are_well_formed(&self) -> bool {
        self.read([]).is_some()
    }

    /// What [`Params::get`] has for each of these names, in the pass that looks whether all keep the
    /// grammar. `None` if they do not.
    pub(super) fn read<const N: usize>(&self, names: [&str; N]) -> Option<[Option<&'a [u8]>; N]> {
        let mut found = [None; N];
        if self.read_plain(|name, value| note(&names, &mut found, name, value)) {
            return Some(found.map(Option::flatten));
        }
        if !self.keep_the_grammar() {
            return None;
        }
        found = [None; N];
        for param in self.iter() {
            note(&names, &mut found, param.name, param.value);
        }
        Some(found.map(Option::flatten))
    }

    /// Whether they are as almost all are, `;name=value;name` without white space and quotes: a
    /// look at each byte. `see` gets those before the first that is not.
    fn read_plain(&self, mut see: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> bool {
        let mut rest = self.0;
        while let [b';', behind @ ..] = rest {
            let len = behind
                .iter()
                .take_while(|byte| is_token_byte(**byte))
                .count();
            let (name, after) = behind.split_at(len);
            rest = after;
            if name.is_empty() {
                return false;
            }
            let mut value = None;
            if let [b'=', behind @ ..] = rest {
                let is_value = |byte: &&u8| is_value_byte(**byte) && **byte != b';';
                let len = behind.iter().take_while(is_value).count();
                let (text, after) = behind.split_at(len);
                rest = after;
                if text.is_empty() {
                    return false;
                }
                value = Some(text);
            }
            see(name, value);
        }
        rest.is_empty()
    }

    fn keep_the_grammar(&self) -> bool {
        let mut rest = self.0;
        while let Some((b';', behind)) = rest.split_first() {
            let end = find_unquoted(behind, b';').unwrap_or(behind.len());
            if !Param::of(&behind[..end]).is_well_formed() {
                return false;
            }
            rest = &behind[end..];
        }
        rest.is_empty()
    }
}

/// Keeps a parameter's value if it is the first of a wanted name.
fn note<'a, const N: usize>(
    names: &[&str; N],
    found: &mut [Option<Option<&'a [u8]>>; N],
    name: &[u8],
    value: Option<&'a [u8]>,
) {
    for (wanted, place) in names.iter().zip(found) {
        if place.is_none() && name.eq_ignore_ascii_case(wanted.as_bytes()) {
            *place = Some(value);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_parameters_keep_the_grammar(text in r#"[;;a=".< ,]{0,12}"#) {
            let params = Params::new(text.as_bytes());
            let are_plain = params.read_plain(|_, _| ());
            prop_assert!(!are_plain || params.keep_the_grammar());
            let is_odd = |letter| matches!(letter, '"' | ' ');
            if !text.contains(is_odd) {
                prop_assert_eq!(are_plain, params.keep_the_grammar());
            }
        }

        #[test]
        fn one_pass_reads_what_a_search_for_each_finds(text in r#"(;[ab]{1,2}(=[ab" .]{0,3})?){0,4}"#) {
            let params = Params::new(text.as_bytes());
            let expected = params.keep_the_grammar().then(|| ["A", "b", "ab"].map(|name| params.get(name)));
            prop_assert_eq!(params.read(["A", "b", "ab"]), expected);
        }
    }
}
