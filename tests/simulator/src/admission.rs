//! Who may call, and how often: keys, permissions and throttling.

use std::collections::HashMap;

use jiff::SignedDuration;

use crate::answers::Answer;
use crate::model::Moment;
use crate::record::Operation;
use crate::service::{Call, World};
use crate::settings::{Permission, RetryAfter, Throttle};

/// The account of every key while no keys are configured.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The token buckets of the keys, and whether everything is throttled for a while.
#[derive(Debug, Default)]
pub struct Buckets {
    by_key: HashMap<String, Bucket>,
    all_until: Option<Moment>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Moment,
}

impl Buckets {
    /// Throttles every call from now on for so long; 0 ends it.
    pub fn throttle_all(&mut self, ms: u64, now: Moment) {
        self.all_until = now.after_ms(ms);
    }

    /// All buckets start full again.
    pub fn refill(&mut self) {
        self.by_key.clear();
    }

    fn admits(&mut self, throttle: Option<&Throttle>, key: &str, now: Moment) -> bool {
        if self.all_until.is_some_and(|until| !until.has_come(now)) {
            return false;
        }
        let Some((burst, per_second)) =
            throttle.and_then(|throttle| Some((f64::from(throttle.burst), throttle.per_second?)))
        else {
            return true;
        };
        let full = || Bucket { tokens: burst, filled: now };
        let bucket = self.by_key.entry(key.to_owned()).or_insert_with(full);
        let gained = now.since(bucket.filled).as_secs_f64() * per_second;
        bucket.tokens = (bucket.tokens + gained).min(burst);
        bucket.filled = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

impl World {
    /// The account a call acts for, or why it may not.
    pub fn admit(&mut self, call: &Call, now: Moment) -> Result<String, Answer> {
        let throttle = self.settings.throttle.as_ref();
        if !self.buckets.admits(throttle, &call.key, now) {
            return Err(self.throttled(now));
        }
        let account = self.account(&call.key, call.operation)?;
        let denied = self.settings.denied.get(&call.chatbot);
        if denied.is_some_and(|denied| denied.contains(&permission(call.operation))) {
            return Err(Answer::error(403, "Forbidden resource"));
        }
        Ok(account)
    }

    // The account of a key that may do this.
    fn account(&self, key: &str, operation: Operation) -> Result<String, Answer> {
        let refused = || Answer::error(self.settings.refused_key, "Invalid API key");
        let Some(keys) = &self.settings.keys else {
            let known = key.starts_with("CCSB-");
            return known.then(|| DEFAULT_ACCOUNT.to_owned()).ok_or_else(refused);
        };
        let key = keys.get(key).ok_or_else(refused)?;
        let needed = permission(operation);
        match &key.permissions {
            Some(some) if !some.contains(&needed) => Err(Answer::error(403, "Insufficient permissions")),
            _ => Ok(key.account.clone()),
        }
    }

    fn throttled(&self, now: Moment) -> Answer {
        let throttle = self.settings.throttle.clone().unwrap_or_default();
        let message = match throttle.answer {
            429 => "ThrottlerException: Too Many Requests",
            _ => "Rate limit exceeded, too many requests",
        };
        let mut answer = Answer::error(throttle.answer, message);
        let seconds = self.settings.retry_after_seconds;
        answer.retry_after = match throttle.retry_after {
            RetryAfter::None => None,
            RetryAfter::Seconds => Some(seconds.to_string()),
            RetryAfter::Date => {
                let wait = i64::try_from(seconds).map(SignedDuration::from_secs);
                let date = wait.ok().and_then(|wait| now.wall().checked_add(wait).ok());
                date.map(|date| date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
        };
        answer
    }
}

const fn permission(operation: Operation) -> Permission {
    match operation {
        Operation::List => Permission::List,
        Operation::Create => Permission::Create,
        Operation::Delete => Permission::Delete,
        Operation::Deploy | Operation::Rollback => Permission::Deploy,
        Operation::Status => Permission::Status,
    }
}
