//! How much trouble there may be in one run, so that a walk ends.

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The process dies.
    Crash,
    /// An answer is lost.
    Loss,
    /// An answer says little, or takes its time.
    Awkwardness,
    /// A call is refused.
    Refusal,
    /// A look shows nothing.
    Blindness,
    /// Somebody interferes.
    Order,
}

/// How often each kind of trouble may still happen, and all of them together.
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
    pub fn allows(&self, trouble: Trouble) -> bool {
        self.all > 0 && self.each[trouble as usize] > 0
    }

    /// It happens once.
    pub fn spend(&mut self, trouble: Trouble) {
        self.each[trouble as usize] -= 1;
        self.all -= 1;
    }

    /// What is left in all.
    pub fn left(&self) -> u8 {
        self.all
    }
}
