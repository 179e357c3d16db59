//! Where an upstream server is, and which addresses it may have.
//!
//! Promises: the host is the configured one; an address that a name leads to is connected to only if it is
//! public, or this machine's for `localhost`, or the settings allow private ones. An address that stands in
//! the settings itself was chosen by their writer. Called by [`super::link`].

use std::net::IpAddr;
use std::net::SocketAddr;

use crate::adapters::address;

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Host name or address, the latter in brackets if it is of IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, with the query if there is one.
    pub path: String,
    /// Whether a name may lead to a private address.
    pub private: bool,
}

impl Place {
    /// The value of `Host`.
    pub(super) fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The host without brackets.
    pub(super) fn bare(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The addresses that may be connected to, in the order of the name service.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let host = self.bare();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found = tokio::net::lookup_host((host, self.port)).await.map_err(|cause| cause.to_string())?;
        let (good, bad): (Vec<_>, Vec<_>) = found.partition(|address| self.may_be(address.ip()));
        match bad.first() {
            Some(address) if good.is_empty() => Err(format!(
                "`{host}` is {}, which is not a public address; allow private ones for this server if it is meant",
                address.ip()
            )),
            _ if good.is_empty() => Err(format!("`{host}` has no address")),
            _ => Ok(good),
        }
    }

    fn may_be(&self, address: IpAddr) -> bool {
        self.private || address::may_be(self.bare(), address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, private: bool) -> Place {
        Place { tls: false, host: host.into(), port: 80, path: "/mcp".into(), private }
    }

    #[test]
    fn a_name_leads_to_no_private_address_unless_it_may() {
        for address in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "198.18.0.1",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::1",
            "::",
        ] {
            let address = address.parse().unwrap();
            assert!(!place("mcp.example", false).may_be(address), "{address}");
            assert!(place("mcp.example", true).may_be(address), "{address}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(place("mcp.example", false).may_be(address.parse().unwrap()), "{address}");
        }
        assert!(place("localhost", false).may_be("127.0.0.1".parse().unwrap()));
        assert!(!place("localhost", false).may_be("10.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn an_address_in_the_settings_was_chosen_by_their_writer() {
        assert_eq!(place("[::1]", false).addresses().await.unwrap(), ["[::1]:80".parse().unwrap()]);
    }
}
