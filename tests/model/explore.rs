//! The exploration: every choice at every point, breadth first, each state once.
//!
//! A world is written as if it ran once; wherever something could go one way or another it asks `Choices`.
//! It must not know what the worlds are about.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::{self, Debug},
    hash::{DefaultHasher, Hasher},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Which invariant does not hold, and why.
pub type Violation = String;

/// Returns a violation with this text unless the invariant holds.
macro_rules! invariant {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use invariant;

/// Reconciles within which everything must have settled once nothing fails any more.
const MAX_RECONCILES: usize = 400;
/// Reconciles in a row, and seconds, without a write, after which it counts as settled.
const SETTLED: (usize, i64) = (3, 100);

/// A small model of one object, the service and the operator between them.
pub trait World: Clone {
    /// Hashes everything that decides what can happen from here.
    fn hash(&self, hasher: &mut DefaultHasher);
    /// Lets one thing happen. Returns whether it was a reconcile that wrote and called nothing.
    fn step(&mut self, choices: &mut Choices) -> Result<bool, Violation>;
    /// From now on nothing fails and nothing interferes.
    fn stop_faults(&mut self);
    /// Whether there may be another fault; if not, all that can happen is that it settles.
    fn has_budget(&self) -> bool;
    /// What must hold once it has settled.
    fn check_settled(&self) -> Result<(), Violation>;
    /// The time, in seconds.
    fn now(&self) -> i64;
    /// One line for the trail to a violation.
    fn outline(&self) -> String;
}

/// Answers every question of one step, and knows which answers are still to be tried.
#[derive(Default)]
pub struct Choices {
    /// The answer and the number of answers, question by question.
    script: Vec<(u8, u8)>,
    asked: usize,
    log: Option<Vec<String>>,
}

impl Choices {
    /// The first option first; the others when the step is taken again. The first is what happens when
    /// nothing fails.
    pub fn pick<T: Copy + Debug>(&mut self, options: &[T]) -> T {
        if self.asked == self.script.len() {
            self.script.push((0, u8::try_from(options.len()).unwrap()));
        }
        let picked = options[usize::from(self.script[self.asked].0)];
        self.asked += 1;
        if let Some(log) = &mut self.log {
            log.push(format!("{picked:?}"));
        }
        picked
    }

    /// On to the next answers; false when all were tried.
    fn advance(&mut self) -> bool {
        self.asked = 0;
        while let Some((picked, of)) = self.script.pop() {
            if picked + 1 < of {
                self.script.push((picked + 1, of));
                return true;
            }
        }
        false
    }
}

/// How much was explored.
#[derive(Default, Clone, Copy)]
pub struct Explored {
    /// Worlds to start from.
    pub starts: usize,
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { starts, states, transitions } = self;
        write!(f, "{starts} starts, {states} reachable states, {transitions} transitions")
    }
}

/// Explores from every start, on every core.
pub fn explore_all<W: World + Sync>(starts: &[W]) -> Explored {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut total = Explored::default();
        while let Some(start) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let explored = explore(start);
            total.starts += 1;
            if std::env::var("SIZES").is_ok() {
                println!("{} {} {}", explored.states, explored.transitions, start.outline());
            }
            total.states += explored.states;
            total.transitions += explored.transitions;
        }
        total
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let mut total = Explored::default();
        for worker in workers {
            let explored = worker.join().unwrap_or_else(|violation| std::panic::resume_unwind(violation));
            total.starts += explored.starts;
            total.states += explored.states;
            total.transitions += explored.transitions;
        }
        total
    })
}

/// The state before, and the choices that led on from it.
type Origin = Option<(u64, Vec<(u8, u8)>)>;

/// Explores every state that can be reached from `start`.
///
/// # Panics
/// With the whole trail, when an invariant does not hold.
fn explore<W: World>(start: &W) -> Explored {
    let mut origins: HashMap<u64, Origin> = HashMap::from([(key(start), None)]);
    let mut settled = HashSet::new();
    let mut queue = VecDeque::from([start.clone()]);
    let mut explored = Explored::default();
    while let Some(world) = queue.pop_front() {
        explored.states += 1;
        let from = key(&world);
        if let Err(violation) = settle(&world, &mut settled) {
            panic!("{violation}\n{}", trail(start, &origins, from, None));
        }
        let mut choices = Choices::default();
        while world.has_budget() {
            let mut after = world.clone();
            if let Err(violation) = after.step(&mut choices) {
                panic!("{violation}\n{}", trail(start, &origins, from, Some(choices.script)));
            }
            explored.transitions += 1;
            if let std::collections::hash_map::Entry::Vacant(entry) = origins.entry(key(&after)) {
                entry.insert(Some((from, choices.script.clone())));
                queue.push_back(after);
            }
            if !choices.advance() {
                break;
            }
        }
    }
    explored
}

/// Two states in a million would share one of 2^64 keys once in millions of explorations.
fn key<W: World>(world: &W) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// Reconciles without a fault until nothing is written any more, and checks what must hold then.
fn settle<W: World>(world: &W, settled: &mut HashSet<u64>) -> Result<(), Violation> {
    let mut world = world.clone();
    world.stop_faults();
    let (mut visited, mut quiet, mut since) = (Vec::new(), 0, world.now());
    loop {
        let here = key(&world);
        if settled.contains(&here) {
            break;
        }
        visited.push(here);
        let was_quiet = world
            .step(&mut Choices::default())
            .map_err(|violation| format!("{violation}, while it settles: {}", world.outline()))?;
        if !was_quiet {
            (quiet, since) = (0, world.now());
            invariant!(visited.len() < MAX_RECONCILES, "it does not settle: {}", world.outline());
            continue;
        }
        quiet += 1;
        if quiet >= SETTLED.0 && world.now() - since >= SETTLED.1 {
            world
                .check_settled()
                .map_err(|violation| format!("{violation}, settled: {}", world.outline()))?;
            break;
        }
    }
    settled.extend(visited);
    Ok(())
}

/// Everything that happened from the start to the state `to`, and the step `last` from there.
fn trail<W: World>(
    start: &W,
    origins: &HashMap<u64, Origin>,
    to: u64,
    last: Option<Vec<(u8, u8)>>,
) -> String {
    let mut scripts = Vec::from_iter(last);
    let mut at = to;
    while let Some((from, script)) = &origins[&at] {
        scripts.push(script.clone());
        at = *from;
    }
    let mut world = start.clone();
    let mut lines = vec![format!("  start: {}", world.outline())];
    for script in scripts.into_iter().rev() {
        let mut choices = Choices { script, asked: 0, log: Some(Vec::new()) };
        let result = world.step(&mut choices);
        let log = choices.log.unwrap_or_default().join(", ");
        lines.push(format!("  {log}: {} {result:?}", world.outline()));
    }
    lines.join("\n")
}
