//! Which addresses a name in the settings may lead to.
//!
//! Promises: only public ones, or this machine's for `localhost`; an address that holds another is judged by
//! that. Asks nobody. A room below the other adapters: `adapters::backend` and `adapters::upstream` connect by it.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Whether an address that a name service gave for `host` may be connected to.
#[must_use]
pub fn may_be(host: &str, address: IpAddr) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_this_machine = host == "localhost" || host.ends_with(".localhost");
    if is_this_machine { address.is_loopback() } else { is_public(address) }
}

/// Whether an address is one of the public Internet: neither private, nor this machine's or link's, nor
/// reserved; one that holds an address of version 4 is judged by that.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // WHY the metadata service of clouds, 169.254.169.254, is not named: it is link-local.
    let special = match a {
        0 | 10 | 127 | 224.. => true,
        100 => b & 0xc0 == 64,
        169 => b == 254,
        172 => b & 0xf0 == 16,
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b & 0xfe == 18 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match parts {
        // Mapped, translated by NAT64, and 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // Teredo, benchmarks and their like; documentation.
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        // Of what is left only 2000::/3 is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}
