//! Each message says what is so and ends with what to do.

use serde_json::json;

use super::{
    super::{VersionBeingDeleted, fixtures::*},
    *,
};
use crate::plan::deployment::{Deletion, Wait};

fn ready(observation: &Observation) -> String {
    let report = observation.report();
    report.status.common.conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap().message
}

/// A message that starts with what is so and ends with this.
fn assert_ends(message: &str, parts: &[&str], end: &str) {
    assert!(parts.iter().all(|part| message.contains(part)), "{parts:?} in: {message}");
    assert!(message.ends_with(end), "{end:?} at the end of: {message}");
    assert!(message.len() <= 512, "{} characters: {message}", message.len());
}

#[test]
fn failures_name_the_retry() {
    let failed = json!({"failedVersions": {"generation": 1, "versionIds": ["v1"]}});
    let late = Observation::test().with_status(&failed).running(Some("v2"));
    let retry = "annotate the object with chatcaptain.dev/reconcile-requested-at=<any new value>.";
    assert_ends(&ready(&late), &["version 1.1 (v1)", "prod runs version 1.2 (v2)"], retry);
    assert_ends(&ready(&late.clone().running(None)), &["prod runs nothing"], retry);
    let history = json!({"history": [{"versionId": "v2", "startTime": ago(1)}]});
    let previous = json!({"rollback": {"onFailure": "Previous"}});
    let back = late.with_status(&history).with_spec(&previous);
    assert_ends(&ready(&back), &["prod runs version 1.2 (v2) again", "because version 1.1 (v1)"], retry);
}

#[test]
fn environment_that_runs_what_it_should_names_the_call_that_may_replace_it() {
    let called = operation("Deploy", "v2", Some(5), Some("Unknown"));
    let superseded = Observation::test().with_status(&called).running(Some("v1"));
    let parts =
        ["prod runs version 1.1 (v1)", "the earlier request for version 1.2 (v2) may still take effect"];
    assert_ends(&ready(&superseded), &parts, "no action needed.");
    assert!(ready(&superseded.running(Some("v2"))).starts_with("Deploying version 1.1 (v1)"));
}

#[test]
fn commands_name_how_they_end() {
    let commanded = |value| Observation::test().annotated(annotation::ROLLBACK_TO, value).running(Some("v2"));
    let end = "Remove the annotation, or name another version in the spec, to end the rollback.";
    assert_ends(&ready(&commanded("v2")), &["version 1.2 (v2)", "chatcaptain.dev/rollback-to"], end);
    let removed =
        |value| rollback_command_removed(&commanded(value), commanded(value).command_to_remove().unwrap());
    assert_ends(&removed("typo"), &["says typo", "is removed"], "a version id or a version number.");
    assert_ends(&removed("previous"), &["no earlier version"], "or a version number instead.");
    assert_ends(&removed("v1"), &["nothing to roll back"], "is removed.");
}

#[test]
fn drift_names_both_versions_and_who_can_end_it() {
    let drifted = |status| {
        Observation::test().with_status(&reached_target("v1")).with_status(&status).running(Some("v2"))
    };
    let both = ["prod runs version 1.2 (v2), which was deployed outside", "instead of version 1.1 (v1)"];
    let warned = drifted(json!({})).with_spec(&json!({"drift": "Warn"}));
    assert_ends(&ready(&warned), &both, "Set spec.drift to Enforce to redeploy version 1.1 (v1).");
    let corrections = json!({"driftCorrections": {"count": 5, "windowStartTime": ago(100)}});
    let paused = drifted(corrections);
    assert_ends(&ready(&paused), &both, "reconcile-requested-at=<any new value>.");
    assert_ends(&ready(&paused), &["5 times within an hour", "paused"], ".");
    assert!(ready(&paused.running(None)).starts_with("prod runs nothing instead of version 1.1 (v1)"));
}

#[test]
fn unresolved_names_the_field_to_correct() {
    let by_id = Observation::test().with_spec(&json!({"versionRef": null, "versionId": "v9"}));
    assert_ends(&ready(&by_id), &["chatbot bot", "v9"], "Correct spec.versionId.");
    let by_number = Observation::test().with_spec(&json!({"versionRef": null, "versionNumber": "9"}));
    assert_ends(&ready(&by_number), &["chatbot bot", "9"], "Correct spec.versionNumber.");
    let missing = Observation { referenced_version: None, ..Observation::test() };
    assert_ends(&ready(&missing), &["ChatbotVersion a does not exist"], "correct spec.versionRef.");
    let stalled = json!({"status": {"conditions": [{
        "type": "Stalled", "status": "True", "reason": "RequestRejected", "lastTransitionTime": ago(1),
        "message": "The service rejects the create request. Correct the cause.",
    }]}});
    let stalled = Observation { referenced_version: Some(referenced(&stalled)), ..Observation::test() };
    let cause = "RequestRejected: The service rejects the create request. Correct the cause.";
    assert_ends(&ready(&stalled), &["ChatbotVersion a is Stalled."], cause);
    let other = Observation {
        referenced_version: Some(referenced(&json!({"spec": {"chatbotId": "other"}}))),
        ..Observation::test()
    };
    assert_ends(&ready(&other), &["ChatbotVersion a", "bot"], "Correct spec.versionRef.");
    let two = Observation::test().with_spec(&json!({"versionId": "v1"}));
    assert_ends(&ready(&two), &["Set exactly one"], "spec.follow.");
}

#[test]
fn deleted_version_names_how_to_keep_it() {
    let version = VersionBeingDeleted { version_id: "v1".to_owned(), name: "a".to_owned() };
    let entry = json!({"versionId": "v1", "name": "a", "requestTime": ago(1)});
    let status = json!({"pendingDeletions": [entry]});
    let gone = Observation { referenced_version: None, ..Observation::test().with_status(&status) };
    let parts = ["ChatbotVersion a was deleted", "version 1.1 (v1)"];
    assert_ends(&ready(&gone), &parts, "apply the ChatbotVersion again to keep it.");
    let deleted = referenced(&json!({"metadata": {"name": "a", "deletionTimestamp": ago(1)}}));
    let being_deleted =
        Observation { referenced_version: Some(deleted), versions_being_deleted: vec![version], ..gone };
    let being_deleted = being_deleted.with_metadata(&json!({"finalizers": ["chatcaptain.dev/finalizer"]}));
    assert_ends(&ready(&being_deleted), &["is being deleted"], "or apply it again once it is gone.");
}

#[test]
fn waiting_for_promotion_names_the_other_deployment() {
    let after = json!({"promoteAfter": {"deploymentRef": {"name": "support-test"}, "soak": "30m"}});
    let waiting = Observation::test().with_spec(&after);
    assert_ends(&ready(&waiting), &["support-test", "does not exist"], "correct the name.");
    let source = |status| Some(Observation::test().with_status(&status).object);
    let heading = Observation { promotion_source: source(reached_target("v1")), ..waiting.clone() };
    assert_ends(&ready(&heading), &["support-test", "version 1.1 (v1) for 30m"], "no action needed.");
    let ring = Observation { promotion_ring: true, ..waiting.clone() };
    assert_ends(&ready(&ring), &["support-test", "back"], "Remove promoteAfter from one of them.");
    let asleep = Observation::test().with_spec(&json!({"suspend": true})).object;
    let suspended = Observation { promotion_source: Some(asleep), ..waiting.clone() };
    assert_ends(&ready(&suspended), &["support-test", "is suspended"], "or remove spec.promoteAfter.");
    let elsewhere = Observation { promotion_source: source(reached_target("v2")), ..waiting };
    assert_ends(&ready(&elsewhere), &["support-test", "version 1.1 (v1)"], "earlier sync wave.");
}

#[test]
fn conflict_and_deletion_name_what_to_do() {
    let older = Observation { older_claim: Some("ns/older".to_owned()), ..Observation::test() };
    assert_ends(&ready(&older), &["ns/older", "prod of chatbot bot"], "apply it again.");
    assert_ends(
        &deleting(&Observation::test()).message,
        &["status.pendingDeletions"],
        "chatcaptain.dev/force-orphan=true.",
    );
    let deletion = Deletion { force_orphan: false, uninstalling: false, timed_out: false };
    let new =
        State { deleting: Some(deletion), pending_deletion: PendingDeletionState::New, ..State::test() };
    assert_ends(&orphaned_note(&new, "v1", "a"), &["Version v1", "ChatbotVersion a"], "is deleted, too.");
}

#[test]
fn log_lines_use_the_words_of_the_documentation() {
    let intent = Step::RecordIntent(RolloutMethod::Rollback);
    assert_eq!(intent.to_string(), "record rollback intent");
    assert_eq!(Step::StartRollout(RolloutMethod::Deploy).to_string(), "deploy");
    assert_eq!(Step::Wait(Wait::Available).to_string(), "update status");
}

#[test]
fn longest_message_fits_a_condition() {
    let (id, name) = ("vrsKq8BxZaJd2", "customer-support-assistant-2026-q4-release-candidate-12");
    let listed = || crate::chatcaptain::Version { number: Some("12.34".into()), ..version(id) };
    let corrections = json!({"driftCorrections": {"count": 5, "windowStartTime": ago(100)}});
    let paused = Observation {
        referenced_version: Some(referenced(&json!({"status": {"versionId": id}}))),
        ..Observation::test()
    };
    let paused = paused.with_status(&reached_target(id)).with_status(&corrections);
    let paused = paused.listing([listed(), version("v2")]).running(Some("v2"));
    let message = ready(&paused);
    assert!(message.contains(id) && message.len() < 512, "{} characters: {message}", message.len());
    let after = json!({"promoteAfter": {"deploymentRef": {"name": name}, "soak": "1h30m"}});
    let source = Some(Observation::test().object);
    let waiting = Observation { promotion_source: source, ..Observation::test().with_spec(&after) };
    assert!(ready(&waiting).contains(name) && ready(&waiting).len() < 512);
}
