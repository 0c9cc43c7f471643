//! Observe and act for `ChatbotVersion`.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::ResourceExt;
use tokio::{spawn, time::timeout};

use super::{
    Context, Kind,
    cache::{Key, Ref},
    context::{Place, since},
};
use crate::{
    chatcaptain::{Account, Call, ChatbotId, Class, Failure, Inventory, VersionId},
    crd::{
        ChatbotVersion, ChatbotVersionStatus, CommonStatus, DeletionPolicy, FINALIZER, Reason, annotation,
    },
    plan::{
        Look, Told, annotated, is_older,
        version::{Facts, Outcome, Step, next, tell},
    },
};

/// How long a create's record waits for the list that confirms it.
const CONFIRM: Duration = Duration::from_secs(2);

impl Kind for ChatbotVersion {
    const KIND: &'static str = "ChatbotVersion";
    type Facts = Facts;
    type Step = Step;
    type Outcome = Outcome;
    type Status = ChatbotVersionStatus;

    async fn observe(object: &Arc<Self>, context: &Context) -> Facts {
        let uid = object.uid().unwrap_or_default();
        let announced = object.status.as_ref().and_then(Self::announced);
        let permit = context.permitted(&uid, announced.as_deref());
        let older_claim = older_claim(object, context);
        let deleting = object.metadata.deletion_timestamp.is_some();
        let policy = if deleting { context.namespace_policy(object).await } else { Ok(None) };
        let (namespace_policy, unknown_policy) = match policy {
            Ok(policy) => (policy, None),
            Err(obstacle) => (None, Some(obstacle)),
        };
        let mut facts = Facts {
            object: object.clone(),
            look: Look::NotAsked,
            permit: permit.is_some(),
            searched: context.searched(&uid, unconfirmed(object)),
            claimed: HashSet::new(),
            going: HashSet::new(),
            rival: false,
            slots: context.slots(&object.spec.chatbot_id),
            older_claim,
            namespace_policy,
            rules: context.rules.clone(),
            now: Context::now(),
            attempt: format!("{:032x}", rand::random::<u128>()),
            jitter: Context::jitter(),
        };
        if let Some(obstacle) = unknown_policy {
            facts.look = Look::Blocked(obstacle);
        } else if needs_look(&facts) {
            facts.look = look(&facts, permit, context).await;
        }
        if let Look::Shown { inventory, .. } = &facts.look {
            facts.claimed = claimed(&facts, inventory, context);
            facts.going = going(&facts, inventory, context).await;
            facts.rival = !inventory.is_described() && is_rivalled(object, context);
        }
        facts
    }

    fn next(facts: &Facts) -> Step {
        next(&facts.see())
    }

    async fn act(step: Step, facts: &Facts, context: &Context) -> Outcome {
        match step {
            Step::Create => create(facts, context).await,
            Step::Delete => Outcome::Deleted(delete(facts, context).await),
            _ => Outcome::Nothing,
        }
    }

    fn tell(facts: &Facts, step: Step, outcome: &Outcome) -> Told<ChatbotVersionStatus> {
        tell(facts, step, outcome)
    }

    fn rebase(facts: &mut Facts, object: Arc<Self>) {
        facts.object = object;
        facts.now = Context::now();
    }

    fn is_call(step: Step) -> bool {
        matches!(step, Step::Create | Step::Delete)
    }

    fn announced(status: &ChatbotVersionStatus) -> Option<String> {
        status.intent.as_ref().filter(|i| i.unconfirmed_since.is_none()).map(|intent| intent.attempt.clone())
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
        if self.status.as_ref().is_some_and(|status| status.intent.is_some()) {
            keys.push(Key::creating(bot, self.version_name()));
        }
        keys
    }

    fn wake(reference: Ref<Self>, context: &Context) {
        context.wake_version(reference);
    }

    fn wake_others(&self, context: &Context) {
        let (namespace, bot) = (self.namespace().unwrap_or_default(), &self.spec.chatbot_id);
        context.wake_deployments(Key::reference("ChatbotVersion", &namespace, &self.name_any()));
        if self.metadata.deletion_timestamp.is_some() {
            // whoever runs it takes its deletion over
            context.wake_deployments(Key::chatbot(bot));
        }
        if let Some(id) = self.version_id() {
            // whoever shares its id may hold it now
            context.wake_versions(Key::version(bot, id));
        }
    }
}

/// The attempt whose end is unknown.
fn unconfirmed(object: &ChatbotVersion) -> Option<&str> {
    let intent = object.status.as_ref()?.intent.as_ref()?;
    intent.unconfirmed_since.as_ref().map(|_| intent.attempt.as_str())
}

/// The older object that holds the same version id.
fn older_claim(object: &ChatbotVersion, context: &Context) -> Option<String> {
    let holders = context.holders(object, object.version_id()?);
    let older = holders.into_iter().find(|other| is_older(&other.metadata, &object.metadata))?;
    Some(format!("{}/{}", older.namespace().unwrap_or_default(), older.name_any()))
}

/// Nothing is asked of the service where the answer could not matter.
fn needs_look(facts: &Facts) -> bool {
    let meta = &facts.object.metadata;
    let kept =
        facts.policy() == DeletionPolicy::Retain || annotated(meta, annotation::FORCE_ORPHAN).is_some();
    let left = meta.deletion_timestamp.is_some() && kept;
    let guarded = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    guarded && facts.object.spec.suspend != Some(true) && facts.older_claim.is_none() && !left
}

async fn look(facts: &Facts, permit: Option<Instant>, context: &Context) -> Look {
    let object = &facts.object;
    let status = facts.status();
    let deleting = object.metadata.deletion_timestamp.is_some();
    let usual = since(facts.interval());
    let asked = facts.is_requested();
    // what is about to come or go shows only in a newer list
    let passing = [Reason::WaitingForVisibility, Reason::WaitingForDeletion].map(Reason::as_str);
    let unlisted = status.common.conditions.iter().any(|c| passing.contains(&c.reason.as_str()));
    let list_since = match permit {
        _ if unlisted => Instant::now(),
        // a look that is newer than the intent, and that every create decided meanwhile can share
        Some(written) => written,
        None if deleting || asked || status.intent.is_some() => Instant::now(),
        None => usual,
    };
    let namespace = object.namespace().unwrap_or_default();
    let place = Place {
        namespace: &namespace,
        credentials: object.spec.credentials_ref.as_ref(),
        chatbot: &object.spec.chatbot_id,
        version_id: status.version_id.as_deref(),
        // what does not exist yet runs nowhere
        live: status.version_id.is_some(),
        last_good: deleting,
    };
    let status_since = if deleting || asked { Instant::now() } else { usual };
    context.look(&place, list_since, status_since).await
}

/// The versions that could be the object's while it does not know which is.
fn candidates<'a>(facts: &Facts, inventory: &'a Inventory) -> Vec<&'a VersionId> {
    if facts.object.version_id().is_some() && facts.status().intent.is_none() {
        return Vec::new();
    }
    facts.candidates(inventory).into_iter().map(|version| &version.id).collect()
}

/// The candidates that other objects hold.
fn claimed(facts: &Facts, inventory: &Inventory, context: &Context) -> HashSet<String> {
    let candidates = candidates(facts, inventory).into_iter().map(VersionId::as_str);
    candidates.filter(|id| !context.holders(&facts.object, id).is_empty()).map(str::to_owned).collect()
}

/// The candidates whose deletion this process called for within the grace.
async fn going(facts: &Facts, inventory: &Inventory, context: &Context) -> HashSet<String> {
    let candidates = candidates(facts, inventory);
    if candidates.is_empty() {
        return HashSet::new();
    }
    let Ok((account, bot)) = target(facts, context, Call::List, true).await else {
        return HashSet::new();
    };
    let grace = facts.rules.visibility_grace;
    let going = candidates.into_iter().filter(|id| account.is_going(&bot, id, grace));
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

async fn create(facts: &Facts, context: &Context) -> Outcome {
    let uid = facts.object.uid().unwrap_or_default();
    let announced = facts.object.status.as_ref().and_then(ChatbotVersion::announced).unwrap_or_default();
    let (account, bot) = match target(facts, context, Call::Create, false).await {
        Ok(target) => target,
        Err(failure) => return Outcome::Created(Err(failure), None),
    };
    context.spend(&uid);
    let result = account.create(&bot, &facts.new_version()).await;
    if let Err(failure) = &result
        && !failure.may_have_happened
    {
        if failure.is_unmade() {
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

async fn delete(facts: &Facts, context: &Context) -> Result<(), Failure> {
    let (account, bot) = target(facts, context, Call::Delete, true).await?;
    let id = VersionId::parse(facts.object.version_id().unwrap_or_default())
        .map_err(|bad| Failure::new(Call::Delete, Class::Unsent, &bad.to_string()))?;
    account.delete(&bot, &id).await
}

/// The account and bot for a change; a failure here means that nothing was sent.
async fn target(
    facts: &Facts,
    context: &Context,
    call: Call,
    last_good: bool,
) -> Result<(Arc<Account>, ChatbotId), Failure> {
    let namespace = facts.object.namespace().unwrap_or_default();
    let credentials = facts.object.spec.credentials_ref.as_ref();
    context.change(call, &namespace, credentials, &facts.object.spec.chatbot_id, last_good).await
}
