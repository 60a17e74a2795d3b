//! Random conversations: any commands, any replies, whatever a server says unasked; and the ways in which TCP may
//! deliver them. What they come to is computed by [`crate::model`].

pub(crate) mod checks;
pub(crate) mod choices;
mod commands;
mod delivery;
mod gaps;
mod server;
mod stream;
mod talk;
mod values;

pub(crate) use self::{stream::Stream, talk::conversation};

use crate::model::places::Keys;

/// What a case is made of. Every part may be shorter than it could be.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// What holds for the whole conversation.
    pub(crate) setting: Vec<u8>,
    /// What happens, one after the other.
    pub(crate) steps: Vec<Vec<u8>>,
    /// What TCP does to it.
    pub(crate) delivery: Vec<u8>,
}

impl Script {
    /// A script from any bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (setting, rest) = bytes.split_at(bytes.len().min(4));
        let (delivery, rest) = rest.split_at(rest.len().min(16));
        Self {
            setting: setting.to_vec(),
            delivery: delivery.to_vec(),
            steps: rest.chunks(12).map(<[u8]>::to_vec).collect(),
        }
    }
}

/// A conversation on one connection, seen whole.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) requests: Stream,
    pub(crate) replies: Stream,
    pub(crate) keys: Keys,
    /// So many commands may wait that the queue of the meter overflows.
    pub(crate) deep: bool,
    /// The client breaks the protocol, or becomes a replica: nothing can follow.
    pub(crate) ended: bool,
}

impl Conversation {
    /// What follows behind the first bytes of both directions.
    pub(crate) fn behind(&self, [requests, replies]: [usize; 2]) -> Self {
        Self {
            requests: self.requests.behind(requests, replies),
            replies: self.replies.behind(replies, requests),
            ..self.clone()
        }
    }
}
