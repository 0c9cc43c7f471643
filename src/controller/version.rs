//! Observe and act for `ChatbotVersion`.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::ResourceExt;
use tokio::{spawn, time::timeout};

use super::{
    Context, Reconciler,
    cache::{Key, Ref},
    context::{ServiceQuery, no_older_than},
};
use crate::{
    chatcaptain::{Account, ApiCall, ChatbotId, Failure, FailureClass, Inventory, VersionId},
    crd::{
        ChatbotVersion, ChatbotVersionStatus, CommonStatus, DeletionPolicy, FINALIZER, Reason, annotation,
    },
    plan::{
        Report, ServiceView, annotation_value, is_older,
        version::{Observation, Outcome, Step, next_step, report},
    },
};

/// How long a create's record waits for the list that confirms it.
const CONFIRM: Duration = Duration::from_secs(2);

impl Reconciler for ChatbotVersion {
    const KIND: &'static str = "ChatbotVersion";
    type Observation = Observation;
    type Step = Step;
    type Outcome = Outcome;
    type Status = ChatbotVersionStatus;

    async fn observe(object: &Arc<Self>, context: &Context) -> Observation {
        let uid = object.uid().unwrap_or_default();
        let announced = object.status.as_ref().and_then(Self::pending_call);
        let permit = context.permitted(&uid, announced.as_deref());
        let older_claim = older_claim(object, context);
        let deleting = object.metadata.deletion_timestamp.is_some();
        let policy = if deleting { context.namespace_policy(object).await } else { Ok(None) };
        let (namespace_policy, unknown_policy) = match policy {
            Ok(policy) => (policy, None),
            Err(obstacle) => (None, Some(obstacle)),
        };
        let mut facts = Observation {
            object: object.clone(),
            service: ServiceView::NotQueried,
            may_call: permit.is_some(),
            search_elapsed: context.search_elapsed(&uid, unconfirmed(object)),
            held_by_others: HashSet::new(),
            deletion_pending: HashSet::new(),
            older_create_pending: false,
            environment_owners: context.environment_owners(&object.spec.chatbot_id),
            older_claim,
            namespace_policy,
            config: context.config.clone(),
            now: Context::now(),
            attempt_id: format!("{:032x}", rand::random::<u128>()),
            jitter: Context::jitter(),
        };
        if let Some(obstacle) = unknown_policy {
            facts.service = ServiceView::Unavailable(obstacle);
        } else if needs_look(&facts) {
            facts.service = look(&facts, permit, context).await;
        }
        if let ServiceView::Available { inventory, .. } = &facts.service {
            facts.held_by_others = claimed(&facts, inventory, context);
            facts.deletion_pending = going(&facts, inventory, context).await;
            facts.older_create_pending = !inventory.has_descriptions() && is_rivalled(object, context);
        }
        facts
    }

    fn plan(facts: &Observation) -> Step {
        next_step(&facts.state())
    }

    async fn act(step: Step, facts: &Observation, context: &Context) -> Outcome {
        match step {
            Step::Create => create(facts, context).await,
            Step::Delete => Outcome::Deleted(delete(facts, context).await),
            _ => Outcome::NoCall,
        }
    }

    fn report(facts: &Observation, step: Step, outcome: &Outcome) -> Report<ChatbotVersionStatus> {
        report(facts, &facts.state(), step, outcome)
    }

    fn refresh_object(facts: &mut Observation, object: Arc<Self>) {
        facts.object = object;
        facts.now = Context::now();
    }

    fn writes_to_service(step: Step) -> bool {
        matches!(step, Step::Create | Step::Delete)
    }

    fn pending_call(status: &ChatbotVersionStatus) -> Option<String> {
        status
            .pending_create
            .as_ref()
            .filter(|i| i.search_start_time.is_none())
            .map(|intent| intent.attempt_id.clone())
    }

    fn status(&self) -> Option<&ChatbotVersionStatus> {
        self.status.as_ref()
    }

    fn common(status: &ChatbotVersionStatus) -> &CommonStatus {
        &status.common
    }

    fn chatbot(&self) -> &str {
        &self.spec.chatbot_id
    }

    fn keys(&self) -> Vec<Key> {
        let namespace = self.namespace().unwrap_or_default();
        let secret = self.spec.credentials_ref.clone().unwrap_or_default();
        let bot = &self.spec.chatbot_id;
        let mut keys = vec![Key::secret(&namespace, secret.name())];
        keys.extend(self.version_id().map(|id| Key::version(bot, id)));
        if self.status.as_ref().is_some_and(|status| status.pending_create.is_some()) {
            keys.push(Key::creating(bot, self.version_name()));
        }
        keys
    }

    fn enqueue(reference: Ref<Self>, context: &Context) {
        context.enqueue_version(reference);
    }

    fn enqueue_dependents(&self, context: &Context) {
        let (namespace, bot) = (self.namespace().unwrap_or_default(), &self.spec.chatbot_id);
        context.enqueue_deployments(Key::reference("ChatbotVersion", &namespace, &self.name_any()));
        if self.metadata.deletion_timestamp.is_some() {
            // whoever runs it takes its deletion over
            context.enqueue_deployments(Key::chatbot(bot));
        }
        if let Some(id) = self.version_id() {
            // whoever shares its id may hold it now
            context.enqueue_versions(Key::version(bot, id));
        }
    }
}

/// The attempt whose end is unknown.
fn unconfirmed(object: &ChatbotVersion) -> Option<&str> {
    let intent = object.status.as_ref()?.pending_create.as_ref()?;
    intent.search_start_time.as_ref().map(|_| intent.attempt_id.as_str())
}

/// The older object that holds the same version id.
fn older_claim(object: &ChatbotVersion, context: &Context) -> Option<String> {
    let holders = context.holders(object, object.version_id()?);
    let older = holders.into_iter().find(|other| is_older(&other.metadata, &object.metadata))?;
    Some(format!("{}/{}", older.namespace().unwrap_or_default(), older.name_any()))
}

/// Nothing is asked of the service where the answer could not matter.
fn needs_look(facts: &Observation) -> bool {
    let meta = &facts.object.metadata;
    let kept = facts.deletion_policy() == DeletionPolicy::Retain
        || annotation_value(meta, annotation::FORCE_ORPHAN).is_some();
    let left = meta.deletion_timestamp.is_some() && kept;
    let guarded = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    guarded && facts.object.spec.suspend != Some(true) && facts.older_claim.is_none() && !left
}

async fn look(facts: &Observation, permit: Option<Instant>, context: &Context) -> ServiceView {
    let object = &facts.object;
    let status = facts.status();
    let deleting = object.metadata.deletion_timestamp.is_some();
    let usual = no_older_than(facts.interval());
    let asked = facts.is_reconcile_requested();
    // what is about to come or go shows only in a newer list
    let passing = [Reason::WaitingForVisibility, Reason::WaitingForDeletion].map(Reason::as_str);
    let unlisted = status.common.conditions.iter().any(|c| passing.contains(&c.reason.as_str()));
    let list_since = match permit {
        _ if unlisted => Instant::now(),
        // a look that is newer than the intent, and that every create decided meanwhile can share
        Some(written) => written,
        None if deleting || asked || status.pending_create.is_some() => Instant::now(),
        None => usual,
    };
    let namespace = object.namespace().unwrap_or_default();
    let place = ServiceQuery {
        namespace: &namespace,
        credentials: object.spec.credentials_ref.as_ref(),
        chatbot: &object.spec.chatbot_id,
        version_id: status.version_id.as_deref(),
        // what does not exist yet runs nowhere
        with_deployments: status.version_id.is_some(),
        allow_stale_key: deleting,
    };
    let status_since = if deleting || asked { Instant::now() } else { usual };
    context.query_service(&place, list_since, status_since).await
}

/// The versions that could be the object's while it does not know which is.
fn candidates<'a>(facts: &Observation, inventory: &'a Inventory) -> Vec<&'a VersionId> {
    if facts.object.version_id().is_some() && facts.status().pending_create.is_none() {
        return Vec::new();
    }
    facts.candidates(inventory).into_iter().map(|version| &version.id).collect()
}

/// The candidates that other objects hold.
fn claimed(facts: &Observation, inventory: &Inventory, context: &Context) -> HashSet<String> {
    let candidates = candidates(facts, inventory).into_iter().map(VersionId::as_str);
    candidates.filter(|id| !context.holders(&facts.object, id).is_empty()).map(str::to_owned).collect()
}

/// The candidates whose deletion this process called for within the grace.
async fn going(facts: &Observation, inventory: &Inventory, context: &Context) -> HashSet<String> {
    let candidates = candidates(facts, inventory);
    if candidates.is_empty() {
        return HashSet::new();
    }
    let Ok((account, bot)) = target(facts, context, ApiCall::List, true).await else {
        return HashSet::new();
    };
    let grace = facts.config.visibility_grace;
    let going = candidates.into_iter().filter(|id| account.is_delete_pending(&bot, id, grace));
    going.map(|id| id.as_str().to_owned()).collect()
}

/// An older object has a create under way for a version of the same name.
fn is_rivalled(object: &ChatbotVersion, context: &Context) -> bool {
    let found = context.versions.find(Key::creating(&object.spec.chatbot_id, object.version_name()));
    found.iter().any(|other| {
        other.metadata.uid != object.metadata.uid
            && other.spec.chatbot_id == object.spec.chatbot_id
            && other.version_name() == object.version_name()
            && is_older(&other.metadata, &object.metadata)
    })
}

async fn create(facts: &Observation, context: &Context) -> Outcome {
    let uid = facts.object.uid().unwrap_or_default();
    let announced = facts.object.status.as_ref().and_then(ChatbotVersion::pending_call).unwrap_or_default();
    let (account, bot) = match target(facts, context, ApiCall::Create, false).await {
        Ok(target) => target,
        Err(failure) => return Outcome::Created(Err(failure), None),
    };
    context.spend(&uid);
    let result = account.create(&bot, &facts.new_version()).await;
    if let Err(failure) = &result
        && !failure.may_have_happened
    {
        if failure.was_not_sent() {
            // it was not sent, so it may still be
            context.permit(&uid, announced);
        }
        return Outcome::Created(result, None);
    }
    // in a task of its own: a call that is dropped half-way may be the one whose answer everybody waits for
    let list = spawn(async move { account.inventory(&bot, Instant::now()).await });
    let list = timeout(CONFIRM, list).await.ok().and_then(Result::ok);
    Outcome::Created(result, list.and_then(Result::ok))
}

async fn delete(facts: &Observation, context: &Context) -> Result<(), Failure> {
    let (account, bot) = target(facts, context, ApiCall::Delete, true).await?;
    let id = VersionId::parse(facts.object.version_id().unwrap_or_default())
        .map_err(|bad| Failure::new(ApiCall::Delete, FailureClass::Unsent, &bad.to_string()))?;
    account.delete(&bot, &id).await
}

/// The account and bot for a change; a failure here means that nothing was sent.
async fn target(
    facts: &Observation,
    context: &Context,
    call: ApiCall,
    last_good: bool,
) -> Result<(Arc<Account>, ChatbotId), Failure> {
    let namespace = facts.object.namespace().unwrap_or_default();
    let credentials = facts.object.spec.credentials_ref.as_ref();
    context.target(call, &namespace, credentials, &facts.object.spec.chatbot_id, last_good).await
}
