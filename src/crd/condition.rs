//! Condition types and reasons, each a closed enum, and the one place that sets conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition types, as kstatus reads them, and `Drifted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// The object is as git wants it.
    Ready,
    /// The operator is working on it or waiting for something that comes by itself.
    Reconciling,
    /// A human must act.
    Stalled,
    /// Somebody changed the environment by hand (deployments only).
    Drifted,
}

impl ConditionType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Reconciling, Self::Stalled, Self::Drifted];

    /// What it means, for the README's table.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ready => "The object is as git wants it. Always present.",
            Self::Reconciling => {
                "It is being worked on, or waits for something that comes by itself. Present only while True."
            }
            Self::Stalled => {
                "A human must act; the message says what. Present only while True, never beside Reconciling."
            }
            Self::Drifted => {
                "Somebody deployed another version by hand. Deployments only; Unknown if the key may not read the deployment status."
            }
        }
    }

    /// The `type` of the condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Drifted => "Drifted",
        }
    }
}

/// Makes an enum with its names, so that a reason exists once: here.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $verdict:ident,)+) => {
        /// Why a condition is as it is. The README's table is held to this list by a test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// All of them, in the order of the README's table.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The `reason` of the condition.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What an object with this reason is taken for.
            #[must_use]
            pub fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)+ }
            }

            /// What it means, for the README's table.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// The version exists, or the environment runs it.
    Available = Ready,
    /// Accepted and about to be created.
    Creating = Reconciling,
    /// A create had no usable answer; the list is watched for its version before anything else is done.
    CreateUnconfirmed = Reconciling,
    /// Created; the service does not list it yet.
    WaitingForVisibility = Reconciling,
    /// A version of this object that exists already is being deleted; what becomes of it is waited for.
    WaitingForDeletion = Reconciling,
    /// Being deployed.
    Deploying = Reconciling,
    /// Going back to a version that ran here before.
    RollingBack = Reconciling,
    /// The ChatbotVersion does not exist yet or is not ready.
    WaitingForVersion = Reconciling,
    /// The deployment named by promoteAfter does not run this version, or not for long enough.
    WaitingForPromotion = Reconciling,
    /// The object is being deleted.
    Deleting = Reconciling,
    /// The service asks to slow down; calls pause for the whole key.
    Throttled = Reconciling,
    /// The service cannot be reached or fails.
    ServiceUnavailable = Reconciling,
    /// A change was refused or failed and is tried again.
    Retrying = Reconciling,
    /// Nothing is done because spec.suspend is true.
    Suspended = Waiting,
    /// The object cannot be read or breaks a rule of its kind.
    InvalidSpec = Stalled,
    /// The Secret, or the key in it, is missing or unusable.
    CredentialsMissing = Stalled,
    /// The service refuses the API key.
    AuthenticationFailed = Stalled,
    /// The API key lacks a permission.
    PermissionDenied = Stalled,
    /// The service does not know the chatbot.
    ChatbotNotFound = Stalled,
    /// The version that is wanted is not in the service.
    VersionNotFound = Stalled,
    /// A version that existed is no longer in the service; it is not created again by itself.
    VersionLost = Stalled,
    /// More than one version could be meant; a human must say which.
    AmbiguousVersion = Stalled,
    /// The deployment named by promoteAfter does not go to this version, and progressDeadline is over.
    PromotionBlocked = Stalled,
    /// Another, older object has the same claim.
    Conflict = Stalled,
    /// The ChatbotVersion belongs to another chatbot.
    ReferenceMismatch = Stalled,
    /// The service refused the change.
    RequestRejected = Stalled,
    /// The environment did not show the version by progressDeadline.
    ProgressDeadlineExceeded = Stalled,
    /// The environment runs an earlier version, by command or because the wanted one failed.
    RolledBack = Stalled,
    /// Somebody keeps deploying another version by hand.
    DriftCorrectionPaused = Stalled,
    /// Somebody deployed another version by hand, and drift is Warn.
    DriftTolerated = Ready,
    /// No change by hand is known.
    InSync = Ready,
    /// The environment runs another version.
    OutOfSync = Reconciling,
    /// The key may not read the deployment status.
    NotObservable = Waiting,
}

/// What every tool should take the object for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Done: `Ready` is True.
    Ready,
    /// Under way: `Reconciling` is True.
    Reconciling,
    /// Failed: `Stalled` is True.
    Stalled,
    /// Neither done nor under way: `Ready` is False and stands alone.
    Waiting,
}

/// The conditions that say `reason`, keeping the transition time of each whose status stays.
///
/// `Reconciling` and `Stalled` are present only while True and never both: kstatus reads conditions in
/// list order and would answer by chance otherwise. `Drifted` is carried over unless `drifted` replaces it.
#[must_use]
pub fn build_conditions(
    old: &[Condition],
    reason: Reason,
    message: &str,
    drifted: Option<(&str, Reason, &str)>,
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let message = if message.is_empty() { reason.meaning() } else { message };
    let ready = if reason.verdict() == Verdict::Ready { "True" } else { "False" };
    let mut list = vec![(ConditionType::Ready, ready, reason, message)];
    match reason.verdict() {
        Verdict::Reconciling => list.push((ConditionType::Reconciling, "True", reason, message)),
        Verdict::Stalled => list.push((ConditionType::Stalled, "True", reason, message)),
        Verdict::Ready | Verdict::Waiting => {}
    }
    if let Some((status, reason, message)) = drifted {
        list.push((ConditionType::Drifted, status, reason, message));
    }
    list.into_iter()
        .map(|(kind, status, reason, message)| {
            let before = old.iter().find(|c| c.type_ == kind.as_str() && c.status == status);
            Condition {
                type_: kind.as_str().to_owned(),
                status: status.to_owned(),
                reason: reason.as_str().to_owned(),
                message: truncated(message),
                observed_generation: generation,
                last_transition_time: before.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// At most 512 characters, so that an object's size is bounded.
fn truncated(message: &str) -> String {
    message.chars().take(512).collect()
}
