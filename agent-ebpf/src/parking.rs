//! Segments that came early: kept until the one before them has been read. And the source of bytes that reads either
//! kind: the packet at hand, or a parked one.

use agent_common::{
    abi::{Loss, ParkedBytes, ParkedKey, ParkedPlace, WINDOW_BYTES, Window},
    limits::{PARKED_BYTES, PLACES_OF_SEGMENT},
    resp::{Payload, Segment},
};
use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_tcp_sock},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_loop, bpf_probe_read_kernel, bpf_sk_fullsock, bpf_skb_load_bytes,
    },
};
use core::{
    ffi::{c_long, c_void},
    ptr,
};

use crate::{
    atomic,
    ledger::count_loss,
    maps::{SG_FREE_PLACES, SG_PARKED, SG_PARKING},
};

/// No parked segment: the packet itself.
pub(crate) const PACKET: u32 = u32::MAX;

/// A packet, or a parked segment, as the meter's source of bytes.
pub(crate) struct Source {
    /// The packet.
    pub(crate) skb: *mut c_void,
    /// Where the place that is read is written, or [`PACKET`]: a cell of the scratch, so that the verifier takes it for
    /// any number and walks the meter once.
    pub(crate) place: *mut u32,
}

/// What became of a segment that came early.
pub(crate) enum Parked {
    /// It is kept in so many places.
    In(u8),
    /// One that begins like it is kept already.
    Already,
    /// There is no place for it.
    No,
}

impl Source {
    /// The place that is read.
    #[inline(always)]
    fn place(&self) -> u32 {
        // SAFETY: a cell of the scratch that belongs to this run.
        unsafe { ptr::read_volatile(self.place) }
    }

    /// Reads from a place, or from the packet.
    #[inline(always)]
    fn set_place(&mut self, place: u32) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.place, place) }
    }

    /// Reads from the packet.
    #[inline(always)]
    pub(crate) fn read_packet(&mut self) {
        self.set_place(PACKET);
    }

    /// Keeps the packet's payload, in as many places as it needs.
    #[inline(always)]
    pub(crate) fn park(&mut self, payload: &Payload) -> Parked {
        if payload.length > PLACES_OF_SEGMENT * PARKED_BYTES as u32 {
            return Parked::No;
        }
        let mut parker = Parker {
            source: Source {
                skb: self.skb,
                place: self.place,
            },
            payload: *payload,
            parked: 0,
            failed: 0,
        };
        // SAFETY: the callback gets the parker and outlives nothing.
        unsafe {
            bpf_loop(
                PLACES_OF_SEGMENT,
                park_step as *mut c_void,
                (&raw mut parker).cast(),
                0,
            );
        }
        if parker.failed != 0 {
            return Parked::No;
        }
        match parker.parked {
            0 => Parked::Already,
            places => Parked::In(places as u8),
        }
    }

    /// Copies a part of the packet's payload to a place of its own.
    #[inline(always)]
    fn park_part(&self, part: &Payload) -> Parked {
        let key = self.key(part.sequence);
        if SG_PARKED.get_ptr(&key).is_some() {
            return Parked::Already;
        }
        let Ok(Some(place)) = SG_FREE_PLACES.pop() else {
            count_loss(Loss::ParkingFull, 1);
            return Parked::No;
        };
        let value = ParkedPlace {
            parked_at: part.seen_at,
            place,
            length: part.length,
        };
        if self.fill(place, part) && SG_PARKED.insert(&key, &value, u64::from(BPF_NOEXIST)).is_ok() {
            return Parked::In(1);
        }
        free(place);
        Parked::No
    }

    /// Copies payload of the packet to a place.
    #[inline(always)]
    fn fill(&self, place: u32, payload: &Payload) -> bool {
        let Some(parked) = SG_PARKING.get_ptr_mut(place) else {
            return false;
        };
        let length =
            atomic::masked::<{ PARKED_BYTES - 1 }>(payload.length.wrapping_sub(1) as usize) as u32 + 1;
        // SAFETY: the place was free and is this run's now; at most PARKED_BYTES are written to its bytes.
        unsafe {
            bpf_skb_load_bytes(
                self.skb,
                payload.offset,
                (&raw mut (*parked).bytes).cast(),
                length,
            ) == 0
        }
    }

    /// Takes up the parked segment that begins at `sequence`, if there is one.
    #[inline(always)]
    pub(crate) fn unpark(&mut self, sequence: u32) -> Option<Payload> {
        let key = self.key(sequence);
        // SAFETY: written once, when the entry was made.
        let (place, length, seen_at) = SG_PARKED
            .get_ptr(&key)
            .map(|value| unsafe { ((*value).place, (*value).length, (*value).parked_at) })?;
        if SG_PARKED.remove(&key).is_err() {
            // The daemon took it for forgotten.
            return None;
        }
        self.set_place(place);
        Some(Payload {
            sequence,
            offset: 0,
            length,
            seen_at,
        })
    }

    /// The parked segment, of `length` bytes, has been read.
    #[inline(always)]
    pub(crate) fn leave(&mut self, length: u32) {
        if let Some(parked) = SG_PARKING.get_ptr_mut(self.place()) {
            let length = atomic::masked::<{ PARKED_BYTES - 1 }>(length.wrapping_sub(1) as usize) as u32 + 1;
            // SAFETY: the place is this run's; at most PARKED_BYTES are written to its bytes.
            unsafe { self.zero((&raw mut (*parked).bytes).cast(), length) };
        }
        free(self.place());
        self.read_packet();
    }

    /// Writes zeros: what the helper does with its target when the offset is beyond any packet (net/core/filter.c,
    /// `bpf_skb_load_bytes`; programs rely on it, since the verifier takes the target for initialised).
    #[inline(always)]
    unsafe fn zero(&self, target: *mut c_void, length: u32) {
        // SAFETY: the caller vouches for the target; the verifier checks it.
        unsafe { bpf_skb_load_bytes(self.skb, u32::MAX, target, length) };
    }

    #[inline(always)]
    fn key(&self, sequence: u32) -> ParkedKey {
        // SAFETY: the packet is valid.
        let socket = unsafe { bpf_get_socket_cookie(self.skb) };
        ParkedKey {
            socket,
            sequence,
            reserved: 0,
        }
    }

    /// Bytes of a parked segment.
    #[inline(always)]
    fn load_parked(&self, parked: *const ParkedBytes, target: *mut c_void, offset: u32, length: u32) -> bool {
        let offset = atomic::masked::<{ PARKED_BYTES - 1 }>(offset as usize);
        // SAFETY: the mask keeps the offset inside the bytes, behind which there is room for a window.
        unsafe {
            let from = (&raw const (*parked).bytes).cast::<u8>().add(offset);
            bpf_probe_read_kernel(target, length, from.cast()) == 0
        }
    }
}

/// A segment on its way into its places.
struct Parker {
    source: Source,
    payload: Payload,
    parked: u32,
    failed: u32,
}

unsafe extern "C" fn park_step(index: u32, parker: *mut Parker) -> c_long {
    // SAFETY: `park` passes its parker.
    let Parker {
        source,
        payload,
        parked,
        failed,
    } = unsafe { &mut *parker };
    let start = index.wrapping_mul(PARKED_BYTES as u32);
    if start >= payload.length {
        return 1;
    }
    let rest = payload.length.wrapping_sub(start);
    let part = Payload {
        seen_at: payload.seen_at,
        sequence: payload.sequence.wrapping_add(start),
        offset: payload.offset.wrapping_add(start),
        length: if rest < PARKED_BYTES as u32 {
            rest
        } else {
            PARKED_BYTES as u32
        },
    };
    match source.park_part(&part) {
        Parked::In(_) => *parked = parked.wrapping_add(1),
        Parked::Already => {}
        Parked::No => *failed = 1,
    }
    c_long::from(*failed != 0)
}

#[inline(always)]
fn free(place: u32) {
    if SG_FREE_PLACES.push(place, 0).is_err() {
        count_loss(Loss::MapFailure, 1);
    }
}

impl Segment for Source {
    #[inline(always)]
    fn load(&mut self, window: &mut Window, tail: u32, offset: u32, length: u32) -> bool {
        // The verifier wants proof that the length is positive and fits.
        let length = atomic::masked::<{ WINDOW_BYTES - 1 }>(length.wrapping_sub(1) as usize) as u32 + 1;
        let target: *mut c_void = window.behind(atomic::masked::<63>(tail as usize) as u32).cast();
        match SG_PARKING.get_ptr(self.place()) {
            Some(parked) => self.load_parked(parked, target, offset, length),
            // SAFETY: at most 63 + 512 bytes from the start of the window, which is as long.
            None => unsafe { bpf_skb_load_bytes(self.skb, offset, target, length) == 0 },
        }
    }

    #[inline(always)]
    fn wipe(&mut self, window: &mut Window, length: u32) {
        let length = atomic::masked::<{ WINDOW_BYTES - 1 }>(length.wrapping_sub(1) as usize) as u32 + 1;
        // SAFETY: at most 512 bytes from the start of the window, which is longer.
        unsafe { self.zero(window.behind(0).cast(), length) };
    }

    #[inline(always)]
    fn is_awaited(&mut self, sequence: u32) -> bool {
        if self.place() != PACKET {
            return false;
        }
        let skb: *mut aya_ebpf::bindings::__sk_buff = self.skb.cast();
        // SAFETY: the packet is valid; null is checked at each step, and by the verifier.
        unsafe {
            let socket = (*skb).__bindgen_anon_2.sk;
            if socket.is_null() {
                return false;
            }
            let socket = bpf_sk_fullsock(socket);
            if socket.is_null() {
                return false;
            }
            let tcp: *mut bpf_tcp_sock = aya_ebpf::helpers::generated::bpf_tcp_sock(socket);
            // What TCP has received in order ends at `rcv_nxt`.
            !tcp.is_null() && sequence.wrapping_sub(ptr::read_volatile(&raw const (*tcp).rcv_nxt)) < 1 << 31
        }
    }
}
