//! How much fault there may be in one run, so that a walk ends.

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
    /// A look shows nothing.
    Unavailable,
    /// Somebody interferes.
    Interference,
}

/// How often each kind of fault may still happen, and all of them together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    each: [u8; 6],
    all: u8,
}

impl Budget {
    /// Two crashes, two lost answers, two that say little, one refusal, one look in vain and `orders`; at most
    /// `all` together.
    pub fn new(orders: u8, all: u8) -> Self {
        Self { each: [2, 2, 2, 1, 1, orders], all }
    }

    /// Whether there may be more of it.
    pub fn allows(&self, fault: Fault) -> bool {
        self.all > 0 && self.each[fault as usize] > 0
    }

    /// It happens once.
    pub fn spend(&mut self, fault: Fault) {
        self.each[fault as usize] -= 1;
        self.all -= 1;
    }

    /// What is left in all.
    pub fn left(&self) -> u8 {
        self.all
    }
}
