//! Whether every cache has its first list. Before that, an object that is missing from a cache may exist all the same.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Counts the caches that still wait for their first list.
pub struct CacheSync {
    /// `None` until the watches are set up.
    pending: watch::Sender<Option<usize>>,
    stop: CancellationToken,
}

impl CacheSync {
    pub fn new(stop: CancellationToken) -> Self {
        Self { pending: watch::channel(None).0, stop }
    }

    /// Waits from now on for the first list of this many caches.
    pub fn expect(&self, count: usize) {
        self.pending.send_replace(Some(count));
    }

    /// One more cache has its first list. (A store's own `wait_until_ready` returns for one of several callers only.)
    pub fn mark_synced(&self) {
        self.pending.send_modify(|pending| *pending = pending.map(|count| count.saturating_sub(1)));
        if self.has_synced() {
            tracing::info!("caches synced");
        }
    }

    /// Whether every cache has its first list.
    pub fn has_synced(&self) -> bool {
        *self.pending.borrow() == Some(0)
    }

    /// Waits until every cache has its first list, or until the process stops.
    pub async fn wait_for_sync(&self) {
        let mut pending = self.pending.subscribe();
        tokio::select! {
            // the sender lives as long as we do
            _ = pending.wait_for(|pending| *pending == Some(0)) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
