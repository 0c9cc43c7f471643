//! Observes and acts for `ChatbotDeployment`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::future::try_join;
use kube::ResourceExt;
use tokio::time::timeout;
use tracing::Instrument;

use super::{
    Context, Indexed, Reconciler,
    cache::{Cache, IndexKey, Ref},
    fair_queue::FairSemaphore,
    lookup::VersionToDelete,
    service_access::ServiceQuery,
    version::permit_taken,
};
use crate::{
    chatcaptain::{ApiCall, Failure, FailureClass, VersionId},
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, CommonStatus, FINALIZER, HistoryEntry,
        LiveEnvironment, PendingDeletion, VersionSource, annotation,
    },
    plan::{
        self, Report, ServiceReads, ServiceView, annotation_value,
        claims::{self, VersionNames},
        deployment::{
            Freeze, Observation, Outcome, RolloutMethod, State, Step, VersionBeingDeleted, is_promotion_ring,
            next_step, report,
        },
        retry_requested,
    },
    sync::lock,
};

/// How long a reconcile waits until a delete is sent and answered.
// no clean-up stands before a rollback: no other reconcile of the object runs meanwhile
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);

impl Indexed for ChatbotDeployment {
    const KIND: &'static str = "ChatbotDeployment";
    const CLAIM: &'static [&'static str] = &["chatbotId", "environment"];
    const NEEDS_MANAGERS: bool = true;

    fn cache(context: &Context) -> &Cache<Self> {
        &context.deployments
    }

    fn contradiction(&self) -> Option<String> {
        self.status.as_ref()?.common.contradiction(&self.spec.chatbot_id, self.spec.environment.as_str())
    }

    fn keys(&self) -> Vec<IndexKey> {
        let namespace = self.namespace().unwrap_or_default();
        let secret = self.spec.credentials_ref.clone().unwrap_or_default();
        let chatbot = &self.spec.chatbot_id;
        let mut keys = vec![
            IndexKey::secret(&namespace, secret.name()),
            IndexKey::chatbot(chatbot),
            IndexKey::environment(chatbot, self.spec.environment.as_str()),
        ];
        let names = [
            self.spec.version_ref.as_ref().map(|r| r.name.as_str()),
            annotation_value(&self.metadata, annotation::ROLLBACK_TO),
        ];
        keys.extend(
            names.into_iter().flatten().map(|name| IndexKey::reference("ChatbotVersion", &namespace, name)),
        );
        let sources = self.spec.sources();
        keys.extend(sources.map(|name| IndexKey::reference("ChatbotDeployment", &namespace, name)));
        keys
    }

    fn enqueue(reference: Ref<Self>, context: &Context) {
        context.enqueue_deployment(reference);
    }

    fn permits(context: &Context) -> &FairSemaphore {
        &context.deployment_permits
    }

    fn enqueue_dependents(&self, context: &Context) {
        let (namespace, chatbot) = (self.namespace().unwrap_or_default(), &self.spec.chatbot_id);
        // deployments that promote after this one, and those that lost the environment to it
        context.enqueue_deployments(IndexKey::reference("ChatbotDeployment", &namespace, &self.name_any()));
        context.enqueue_deployments(IndexKey::environment(chatbot, self.spec.environment.as_str()));
        // versions that wait for the hand-over of their deletion, and those that became or ceased to be live
        let Some(status) = &self.status else { return };
        let handed_over = status.pending_deletions.iter().map(|entry| &entry.version_id);
        let ran = status.active.iter().chain(&status.previous).map(|active| &active.version_id);
        for id in handed_over.chain(ran) {
            context.enqueue_versions(IndexKey::version(chatbot, id));
        }
    }
}

impl Reconciler for ChatbotDeployment {
    type Observation = Observation;
    type State = State;
    type Step = Step;
    type Outcome = Outcome;
    type Status = ChatbotDeploymentStatus;

    async fn observe(object: &Arc<Self>, context: &Context) -> Observation {
        let uid = object.uid().unwrap_or_default();
        let namespace = object.namespace().unwrap_or_default();
        let version = |name: Option<&str>| context.versions.get(&namespace, name?);
        let deployment = |name: &str| context.deployments.get(&namespace, name);
        let elsewhere = other_environment(object, context);
        let (reclaimed, unknown) = reclaimed(object, context).await;
        let in_use = in_use_elsewhere(object, context);
        let returning = returning(object, context);
        let intent_written = lock(&context.call_permits).granted_at(&uid, object.status.as_ref());
        let (crd_is_being_deleted, service) = uninstalling(object, context).await;
        let mut observation = Observation {
            service,
            may_call: intent_written.is_some(),
            older_claim: older_claim(object, context),
            referenced_version: version(object.spec.version_ref.as_ref().map(|named| named.name.as_str())),
            rollback_version: version(annotation_value(&object.metadata, annotation::ROLLBACK_TO)),
            promotion_source: object.spec.promotion_source().and_then(deployment),
            followed: object.spec.follow.as_ref().and_then(|follow| deployment(&follow.deployment_ref.name)),
            freeze: Freeze::Off,
            promotion_ring: is_promotion_ring(object, deployment),
            versions_being_deleted: versions_being_deleted(object, context).await,
            reclaimed,
            in_use_elsewhere: in_use.into_iter().chain(returning).chain(unknown).collect(),
            elsewhere,
            crd_is_being_deleted,
            config: context.config.clone(),
            now: Context::now(),
            jitter: Context::jitter(),
            object: object.clone(),
        };
        if matches!(observation.service, ServiceView::NotQueried) && observation.needs_service() {
            query_service(&mut observation, context).await;
        }
        if observation.needs_freeze() {
            observation.freeze = context.freeze(&namespace).await;
        }
        observation
    }

    fn state(observation: &Observation) -> State {
        observation.state()
    }

    fn plan(state: &State) -> Step {
        next_step(state)
    }

    async fn act(step: Step, observation: &Observation, context: &Arc<Context>) -> Outcome {
        match step {
            Step::StartRollout(method) => {
                Outcome::RolloutStarted(roll_out(observation, method, context).await)
            }
            Step::DeleteVersion => match observation.deletable() {
                Some(entry) => {
                    let result = delete(observation, &entry, context).await;
                    Outcome::VersionDeleted(entry.version_id, result)
                }
                None => Outcome::NoCall,
            },
            _ => Outcome::NoCall,
        }
    }

    fn report(
        observation: &Observation,
        state: &State,
        step: Step,
        outcome: &Outcome,
    ) -> Report<ChatbotDeploymentStatus> {
        report(observation, state, step, outcome)
    }

    fn left_behind(_: &Observation, _: &Outcome) -> Option<Report<ChatbotDeploymentStatus>> {
        // a rollout makes no version
        None
    }

    fn refresh_object(observation: &mut Observation, object: Arc<Self>) {
        observation.object = object;
        observation.now = Context::now();
    }

    fn writes_to_service(step: Step) -> bool {
        step.writes_to_service()
    }

    fn status(&self) -> Option<&ChatbotDeploymentStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> Option<&mut ChatbotDeploymentStatus> {
        self.status.as_mut()
    }

    fn common(status: &ChatbotDeploymentStatus) -> &CommonStatus {
        &status.common
    }

    fn chatbot(&self) -> &str {
        &self.spec.chatbot_id
    }

    fn live_environment(&self) -> Option<&'static str> {
        Some(self.spec.environment.as_str())
    }

    fn history(&self) -> &[HistoryEntry] {
        self.status.as_ref().map_or(&[], |status| &status.history)
    }
}

/// The older object that manages the same environment.
fn older_claim(object: &ChatbotDeployment, context: &Context) -> Option<String> {
    let owner = context.environment_owner(&object.spec.chatbot_id, object.spec.environment);
    claims::older_environment_claim(object, owner.as_deref())
}

/// The versions that this deployment has to delete because their objects are being deleted.
async fn versions_being_deleted(object: &ChatbotDeployment, context: &Context) -> Vec<VersionBeingDeleted> {
    let mut found = Vec::new();
    // the service is not read for one that does not manage its environment: it could delete nothing
    if older_claim(object, context).is_some() {
        return found;
    }
    let mut ids = claims::versions_in_charge(object, Context::now(), &context.config);
    let named = referenced_version(object, context);
    ids.extend(named.as_ref().and_then(|version| version.version_id()));
    for id in ids {
        for version in context.version_holders(&object.spec.chatbot_id, id) {
            // one without it has handed its deletion over, whatever else keeps the object
            if version.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
                && is_deleted_with_object(&version, context).await == Some(true)
            {
                found.push(VersionBeingDeleted { version_id: id.to_owned(), name: version.name_any() });
            }
        }
    }
    found
}

/// Whether the CRD goes with all its objects; read only for one that is being deleted. Where that is unknown, nothing may be
/// decided: as if the service were unavailable.
async fn uninstalling(object: &ChatbotDeployment, context: &Context) -> (bool, ServiceView) {
    if object.metadata.deletion_timestamp.is_none() {
        return (false, ServiceView::NotQueried);
    }
    match context.is_crd_being_deleted::<ChatbotDeployment>().await {
        Ok(uninstalling) => (uninstalling, ServiceView::NotQueried),
        Err(unavailable) => (false, ServiceView::Unavailable(unavailable)),
    }
}

/// Whether the object is being deleted and its version with it; `None` while the policy of its namespace is unknown.
async fn is_deleted_with_object(version: &ChatbotVersion, context: &Context) -> Option<bool> {
    // without the namespace: it is not being deleted, suspended, or its annotation keeps the version
    if !claims::is_deleted_with_object(version, Some("Delete"), &context.config) {
        return Some(false);
    }
    let settings =
        try_join(context.namespace_policy(version), context.is_crd_being_deleted::<ChatbotVersion>());
    let (policy, uninstalling) = settings.await.ok()?;
    Some(!uninstalling && claims::is_deleted_with_object(version, policy.as_deref(), &context.config))
}

/// The object that `spec.versionRef` names, if it is of the same chatbot.
fn referenced_version(object: &ChatbotDeployment, context: &Context) -> Option<Arc<ChatbotVersion>> {
    let Some(VersionSource::Ref(name)) = object.spec.version_source() else {
        return None;
    };
    let version = context.versions.get(&object.namespace().unwrap_or_default(), name)?;
    (version.spec.chatbot_id == object.spec.chatbot_id).then_some(version)
}

/// Ids in `pendingDeletions` that an object holds with which they are not deleted: it is back, or its policy has changed.
/// And those of which that is not known, because the policy of the namespace cannot be read.
async fn reclaimed(object: &ChatbotDeployment, context: &Context) -> (HashSet<String>, HashSet<String>) {
    let (mut reclaimed, mut unknown) = (HashSet::new(), HashSet::new());
    for entry in object.status.iter().flat_map(|status| &status.pending_deletions) {
        for version in context.version_holders(&object.spec.chatbot_id, &entry.version_id) {
            match is_deleted_with_object(&version, context).await {
                Some(true) => {}
                Some(false) => drop(reclaimed.insert(entry.version_id.clone())),
                None => drop(unknown.insert(entry.version_id.clone())),
            }
        }
    }
    (reclaimed, unknown)
}

/// Ids in `pendingDeletions` whose object is back and has not adopted its version yet.
fn returning(object: &ChatbotDeployment, context: &Context) -> Vec<String> {
    let namespace = object.namespace().unwrap_or_default();
    let chatbot = &object.spec.chatbot_id;
    let entries = object.status.iter().flat_map(|status| &status.pending_deletions);
    entries
        .filter(|entry| {
            let object = context.versions.get(&namespace, &entry.name);
            object.is_some_and(|version| claims::is_returning(&version, chatbot))
        })
        .map(|entry| entry.version_id.clone())
        .collect()
}

/// The deployment that manages the chatbot's other environment.
fn other_environment(object: &ChatbotDeployment, context: &Context) -> Option<Arc<ChatbotDeployment>> {
    let other =
        LiveEnvironment::ALL.into_iter().find(|environment| *environment != object.spec.environment)?;
    context.environment_owner(&object.spec.chatbot_id, other)
}

/// Versions that other owners of the chatbot's environments use or name.
/// The object's own environment counts too where another object manages it by now.
fn in_use_elsewhere(object: &ChatbotDeployment, context: &Context) -> HashSet<String> {
    let mut ids = HashSet::new();
    for owner in context.environment_owners(&object.spec.chatbot_id).into_values() {
        if owner.metadata.uid == object.metadata.uid {
            continue;
        }
        ids.extend(claims::in_use(&owner, Context::now(), &context.config).into_iter().map(str::to_owned));
        let Some(status) = &object.status else { continue };
        let is_named = |entry: &&PendingDeletion| {
            let ran = status.history.iter().find(|ran| ran.version_id == entry.version_id);
            let namespace = object.metadata.namespace.as_deref();
            let held = context.versions.get(namespace.unwrap_or_default(), &entry.name);
            let version = VersionNames {
                id: &entry.version_id,
                namespace,
                name: &entry.name,
                number: ran.and_then(|ran| ran.version_number.as_deref()),
                held_now: held.as_ref().and_then(|version| version.version_id()),
            };
            claims::names(&owner, &version)
        };
        ids.extend(status.pending_deletions.iter().filter(is_named).map(|entry| entry.version_id.clone()));
    }
    ids
}

/// Reads until the answers are as new as the next step needs them.
async fn query_service(observation: &mut Observation, context: &Context) {
    let mut next = Some(observation.service_reads());
    // ends: each further read is newer than the one before, up to the newest
    while let Some(reads) = next {
        observation.service = query(observation, reads, context).await;
        next = observation.further_reads(reads);
    }
}

async fn query(observation: &Observation, reads: ServiceReads, context: &Context) -> ServiceView {
    let object = &observation.object;
    let active = object.status.as_ref().and_then(|status| status.active.as_ref());
    let namespace = object.namespace().unwrap_or_default();
    let query = ServiceQuery {
        namespace: &namespace,
        credentials: object.spec.credentials_ref.as_ref(),
        chatbot: &object.spec.chatbot_id,
        version_id: active.map(|active| active.version_id.as_str()),
        reads,
        retry_now: retry_requested(&object.metadata, &observation.status().common)
            || observation.has_unrecorded_target(),
        intent_written: None,
        allow_stale_key: may_use_removed_key(observation),
    };
    context.query_service(&query).await
}

/// Sends the deploy or rollback, if this reconcile gets the permit for it.
async fn roll_out(
    observation: &Observation,
    method: RolloutMethod,
    context: &Context,
) -> Result<(), Failure> {
    let (object, uid) = (&observation.object, observation.object.uid().unwrap_or_default());
    let call = if method == RolloutMethod::Rollback { ApiCall::Rollback } else { ApiCall::Deploy };
    // what the intent names, not what is desired now: permit and record speak of the intent
    let operation = observation.status().current_operation.as_ref();
    let id = version_id(call, operation.map(|operation| operation.version_id.as_str()))?;
    let namespace = object.namespace().unwrap_or_default();
    let credentials = object.spec.credentials_ref.as_ref();
    let (account, chatbot) =
        context.account_for_write(call, &namespace, credentials, &object.spec.chatbot_id, false).await?;
    let permit = lock(&context.call_permits).take(&uid, object.status.as_ref());
    let permit = permit.ok_or_else(|| permit_taken(call))?;
    let environment = observation.environment();
    let result = match method {
        RolloutMethod::Deploy => account.deploy(&chatbot, &id, environment, observation.goes_back()).await,
        RolloutMethod::Rollback => {
            account.rollback(&chatbot, &id, environment, &observation.rollback_body()).await
        }
    };
    match &result {
        // the next reconcile needs the answers: they are fetched while this one records its outcome
        Ok(()) => drop(tokio::spawn(async move { account.prefetch(&chatbot).await }.in_current_span())),
        Err(failure) => lock(&context.call_permits).restore(permit, failure),
    }
    result
}

/// Sends the delete in a task of its own, which goes on when the answer takes longer than `DELETE_TIMEOUT`; the list shows
/// its result then.
async fn delete(
    observation: &Observation,
    entry: &PendingDeletion,
    context: &Arc<Context>,
) -> Result<(), Failure> {
    let object = &observation.object;
    let id = version_id(ApiCall::Delete, Some(&entry.version_id))?;
    let namespace = object.namespace().unwrap_or_default();
    let credentials = object.spec.credentials_ref.as_ref();
    let (account, chatbot) = context
        .account_for_write(
            ApiCall::Delete,
            &namespace,
            credentials,
            &object.spec.chatbot_id,
            may_use_removed_key(observation),
        )
        .await?;
    let no_answer = || Failure::new(ApiCall::Delete, FailureClass::Unknown, "no answer yet");
    if account.is_delete_pending(&chatbot, &id, Duration::ZERO) {
        return Err(no_answer());
    }
    let version = VersionToDelete {
        chatbot: object.spec.chatbot_id.clone(),
        id: entry.version_id.clone(),
        name: entry.name.clone(),
        number: observation
            .listed(&entry.version_id)
            .and_then(|version| version.number.as_deref().map(str::to_owned)),
        namespace,
        decided_on: Some(object.clone()),
    };
    let task = context.clone();
    let delete = async move { account.delete(&chatbot, &id, || task.is_needed(&version)).await };
    let answer = timeout(DELETE_TIMEOUT, context.tasks.spawn(delete.in_current_span())).await;
    answer.ok().and_then(Result::ok).unwrap_or_else(|| Err(no_answer()))
}

fn may_use_removed_key(observation: &Observation) -> bool {
    let timeout = observation.config.deletion_timeout;
    plan::may_use_removed_key(&observation.object.metadata, timeout, observation.now)
}

fn version_id(call: ApiCall, id: Option<&str>) -> Result<VersionId, Failure> {
    VersionId::parse(id.unwrap_or_default())
        .map_err(|invalid| Failure::new(call, FailureClass::Unsent, &invalid.to_string()))
}
