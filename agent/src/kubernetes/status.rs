//! How the watch is: what the metrics say of it.

use std::time::Duration;

use kube::{Error, core::Status as Answer, runtime::watcher};

/// Why a watch had to begin again, or could not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Where the API server is, or who we are, could not be read.
    Configuration,
    /// Nobody answers, or not over TLS as it should be.
    Unreachable,
    /// The connection broke.
    Disconnected,
    /// 410: the history since the last event is gone, and everything is listed anew.
    Expired,
    /// 401: the token is not, or no longer, good. It is read again.
    Unauthorized,
    /// 403: the right to see pods is missing.
    Forbidden,
    /// 429, several times in a row.
    TooManyRequests,
    /// Any other answer that is none.
    Refused,
    /// An answer that could not be read.
    Unreadable,
}

impl Fault {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Configuration,
        Self::Unreachable,
        Self::Disconnected,
        Self::Expired,
        Self::Unauthorized,
        Self::Forbidden,
        Self::TooManyRequests,
        Self::Refused,
        Self::Unreadable,
    ];

    /// Label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Unreachable => "unreachable",
            Self::Disconnected => "disconnected",
            Self::Expired => "expired",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::TooManyRequests => "too_many_requests",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
        }
    }

    /// What to do about it.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::Configuration => {
                "check `kubernetes.kubeconfig`, or that the pod has a service account's token"
            }
            Self::Unreachable | Self::Disconnected => {
                "known pods stay known; check the way to the API server"
            }
            Self::Expired => "pods are listed anew",
            Self::Unauthorized => "the token is read again; check the service account",
            Self::Forbidden => "give the service account the ClusterRole of deploy/README.md",
            Self::TooManyRequests => "known pods stay known; the API server is overloaded",
            Self::Refused | Self::Unreadable => "known pods stay known; see the API server's log",
        }
    }

    pub(super) fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::WatchError(answer) => Self::of_answer(answer),
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                Self::of_client(error, Self::Unreachable)
            }
            watcher::Error::WatchFailed(error) => Self::of_client(error, Self::Disconnected),
            watcher::Error::NoResourceVersion => Self::Unreadable,
        }
    }

    /// `otherwise`: what an error of the connection is.
    fn of_client(error: &Error, otherwise: Self) -> Self {
        match error {
            Error::Api(answer) => Self::of_answer(answer),
            Error::SerdeError(_) | Error::FromUtf8(_) => Self::Unreadable,
            Error::Auth(_) => Self::Configuration,
            _ => otherwise,
        }
    }

    const fn of_answer(answer: &Answer) -> Self {
        match answer.code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            410 => Self::Expired,
            429 => Self::TooManyRequests,
            _ => Self::Refused,
        }
    }
}

/// How the watch is at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether pods are asked for at all.
    pub wanted: bool,
    /// Whether the last that happened was an answer.
    pub connected: bool,
    /// Whether all pods were told of once.
    pub complete: bool,
    /// Pods that are known.
    pub pods: u64,
    /// Pods that there was no room for.
    pub refused: u64,
    /// Since the API server last sent an answer or a change of a pod.
    pub silence: Option<Duration>,
    /// How often a watch had to begin again, by the numbers of [`Fault`].
    pub faults: [u64; Fault::ALL.len()],
}

impl Status {
    /// How often watches had to begin again, by reason.
    pub fn restarts(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.into_iter().zip(self.faults)
    }

    /// The watch has to begin again.
    pub(super) fn failed(&mut self, fault: Fault) {
        self.connected = false;
        self.faults[fault as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_number_and_a_name_of_its_own() {
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, number);
            assert_eq!(
                Fault::ALL
                    .iter()
                    .filter(|other| other.label() == fault.label())
                    .count(),
                1
            );
            let mut status = Status {
                connected: true,
                ..Status::default()
            };
            status.failed(fault);
            assert!(!status.connected);
            let counted: Vec<_> = status.restarts().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(fault, 1)]);
        }
    }

    #[test]
    fn answers_are_told_by_their_code() {
        for (code, fault) in [
            (401, Fault::Unauthorized),
            (403, Fault::Forbidden),
            (410, Fault::Expired),
            (429, Fault::TooManyRequests),
            (500, Fault::Refused),
        ] {
            let answer = Answer {
                code,
                ..Answer::default()
            };
            let error = watcher::Error::WatchError(Box::new(answer.clone()));
            assert_eq!(Fault::of_watch(&error), fault);
            let error = watcher::Error::InitialListFailed(Error::Api(Box::new(answer)));
            assert_eq!(Fault::of_watch(&error), fault);
        }
    }
}
