//! Segments that came early: kept until the ones before them have been read. And the meter's source of bytes, which reads
//! either kind: the packet at hand, or what is parked.

use agent_common::{
    abi::{Loss, ParkedBytes, ParkedKey, ParkedPlace, WINDOW_BYTES, Window},
    limits::{LONGEST_PARKED, PARKED_BYTES, PARKED_NANOSECONDS},
    resp::{HEAD_BYTES, Payload, Segment},
};
use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_tcp_sock},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_loop, bpf_probe_read_kernel, bpf_sk_fullsock, bpf_skb_load_bytes,
    },
};
use core::{
    ffi::{c_long, c_void},
    mem::MaybeUninit,
    ptr,
};

use crate::{
    atomic,
    ledger::count_loss,
    maps::{SG_FREE_PLACES, SG_PARKED, SG_PARKING},
};

/// No parked segment: the packet itself.
pub(crate) const PACKET: u32 = u32::MAX;

/// A packet, or what is parked, as the meter's source of bytes.
pub(crate) struct Source {
    /// The packet.
    pub(crate) skb: *mut c_void,
    /// Where the place that is read is written, or [`PACKET`]: a cell of the scratch, so that the verifier takes it for
    /// any number and walks the meter once.
    pub(crate) place: *mut u32,
}

/// The parking, for the socket of a packet.
pub(crate) struct Parking {
    /// The packet.
    pub(crate) skb: *mut c_void,
    /// [`ParkedKey::handshake`].
    pub(crate) handshake: u32,
}

/// Bytes that were parked, at hand now.
pub(crate) struct Unparked {
    pub(crate) payload: Payload,
    /// Where they are.
    pub(crate) place: u32,
    /// 1 if nothing else is in their place: it is this run's, to be freed with [`Parking::free`]; else 0.
    pub(crate) places: u32,
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
    pub(crate) fn set_place(&mut self, place: u32) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.place, place) }
    }

    /// Reads from the packet.
    #[inline(always)]
    pub(crate) fn read_packet(&mut self) {
        self.set_place(PACKET);
    }

    /// Bytes of a place.
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

impl Parking {
    /// Keeps the packet's payload. Returns how many places that took, none where each of its cells has one; `None`: there is
    /// no room.
    #[inline(always)]
    pub(crate) fn park(&self, payload: &Payload) -> Option<u8> {
        if payload.length > LONGEST_PARKED {
            return None;
        }
        let mut parker = Parker {
            parking: Self {
                skb: self.skb,
                handshake: self.handshake,
            },
            rest: *payload,
            taken: 0,
            failed: 0,
        };
        // SAFETY: the callback gets the parker and outlives nothing.
        unsafe {
            bpf_loop(PARK_STEPS, park_step as *mut c_void, (&raw mut parker).cast(), 0);
        }
        (parker.failed == 0).then_some(parker.taken as u8)
    }

    /// Copies a part of the packet's payload, inside one cell, to the cell's place. Returns how many places that took.
    #[inline(always)]
    fn park_part(&self, part: &Payload) -> Option<u32> {
        let key = self.key(part.sequence);
        let (kept, taken) = match SG_PARKED.get_ptr_mut(&key) {
            Some(kept) => (kept, 0),
            None => (take_place(&key, part.seen_at)?, 1),
        };
        // SAFETY: an entry of the map. The daemon takes it away only when it is much older than what is used here.
        let kept = unsafe { &mut *kept };
        if part.seen_at.wrapping_sub(kept.parked_at) > PARKED_NANOSECONDS {
            return None;
        }
        kept.parked_at = part.seen_at;
        let parked = SG_PARKING.get_ptr_mut(kept.place)?;
        let start = atomic::masked::<{ PARKED_BYTES - 1 }>(part.sequence as usize);
        let length = atomic::masked::<{ WINDOW_BYTES - 1 }>(part.length.wrapping_sub(1) as usize) as u32 + 1;
        // SAFETY: the place is this connection's; behind its cell there is room for as many bytes as are written.
        let copied = unsafe {
            let target = (&raw mut (*parked).bytes).cast::<u8>().add(start);
            bpf_skb_load_bytes(self.skb, part.offset, target.cast(), length) == 0
        };
        let end = part.length.wrapping_add(start as u32);
        (copied && sg_parked(parked, start as u32, end) != 0).then_some(taken)
    }

    /// Takes up what is parked from `sequence` on, as far as the cell goes, if that byte has come.
    #[inline(always)]
    pub(crate) fn unpark(&self, sequence: u32, now: u64) -> Option<Unparked> {
        let key = self.key(sequence);
        // SAFETY: an entry of the map. The daemon takes it away only when it is much older than what is used here.
        let kept = unsafe { *SG_PARKED.get_ptr(&key)? };
        if now.wrapping_sub(kept.parked_at) > PARKED_NANOSECONDS {
            return None;
        }
        let offset = ParkedKey::offset(sequence);
        let taken = sg_unparked(SG_PARKING.get_ptr_mut(kept.place)?, offset);
        let (end, places) = (taken >> 1, taken & 1);
        if end <= offset || places != 0 && SG_PARKED.remove(&key).is_err() {
            return None;
        }
        Some(Unparked {
            place: kept.place,
            payload: Payload {
                sequence,
                offset,
                length: end.wrapping_sub(offset),
                seen_at: kept.parked_at,
            },
            places,
        })
    }

    /// Frees the place of a cell, if it has one.
    #[inline(always)]
    pub(crate) fn forget(&self, cell: &ParkedKey) {
        // SAFETY: an entry of the map.
        let Some(kept) = SG_PARKED.get_ptr(cell).map(|kept| unsafe { *kept }) else {
            return;
        };
        if SG_PARKED.remove(cell).is_ok() {
            self.free(kept.place);
        }
    }

    /// Frees a place that is this run's. Nothing of it stays behind.
    #[inline(always)]
    pub(crate) fn free(&self, place: u32) {
        if let Some(parked) = SG_PARKING.get_ptr_mut(place) {
            // SAFETY: what was written to it lies within its first bytes.
            unsafe { zero(self.skb, parked.cast(), ParkedBytes::WRITTEN) };
        }
        give_back(place);
    }

    /// The cell of a byte of this connection.
    #[inline(always)]
    fn key(&self, sequence: u32) -> ParkedKey {
        ParkedKey::of(self.socket(), self.handshake, sequence)
    }

    /// Cookie of the packet's socket.
    #[inline(always)]
    pub(crate) fn socket(&self) -> u64 {
        // SAFETY: the packet is valid.
        unsafe { bpf_get_socket_cookie(self.skb) }
    }
}

/// Writes zeros: what the helper does with its target when the offset is beyond any packet (net/core/filter.c,
/// `bpf_skb_load_bytes`; programs rely on it, since the verifier takes the target for initialised).
#[inline(always)]
unsafe fn zero(skb: *mut c_void, target: *mut c_void, length: u32) {
    // SAFETY: the caller vouches for the target; the verifier checks it.
    unsafe { bpf_skb_load_bytes(skb, u32::MAX, target, length) };
}

/// Marks bytes of a cell as come, see [`ParkedBytes::add`]. A global function, as the next one: the verifier checks it once,
/// on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_parked(parked: *mut ParkedBytes, start: u32, end: u32) -> u32 {
    if parked.is_null() {
        return 0;
    }
    // SAFETY: a place of this connection.
    unsafe { (*parked).add(start, end) };
    1
}

/// Takes the bytes of a cell that have come from `offset` on, see [`ParkedBytes::take`]. Returns where they end, times two, and
/// one more if nothing is left in the place.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_unparked(parked: *mut ParkedBytes, offset: u32) -> u32 {
    if parked.is_null() {
        return 0;
    }
    // SAFETY: a place of this connection.
    let parked = unsafe { &mut *parked };
    let end = parked.take(offset);
    end << 1 | u32::from(parked.is_empty())
}

/// A place for a cell that has none.
#[inline(always)]
fn take_place(key: &ParkedKey, now: u64) -> Option<*mut ParkedPlace> {
    let Ok(Some(place)) = SG_FREE_PLACES.pop() else {
        count_loss(Loss::ParkingFull, 1);
        return None;
    };
    let kept = ParkedPlace {
        parked_at: now,
        place,
        reserved: 0,
    };
    if SG_PARKED.insert(key, &kept, u64::from(BPF_NOEXIST)).is_err() {
        give_back(place);
        return None;
    }
    SG_PARKED.get_ptr_mut(key)
}

/// A segment on its way into its places.
struct Parker {
    parking: Parking,
    /// What is not parked yet.
    rest: Payload,
    /// Places that were taken.
    taken: u32,
    failed: u32,
}

/// Most parts of a segment: it may begin inside one.
const PARK_STEPS: u32 = LONGEST_PARKED / WINDOW_BYTES as u32 + 1;

/// Parks what of the rest is in the same part of a cell as its first byte.
unsafe extern "C" fn park_step(_: u32, parker: *mut Parker) -> c_long {
    // SAFETY: `park` passes its parker.
    let Parker {
        parking,
        rest,
        taken,
        failed,
    } = unsafe { &mut *parker };
    if rest.length == 0 {
        return 1;
    }
    let room = WINDOW_BYTES as u32 - (rest.sequence & (WINDOW_BYTES as u32 - 1));
    let length = if rest.length < room { rest.length } else { room };
    match parking.park_part(&Payload { length, ..*rest }) {
        Some(places) => *taken = taken.wrapping_add(places),
        None => *failed = 1,
    }
    rest.sequence = rest.sequence.wrapping_add(length);
    rest.offset = rest.offset.wrapping_add(length);
    rest.length = rest.length.wrapping_sub(length);
    c_long::from(*failed != 0)
}

#[inline(always)]
fn give_back(place: u32) {
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
    fn load_head(&mut self, window: &mut Window, offset: u32, length: u32) -> bool {
        let length =
            atomic::masked::<{ HEAD_BYTES as usize - 1 }>(length.wrapping_sub(1) as usize) as u32 + 1;
        // SAFETY: at most 128 bytes from the start of the window, which is longer.
        unsafe { bpf_skb_load_bytes(self.skb, offset, window.behind(0).cast(), length) == 0 }
    }

    #[inline(always)]
    fn first_words(&mut self, offset: u32, length: u32) -> Option<[u64; 2]> {
        let length = atomic::masked::<15>(length.wrapping_sub(1) as usize) as u32 + 1;
        let mut words = MaybeUninit::<[u64; 2]>::uninit();
        let words = words.as_mut_ptr().cast::<u64>();
        // SAFETY: both words are written, volatile so that it does not become a call of memset; then at most 16 bytes of them.
        unsafe {
            ptr::write_volatile(words, 0);
            ptr::write_volatile(words.add(1), 0);
            let result = bpf_skb_load_bytes(self.skb, offset, words.cast(), length);
            (result == 0).then(|| [ptr::read_volatile(words), ptr::read_volatile(words.add(1))])
        }
    }

    #[inline(always)]
    fn wipe(&mut self, window: &mut Window, length: u32) {
        let length = atomic::masked::<{ WINDOW_BYTES - 1 }>(length.wrapping_sub(1) as usize) as u32 + 1;
        // SAFETY: at most 512 bytes from the start of the window, which is longer.
        unsafe { zero(self.skb, window.behind(0).cast(), length) };
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
