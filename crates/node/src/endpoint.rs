//! Where a node is reached, without ever showing how it is paid for.

use std::fmt;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use http::{HeaderValue, Uri};
use serde::Deserialize;

/// The address of a node: `ws://`, `wss://`, `http://`, `https://`, `ipc:///path` or a path that ends in `.ipc`.
///
/// Providers put API keys into the user part, the path and the query, so `Display` and `Debug` show the scheme,
/// the host and the port only. An IPC path is no secret and is shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    address: Address,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One WebSocket: requests and subscriptions.
    WebSocket,
    /// One local stream socket: requests and subscriptions.
    Ipc,
    /// A request per POST; no subscriptions.
    Http,
}

/// Why a text is no endpoint. The text itself is left out: it may hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither a known scheme nor a path that ends in `.ipc`.
    #[error("not a node URL: expected ws://, wss://, http://, https://, ipc:// or a path that ends in .ipc")]
    UnknownScheme,
    /// The scheme is known, the rest does not parse.
    #[error("not a node URL: what follows the scheme does not parse")]
    Malformed,
    /// A colon behind the host, and then no port.
    #[error("not a node URL: a port is a number from 1 to 65535")]
    Port,
    /// `ipc://` without a path.
    #[error("not a node URL: the ipc path is empty")]
    EmptyPath,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Url { scheme: Scheme, uri: Uri, authorization: Option<HeaderValue> },
    Ipc(PathBuf),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Ws,
    Wss,
    Http,
    Https,
}

impl Endpoint {
    /// How this endpoint is spoken to.
    pub fn transport(&self) -> Transport {
        match &self.address {
            Address::Ipc(_) => Transport::Ipc,
            Address::Url { scheme: Scheme::Ws | Scheme::Wss, .. } => Transport::WebSocket,
            Address::Url { scheme: Scheme::Http | Scheme::Https, .. } => Transport::Http,
        }
    }

    /// Whether a chain can be followed over it.
    pub fn carries_subscriptions(&self) -> bool {
        self.transport() != Transport::Http
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    fn url(scheme: Scheme, text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
        let authority = uri.authority().ok_or(EndpointError::Malformed)?;
        if authority.host().is_empty() {
            return Err(EndpointError::Malformed);
        }
        // The parser takes any digits, and then says that there is no port.
        let port = authority.as_str().rsplit_once(':').map(|(_, port)| port);
        let is_port =
            |port: &str| port.is_empty() || port.contains(['@', ']']) || port.parse::<NonZeroU16>().is_ok();
        if !port.is_none_or(is_port) {
            return Err(EndpointError::Port);
        }
        let Some((user, host)) = authority.as_str().rsplit_once('@') else {
            return Ok(Self { address: Address::Url { scheme, uri, authorization: None } });
        };
        let authorization = Some(basic_authorization(user)?);
        let uri = without_user(&uri, host)?;
        Ok(Self { address: Address::Url { scheme, uri, authorization } })
    }
}

impl Scheme {
    fn of(text: &str) -> Option<Self> {
        let scheme = text.split_once("://")?.0;
        [Self::Ws, Self::Wss, Self::Http, Self::Https]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(scheme))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Ws | Self::Http => 80,
            Self::Wss | Self::Https => 443,
        }
    }
}

/// RFC 7617; the user part of a URL is percent-encoded (RFC 3986, section 3.2.1).
fn basic_authorization(user: &str) -> Result<HeaderValue, EndpointError> {
    let decoded = percent_decode(user).ok_or(EndpointError::Malformed)?;
    let encoded = base64::engine::general_purpose::STANDARD.encode(decoded);
    let mut value =
        HeaderValue::try_from(format!("Basic {encoded}")).map_err(|_| EndpointError::Malformed)?;
    value.set_sensitive(true);
    Ok(value)
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}

fn without_user(uri: &Uri, host: &str) -> Result<Uri, EndpointError> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(host.parse().map_err(|_| EndpointError::Malformed)?);
    Uri::from_parts(parts).map_err(|_| EndpointError::Malformed)
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("ipc://") {
            return ipc(path);
        }
        if let Some(scheme) = Scheme::of(text) {
            return Self::url(scheme, text);
        }
        let is_path = !text.contains("://") && Path::new(text).extension().is_some_and(|end| end == "ipc");
        if is_path { ipc(text) } else { Err(EndpointError::UnknownScheme) }
    }
}

fn ipc(path: &str) -> Result<Endpoint, EndpointError> {
    if path.is_empty() {
        return Err(EndpointError::EmptyPath);
    }
    Ok(Endpoint { address: Address::Ipc(PathBuf::from(path)) })
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Ipc(path) => write!(f, "ipc://{}", path.display()),
            Address::Url { scheme, uri, .. } => {
                write!(f, "{}://{}", scheme.name(), uri.host().unwrap_or_default())?;
                uri.port_u16().map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(text: &str, shown: &str, transport: Transport) {
        let endpoint: Endpoint = text.parse().expect("parses");
        assert_eq!(endpoint.to_string(), shown);
        assert_eq!(format!("{endpoint:?}"), format!("Endpoint({shown})"));
        assert_eq!(endpoint.transport(), transport);
    }

    #[test]
    fn a_port_that_is_none_is_not_taken_for_the_usual_one() {
        for text in ["ws://127.0.0.1:99999", "ws://user:pass@host:0", "http://[::1]:65536/", "wss://host:80a"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        for text in ["ws://[::1]", "wss://user:pass@host", "ws://host:"] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text}");
        }
    }

    #[test]
    fn only_scheme_host_and_port_are_ever_shown() {
        shows("ws://127.0.0.1:8545", "ws://127.0.0.1:8545", Transport::WebSocket);
        shows("wss://example.org/v3/SECRET", "wss://example.org", Transport::WebSocket);
        shows(
            "wss://me:SECRET@example.org:444/SECRET?k=SECRET",
            "wss://example.org:444",
            Transport::WebSocket,
        );
        shows("HTTPS://SECRET@example.org/", "https://example.org", Transport::Http);
        shows("http://[::1]:8545/?apikey=SECRET", "http://[::1]:8545", Transport::Http);
        shows("  http://localhost  ", "http://localhost", Transport::Http);
        shows("ipc:///run/geth.ipc", "ipc:///run/geth.ipc", Transport::Ipc);
        shows("/run/node/geth.ipc", "ipc:///run/node/geth.ipc", Transport::Ipc);
    }

    #[test]
    fn an_error_never_repeats_the_text() {
        for text in [
            "",
            "SECRET",
            "ftp://SECRET",
            "ws://",
            "ws://SECRET SECRET",
            "ipc://",
            "wss://u%zz@h",
            "SECRET.ipc://x",
        ] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert!(!error.to_string().contains("SECRET"), "{error}");
            assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
        }
    }

    #[test]
    fn the_user_part_becomes_basic_authorization_and_leaves_the_url() {
        let endpoint: Endpoint = "http://al%40ce:s3cret@example.org/x".parse().expect("parses");
        let Address::Url { uri, authorization: Some(value), .. } = endpoint.address() else {
            panic!("authorization expected");
        };
        assert_eq!(uri.to_string(), "http://example.org/x");
        assert_eq!(value.to_str().expect("ascii"), "Basic YWxAY2U6czNjcmV0");
        assert!(value.is_sensitive());
    }
}
