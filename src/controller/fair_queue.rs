//! Limits how many objects are reconciled at the same time, how many of them one chatbot may have, and how many of them write.
//!
//! A reconcile may wait long for the rate limit of its API key. Were all permits held by one busy chatbot, the objects of
//! the others would wait behind every object of that one. And while it waits it costs next to nothing, so several times as
//! many may wait as may write to the cluster: creates that wait together share their lists.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Mutex,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::sync::lock;

/// For each reconcile that may write, so many are under way.
// enough for twenty creates that share a list and twenty that wait; each costs a search if the process dies
const UNDER_WAY: usize = 4;

/// Queues an object for another reconcile.
type Enqueue = Box<dyn FnOnce() + Send>;

/// A semaphore whose permits one chatbot can never hold all of.
pub struct FairSemaphore {
    max_per_chatbot: usize,
    chatbots: Mutex<HashMap<String, ChatbotQueue>>,
    writes: Semaphore,
}

#[derive(Default)]
struct ChatbotQueue {
    permits: usize,
    waiting: VecDeque<(String, Enqueue)>,
    /// The uids in `waiting`, so that each object waits once.
    waiting_uids: HashSet<String>,
}

/// One of the permits of a chatbot: the right to run one reconcile. Dropping it queues the object that waits longest for one.
pub struct ChatbotPermit<'a> {
    semaphore: &'a FairSemaphore,
    chatbot: &'a str,
}

/// How many reconciles may be under way where so many may write.
pub const fn under_way(concurrency: usize) -> usize {
    concurrency.saturating_mul(UNDER_WAY)
}

impl FairSemaphore {
    pub fn new(concurrency: usize) -> Self {
        let all = under_way(concurrency);
        // a quarter is left to the other chatbots
        let max_per_chatbot = all - all / 4;
        Self { max_per_chatbot, chatbots: Mutex::default(), writes: Semaphore::new(concurrency) }
    }

    /// A permit. `None`: the chatbot has as many as it may have, and `enqueue` is called when one is free.
    pub fn acquire<'a>(
        &'a self,
        chatbot: &'a str,
        uid: &str,
        enqueue: impl FnOnce() + Send + 'static,
    ) -> Option<ChatbotPermit<'a>> {
        let mut chatbots = lock(&self.chatbots);
        let queue = chatbots.entry(chatbot.to_owned()).or_default();
        if queue.permits >= self.max_per_chatbot {
            if queue.waiting_uids.insert(uid.to_owned()) {
                queue.waiting.push_back((uid.to_owned(), Box::new(enqueue)));
            }
            return None;
        }
        queue.permits += 1;
        // an event of its own may come before that of its permit
        queue.forget(uid);
        Some(ChatbotPermit { semaphore: self, chatbot })
    }

    /// Waits until a reconcile may write to the cluster. Never held while it waits for the service.
    pub async fn write_permit(&self) -> Option<SemaphorePermit<'_>> {
        // an error would say that it is closed, which it never is
        self.writes.acquire().await.ok()
    }

    /// Takes a permit back from a chatbot. Returns how to queue the object that waits longest for it.
    fn release(&self, chatbot: &str) -> Option<Enqueue> {
        let mut chatbots = lock(&self.chatbots);
        let queue = chatbots.get_mut(chatbot)?;
        queue.permits -= 1;
        let next = queue.waiting.pop_front();
        if let Some((uid, _)) = &next {
            queue.waiting_uids.remove(uid);
        }
        if queue.is_idle() {
            chatbots.remove(chatbot);
        }
        next.map(|(_, enqueue)| enqueue)
    }

    /// Forgets an object that no longer exists: queued in place of another one, it would free no permit.
    pub fn forget(&self, uid: &str) {
        lock(&self.chatbots).retain(|_, queue| {
            queue.forget(uid);
            !queue.is_idle()
        });
    }

    /// Forgets the objects that are not among these.
    pub fn retain(&self, uids: &HashSet<String>) {
        lock(&self.chatbots).retain(|_, queue| {
            queue.waiting.retain(|(uid, _)| uids.contains(uid));
            queue.waiting_uids.retain(|uid| uids.contains(uid));
            !queue.is_idle()
        });
    }
}

impl ChatbotQueue {
    fn forget(&mut self, uid: &str) {
        if self.waiting_uids.remove(uid) {
            self.waiting.retain(|(waiting, _)| waiting != uid);
        }
    }

    fn is_idle(&self) -> bool {
        self.permits == 0 && self.waiting.is_empty()
    }
}

impl Drop for ChatbotPermit<'_> {
    fn drop(&mut self) {
        // outside the lock: queueing may do anything
        if let Some(enqueue) = self.semaphore.release(self.chatbot) {
            enqueue();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::FutureExt;

    use super::*;

    #[test]
    fn one_chatbot_leaves_permits_for_the_others_and_its_objects_follow_one_by_one() {
        let semaphore = FairSemaphore::new(1);
        let queued = Arc::new(AtomicUsize::new(0));
        let acquire = |uid: &'static str| {
            let queued = queued.clone();
            let enqueue = move || {
                queued.fetch_add(1, Ordering::SeqCst);
            };
            semaphore.acquire("busy", uid, enqueue)
        };
        let mut permits = Vec::new();
        for uid in ["a", "b", "c"] {
            permits.push(acquire(uid).expect("within its limit"));
        }
        for uid in ["d", "d", "e"] {
            assert!(acquire(uid).is_none(), "{uid}");
        }
        let other = semaphore.acquire("other", "x", || panic!("it does not wait"));
        assert!(other.is_some());
        permits.clear();
        // d and e, each once
        assert_eq!(queued.load(Ordering::SeqCst), 2);
        drop(other);
        assert!(lock(&semaphore.chatbots).is_empty(), "nothing is kept of chatbots without a permit");
    }

    #[tokio::test]
    async fn more_may_be_under_way_than_may_write() {
        let semaphore = FairSemaphore::new(2);
        let permits: Vec<_> = (0..6).map(|_| semaphore.acquire("busy", "uid", || ())).collect();
        assert!(permits.iter().all(Option::is_some));
        let writes = [semaphore.write_permit().await, semaphore.write_permit().await];
        assert!(semaphore.write_permit().now_or_never().is_none());
        drop(writes);
        assert!(semaphore.write_permit().now_or_never().is_some());
    }

    #[test]
    fn object_that_no_longer_exists_is_not_queued_in_place_of_another() {
        let semaphore = FairSemaphore::new(1);
        let queued = Arc::new(Mutex::new(Vec::new()));
        let wait = |uid: &'static str| {
            let queued = queued.clone();
            semaphore.acquire("busy", uid, move || lock(&queued).push(uid))
        };
        let _others = [wait("x"), wait("y")];
        let permit = wait("a");
        for uid in ["b", "c", "d", "e"] {
            assert!(wait(uid).is_none(), "{uid}");
        }
        semaphore.forget("b");
        semaphore.retain(&HashSet::from(["b", "d", "e"].map(str::to_owned)));
        drop(permit);
        assert_eq!(*lock(&queued), ["d"]);
        let permit = wait("e");
        assert!(permit.is_some(), "by an event of its own");
        drop(permit);
        assert_eq!(*lock(&queued), ["d"], "it waits no longer");
    }
}
