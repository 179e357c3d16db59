//! Where may be asked: which addresses are public, and which URLs are safe to name.
//!
//! Promises: an address of a private network, of this machine or of a cloud's own services counts as
//! private in every spelling, those inside IPv6 among them. Never asks anybody but the resolver.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;

/// How a place is reached, and whom it is believed to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// PEM file with the certificates of the only authority that counts. None: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether its name may lead into a private network.
    pub allow_private: bool,
    /// Whether plain HTTP will do to a host that is not this machine. Only tests say so.
    pub plain_http: bool,
}

impl Way {
    /// What is wrong with asking at `url` in this way, and what to do.
    #[must_use]
    pub fn fault(&self, url: &str) -> Option<&'static str> {
        let Ok(url) = Url::parse(url) else { return Some("is not a URL") };
        if !url.username().is_empty() || url.password().is_some() {
            return Some("holds credentials; leave them out");
        }
        match url.scheme() {
            "https" => {}
            "http" if self.plain_http || is_this_machine(&url) => {}
            "http" => return Some("is plain HTTP; use https, since whoever can change the answer can forge tokens"),
            _ => return Some("must begin with https://"),
        }
        let private = literal(&url).is_some_and(is_private) && !is_this_machine(&url);
        (private && !self.allow_private)
            .then_some("is an address in a private network; set `allow_private: true` if it is meant")
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_this_machine(url: &Url) -> bool {
    url.host_str() == Some("localhost") || literal(url).is_some_and(|address| address.is_loopback())
}

/// Resolves names to public addresses alone; `localhost` is this machine and says so.
#[derive(Debug)]
pub(super) struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let named = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((named.as_str(), 0)).await?.collect();
            let here = named == "localhost";
            let public: Vec<SocketAddr> = found
                .into_iter()
                .filter(|addr| if here { addr.ip().is_loopback() } else { !is_private(addr.ip()) })
                .collect();
            if public.is_empty() {
                let words = format!("`{named}` leads into a private network; set `allow_private: true` if it is meant");
                return Err(io::Error::other(words).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to a private network, to this machine, or to nobody.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (18..20).contains(&b))
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    let [a, b, .., g, h] = v6.segments();
    let embedded = || Ipv4Addr::from((u32::from(g) << 16) | u32::from(h));
    if let Some(v4) = v6.to_ipv4_mapped() {
        return is_private_v4(v4);
    }
    match (a, b) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) carry an address of the other kind.
        (0x64, 0xff9b) => is_private_v4(embedded()),
        (0x2002, _) => {
            is_private_v4(Ipv4Addr::from((u32::from(b) << 16) | u32::from(v6.segments().get(2).copied().unwrap_or(0))))
        }
        // 2000::/3 is all that is given out; of it, Teredo and documentation lead nowhere of use.
        (0x2001, 0 | 0xdb8) => true,
        _ => a & 0xe000 != 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_is_one_in_every_spelling() {
        for private in [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "::10.0.0.1",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
        {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn an_unsafe_address_is_refused_before_anybody_asks_there() {
        let public = Way::default();
        for good in [
            "https://idp.example/jwks",
            "http://127.0.0.1:1/jwks",
            "http://localhost:1/",
            "https://[::1]/",
            "https://1.1.1.1/",
        ] {
            assert_eq!(public.fault(good), None, "{good}");
        }
        for bad in [
            "http://idp.example/",
            "ftp://idp.example/",
            "https://me:x@idp.example/",
            "nowhere",
            "https://10.0.0.7/jwks",
            "https://169.254.169.254/latest",
            "https://[fd12::1]/",
            "https://0x0a000001/",
            "https://167772161/",
            "http://10.0.0.7/",
        ] {
            assert!(public.fault(bad).is_some(), "{bad}");
        }
        let inside = Way { allow_private: true, ..Way::default() };
        assert_eq!(inside.fault("https://10.0.0.7/jwks"), None);
        assert!(inside.fault("http://10.0.0.7/jwks").is_some(), "but never in the clear");
    }

    #[tokio::test]
    async fn a_name_that_leads_into_a_private_network_is_not_followed() {
        let resolve = |name: &str| Public.resolve(name.parse().unwrap());
        let refused = resolve("127.0.0.1.").await.err().map(|fault| fault.to_string());
        assert!(refused.is_some_and(|words| !words.is_empty()));
        let here: Vec<SocketAddr> = resolve("localhost").await.unwrap().collect();
        assert!(here.iter().all(|addr| addr.ip().is_loopback()) && !here.is_empty());
    }
}
