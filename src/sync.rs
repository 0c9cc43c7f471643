//! Locks that outlive a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also after a holder has panicked. Every mutex here guards plain data that is changed in one
/// assignment or insert, so what a panicked holder leaves behind is still valid; refusing it would only turn one
/// failed reconcile into many.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
