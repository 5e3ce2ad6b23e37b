//! Which addresses a channel may reach.
//!
//! A channel's address comes from whoever may edit channels, and it is this process that calls it,
//! from inside the network: without a check it would be a way to the machine's own services and to
//! a cloud's metadata. So an address is checked each time it is called, after its name was resolved
//! and every address of the name by itself; and the connection is then made to an address that was
//! checked, so that a name which changes in between gains nothing. One bad address among a name's
//! addresses refuses the name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What the operator allows beyond the public Internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddressPolicy {
    /// Networks that may be reached although they are not public, on any port.
    pub networks_allowed: Vec<IpNet>,
    /// Ports of the public Internet that may be reached.
    pub ports_allowed: Vec<u16>,
}

impl Default for AddressPolicy {
    fn default() -> Self {
        // Mail (25, 465, 587, and 2525, which providers offer where 25 is blocked) and the web.
        Self { networks_allowed: Vec::new(), ports_allowed: vec![25, 80, 443, 465, 587, 2525] }
    }
}

/// Why an address is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a public address.
    #[error("{address} is {what}; to call it, name its network in `alerting.networks_allowed`")]
    NotPublic {
        /// The address.
        address: IpAddr,
        /// What kind of address it is, with its article.
        what: &'static str,
    },
    /// A port that is not listed.
    #[error("port {0} is not allowed; to call it, name it in `alerting.ports_allowed`")]
    Port(u16),
}

impl AddressPolicy {
    /// Whether this address and port may be called.
    pub fn check(&self, address: IpAddr, port: u16) -> Result<(), Refusal> {
        // By what it leads to: `::ffff:127.0.0.1` is the loopback address, however it is written.
        let carried = carried(address);
        let is_allowed =
            |ip: &IpAddr| self.networks_allowed.iter().any(|network| network.contains(ip));
        if is_allowed(&carried) || is_allowed(&address) {
            return Ok(());
        }
        if let Some(what) = not_public(carried) {
            return Err(Refusal::NotPublic { address, what });
        }
        // Ports of databases and shells have no place among channels, wherever they lead.
        if self.ports_allowed.contains(&port) { Ok(()) } else { Err(Refusal::Port(port)) }
    }
}

/// What an address leads to: the IPv4 address that an IPv6 one stands for (mapped, compatible,
/// NAT64, 6to4), or the address itself.
fn carried(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let segments = six.segments();
    let from = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Loopback and the unspecified address look like compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => from(high, low),
        _ => address,
    }
}

fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(four) => not_public_v4(four),
        IpAddr::V6(six) => not_public_v6(six),
    }
}

/// After IANA's registry of special-purpose IPv4 addresses (RFC 6890 and its updates).
fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    // By hand, as the standard library's own test for global addresses is not stable.
    Some(match address.octets() {
        [0, ..] => "an unspecified address",
        [127, ..] => "a loopback address",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address",
        [169, 254, ..] => "a link-local or metadata address",
        [100, 64..=127, ..] => "a shared address of a carrier",
        // Azure's, which lies in the public range.
        [168, 63, 129, 16] => "a metadata address",
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => "an address of a special purpose",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "an address of documentation",
        [224..=239, ..] => "a multicast address",
        [240..=255, ..] => "a reserved or broadcast address",
        _ => return None,
    })
}

/// After IANA's registry of special-purpose IPv6 addresses: only 2000::/3 is given out at all.
fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "an unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        [0xfc00..=0xfdff, ..] => "a unique local address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xfec0..=0xfeff, ..] => "a site-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => "an address of documentation",
        [0x2001, 0..=0x01ff, ..] => "an address of a special purpose",
        // After all that is taken out of it above: the order matters.
        [0x2000..=0x3fff, ..] => return None,
        _ => "not a public address",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &AddressPolicy, address: &str, port: u16) -> Result<(), Refusal> {
        policy.check(address.parse().unwrap(), port)
    }

    /// One of each range that is not public, its first and last where a mistake would show.
    const NOT_PUBLIC: [&str; 51] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.254",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "169.254.0.1",
        "168.63.129.16",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff:ffff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "5f00::1",
        "4000::1",
    ];
    /// The neighbours of those ranges.
    const PUBLIC: [&str; 15] = [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.0.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "2002:808:808::1",
    ];

    #[test]
    fn only_public_addresses_are_called() {
        let policy = AddressPolicy::default();
        for address in NOT_PUBLIC {
            let refusal = check(&policy, address, 443);
            assert!(matches!(refusal, Err(Refusal::NotPublic { .. })), "{address}: {refusal:?}");
        }
        for address in PUBLIC {
            assert_eq!(check(&policy, address, 443), Ok(()), "{address}");
        }
    }

    #[test]
    fn ports_are_few_and_networks_can_be_allowed() {
        let networks_allowed = vec!["10.1.0.0/16".parse().unwrap()];
        let policy = AddressPolicy { networks_allowed, ..AddressPolicy::default() };
        assert_eq!(check(&policy, "8.8.8.8", 22), Err(Refusal::Port(22)));
        assert_eq!(check(&policy, "10.1.2.3", 9200), Ok(()));
        // However it is written, and on any port: the operator named the network.
        assert_eq!(check(&policy, "::ffff:10.1.2.3", 9200), Ok(()));
        assert!(check(&policy, "10.2.2.3", 443).is_err());
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refusal = check(&AddressPolicy::default(), "169.254.169.254", 80).unwrap_err();
        let text = refusal.to_string();
        assert!(text.contains("metadata") && text.contains("networks_allowed"), "{text}");
    }
}
