//! Where an account may log in from.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

const LOCAL: &str = "local";

/// A network, or the machine's own socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The server's local socket.
    Local,
    /// Addresses that begin with the same bits.
    Network {
        /// One of them.
        address: IpAddr,
        /// How many bits.
        bits: u8,
    },
}

impl Source {
    /// `local`, an address, or a network in CIDR notation.
    pub fn parse(text: &str) -> Option<Source> {
        if text == LOCAL {
            return Some(Source::Local);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &&str| !bits.is_empty() && bits.bytes().all(|it| it.is_ascii_digit());
        let bits = match bits {
            Some(bits) => Some(bits).filter(is_number)?.parse().ok().filter(|bits| *bits <= longest)?,
            None => longest,
        };
        Some(Source::Network { address, bits })
    }

    /// Whether a client's address is one of them; None is the local socket.
    pub fn holds(&self, client: Option<IpAddr>) -> bool {
        match (self, client.map(|it| it.to_canonical())) {
            (Source::Local, None) => true,
            (Source::Network { address: IpAddr::V4(own), bits }, Some(IpAddr::V4(its))) => {
                let differing = own.to_bits() ^ its.to_bits();
                differing.leading_zeros() >= u32::from(*bits)
            }
            (Source::Network { address: IpAddr::V6(own), bits }, Some(IpAddr::V6(its))) => {
                let differing = own.to_bits() ^ its.to_bits();
                differing.leading_zeros() >= u32::from(*bits)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Local => f.write_str(LOCAL),
            Source::Network { address, bits } => write!(f, "{address}/{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks() {
        let holds = |network: &str, client: &str| {
            Source::parse(network).unwrap().holds((client != LOCAL).then(|| client.parse().unwrap()))
        };
        assert!(holds("10.1.0.0/16", "10.1.255.7") && !holds("10.1.0.0/16", "10.2.0.0"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.2"));
        assert!(holds("0.0.0.0/0", "255.1.1.1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00:1::/32", "fd00:1:2::3") && !holds("fd00:1::/32", "fd00:2::"));
        assert!(holds("::/0", "fd00::1") && !holds("::/0", "10.0.0.1"));
        // A server that listens on IPv6 sees a client of IPv4 so.
        assert!(holds("10.1.2.3", "::ffff:10.1.2.3"));
        assert!(holds("local", LOCAL) && !holds("local", "127.0.0.1") && !holds("127.0.0.1", LOCAL));
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "Local",
            "10.1.2",
            "10.1.2.3/33",
            "::1/129",
            "10.1.2.3/",
            "10.1.2.3/+8",
            "10.1.2.3/-1",
            "host",
        ] {
            assert_eq!(Source::parse(text), None, "{text}");
        }
        for text in ["local", "10.1.2.0/24", "fd00::/8"] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
    }
}
