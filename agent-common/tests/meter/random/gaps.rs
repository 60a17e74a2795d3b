//! What the meter is known to get wrong. Random conversations leave it out, so that they find what is not known yet; each
//! gap has a test of its own in [`crate::findings`]. When that passes, the gap is closed: set it to false.

/// CLIENT REPLY of a subscriber of RESP2, which gets an error for it.
pub(crate) const CLIENT_REPLY_OF_A_SUBSCRIBER: bool = true;

/// Subscriptions while CLIENT REPLY is OFF: confirmations are sent and refusals are not, so the meter gives up.
pub(crate) const SILENT_SUBSCRIPTIONS: bool = true;

/// A line of blanks behind CLIENT REPLY SKIP, which an empty line ends and a blank one does not.
pub(crate) const BLANK_LINE_BEHIND_SKIP: bool = true;

/// MULTI that is refused: CLIENT REPLY behind it is taken for one in a transaction.
pub(crate) const REFUSED_MULTI: bool = true;

/// CLIENT REPLY in a transaction: servers differ in whether it is queued, so the meter gives up at EXEC.
pub(crate) const CLIENT_REPLY_IN_A_TRANSACTION: bool = true;

/// A second MONITOR, which the server does not answer, and then a subscription; or one from a subscriber of RESP2, which
/// gets an error for it.
pub(crate) const SECOND_MONITOR_AND_SUBSCRIPTIONS: bool = true;

/// HELLO finds the meter's queue full, and the change of the version is not seen.
pub(crate) const HELLO_IN_A_FULL_QUEUE: bool = true;

/// UNSUBSCRIBE without channels leaves patterns, or the reverse, and the next command is an UNSUBSCRIBE of the same kind:
/// the confirmations of both are the same to the meter.
pub(crate) const UNSUBSCRIBED_TWICE: bool = true;

/// The server gives a slot away while SUNSUBSCRIBE is on its way: the confirmation that nobody asked for has the same name.
pub(crate) const SLOT_GIVEN_AWAY_AHEAD_OF_SUNSUBSCRIBE: bool = true;

/// A subscription is missed, and seen only in a retransmission behind its confirmations: they were taken for unasked ones,
/// and it waits for ever. TCP does that if the server's acknowledgements were lost, and the confirmations were not.
pub(crate) const SUBSCRIPTION_SEEN_TOO_LATE: bool = true;

/// A connection that is met is tried at its first segment, although nobody knows when the server spoke: one silence while
/// replies are owed is enough then to mislead the meter.
pub(crate) const MET_WITHOUT_SILENCE: bool = true;
