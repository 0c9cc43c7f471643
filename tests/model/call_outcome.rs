//! How a call that changes the service can end.

use std::time::Duration;

use chatcaptain_operator::chatcaptain::{ApiCall, Failure, FailureClass, Refusal};

use crate::budget::Fault;

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It took effect, and the answer says so.
    Done,
    /// It took effect, and the answer says little.
    DoneSilently,
    /// As `Done`, slowly.
    DoneSlowly,
    /// It took effect, slowly, and the answer is lost.
    LostAfter,
    /// The answer is lost, and it takes effect only then.
    LostDuring,
    /// It is lost before it took effect.
    LostBefore,
    /// A gateway asks to slow down after the service did its work.
    ThrottledAfter,
    Throttled,
    Unsent,
    Refused,
    Forbidden,
}

impl CallOutcome {
    /// It changes the service.
    pub fn takes_effect(self) -> bool {
        use CallOutcome::{Done, DoneSilently, DoneSlowly, LostAfter, LostDuring, ThrottledAfter};
        matches!(self, Done | DoneSilently | DoneSlowly | LostAfter | LostDuring | ThrottledAfter)
    }

    /// It takes longer than the visibility grace.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::DoneSlowly | Self::LostAfter)
    }

    /// The fault that it is.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Done => None,
            Self::DoneSilently | Self::DoneSlowly => Some(Fault::SlowAnswer),
            Self::LostAfter | Self::LostDuring | Self::LostBefore | Self::ThrottledAfter => {
                Some(Fault::LostAnswer)
            }
            Self::Throttled | Self::Unsent | Self::Refused | Self::Forbidden => Some(Fault::Refusal),
        }
    }

    /// As the client classes it.
    pub fn failure(self, call: ApiCall) -> Option<Failure> {
        let throttled = FailureClass::Throttled { retry_after: Some(Duration::from_secs(3)) };
        let class = match self {
            Self::Done | Self::DoneSilently | Self::DoneSlowly => return None,
            Self::LostAfter | Self::LostDuring | Self::LostBefore => FailureClass::Unknown,
            Self::ThrottledAfter | Self::Throttled => throttled,
            Self::Unsent => FailureClass::Unsent,
            Self::Refused => FailureClass::Refused(Refusal::Invalid),
            Self::Forbidden => FailureClass::Forbidden { whole_key: false },
        };
        let mut failure = Failure::new(call, class, "fault");
        failure.may_have_happened |= self == Self::ThrottledAfter;
        Some(failure)
    }
}
