//! Observes and acts for `ChatbotVersion`.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join;
use kube::ResourceExt;
use tokio::{spawn, time::timeout};
use tracing::Instrument;

use super::{
    Context, Indexed, Reconciler,
    cache::{Cache, IndexKey, Ref},
    fair_queue::FairSemaphore,
    lookup::VersionToDelete,
    service_access::ServiceQuery,
};
use crate::{
    chatcaptain::{Account, ApiCall, ChatbotId, Failure, FailureClass, Inventory, VersionId},
    crd::{ChatbotVersion, ChatbotVersionStatus, CommonStatus, HistoryEntry},
    plan::{
        self, Report, ServiceView, claims, retry_requested,
        version::{Observation, Outcome, State, Step, left_behind, next_step, report},
    },
    sync::lock,
};

/// How long the record of a create waits for the list that confirms it.
// short, because a crash before the record costs a search, but long enough for twenty creates before it at a few calls a
// second; a slower list confirms at the next reconcile
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(8);

impl Indexed for ChatbotVersion {
    const KIND: &'static str = "ChatbotVersion";
    const CLAIM: &'static [&'static str] = &["chatbotId"];
    const NEEDS_MANAGERS: bool = false;

    fn cache(context: &Context) -> &Cache<Self> {
        &context.versions
    }

    fn contradiction(&self) -> Option<String> {
        self.status.as_ref()?.common.contradiction(&self.spec.chatbot_id, self.environment().as_str())
    }

    fn keys(&self) -> Vec<IndexKey> {
        let namespace = self.namespace().unwrap_or_default();
        let secret = self.spec.credentials_ref.clone().unwrap_or_default();
        let chatbot = &self.spec.chatbot_id;
        let mut keys = vec![IndexKey::secret(&namespace, secret.name())];
        keys.extend(self.version_id().map(|id| IndexKey::version(chatbot, id)));
        if self.status.as_ref().is_some_and(|status| status.pending_create.is_some()) {
            keys.push(IndexKey::pending_create(chatbot, self.version_name()));
        }
        keys
    }

    fn enqueue(reference: Ref<Self>, context: &Context) {
        context.enqueue_version(reference);
    }

    fn permits(context: &Context) -> &FairSemaphore {
        &context.version_permits
    }

    fn enqueue_dependents(&self, context: &Context) {
        let (namespace, chatbot) = (self.namespace().unwrap_or_default(), &self.spec.chatbot_id);
        context.enqueue_deployments(IndexKey::reference("ChatbotVersion", &namespace, &self.name_any()));
        if self.metadata.deletion_timestamp.is_some() {
            // the deployment that runs it takes the deletion over
            context.enqueue_deployments(IndexKey::chatbot(chatbot));
        }
        if let Some(id) = self.version_id() {
            // another object that claims the same id may hold it now
            context.enqueue_versions(IndexKey::version(chatbot, id));
        }
    }
}

impl Reconciler for ChatbotVersion {
    type Observation = Observation;
    type State = State;
    type Step = Step;
    type Outcome = Outcome;
    type Status = ChatbotVersionStatus;

    async fn observe(object: &Arc<Self>, context: &Context) -> Observation {
        let uid = object.uid().unwrap_or_default();
        let status = object.status.as_ref();
        let intent_written = lock(&context.call_permits).granted_at(&uid, status);
        let search_started = lock(&context.search_timers).start(&uid, status, Instant::now());
        let (namespace_policy, crd_is_being_deleted, unreadable_policy) =
            match deletion_settings(object, context).await {
                Ok((policy, uninstalling)) => (policy, uninstalling, None),
                Err(unavailable) => (None, false, Some(unavailable)),
            };
        let mut observation = Observation {
            object: object.clone(),
            service: ServiceView::NotQueried,
            may_call: intent_written.is_some(),
            search_elapsed: search_started.map_or(Duration::ZERO, |started| started.elapsed()),
            held_by_others: HashSet::new(),
            deletion_pending: HashSet::new(),
            older_create_pending: false,
            deployments: context.deployments_of(&object.spec.chatbot_id),
            environment_owners: context.environment_owners(&object.spec.chatbot_id),
            older_claim: older_claim(object, context),
            namespace_policy,
            crd_is_being_deleted,
            config: context.config.clone(),
            now: Context::now(),
            attempt_id: format!("{:032x}", rand::random::<u128>()),
            jitter: Context::jitter(),
        };
        if let Some(unavailable) = unreadable_policy {
            observation.service = ServiceView::Unavailable(unavailable);
        } else if observation.needs_service() {
            let service = query_service(&observation, intent_written, context).await;
            observation.set_service(service);
        }
        check_candidates(&mut observation, context).await;
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
            Step::Create => create(observation, context).await,
            Step::Delete => Outcome::Deleted(delete(observation, context).await),
            _ => Outcome::NoCall,
        }
    }

    fn report(
        observation: &Observation,
        state: &State,
        step: Step,
        outcome: &Outcome,
    ) -> Report<ChatbotVersionStatus> {
        report(observation, state, step, outcome)
    }

    fn left_behind(observation: &Observation, outcome: &Outcome) -> Option<Report<ChatbotVersionStatus>> {
        left_behind(observation, outcome)
    }

    fn refresh_object(observation: &mut Observation, object: Arc<Self>) {
        observation.object = object;
        observation.now = Context::now();
    }

    fn writes_to_service(step: Step) -> bool {
        step.writes_to_service()
    }

    fn status(&self) -> Option<&ChatbotVersionStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> Option<&mut ChatbotVersionStatus> {
        self.status.as_mut()
    }

    fn common(status: &ChatbotVersionStatus) -> &CommonStatus {
        &status.common
    }

    fn chatbot(&self) -> &str {
        &self.spec.chatbot_id
    }

    fn live_environment(&self) -> Option<&'static str> {
        None
    }

    fn history(&self) -> &[HistoryEntry] {
        &[]
    }
}

/// The deletion policy of the namespace, and whether the CRD goes with all its objects; read only for a version that is
/// being deleted.
async fn deletion_settings(
    object: &ChatbotVersion,
    context: &Context,
) -> Result<(Option<String>, bool), crate::plan::Unavailable> {
    if object.metadata.deletion_timestamp.is_none() {
        return Ok((None, false));
    }
    try_join(context.namespace_policy(object), context.is_crd_being_deleted::<ChatbotVersion>()).await
}

/// The older object that holds the same version id.
fn older_claim(object: &ChatbotVersion, context: &Context) -> Option<String> {
    let holders = context.version_holders(&object.spec.chatbot_id, object.version_id()?);
    claims::older_version_claim(object, &holders)
}

async fn query_service(
    observation: &Observation,
    intent_written: Option<Instant>,
    context: &Context,
) -> ServiceView {
    let object = &observation.object;
    let namespace = object.namespace().unwrap_or_default();
    let query = ServiceQuery {
        namespace: &namespace,
        credentials: object.spec.credentials_ref.as_ref(),
        chatbot: &object.spec.chatbot_id,
        version_id: observation.status().version_id.as_deref(),
        reads: observation.service_reads(),
        retry_now: retry_requested(&object.metadata, &observation.status().common),
        intent_written,
        allow_stale_key: may_use_removed_key(observation),
    };
    context.query_service(&query).await
}

/// Adds what other objects and this process know of the versions that may be the object's.
async fn check_candidates(observation: &mut Observation, context: &Context) {
    let ServiceView::Available { inventory, .. } = &observation.service else {
        return;
    };
    let candidates = ids_to_check(observation, inventory);
    let object = &observation.object;
    let held = candidates.iter().map(VersionId::as_str).filter(|id| {
        claims::is_held_by_other(object, id, &context.version_holders(&object.spec.chatbot_id, id))
    });
    let held_by_others = held.map(str::to_owned).collect();
    // with descriptions the marker shows which create made a version, and none has to wait
    let older_create_pending = !inventory.has_descriptions() && is_older_create_pending(object, context);
    let deletion_pending = deletion_pending(observation, candidates, context).await;
    observation.held_by_others = held_by_others;
    observation.deletion_pending = deletion_pending;
    observation.older_create_pending = older_create_pending;
}

fn ids_to_check(observation: &Observation, inventory: &Inventory) -> Vec<VersionId> {
    observation.candidates_to_check(inventory).into_iter().map(|version| version.id.clone()).collect()
}

/// The candidates that this process is deleting, or has deleted within the visibility grace.
async fn deletion_pending(
    observation: &Observation,
    candidates: Vec<VersionId>,
    context: &Context,
) -> HashSet<String> {
    if candidates.is_empty() {
        return HashSet::new();
    }
    let Ok((account, chatbot)) = account_for_write(observation, context, ApiCall::List).await else {
        return HashSet::new();
    };
    let grace = observation.config.visibility_grace;
    let pending = candidates.iter().filter(|id| account.is_delete_pending(&chatbot, id, grace));
    pending.map(|id| id.as_str().to_owned()).collect()
}

fn is_older_create_pending(object: &ChatbotVersion, context: &Context) -> bool {
    let key = IndexKey::pending_create(&object.spec.chatbot_id, object.version_name());
    claims::is_older_create_pending(object, &context.versions.find(key), Context::now())
}

/// Sends the create, if this reconcile gets the permit for it.
async fn create(observation: &Observation, context: &Context) -> Outcome {
    let (object, uid) = (&observation.object, observation.object.uid().unwrap_or_default());
    // before the permit is taken: a failure here leaves it
    let (account, chatbot) = match account_for_write(observation, context, ApiCall::Create).await {
        Ok(account) => account,
        Err(failure) => return Outcome::Created(Err(failure), None),
    };
    let Some(permit) = lock(&context.call_permits).take(&uid, object.status.as_ref()) else {
        return Outcome::Created(Err(permit_taken(ApiCall::Create)), None);
    };
    let is_wanted = || is_create_wanted(object, context);
    let result = account.create(&chatbot, &observation.new_version(), is_wanted).await;
    if let Err(failure) = &result
        && !failure.may_have_happened
    {
        lock(&context.call_permits).restore(permit, failure);
        return Outcome::Created(result, None);
    }
    // in a task of its own: other objects may wait for the answer to this read, so it must not be dropped half-way
    let read = async move { account.inventory_for_create(&chatbot, Instant::now()).await };
    let list = spawn(read.in_current_span());
    let list = timeout(CONFIRM_TIMEOUT, list).await.ok().and_then(Result::ok);
    Outcome::Created(result, list.and_then(Result::ok))
}

/// Whether the object is still there and active. Asked right before the create is sent, after every wait.
fn is_create_wanted(object: &ChatbotVersion, context: &Context) -> bool {
    let cached = context.versions.get(&object.namespace().unwrap_or_default(), &object.name_any());
    cached.is_some_and(|now| {
        now.metadata.uid == object.metadata.uid
            && now.metadata.deletion_timestamp.is_none()
            && now.spec.suspend != Some(true)
    })
}

/// Another reconcile has taken the permit of the pending call and sends it; this one sends nothing.
pub(super) fn permit_taken(call: ApiCall) -> Failure {
    Failure::new(call, FailureClass::Unsent, "another reconcile of this object sends the request")
}

async fn delete(observation: &Observation, context: &Context) -> Result<(), Failure> {
    let object = &observation.object;
    let (account, chatbot) = account_for_write(observation, context, ApiCall::Delete).await?;
    let id = VersionId::parse(object.version_id().unwrap_or_default())
        .map_err(|invalid| Failure::new(ApiCall::Delete, FailureClass::Unsent, &invalid.to_string()))?;
    let version = VersionToDelete {
        chatbot: object.spec.chatbot_id.clone(),
        id: id.as_str().to_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        number: observation.status().version_number.clone(),
        decided_on: None,
    };
    account.delete(&chatbot, &id, || context.is_needed(&version)).await
}

/// See [`Context::account_for_write`].
async fn account_for_write(
    observation: &Observation,
    context: &Context,
    call: ApiCall,
) -> Result<(Arc<Account>, ChatbotId), Failure> {
    let object = &observation.object;
    let namespace = object.namespace().unwrap_or_default();
    let credentials = object.spec.credentials_ref.as_ref();
    let allow_stale_key = may_use_removed_key(observation);
    context.account_for_write(call, &namespace, credentials, &object.spec.chatbot_id, allow_stale_key).await
}

fn may_use_removed_key(observation: &Observation) -> bool {
    let timeout = observation.config.deletion_timeout;
    plan::may_use_removed_key(&observation.object.metadata, timeout, observation.now)
}
