//! How many faults there may be in one run, so that an exploration ends.

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies.
    Crash,
    /// An answer is lost.
    LostAnswer,
    /// An answer says little, or takes its time.
    SlowAnswer,
    /// A call is refused.
    Refusal,
    /// A read gives no answer.
    Unavailable,
    /// A user, or another object, interferes.
    Interference,
}

/// How often each kind of fault may still happen, and all of them together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    each: [u8; 6],
    all: u8,
}

impl Budget {
    /// Two crashes, two lost answers, two that say little, one refusal, one read without an answer and `interferences`; at most
    /// `all` together.
    pub fn new(interferences: u8, all: u8) -> Self {
        Self { each: [2, 2, 2, 1, 1, interferences], all }
    }

    /// Whether there may be another fault of this kind.
    pub fn allows(&self, fault: Fault) -> bool {
        self.all > 0 && self.each[fault as usize] > 0
    }

    /// One fault of this kind happens.
    pub fn spend(&mut self, fault: Fault) {
        self.each[fault as usize] -= 1;
        self.all -= 1;
    }

    /// What is left in all.
    pub fn left(&self) -> u8 {
        self.all
    }
}
