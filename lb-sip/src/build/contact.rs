//! Contacts of redirect responses.

use std::fmt::Write;

use super::BuildError;
use crate::message::{EditError, check_uri, check_value};
use crate::text::is_token;
use crate::uri::{Uri, UriError};

/// One Contact value: `<uri>;q=0.5;name=value`.
///
/// What must reach the place that the Contact names belongs into the URI ([`Contact::uri_param`]): the
/// one who is redirected makes a Request-URI of it, and leaves header parameters behind
/// (RFC 3261 §8.1.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    text: String,
    /// Where the URI's parameters end, in `text`.
    uri_params_end: usize,
}

impl Contact {
    /// A Contact without parameters.
    ///
    /// # Errors
    /// It is no URI.
    pub fn new(uri: &str) -> Result<Self, BuildError> {
        check_uri(uri.as_bytes())?;
        Uri::parse(uri.as_bytes()).map_err(|_: UriError| EditError::RequestUri)?;
        // A `?` in the user part starts no headers.
        let host = uri.find('@').unwrap_or_default();
        let params_end = uri[host..].find('?').map_or(uri.len(), |at| host + at);
        Ok(Self {
            text: format!("<{uri}>"),
            uri_params_end: 1 + params_end,
        })
    }

    /// Its preference in thousandths, 1,000 being the highest.
    ///
    /// # Errors
    /// It is above 1,000.
    pub fn q_thousandths(mut self, thousandths: u16) -> Result<Self, BuildError> {
        match thousandths {
            1000 => self.text.push_str(";q=1"),
            0..1000 => {
                let digits = format!("{thousandths:03}");
                self.text.push_str(";q=0.");
                self.text.push_str(match digits.trim_end_matches('0') {
                    "" => "0",
                    digits => digits,
                });
            }
            _ => return Err(BuildError::Preference),
        }
        Ok(self)
    }

    /// A parameter of the URI; what may not stand there is escaped.
    ///
    /// # Errors
    /// The name is no token.
    pub fn uri_param(mut self, name: &str, value: &str) -> Result<Self, BuildError> {
        if !is_token(name.as_bytes()) {
            return Err(EditError::Name.into());
        }
        let mut param = format!(";{name}=");
        for byte in value.bytes() {
            // RFC 3261 §25.1: paramchar.
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(&byte) {
                param.push(byte.into());
            } else {
                // Writing to a string does not fail.
                let _ = write!(param, "%{byte:02X}");
            }
        }
        self.text.insert_str(self.uri_params_end, &param);
        self.uri_params_end += param.len();
        Ok(self)
    }

    /// A parameter of the header; the value is quoted if it is no token.
    ///
    /// # Errors
    /// The name is no token, or the value holds a line end.
    pub fn param(mut self, name: &str, value: &str) -> Result<Self, BuildError> {
        if !is_token(name.as_bytes()) {
            return Err(EditError::Name.into());
        }
        check_value(value.as_bytes())?;
        if is_token(value.as_bytes()) {
            // Writing to a string does not fail.
            let _ = write!(self.text, ";{name}={value}");
        } else {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(self.text, ";{name}=\"{value}\"");
        }
        Ok(self)
    }

    /// As it stands in the header.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
