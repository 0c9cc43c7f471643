//! Whose turn it is: so many passes at a time, and never all of them for one chatbot.
//!
//! A pass may wait long for the key's budget. Were all turns held by one chatbot that is busy, the others would
//! wait behind every one of its objects.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Mutex,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::sync::lock;

/// Has an object looked at.
type Wake = Box<dyn FnOnce() + Send>;

/// All turns.
pub struct FairSemaphore {
    free: Semaphore,
    /// How many of them one chatbot may have.
    share: usize,
    chatbots: Mutex<HashMap<String, Bot>>,
}

#[derive(Default)]
struct Bot {
    taken: usize,
    waiting: VecDeque<(String, Wake)>,
    /// The uids among them.
    known: HashSet<String>,
}

/// A turn and the chatbot's share in it.
pub type Permit<'a> = (ChatbotPermit<'a>, Option<SemaphorePermit<'a>>);

/// Dropping it wakes whoever is next of its chatbot.
pub struct ChatbotPermit<'a> {
    turns: &'a FairSemaphore,
    chatbot: &'a str,
}

impl FairSemaphore {
    pub fn new(at_once: usize) -> Self {
        let share = at_once.saturating_sub((at_once / 4).max(1)).max(1);
        Self { free: Semaphore::new(at_once), share, chatbots: Mutex::default() }
    }

    /// Waits for a turn. `None`: the chatbot has its share already, and `wake` is called when it is time.
    pub async fn acquire<'a>(
        &'a self,
        chatbot: &'a str,
        uid: &str,
        wake: impl FnOnce() + Send + 'static,
    ) -> Option<Permit<'a>> {
        {
            let mut chatbots = lock(&self.chatbots);
            let entry = chatbots.entry(chatbot.to_owned()).or_default();
            if entry.taken >= self.share {
                if entry.known.insert(uid.to_owned()) {
                    entry.waiting.push_back((uid.to_owned(), Box::new(wake)));
                }
                return None;
            }
            entry.taken += 1;
        }
        // from here on it is given back, even if nobody waits for it any more
        let share = ChatbotPermit { turns: self, chatbot };
        Some((share, self.free.acquire().await.ok()))
    }

    /// Ends one turn of a chatbot; who is next.
    fn release(&self, chatbot: &str) -> Option<Wake> {
        let mut chatbots = lock(&self.chatbots);
        let entry = chatbots.get_mut(chatbot)?;
        entry.taken -= 1;
        let Some((uid, wake)) = entry.waiting.pop_front() else {
            if entry.taken == 0 {
                chatbots.remove(chatbot);
            }
            return None;
        };
        entry.known.remove(&uid);
        Some(wake)
    }
}

impl Drop for ChatbotPermit<'_> {
    fn drop(&mut self) {
        if let Some(wake) = self.turns.release(self.chatbot) {
            wake();
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
    async fn one_chatbot_leaves_room_for_the_others_and_its_objects_follow_one_by_one() {
        let turns = FairSemaphore::new(4);
        let woken = Arc::new(AtomicUsize::new(0));
        let take = |uid: &'static str| {
            let woken = woken.clone();
            let wake = move || {
                woken.fetch_add(1, Ordering::SeqCst);
            };
            turns.acquire("busy", uid, wake)
        };
        let mut taken = Vec::new();
        for uid in ["a", "b", "c"] {
            taken.push(take(uid).await.expect("within its share"));
        }
        for uid in ["d", "d", "e"] {
            assert!(take(uid).await.is_none(), "{uid}");
        }
        let other = turns.acquire("other", "x", || panic!("it does not wait")).await;
        assert!(other.is_some());
        taken.clear();
        // d and e, each once
        assert_eq!(woken.load(Ordering::SeqCst), 2);
        drop(other);
        assert!(lock(&turns.chatbots).is_empty(), "nothing is kept of those who are done");
    }
}
