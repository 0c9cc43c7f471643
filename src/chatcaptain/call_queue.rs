//! The order in which the calls with one key are sent: the most urgent first, and of the equally urgent ones each chatbot
//! in succession.
//!
//! Knows only the calls that wait now: a chatbot without one leaves nothing behind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{error::ApiCall, types::ChatbotId};
use crate::sync::lock;

/// So many calls in a row are sent before a less urgent one that waits; then one of those is.
// a quarter is enough for the others to come forward, and delays an urgent call by one call
const MAX_OVERTAKEN: u32 = 3;

/// A list waits for at most so many creates of its chatbot.
// each costs a twentieth of what the key may call, and a crash before it costs a search for so many versions
const MAX_CREATES_BEFORE_LIST: u64 = 20;

/// How urgent a call is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallPriority {
    /// An environment returns to a version that it ran before.
    GoBack,
    /// Reads, which every decision waits for, and deploys.
    Normal,
    /// Creates and deletes, of which thousands may wait.
    Bulk,
    /// A list that creates wait for: before their intents are sent, and to confirm them. It is sent among them, after those
    /// that wait already: one list then answers for all.
    BulkRead,
}

impl CallPriority {
    /// A list for creates is as urgent as they are.
    const fn class(self) -> Self {
        match self {
            Self::BulkRead => Self::Bulk,
            other => other,
        }
    }
}

impl From<ApiCall> for CallPriority {
    fn from(call: ApiCall) -> Self {
        match call {
            ApiCall::Rollback => Self::GoBack,
            ApiCall::List | ApiCall::Status | ApiCall::Deploy => Self::Normal,
            ApiCall::Create | ApiCall::Delete => Self::Bulk,
        }
    }
}

/// The calls with one key that wait to be sent.
#[derive(Default)]
pub struct CallQueue(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: BTreeMap<Place, Waiting>,
    arrivals: u64,
    /// By priority: the round of the last call that left the queue to be sent.
    rounds: [u64; 3],
    /// How many calls in a row were sent before a less urgent one.
    overtaken: u32,
}

/// The place of a call, in the order in which calls are sent. In each round every chatbot has one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: CallPriority,
    round: u64,
    arrival: u64,
}

struct Waiting {
    chatbot: ChatbotId,
    /// Notified when the call is the next one.
    is_next: Arc<Notify>,
}

/// A call in the queue. Dropping it leaves the queue.
struct QueuedCall<'a> {
    queue: &'a CallQueue,
    place: Place,
    is_next: Arc<Notify>,
}

impl CallQueue {
    /// Waits until the call is the next one and `try_take` has an answer for it; that returns how long to wait where it has
    /// none yet.
    pub async fn wait<T, E>(
        &self,
        priority: CallPriority,
        chatbot: &ChatbotId,
        try_take: impl Fn() -> Result<Result<T, E>, Duration>,
    ) -> Result<T, E> {
        let call = self.enter(priority, chatbot);
        loop {
            // stays notified until it is awaited, so what happens before that is not lost
            let notified = call.is_next.notified();
            match call.try_send(&try_take) {
                None => notified.await,
                Some(Ok(answer)) => return answer,
                // a more urgent call may arrive meanwhile; then this one waits for its place again
                Some(Err(delay)) => drop(timeout(delay, notified).await),
            }
        }
    }

    /// What the next call waits for may have come.
    pub fn notify_next(&self) {
        lock(&self.0).notify_next();
    }

    fn enter(&self, priority: CallPriority, chatbot: &ChatbotId) -> QueuedCall<'_> {
        let is_next = Arc::new(Notify::new());
        let mut state = lock(&self.0);
        let place = state.enter(priority, chatbot, is_next.clone());
        state.notify_next();
        QueuedCall { queue: self, place, is_next }
    }
}

impl QueuedCall<'_> {
    /// `None` while another call is the next one.
    fn try_send<T, E>(
        &self,
        try_take: impl Fn() -> Result<Result<T, E>, Duration>,
    ) -> Option<Result<Result<T, E>, Duration>> {
        let mut state = lock(&self.queue.0);
        if state.next() != Some(self.place) {
            return None;
        }
        let taken = try_take();
        // one that leaves with a failure counts for no round
        if let Ok(Ok(_)) = taken {
            state.send(self.place);
        }
        Some(taken)
    }
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.0);
        state.waiting.remove(&self.place);
        state.notify_next();
    }
}

impl State {
    fn enter(&mut self, priority: CallPriority, chatbot: &ChatbotId, is_next: Arc<Notify>) -> Place {
        let class = priority.class();
        let of_chatbot = self.waiting.iter().filter(|(_, waiting)| waiting.chatbot == *chatbot);
        let rounds = of_chatbot.map(|(place, _)| place).filter(|place| place.priority == class);
        let current = self.rounds[class as usize];
        // never the round that is being sent: a chatbot that calls again and again would be first each time
        let mut round = rounds.map(|place| place.round).max().unwrap_or(current) + 1;
        if priority == CallPriority::BulkRead {
            round = round.min(current + MAX_CREATES_BEFORE_LIST);
        }
        self.arrivals += 1;
        let place = Place { priority: class, round, arrival: self.arrivals };
        self.waiting.insert(place, Waiting { chatbot: chatbot.clone(), is_next });
        place
    }

    fn next(&self) -> Option<Place> {
        let mut places = self.waiting.keys();
        if self.overtaken < MAX_OVERTAKEN {
            return places.next().copied();
        }
        let longest = self.waiting.keys().min_by_key(|place| place.arrival)?;
        places.find(|place| place.priority == longest.priority).copied()
    }

    fn send(&mut self, place: Place) {
        self.waiting.remove(&place);
        let rounds = &mut self.rounds[place.priority as usize];
        *rounds = place.round.max(*rounds);
        let overtakes = self.waiting.keys().any(|other| other.priority > place.priority);
        self.overtaken = if overtakes && self.overtaken < MAX_OVERTAKEN { self.overtaken + 1 } else { 0 };
    }

    fn notify_next(&self) {
        if let Some(waiting) = self.next().and_then(|place| self.waiting.get(&place)) {
            waiting.is_next.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use CallPriority::{Bulk, BulkRead, GoBack, Normal};

    fn chatbot(id: &str) -> ChatbotId {
        ChatbotId::parse(id).unwrap()
    }

    /// The order in which calls are sent that wait together.
    fn order(calls: &[(CallPriority, &'static str)]) -> Vec<(CallPriority, String)> {
        let mut state = State::default();
        for (priority, id) in calls {
            state.enter(*priority, &chatbot(id), Arc::default());
        }
        std::iter::from_fn(|| send_next(&mut state)).collect()
    }

    fn send_next(state: &mut State) -> Option<(CallPriority, String)> {
        let place = state.next()?;
        let id = state.waiting[&place].chatbot.as_str().to_owned();
        state.send(place);
        Some((place.priority, id))
    }

    fn priorities(calls: &[(CallPriority, &'static str)]) -> Vec<CallPriority> {
        order(calls).into_iter().map(|(priority, _)| priority).collect()
    }

    #[test]
    fn the_most_urgent_call_is_first() {
        assert_eq!(priorities(&[(Bulk, "a"), (Normal, "a"), (GoBack, "a")]), [GoBack, Normal, Bulk]);
        let waiting = vec![(Bulk, "a"); 1000];
        assert_eq!(priorities(&[waiting.as_slice(), &[(GoBack, "a")]].concat())[0], GoBack);
    }

    #[test]
    fn every_fourth_call_is_of_those_that_were_overtaken() {
        let calls = [(Bulk, "a"), (Bulk, "a"), (Normal, "a"), (Normal, "a"), (Normal, "a"), (Normal, "a")];
        assert_eq!(priorities(&calls), [Normal, Normal, Normal, Bulk, Normal, Bulk]);
        // the one that waits longest, not the least urgent
        let calls = [(Normal, "a"), (Bulk, "a"), (GoBack, "a"), (GoBack, "a"), (GoBack, "a"), (GoBack, "a")];
        assert_eq!(priorities(&calls)[..4], [GoBack, GoBack, GoBack, Normal]);
    }

    #[test]
    fn a_list_for_creates_is_sent_after_those_that_wait_but_not_after_all_of_a_thousand() {
        let mut state = State::default();
        let enter = |state: &mut State, priority, id| state.enter(priority, &chatbot(id), Arc::default());
        for _ in 0..30 {
            enter(&mut state, Bulk, "busy");
        }
        let list = enter(&mut state, BulkRead, "busy");
        let other = enter(&mut state, BulkRead, "other");
        let mut order = Vec::new();
        while let Some(place) = state.next() {
            state.send(place);
            order.push(place);
        }
        let position = |place| order.iter().position(|sent| *sent == place);
        assert_eq!(position(other), Some(1), "another chatbot's is in the first round");
        assert_eq!(position(list), Some(21), "after twenty creates and the other list");
    }

    #[test]
    fn chatbots_follow_each_other() {
        let calls = [(Bulk, "busy"), (Bulk, "busy"), (Bulk, "busy"), (Bulk, "b"), (Bulk, "c"), (Bulk, "b")];
        let chatbots: Vec<String> = order(&calls).into_iter().map(|(_, id)| id).collect();
        assert_eq!(chatbots, ["busy", "b", "c", "busy", "b", "busy"]);
    }

    #[test]
    fn chatbot_that_calls_again_and_again_is_not_first_each_time() {
        let mut state = State::default();
        for _ in 0..4 {
            state.enter(Bulk, &chatbot("waits"), Arc::default());
        }
        let mut sent = Vec::new();
        for _ in 0..4 {
            state.enter(Bulk, &chatbot("again"), Arc::default());
            sent.extend((0..2).filter_map(|_| send_next(&mut state)).map(|(_, id)| id));
        }
        assert_eq!(sent.iter().filter(|id| *id == "waits").count(), 4, "{sent:?}");
    }

    #[tokio::test]
    async fn caller_that_gives_up_leaves_the_queue() {
        let queue = CallQueue::default();
        let (bot, taken) = (chatbot("a"), || Ok(Ok::<(), ()>(())));
        let wait = || Err::<Result<(), ()>, _>(Duration::from_hours(1));
        let mut first = Box::pin(queue.wait(GoBack, &bot, wait));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(queue.wait(Bulk, &bot, taken));
        assert!(second.as_mut().now_or_never().is_none(), "it waits for the first");
        drop(first);
        second.await.unwrap();
        assert!(lock(&queue.0).waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_call_overtakes_one_that_waits_for_the_rate_limit() {
        let queue = CallQueue::default();
        let bot = chatbot("a");
        let free = std::sync::atomic::AtomicBool::new(false);
        let try_take = || {
            if free.swap(false, std::sync::atomic::Ordering::SeqCst) {
                Ok(Ok::<(), ()>(()))
            } else {
                Err(Duration::from_millis(100))
            }
        };
        let mut bulk = Box::pin(queue.wait(Bulk, &bot, try_take));
        assert!(bulk.as_mut().now_or_never().is_none());
        let urgent = async {
            free.store(true, std::sync::atomic::Ordering::SeqCst);
            queue.wait(GoBack, &bot, try_take).await.unwrap();
        };
        tokio::select! {
            biased;
            _ = &mut bulk => panic!("it was first"),
            () = urgent => {}
        }
    }
}
