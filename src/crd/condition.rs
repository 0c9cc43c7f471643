//! Condition types and reasons, each a closed enum, and the one place that sets conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition types, as kstatus reads them, and `Drifted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// The service matches the spec.
    Ready,
    /// The operator is working on the object, or waits for something that needs no user action.
    Reconciling,
    /// User action is required.
    Stalled,
    /// Another version was deployed outside the operator (deployments only).
    Drifted,
}

impl ConditionType {
    /// All types, in the order of the reference table.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Reconciling, Self::Stalled, Self::Drifted];

    /// What it means, for the reference table.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ready => "The service matches the spec. Always present.",
            Self::Reconciling => {
                "The operator is working on the object, or waits for something that needs no user action. Present only while True."
            }
            Self::Stalled => {
                "User action is required; the message says what to do. Present only while True, and never together with Reconciling."
            }
            Self::Drifted => {
                "Another version was deployed outside the operator. Only on a ChatbotDeployment; Unknown when the live version cannot be observed."
            }
        }
    }

    /// The `type` of the condition in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Drifted => "Drifted",
        }
    }

    /// Whether the operator sets conditions of this type. All others belong to somebody else.
    #[must_use]
    pub fn is_ours(condition: &Condition) -> bool {
        Self::ALL.iter().any(|kind| kind.as_str() == condition.type_)
    }
}

/// How many conditions a status can have, those of others included.
pub const MAX_CONDITIONS: usize = 8;

/// Makes the enum with the name, verdict and meaning of each, so that a reason is defined in one place.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $verdict:ident,)+) => {
        /// The reason of a condition, a closed list. A test compares the reference table with it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// All reasons, in the order of the reference table.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The `reason` of the condition in the status.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// How every tool reads an object whose Ready condition has this reason.
            #[must_use]
            pub fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)+ }
            }

            /// What it means, for the reference table.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// The version exists in the service, or the environment runs it.
    Available = Ready,
    /// The version is about to be created.
    Creating = Reconciling,
    /// The result of the create request is unknown; the operator searches the service before it sends another one.
    CreateUnconfirmed = Reconciling,
    /// The version is created; the service does not list it yet.
    WaitingForVisibility = Reconciling,
    /// An existing version of this object is being deleted; the operator waits until that is finished.
    WaitingForDeletion = Reconciling,
    /// The version is being deployed.
    Deploying = Reconciling,
    /// The environment returns to a version that it ran before.
    RollingBack = Reconciling,
    /// The ChatbotVersion does not exist, has no version in the service yet, or is being deleted.
    WaitingForVersion = Reconciling,
    /// The ChatbotDeployment named by promoteAfter has not been Ready on this version for long enough.
    WaitingForPromotion = Reconciling,
    /// The annotation verified of the ChatbotDeployment named by promoteAfter does not name this version.
    WaitingForVerification = Reconciling,
    /// The annotation approved of this object does not name this version.
    WaitingForApproval = Reconciling,
    /// None of spec.windows is open.
    WaitingForWindow = Reconciling,
    /// The annotation freeze of the namespace holds every move forward.
    Frozen = Reconciling,
    /// The object is being deleted.
    Deleting = Reconciling,
    /// The service limits requests; all requests with this API key pause, and the operator retries automatically.
    Throttled = Reconciling,
    /// The service cannot be reached or answers with an error; the operator retries automatically.
    ServiceUnavailable = Reconciling,
    /// A request failed; the operator retries it automatically.
    Retrying = Reconciling,
    /// The operator does nothing for the object because spec.suspend is true.
    Suspended = Waiting,
    /// The object cannot be read or violates a rule of its kind.
    InvalidSpec = Stalled,
    /// The Secret or the key in it is missing or unusable.
    CredentialsMissing = Stalled,
    /// The service rejects the API key.
    AuthenticationFailed = Stalled,
    /// The API key lacks a permission.
    PermissionDenied = Stalled,
    /// The service does not know the chatbot.
    ChatbotNotFound = Stalled,
    /// The service lists the object's version without an id, so the operator can neither use nor delete it.
    VersionUnidentified = Stalled,
    /// The desired version does not exist in the service.
    VersionNotFound = Stalled,
    /// The version existed and is no longer in the service. It is created again only on request.
    VersionLost = Stalled,
    /// Several versions match; the message says how to choose one.
    AmbiguousVersion = Stalled,
    /// The ChatbotDeployment named by promoteAfter is not switching to this version, and progressDeadline has passed.
    PromotionBlocked = Stalled,
    /// Another object claims the same version or environment.
    Conflict = Stalled,
    /// The referenced ChatbotVersion belongs to another chatbot.
    ReferenceMismatch = Stalled,
    /// The service rejected the request; the message says why.
    RequestRejected = Stalled,
    /// The version did not become live within progressDeadline.
    ProgressDeadlineExceeded = Stalled,
    /// The environment runs an earlier version, on request or because the desired one did not become live.
    RolledBack = Stalled,
    /// Drift was corrected 5 times within an hour; automatic correction is paused for the rest of that hour.
    DriftCorrectionPaused = Stalled,
    /// Another version was deployed outside the operator, and spec.drift is Warn.
    DriftTolerated = Ready,
    /// No drift is detected.
    InSync = Ready,
    /// The environment runs another version than the desired one.
    OutOfSync = Reconciling,
    /// The live version cannot be observed.
    NotObservable = Waiting,
}

/// How every tool should read the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Done: `Ready` is True.
    Ready,
    /// In progress: `Reconciling` is True.
    Reconciling,
    /// Failed: `Stalled` is True.
    Stalled,
    /// Neither done nor in progress: `Ready` is False and stands alone.
    Waiting,
}

/// The conditions of an object for `reason`, keeping the transition time of each whose status stays. An empty message
/// becomes the meaning of the reason; `drifted` is status, reason and message of the `Drifted` condition.
///
/// `Reconciling` and `Stalled` are present only while True and never both: kstatus reads conditions in
/// list order and would answer by chance otherwise. Conditions of types that are not ours stay as they are in `old`.
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
    let ours = list.into_iter().map(|(kind, status, reason, message)| {
        let before = old.iter().find(|c| c.type_ == kind.as_str() && c.status == status);
        Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: truncated(message),
            observed_generation: generation,
            last_transition_time: before.map_or_else(|| now.clone(), |c| c.last_transition_time.clone()),
        }
    });
    merged(old, ours)
}

/// Ours in place of those in `old`, at the same position: that another manager orders them otherwise says nothing new.
fn merged(old: &[Condition], ours: impl Iterator<Item = Condition>) -> Vec<Condition> {
    let mut ours: Vec<Condition> = ours.collect();
    let mut all = Vec::new();
    for condition in old {
        if !ConditionType::is_ours(condition) {
            all.push(condition.clone());
        } else if let Some(index) = ours.iter().position(|new| new.type_ == condition.type_) {
            all.push(ours.remove(index));
        }
    }
    all.append(&mut ours);
    // the API server refuses more, and without ours the object would have no verdict
    while all.len() > MAX_CONDITIONS
        && let Some(last) = all.iter().rposition(|condition| !ConditionType::is_ours(condition))
    {
        all.remove(last);
    }
    all
}

/// At most 512 characters, so that an object's size is bounded.
fn truncated(message: &str) -> String {
    message.chars().take(512).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn conditions(old: &[Condition], reason: Reason, message: &str, second: i64) -> Vec<Condition> {
        build_conditions(old, reason, message, None, Some(1), &at(second))
    }

    fn status(list: &[Condition], kind: ConditionType) -> Option<&str> {
        list.iter().find(|c| c.type_ == kind.as_str()).map(|c| c.status.as_str())
    }

    #[test]
    fn transition_time_stays_while_the_status_does() {
        let creating = conditions(&[], Reason::Creating, "one", 10);
        let deploying = conditions(&creating, Reason::Deploying, "two", 20);
        assert!(deploying.iter().all(|c| c.last_transition_time == at(10)), "{deploying:?}");
        assert!(deploying.iter().all(|c| c.reason == "Deploying" && c.message == "two"), "{deploying:?}");
    }

    #[test]
    fn transition_time_moves_with_the_status() {
        let creating = conditions(&[], Reason::Creating, "", 10);
        let available = conditions(&creating, Reason::Available, "", 20);
        assert_eq!(available[0].last_transition_time, at(20));
        let creating = conditions(&available, Reason::Creating, "", 30);
        assert!(creating.iter().all(|c| c.last_transition_time == at(30)), "{creating:?}");
    }

    #[test]
    fn each_reason_sets_the_conditions_of_its_verdict() {
        for &reason in Reason::ALL {
            let list = conditions(&[], reason, "", 10);
            let found = [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
                .map(|kind| status(&list, kind));
            let expected = match reason.verdict() {
                Verdict::Ready => [Some("True"), None, None],
                Verdict::Reconciling => [Some("False"), Some("True"), None],
                Verdict::Stalled => [Some("False"), None, Some("True")],
                Verdict::Waiting => [Some("False"), None, None],
            };
            assert_eq!(found, expected, "{reason:?}");
        }
    }

    #[test]
    fn reconciling_ends_when_the_object_stalls() {
        let creating = conditions(&[], Reason::Creating, "", 10);
        let stalled = conditions(&creating, Reason::Conflict, "", 20);
        assert_eq!(status(&stalled, ConditionType::Reconciling), None);
        assert_eq!(status(&stalled, ConditionType::Stalled), Some("True"));
    }

    #[test]
    fn message_is_bounded_and_never_empty() {
        let long = conditions(&[], Reason::Retrying, &"ü".repeat(600), 10);
        assert_eq!(long[0].message, "ü".repeat(512));
        for &reason in Reason::ALL {
            let meaning = conditions(&[], reason, "", 10)[0].message.clone();
            assert!(meaning.ends_with('.') && meaning.len() <= 512, "{reason:?}: {meaning}");
        }
    }

    fn of_others(number: usize) -> Condition {
        Condition {
            type_: format!("velero.io/{number}"),
            ..conditions(&[], Reason::Available, "", 5)[0].clone()
        }
    }

    #[test]
    fn conditions_of_others_stay_as_and_where_they_are() {
        let old = [of_others(1), conditions(&[], Reason::Available, "", 10).remove(0), of_others(2)];
        let new = conditions(&old, Reason::Conflict, "", 20);
        let types: Vec<&str> = new.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["velero.io/1", "Ready", "velero.io/2", "Stalled"]);
        assert_eq!((&new[0], &new[2]), (&old[0], &old[2]));
        assert_eq!(conditions(&new, Reason::Conflict, "", 30), new, "nothing new is said");
    }

    #[test]
    fn ours_have_room_whatever_others_set() {
        let old: Vec<Condition> = (0..MAX_CONDITIONS).map(of_others).collect();
        let new = conditions(&old, Reason::Conflict, "", 20);
        assert_eq!(new.len(), MAX_CONDITIONS);
        assert_eq!(new[..6], old[..6]);
        assert_eq!(status(&new, ConditionType::Stalled), Some("True"));
    }

    #[test]
    fn drifted_is_there_only_when_it_is_given() {
        let drifted = Some(("True", Reason::OutOfSync, "prod runs 1.0"));
        let list = build_conditions(&[], Reason::Available, "", drifted, Some(1), &at(10));
        assert_eq!(status(&list, ConditionType::Drifted), Some("True"));
        let list = conditions(&list, Reason::Available, "", 20);
        assert_eq!(status(&list, ConditionType::Drifted), None);
    }
}
