//! Ranges of IP addresses, as rules name them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses with the same first bits: `10.1.4.0/24`, or a single one. IPv4 addresses mapped into IPv6 are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// Bits beyond `length` are zero.
    first: IpAddr,
    length: u8,
}

/// Why a text is no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeFault {
    /// What stands before the slash.
    Address,
    /// What stands behind it; at most so many.
    Length(u8),
    /// The address has bits beyond the length; this is the range that it lies in.
    BeyondLength(AddressRange),
}

impl AddressRange {
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn new(text: &str) -> Result<Self, RangeFault> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| RangeFault::Address)?;
        let Some(length) = length else {
            let address = address.to_canonical();
            return Ok(Self {
                first: address,
                length: bits(address),
            });
        };
        let length = length
            .parse()
            .ok()
            .filter(|_| !length.starts_with('+'))
            .filter(|length| *length <= bits(address))
            .ok_or(RangeFault::Length(bits(address)))?;
        let range = Self::around(address, length).ok_or(RangeFault::Length(bits(address)))?;
        if range.first == address {
            Ok(range.canonical())
        } else {
            Err(RangeFault::BeyondLength(range.canonical()))
        }
    }

    /// The range of this length that an address lies in. `None` if addresses of its family are shorter.
    #[must_use]
    pub fn around(address: IpAddr, length: u8) -> Option<Self> {
        if length > bits(address) {
            return None;
        }
        let first = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Some(Self { first, length })
    }

    /// The first address in it.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// How many first bits its addresses have in common.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether its addresses are IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Every range that this one lies in, the widest first; the last is the range itself.
    pub fn wider(&self) -> impl Iterator<Item = Self> + '_ {
        (0..=self.length).filter_map(|length| Self::around(self.first, length))
    }

    fn canonical(self) -> Self {
        match self.first {
            IpAddr::V6(first) if self.length >= 96 => match first.to_ipv4_mapped() {
                Some(first) => Self {
                    first: first.into(),
                    length: self.length - 96,
                },
                None => self,
            },
            _ => self,
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == bits(self.first) {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.length)
        }
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        AddressRange::new(text).expect("a range").to_string()
    }

    #[test]
    fn ranges_and_single_addresses_of_both_families_are_read() {
        for text in [
            "10.1.4.0/24",
            "0.0.0.0/0",
            "fd00::/8",
            "::/0",
            "10.1.4.7",
            "fd00::1",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("10.1.4.7/32"), "10.1.4.7");
        assert_eq!(shown("::ffff:10.1.4.7"), "10.1.4.7");
        assert_eq!(shown("::ffff:10.1.0.0/112"), "10.1.0.0/16");
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_reason() {
        let faults = [
            ("", RangeFault::Address),
            ("10.1.4", RangeFault::Address),
            ("host/24", RangeFault::Address),
            ("10.1.4.0/33", RangeFault::Length(32)),
            ("10.1.4.0/", RangeFault::Length(32)),
            ("10.1.4.0/+8", RangeFault::Length(32)),
            ("10.1.4.0/-1", RangeFault::Length(32)),
            ("10.1.4.0/24/8", RangeFault::Length(32)),
            ("fd00::/129", RangeFault::Length(128)),
            ("fd00::/300", RangeFault::Length(128)),
        ];
        for (text, fault) in faults {
            assert_eq!(AddressRange::new(text), Err(fault), "{text}");
        }
        let inside = AddressRange::new("10.1.4.0/24").expect("a range");
        assert_eq!(
            AddressRange::new("10.1.4.7/24"),
            Err(RangeFault::BeyondLength(inside))
        );
    }

    #[test]
    fn a_range_lies_in_all_wider_ones_of_its_family() {
        let range = AddressRange::new("10.1.4.0/24").expect("a range");
        let wider: Vec<_> = range.wider().collect();
        assert_eq!(wider.len(), 25);
        assert_eq!(
            (wider[0].to_string(), wider[8].to_string()),
            ("0.0.0.0/0".into(), "10.0.0.0/8".into())
        );
        assert_eq!(wider.last(), Some(&range));
        assert_eq!(
            AddressRange::around("10.0.0.1".parse().expect("an address"), 33),
            None
        );
    }
}
