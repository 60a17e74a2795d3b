//! Why bytes could not be attributed, and which way they went.

/// Which way bytes went, seen from the server.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From a client to the server.
    In = 0,
    /// From the server to a client.
    Out = 1,
}

impl Direction {
    /// Both, in index order.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// Value of the label `direction`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Declares [`Reason`] once: variant, label, meaning.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $label:literal;)+) => {
        /// Why payload bytes were not attributed to a prefix. Label `reason` of `stormglass_unattributed_bytes_total`.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $value,)+
        }

        impl Reason {
            /// Every reason, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The reason with this number; one out of range (there is none) reads as mid-stream.
            #[inline(always)]
            #[must_use]
            pub const fn from_number(number: u32) -> Self {
                match number {
                    $($value => Self::$variant,)+
                    _ => Self::MidStream,
                }
            }

            /// Value of the label `reason`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// What it means, in one sentence, for the documentation.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                }
            }
        }
    };
}

reasons! {
    /// The connection existed before the agent and has not reached a safe restart point yet.
    MidStream = 0, "mid_stream";
    /// A segment was lost or reordered before the agent saw it, outside skipped payload.
    Hole = 1, "hole";
    /// The bytes are not RESP, or a length in them is out of bounds; the server closes such a connection.
    ProtocolError = 2, "protocol_error";
    /// A reply came that no outstanding command explains.
    UnexpectedReply = 3, "unexpected_reply";
    /// The connection ended in the middle of a command or reply.
    Incomplete = 4, "incomplete";
    /// The connection is encrypted: its bytes cannot be parsed.
    Tls = 5, "tls";
    /// CLIENT REPLY OFF or SKIP is in force: replies cannot be matched to commands.
    ClientReply = 6, "client_reply";
    /// Two CPUs processed segments of the same connection at the same moment.
    Contended = 7, "contended";
    /// One segment held more protocol elements than the meter reads at once.
    StepLimit = 8, "step_limit";
    /// The kernel refused to copy bytes out of the segment.
    LoadFailed = 9, "load_failed";
    /// Bytes in front of the first command were not seen, or came with the end of the handshake and could not be kept.
    Handshake = 10, "handshake";
    /// A command that changes how the connection goes on was sent while too many others waited for their replies.
    QueueFull = 11, "queue_full";
}

/// Number of [`Reason`]s.
pub const REASONS: usize = Reason::ALL.len();

const _: () = {
    let mut index = 0;
    while index < REASONS {
        assert!(
            Reason::ALL[index] as usize == index,
            "reasons are numbered in order"
        );
        index += 1;
    }
};
