//! What the meter is known to get wrong. Random conversations leave it out, so that they find what is not known yet; each
//! gap has a test of its own in [`crate::findings`]. When that passes, the gap is closed: set it to false.

/// CLIENT REPLY ends the attribution of its connection.
pub(crate) const CLIENT_REPLY: bool = true;

/// A second MONITOR, which the server does not answer.
pub(crate) const MONITOR_TWICE: bool = true;

/// A subscriber of RESP2 has channels and shard channels: the count of one kind is 0 while the other lives on.
pub(crate) const SHARDS_BESIDE_CHANNELS: bool = false;

/// UNSUBSCRIBE without channels leaves patterns, or the reverse, and the next command is confirmed as well: the
/// confirmations of both look alike to the meter.
pub(crate) const UNSUBSCRIBED_FROM_SOME: bool = true;

/// HELLO 2 on a connection that has subscribed by RESP3: from there on messages are arrays.
pub(crate) const SUBSCRIBER_CHANGES_TO_RESP2: bool = false;

/// A subscription, or RESET, finds the meter's queue full, and its answer is taken for an ordinary one; or an unasked
/// SUNSUBSCRIBE meets commands that did, and is taken for their answer.
pub(crate) const SUBSCRIPTIONS_IN_A_FULL_QUEUE: bool = true;

/// The server gives a slot away, and its unasked SUNSUBSCRIBE meets a subscription that waits for its confirmation.
pub(crate) const SLOT_GIVEN_AWAY_AHEAD_OF_A_CONFIRMATION: bool = true;

/// Early segments that the meter steps over, since their bytes are inside a string, keep their places until the last
/// one that is parked has been passed: 16 places do not last for ever.
pub(crate) const PASSED_SEGMENTS_KEEP_THEIR_PLACES: bool = true;

/// A subscriber's pong whose PING the meter has missed goes to `(pubsub)`.
pub(crate) const PONG_WITHOUT_PING: bool = false;

/// The end of a subscription is missed, and shows only after its confirmations have come: a subscriber's are taken for
/// unasked ones, and the subscription waits for ever.
pub(crate) const SUBSCRIPTION_KNOWN_TOO_LATE: bool = true;
