//! IP and TCP headers of a packet at the cgroup_skb hook: its data begins with the IP header there.

use agent_common::resp::Payload;
use aya_ebpf::{EbpfContext, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext};

use crate::listeners;

const IPV4: u8 = 4;
const IPV6: u8 = 6;
const TCP: u8 = 6;
const IPV6_HEADER: u32 = 40;
/// First byte of an IPv4 header without options, and its length.
const IPV4_PLAIN: u8 = 0x45;
const IPV4_PLAIN_HEADER: u32 = 20;

/// TCP flags (RFC 9293, 3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;

/// What the meter needs of a TCP segment's headers.
pub(crate) struct Tcp {
    pub(crate) payload: Payload,
    pub(crate) flags: u8,
}

/// Reads the headers. `None`: not TCP, or not readable.
#[inline(always)]
pub(crate) fn tcp(context: &SkBuffContext) -> Option<Tcp> {
    // SAFETY: the context is valid.
    let (data, end) = unsafe {
        (
            (*context.skb.skb).data as usize,
            (*context.skb.skb).data_end as usize,
        )
    };
    if data + 40 <= end {
        // SAFETY: 40 bytes are there.
        let first = unsafe { *(data as *const u8) };
        // SAFETY: as above.
        if first == IPV4_PLAIN && unsafe { *((data + 9) as *const u8) } == TCP {
            // SAFETY: the TCP header's 20 bytes follow the IP header's.
            return Some(unsafe { at(context, data, IPV4_PLAIN_HEADER) });
        }
        // SAFETY: as above.
        if data + 60 <= end && first >> 4 == IPV6 && unsafe { *((data + 6) as *const u8) } == TCP {
            // SAFETY: as above.
            return Some(unsafe { at(context, data, IPV6_HEADER) });
        }
    }
    copied(context)
}

/// A TCP header at a constant offset of the packet's directly readable part.
#[inline(always)]
unsafe fn at(context: &SkBuffContext, data: usize, header: u32) -> Tcp {
    let tcp = (data + header as usize) as *const u8;
    // SAFETY: the caller has compared with the end; the verifier checks it.
    let (sequence, offset_byte, flags) = unsafe {
        (
            tcp.add(4).cast::<u32>().read_unaligned(),
            *tcp.add(12),
            *tcp.add(13),
        )
    };
    segment(context, header, u32::from_be(sequence), offset_byte, flags)
}

/// The same by copying: IPv4 options, or headers that are not directly readable.
#[inline(always)]
fn copied(context: &SkBuffContext) -> Option<Tcp> {
    let header = ip(context)?;
    let (sequence, offset_byte, flags) = tcp_fields(context, header)?;
    Some(segment(context, header, sequence, offset_byte, flags))
}

#[inline(always)]
fn segment(context: &SkBuffContext, header: u32, sequence: u32, offset_byte: u8, flags: u8) -> Tcp {
    let offset = header.wrapping_add(u32::from(offset_byte >> 4) << 2);
    let length = context.len();
    let length = if length > offset {
        length.wrapping_sub(offset)
    } else {
        0
    };
    Tcp {
        payload: Payload {
            sequence,
            offset,
            length,
            seen_at: 0,
        },
        flags,
    }
}

/// Writes down who sent the packet: the address, IPv4 mapped into IPv6, and the port. Returns false if they cannot be read.
#[inline(never)]
pub(crate) fn sender(context: &SkBuffContext, address: &mut [u32; 4], port: &mut u16) -> bool {
    let Some(header) = ip(context) else {
        return false;
    };
    let (Some([first]), Some([ports])) = (load(context, 0), load(context, header)) else {
        return false;
    };
    // The sender's port is the first half of the word.
    *port = (u32::from_be(ports) >> 16) as u16;
    if u32::to_ne_bytes(first)[0] >> 4 == IPV4 {
        let Some([v4]) = load(context, 12) else {
            return false;
        };
        *address = listeners::mapped(v4);
    } else {
        let Some(v6) = load(context, 8) else {
            return false;
        };
        *address = v6;
    }
    true
}

/// Length of the IP header, if TCP follows.
#[inline(always)]
fn ip(context: &SkBuffContext) -> Option<u32> {
    let words: [u32; 3] = load(context, 0)?;
    let first = words[0].to_ne_bytes()[0];
    match first >> 4 {
        IPV4 if words[2].to_ne_bytes()[1] == TCP => Some(u32::from(first & 15) << 2),
        // Extension headers between IPv6 and TCP are not seen on hosts; such a packet is counted as unreadable.
        IPV6 if words[1].to_ne_bytes()[2] == TCP => Some(IPV6_HEADER),
        _ => None,
    }
}

/// Sequence number, the byte with the data offset, and the flags.
#[inline(always)]
fn tcp_fields(context: &SkBuffContext, header: u32) -> Option<(u32, u8, u8)> {
    let words: [u32; 4] = load(context, header)?;
    let [offset_byte, flags, ..] = words[3].to_ne_bytes();
    Some((u32::from_be(words[1]), offset_byte, flags))
}

/// Words, not bytes: the verifier wants stack reads aligned.
#[inline(always)]
fn load<const N: usize>(context: &SkBuffContext, offset: u32) -> Option<[u32; N]> {
    let mut words = [0_u32; N];
    // SAFETY: the helper writes at most the array's size to it.
    let result =
        unsafe { bpf_skb_load_bytes(context.as_ptr(), offset, words.as_mut_ptr().cast(), N as u32 * 4) };
    (result == 0).then_some(words)
}
