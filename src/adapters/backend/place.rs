//! Where a backend is, as the settings say it, and which addresses such a place may have.
//!
//! Promises: an address that a name service gives is reached only where it is a public one, unless
//! the settings allow private ones or name the address itself. Asks nobody. Called by
//! [`super::members`].

use std::net::IpAddr;
use std::path::PathBuf;

use crate::adapters::address;

/// Where one member, or several under one name, are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whether to speak TLS.
    pub tls: bool,
    /// The way there.
    pub at: At,
    /// Path prefix put before every route.
    pub prefix: String,
}

/// The way to a place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum At {
    /// A host and a port.
    Host {
        /// Host name, or an address, in brackets where it is of version 6.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Socket(PathBuf),
}

impl Place {
    /// The host's name without brackets; none of a socket.
    pub(super) fn bare(&self) -> Option<&str> {
        match &self.at {
            At::Host { host, .. } => Some(host.trim_start_matches('[').trim_end_matches(']')),
            At::Socket(_) => None,
        }
    }

    /// What stands in `Host`; `named` where the place itself has no name.
    pub(super) fn authority(&self, named: &str) -> String {
        match &self.at {
            At::Host { host, port } if *port == if self.tls { 443 } else { 80 } => host.clone(),
            At::Host { host, port } => format!("{host}:{port}"),
            At::Socket(_) => named.to_owned(),
        }
    }

    /// Whether an address that a name service gave for this place may be connected to.
    pub(super) fn may_be(&self, address: IpAddr) -> bool {
        address::may_be(self.bare().unwrap_or_default(), address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str) -> Place {
        Place { tls: false, at: At::Host { host: host.to_owned(), port: 80 }, prefix: String::new() }
    }

    #[test]
    fn a_name_leads_to_no_private_address() {
        let place = host("api.example");
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!place.may_be(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "8.8.8.8"] {
            assert!(place.may_be(address.parse().unwrap()), "{address}");
        }
        for address in ["2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"] {
            assert!(place.may_be(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn this_machine_is_reached_by_its_own_name_only() {
        assert!(host("localhost").may_be("127.0.0.1".parse().unwrap()));
        assert!(host("LOOPIQ.localhost.").may_be("::1".parse().unwrap()));
        assert!(!host("localhost").may_be("10.0.0.1".parse().unwrap()));
        assert!(!host("localhost.example").may_be("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_host_header_names_the_port_where_it_is_not_the_usual_one() {
        let place =
            |tls, port| Place { tls, at: At::Host { host: "[2606:4700::1]".to_owned(), port }, prefix: String::new() };
        assert_eq!(place(true, 443).authority("x"), "[2606:4700::1]");
        assert_eq!(place(false, 443).authority("x"), "[2606:4700::1]:443");
        assert_eq!(place(true, 443).bare(), Some("2606:4700::1"));
        let socket = Place { tls: false, at: At::Socket("/run/x.sock".into()), prefix: String::new() };
        assert_eq!(socket.authority("loopiq"), "loopiq");
    }
}
