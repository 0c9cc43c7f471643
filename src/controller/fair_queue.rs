//! Limits how many reconciles run at the same time, and how many of them one chatbot may have.
//!
//! A reconcile may wait long for the rate limit of its API key. Were all permits held by one busy chatbot, the objects of
//! the others would wait behind every object of that one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Mutex,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::sync::lock;

/// Queues an object for another reconcile.
type Enqueue = Box<dyn FnOnce() + Send>;

/// A semaphore whose permits one chatbot can never hold all of.
pub struct FairSemaphore {
    semaphore: Semaphore,
    max_per_chatbot: usize,
    chatbots: Mutex<HashMap<String, ChatbotQueue>>,
}

#[derive(Default)]
struct ChatbotQueue {
    permits: usize,
    waiting: VecDeque<(String, Enqueue)>,
    /// The uids in `waiting`, so that each object waits once.
    waiting_uids: HashSet<String>,
}

/// The right to run one reconcile, until it is dropped.
pub type ReconcilePermit<'a> = (ChatbotPermit<'a>, Option<SemaphorePermit<'a>>);

/// One of the permits of a chatbot. Dropping it queues the object that waits longest for one.
pub struct ChatbotPermit<'a> {
    semaphore: &'a FairSemaphore,
    chatbot: &'a str,
}

impl FairSemaphore {
    pub fn new(concurrency: usize) -> Self {
        // a quarter, at least one, is left to the other chatbots; with a single permit there is nothing to leave
        let max_per_chatbot = concurrency.saturating_sub((concurrency / 4).max(1)).max(1);
        Self { semaphore: Semaphore::new(concurrency), max_per_chatbot, chatbots: Mutex::default() }
    }

    /// Waits for a permit. `None`: the chatbot has as many as it may have, and `enqueue` is called when one is free.
    pub async fn acquire<'a>(
        &'a self,
        chatbot: &'a str,
        uid: &str,
        enqueue: impl FnOnce() + Send + 'static,
    ) -> Option<ReconcilePermit<'a>> {
        {
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
        }
        // before the await: a caller who is cancelled while waiting returns it, too
        let chatbot_permit = ChatbotPermit { semaphore: self, chatbot };
        Some((chatbot_permit, self.semaphore.acquire().await.ok()))
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

    use super::*;

    #[tokio::test]
    async fn one_chatbot_leaves_permits_for_the_others_and_its_objects_follow_one_by_one() {
        let semaphore = FairSemaphore::new(4);
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
            permits.push(acquire(uid).await.expect("within its limit"));
        }
        for uid in ["d", "d", "e"] {
            assert!(acquire(uid).await.is_none(), "{uid}");
        }
        let other = semaphore.acquire("other", "x", || panic!("it does not wait")).await;
        assert!(other.is_some());
        permits.clear();
        // d and e, each once
        assert_eq!(queued.load(Ordering::SeqCst), 2);
        drop(other);
        assert!(lock(&semaphore.chatbots).is_empty(), "nothing is kept of chatbots without a permit");
    }

    #[tokio::test]
    async fn object_that_no_longer_exists_is_not_queued_in_place_of_another() {
        let semaphore = FairSemaphore::new(1);
        let queued = Arc::new(Mutex::new(Vec::new()));
        let wait = |uid: &'static str| {
            let queued = queued.clone();
            semaphore.acquire("busy", uid, move || lock(&queued).push(uid))
        };
        let permit = wait("a").await;
        for uid in ["b", "c", "d", "e"] {
            assert!(wait(uid).await.is_none(), "{uid}");
        }
        semaphore.forget("b");
        semaphore.retain(&HashSet::from(["b", "d", "e"].map(str::to_owned)));
        drop(permit);
        assert_eq!(*lock(&queued), ["d"]);
        let permit = wait("e").await;
        assert!(permit.is_some(), "by an event of its own");
        drop(permit);
        assert_eq!(*lock(&queued), ["d"], "it waits no longer");
        assert!(lock(&semaphore.chatbots).is_empty());
    }
}
