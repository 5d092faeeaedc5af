//! Where connectors may connect to. Addresses are judged after their names were looked up, and
//! those that were judged are the ones that are dialled.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

pub use ipnet::IpNet;

/// The policy of a deployment. By default private networks may be connected to, for a
/// self-hoster's databases live there; who takes connections from strangers asks for public
/// addresses only. Link-local addresses, where clouds keep the credentials of a machine, and
/// their likes elsewhere are never connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbound {
    pub public_only: bool,
    /// Networks that may be connected to with `public_only` as well.
    pub allowed: Vec<IpNet>,
}

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Machines tell their secrets there.
    Metadata,
    NotPublic,
}

impl Refusal {
    pub fn what(self) -> &'static str {
        match self {
            Refusal::Metadata => {
                "a link-local or cloud-metadata address, which is never connected to"
            }
            Refusal::NotPublic => {
                "no public address, and this deployment connects to public ones only"
            }
        }
    }

    pub fn advice(self) -> &'static str {
        match self {
            Refusal::Metadata => "give the address of the server itself",
            Refusal::NotPublic => {
                "give a public address, or have the network allowed with --outbound-allow"
            }
        }
    }
}

impl Outbound {
    /// # Errors
    /// Says why this address must not be connected to.
    pub fn permits(&self, address: IpAddr) -> Result<(), Refusal> {
        let address = innermost(address);
        if is_metadata(address) {
            return Err(Refusal::Metadata);
        }
        let allowed = || {
            self.allowed
                .iter()
                .any(|network| network.contains(&address))
        };
        match self.public_only && !is_public(address) && !allowed() {
            true => Err(Refusal::NotPublic),
            false => Ok(()),
        }
    }
}

/// A network as people write it: `10.0.0.0/8`, or an address alone.
///
/// # Errors
/// Says what was wrong.
pub fn network(text: &str) -> Result<IpNet, String> {
    let alone = || IpAddr::from_str(text).map(IpNet::from);
    IpNet::from_str(text)
        .or_else(|_| alone())
        .map_err(|_| format!("{text:?} is no network; write it like 10.0.0.0/8 or fd00::/8"))
}

/// The IPv4 address that an IPv6 one stands for, where it does: mapped, by NAT64 or by 6to4.
fn innermost(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, ..] => v4(g, h),
        // The old way to write an IPv4 address, but for `::` and `::1`.
        [0, 0, 0, 0, 0, 0] if g != 0 => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// Where providers keep what a machine may know of itself: 169.254.169.254 for most.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let others = [
                Ipv4Addr::new(100, 100, 100, 200), // Alibaba
                Ipv4Addr::new(168, 63, 129, 16),   // Azure
                Ipv4Addr::new(192, 0, 0, 192),     // Oracle
            ];
            v4.is_link_local() || others.contains(&v4)
        }
        IpAddr::V6(v6) => {
            let others = [
                Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
                Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google
            ];
            v6.is_unicast_link_local() || others.contains(&v6)
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let benchmarks = a == 198 && (b == 18 || b == 19);
            let protocols = (a, b, c) == (192, 0, 0);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_documentation()
                || shared
                || benchmarks
                || protocols
                || a == 0
                || a >= 224)
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            let documentation = (first, second) == (0x2001, 0xdb8);
            // Tunnels to wherever, and what site-local addresses were.
            let teredo = (first, second) == (0x2001, 0);
            let site_local = first & 0xffc0 == 0xfec0;
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_multicast()
                || documentation
                || teredo
                || site_local)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(outbound: &Outbound, address: &str) -> Option<Refusal> {
        outbound.permits(address.parse().unwrap()).err()
    }

    #[test]
    fn the_places_of_secrets_are_never_reached_however_they_are_written() {
        let all = Outbound {
            public_only: false,
            allowed: vec![network("0.0.0.0/0").unwrap(), network("::/0").unwrap()],
        };
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
        ] {
            assert_eq!(judged(&all, address), Some(Refusal::Metadata), "{address}");
        }
    }

    #[test]
    fn private_networks_are_for_those_who_trust_their_users() {
        let private = [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "::1",
            "fd12::1",
            "fec0::1",
            "2001::1",
            "64:ff9b:1::a00:1",
            "100.64.0.1",
            "0.0.0.0",
            "::",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "198.18.0.1",
            "224.0.0.1",
        ];
        let public = [
            "8.8.8.8",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "172.32.0.1",
        ];
        let strict = Outbound {
            public_only: true,
            allowed: Vec::new(),
        };
        for address in private {
            assert_eq!(judged(&Outbound::default(), address), None, "{address}");
            assert_eq!(
                judged(&strict, address),
                Some(Refusal::NotPublic),
                "{address}"
            );
        }
        for address in public {
            assert_eq!(judged(&strict, address), None, "{address}");
        }
        let some = Outbound {
            allowed: vec![network("10.1.0.0/16").unwrap(), network("::1").unwrap()],
            ..strict
        };
        assert_eq!(judged(&some, "10.1.2.3"), None);
        assert_eq!(judged(&some, "::ffff:10.1.2.3"), None);
        assert_eq!(judged(&some, "::1"), None);
        assert_eq!(judged(&some, "10.2.0.1"), Some(Refusal::NotPublic));
        assert!(network("10.0.0.0/33").is_err());
    }
}
