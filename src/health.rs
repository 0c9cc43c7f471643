//! Whether the process does its work, for `/livez`: its controllers finish reconciles, and its watches hear from the API
//! server.
//!
//! An outage that shows, such as a refused connection, is no reason to restart: a restart would repair neither the cluster
//! nor the service. Silence is one, because it may be this process that does not listen.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::sync::lock;

/// How long a watch may be silent. The API server ends each watch after 290 s and kube begins another one 5 s later at the
/// latest; what remains is for the first bookmark of that one, which comes after a minute.
pub const WATCH_SILENCE: Duration = Duration::from_mins(7);

/// What the process has done last. Clones share one state.
#[derive(Clone, Default)]
pub struct Liveness(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By the path that is watched.
    watches: BTreeMap<String, Watch>,
    /// By kind and namespace.
    controllers: BTreeMap<String, Controller>,
}

struct Watch {
    kind: &'static str,
    last_event: Option<Timestamp>,
    last_heard: Instant,
}

struct Controller {
    last_finished: Instant,
    limit: Duration,
}

impl Liveness {
    /// A watch of this path begins, if it is the first; nothing was heard yet.
    pub fn watch_begins(&self, path: &str, kind: &'static str) {
        lock(&self.0).watches.entry(path.to_owned()).or_insert_with(|| Watch {
            kind,
            last_event: None,
            last_heard: Instant::now(),
        });
    }

    /// The API server sent an event, or a bookmark, which says that there was none.
    pub fn watch_event(&self, path: &str) {
        if let Some(watch) = lock(&self.0).watches.get_mut(path) {
            watch.last_heard = Instant::now();
            watch.last_event = Some(Timestamp::now());
        }
    }

    /// The API server ended a watch, or a request failed in a way that shows.
    pub fn watch_heard(&self, path: &str) {
        if let Some(watch) = lock(&self.0).watches.get_mut(path) {
            watch.last_heard = Instant::now();
        }
    }

    /// A controller has finished something. From now on it must do so again within `limit`.
    pub fn controller_finished(&self, name: &str, limit: Duration) {
        let finished = Controller { last_finished: Instant::now(), limit };
        lock(&self.0).controllers.insert(name.to_owned(), finished);
    }

    /// What does not work, if anything; the same text for as long as it lasts.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let state = lock(&self.0);
        let wedged = state
            .controllers
            .iter()
            .find(|(_, controller)| controller.last_finished.elapsed() > controller.limit)
            .map(|(name, controller)| {
                format!("the controller of {name} has finished nothing for {} s", controller.limit.as_secs())
            });
        wedged.or_else(|| {
            let silent = state.watches.iter().find(|(_, watch)| watch.last_heard.elapsed() > WATCH_SILENCE);
            silent.map(|(path, _)| {
                format!("the watch of {path} has been silent for {} s", WATCH_SILENCE.as_secs())
            })
        })
    }

    /// When each kind's watches brought their last event; of several watches the one that was silent the longest.
    #[must_use]
    pub fn last_watch_events(&self) -> BTreeMap<&'static str, Timestamp> {
        let mut oldest = BTreeMap::new();
        for watch in lock(&self.0).watches.values() {
            if let Some(last) = watch.last_event {
                let known = oldest.entry(watch.kind).or_insert(last);
                *known = last.min(*known);
            }
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn watch_is_silent_once_nothing_was_heard_for_the_limit() {
        let liveness = Liveness::default();
        liveness.watch_event("/unknown");
        liveness.watch_begins("/a", "A");
        liveness.watch_begins("/b", "B");
        advance(WATCH_SILENCE).await;
        liveness.watch_begins("/a", "A");
        assert_eq!(liveness.problem(), None);
        liveness.watch_heard("/b");
        advance(SECOND).await;
        assert_eq!(liveness.problem().as_deref(), Some("the watch of /a has been silent for 420 s"));
        liveness.watch_event("/a");
        assert_eq!(liveness.problem(), None);
        assert_eq!(liveness.last_watch_events().into_keys().collect::<Vec<_>>(), ["A"]);
    }

    #[tokio::test(start_paused = true)]
    async fn controller_is_wedged_once_it_finished_nothing_for_its_limit() {
        let liveness = Liveness::default();
        liveness.controller_finished("A", 60 * SECOND);
        advance(60 * SECOND).await;
        assert_eq!(liveness.problem(), None);
        advance(SECOND).await;
        let wedged = "the controller of A has finished nothing for 60 s";
        assert_eq!(liveness.problem().as_deref(), Some(wedged));
        liveness.controller_finished("A", 60 * SECOND);
        assert_eq!(liveness.problem(), None);
    }
}
