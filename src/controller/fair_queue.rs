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
        let Some((uid, enqueue)) = queue.waiting.pop_front() else {
            if queue.permits == 0 {
                chatbots.remove(chatbot);
            }
            return None;
        };
        queue.waiting_uids.remove(&uid);
        Some(enqueue)
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
}
