//! Observe and act for `ChatbotDeployment`.

use std::{collections::HashSet, sync::Arc, time::Instant};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Context, Reconciler,
    cache::{Key, Ref},
    context::{ServiceQuery, no_older_than},
};
use crate::{
    chatcaptain::{ApiCall as ServiceCall, Failure, FailureClass, VersionId},
    crd::{
        ChatbotDeployment, ChatbotDeploymentStatus, ChatbotVersion, CommonStatus, DeletionPolicy,
        LiveEnvironment, VersionSource, annotation,
    },
    plan::{
        Report, ServiceView, annotation_value,
        deployment::{
            Observation, Outcome, RolloutMethod, Step, VersionBeingDeleted, next_step, possibly_live, report,
        },
        is_older,
    },
};

impl Reconciler for ChatbotDeployment {
    const KIND: &'static str = "ChatbotDeployment";
    type Observation = Observation;
    type Step = Step;
    type Outcome = Outcome;
    type Status = ChatbotDeploymentStatus;

    async fn observe(object: &Arc<Self>, context: &Context) -> Observation {
        let uid = object.uid().unwrap_or_default();
        let namespace = object.namespace().unwrap_or_default();
        let announced = object.status.as_ref().and_then(Self::pending_call);
        let reference = match object.spec.version_source() {
            Some(VersionSource::Ref(name)) => context.versions.get(&namespace, name),
            _ => None,
        };
        let commanded = annotation_value(&object.metadata, annotation::ROLLBACK_TO);
        let gate = object.spec.promote_after.as_ref().map(|after| after.deployment_ref.name.as_str());
        let mut facts = Observation {
            service: ServiceView::NotQueried,
            may_call: context.permitted(&uid, announced.as_deref()).is_some(),
            older_claim: older_claim(object, context),
            referenced_version: reference,
            rollback_version: commanded.and_then(|name| context.versions.get(&namespace, name)),
            promotion_source: gate.and_then(|name| context.deployments.get(&namespace, name)),
            versions_being_deleted: leaving(object, context).await,
            reclaimed: reclaimed(object, context),
            in_use_elsewhere: HashSet::new(),
            elsewhere_stable_since: None,
            config: context.config.clone(),
            now: Context::now(),
            jitter: Context::jitter(),
            object: object.clone(),
        };
        (facts.in_use_elsewhere, facts.elsewhere_stable_since) = elsewhere(object, context);
        if object.spec.suspend != Some(true) && facts.older_claim.is_none() {
            facts.service = look(&facts, context).await;
            if next_step(&facts.state()) == Step::DeleteVersion {
                // what is to be deleted must not run now, whatever ran a while ago
                facts.service = look_now(&facts, context).await;
            }
        }
        facts
    }

    fn plan(facts: &Observation) -> Step {
        next_step(&facts.state())
    }

    async fn act(step: Step, facts: &Observation, context: &Context) -> Outcome {
        match step {
            Step::StartRollout(call) => Outcome::RolloutStarted(change(facts, call, context).await),
            Step::DeleteVersion => match facts.deletable() {
                Some(entry) => {
                    let result = retire(facts, &entry.version_id, context).await;
                    Outcome::VersionDeleted(entry.version_id, result)
                }
                None => Outcome::NoCall,
            },
            _ => Outcome::NoCall,
        }
    }

    fn report(facts: &Observation, step: Step, outcome: &Outcome) -> Report<ChatbotDeploymentStatus> {
        report(facts, &facts.state(), step, outcome)
    }

    fn refresh_object(facts: &mut Observation, object: Arc<Self>) {
        facts.object = object;
        facts.now = Context::now();
    }

    fn writes_to_service(step: Step) -> bool {
        matches!(step, Step::StartRollout(_) | Step::DeleteVersion)
    }

    fn pending_call(status: &ChatbotDeploymentStatus) -> Option<String> {
        let operation =
            status.current_operation.as_ref().filter(|operation| operation.call_time.is_none())?;
        Some(format!("{:?} {} {}", operation.operation, operation.version_id, operation.start_time.0))
    }

    fn status(&self) -> Option<&ChatbotDeploymentStatus> {
        self.status.as_ref()
    }

    fn common(status: &ChatbotDeploymentStatus) -> &CommonStatus {
        &status.common
    }

    fn chatbot(&self) -> &str {
        &self.spec.chatbot_id
    }

    fn keys(&self) -> Vec<Key> {
        let namespace = self.namespace().unwrap_or_default();
        let secret = self.spec.credentials_ref.clone().unwrap_or_default();
        let bot = &self.spec.chatbot_id;
        let mut keys = vec![
            Key::secret(&namespace, secret.name()),
            Key::chatbot(bot),
            Key::environment_owner(bot, self.spec.environment.as_str()),
        ];
        let names = [
            self.spec.version_ref.as_ref().map(|r| r.name.as_str()),
            annotation_value(&self.metadata, annotation::ROLLBACK_TO),
        ];
        keys.extend(
            names.into_iter().flatten().map(|name| Key::reference("ChatbotVersion", &namespace, name)),
        );
        if let Some(after) = &self.spec.promote_after {
            keys.push(Key::reference("ChatbotDeployment", &namespace, &after.deployment_ref.name));
        }
        keys
    }

    fn enqueue(reference: Ref<Self>, context: &Context) {
        context.enqueue_deployment(reference);
    }

    fn enqueue_dependents(&self, context: &Context) {
        let (namespace, bot) = (self.namespace().unwrap_or_default(), &self.spec.chatbot_id);
        // whoever is gated by this one, and whoever lost the environment to it
        context.enqueue_deployments(Key::reference("ChatbotDeployment", &namespace, &self.name_any()));
        context.enqueue_deployments(Key::environment_owner(bot, self.spec.environment.as_str()));
        // whoever waits to be taken over, and whoever became or ceased to be live
        let Some(status) = &self.status else { return };
        let retiring = status.pending_deletions.iter().map(|entry| &entry.version_id);
        let ran = status.active.iter().chain(&status.previous).map(|active| &active.version_id);
        for id in retiring.chain(ran) {
            context.enqueue_versions(Key::version(bot, id));
        }
    }
}

/// The older object that decides the same environment.
fn older_claim(object: &ChatbotDeployment, context: &Context) -> Option<String> {
    let decides = context.environment_owner(&object.spec.chatbot_id, object.spec.environment)?;
    let older = decides.metadata.uid != object.metadata.uid && is_older(&decides.metadata, &object.metadata);
    older.then(|| format!("{}/{}", decides.namespace().unwrap_or_default(), decides.name_any()))
}

/// Objects that are being deleted together with a version that runs here, or is about to.
async fn leaving(object: &ChatbotDeployment, context: &Context) -> Vec<VersionBeingDeleted> {
    let Some(status) = &object.status else {
        return Vec::new();
    };
    let active = status.active.as_ref().map(|active| active.version_id.as_str());
    let called = status.current_operation.as_ref().map(|operation| operation.version_id.as_str());
    let late = possibly_live(status, Context::now(), &context.config);
    let noted = status.pending_deletions.iter().map(|entry| entry.version_id.as_str());
    let ids: HashSet<&str> = active.into_iter().chain(called).chain(late).chain(noted).collect();
    let mut leaving = Vec::new();
    for id in ids {
        for version in holders(object, id, context) {
            if version.metadata.deletion_timestamp.is_some() && is_deleted_too(&version, context).await {
                leaving.push(VersionBeingDeleted { version_id: id.to_owned(), name: version.name_any() });
            }
        }
    }
    leaving
}

/// The version itself goes with its object: neither policy nor suspension nor a command keeps it.
async fn is_deleted_too(version: &ChatbotVersion, context: &Context) -> bool {
    // as long as it is not known nothing is taken over
    let Ok(namespace) = context.namespace_policy(version).await else {
        return false;
    };
    let (object, flag) = (version.spec.deletion_policy, context.config.deletion_policy);
    DeletionPolicy::of(object, namespace.as_deref(), flag) == DeletionPolicy::Delete
        && version.spec.suspend != Some(true)
        && annotation_value(&version.metadata, annotation::FORCE_ORPHAN).is_none()
}

/// Ids in `retiring` that an object which stays holds again.
fn reclaimed(object: &ChatbotDeployment, context: &Context) -> HashSet<String> {
    let entries = object.status.iter().flat_map(|status| &status.pending_deletions);
    entries
        .filter(|entry| {
            holders(object, &entry.version_id, context)
                .iter()
                .any(|v| v.metadata.deletion_timestamp.is_none())
        })
        .map(|entry| entry.version_id.clone())
        .collect()
}

fn holders(object: &ChatbotDeployment, id: &str, context: &Context) -> Vec<Arc<ChatbotVersion>> {
    let mut found = context.versions.find(Key::version(&object.spec.chatbot_id, id));
    found.retain(|version| {
        version.spec.chatbot_id == object.spec.chatbot_id && version.version_id() == Some(id)
    });
    found
}

/// What the bot's other environments run or are about to run, and since when, if all of them are known.
fn elsewhere(object: &ChatbotDeployment, context: &Context) -> (HashSet<String>, Option<Timestamp>) {
    let mut busy = HashSet::new();
    let mut since = Some(Timestamp::MAX);
    for environment in LiveEnvironment::ALL.into_iter().filter(|e| *e != object.spec.environment) {
        let slot = context.environment_owner(&object.spec.chatbot_id, environment);
        let Some(status) = slot.as_ref().and_then(|slot| slot.status.as_ref()) else {
            since = None;
            continue;
        };
        since = since.zip(status.active.as_ref()).map(|(since, active)| since.min(active.start_time.0));
        busy.extend(status.active.iter().map(|active| active.version_id.clone()));
        busy.extend(status.target.iter().map(|target| target.version_id.clone()));
        busy.extend(status.current_operation.iter().map(|operation| operation.version_id.clone()));
        busy.extend(possibly_live(status, Context::now(), &context.config).map(str::to_owned));
    }
    (busy, since)
}

/// Where this object is in the service.
fn place<'a>(facts: &'a Observation, namespace: &'a str) -> ServiceQuery<'a> {
    let object = &facts.object;
    let active = object.status.as_ref().and_then(|status| status.active.as_ref());
    ServiceQuery {
        namespace,
        credentials: object.spec.credentials_ref.as_ref(),
        chatbot: &object.spec.chatbot_id,
        version_id: active.map(|active| active.version_id.as_str()),
        with_deployments: true,
        allow_stale_key: object.metadata.deletion_timestamp.is_some(),
    }
}

async fn look_now(facts: &Observation, context: &Context) -> ServiceView {
    let namespace = facts.object.namespace().unwrap_or_default();
    let now = Instant::now();
    context.query_service(&place(facts, &namespace), now, now).await
}

async fn look(facts: &Observation, context: &Context) -> ServiceView {
    let object = &facts.object;
    let status = facts.status();
    let namespace = object.namespace().unwrap_or_default();
    let place = place(facts, &namespace);
    let (now, usual) = (Instant::now(), no_older_than(facts.interval()));
    let hurried = facts.is_reconcile_requested();
    let moving = status.current_operation.as_ref().is_some_and(|operation| operation.call_time.is_some());
    let list_since = if hurried { now } else { usual };
    let status_since = if hurried || moving { now } else { usual };
    let look = context.query_service(&place, list_since, status_since).await;
    if let ServiceView::Available { inventory, deployments, .. } = &look {
        let wanted = facts.referenced_version.as_ref().and_then(|version| version.version_id());
        let missing = wanted.is_some_and(|id| inventory.version(id).is_none());
        // what is live is told by the list alone, or names a version that a fresher list would have
        if inventory.requested_at < now && (missing || moving && deployments.is_none()) {
            return context.query_service(&place, now, status_since).await;
        }
    }
    look
}

async fn change(facts: &Observation, call: RolloutMethod, context: &Context) -> Result<(), Failure> {
    let object = &facts.object;
    let service_call =
        if call == RolloutMethod::Rollback { ServiceCall::Rollback } else { ServiceCall::Deploy };
    let uid = object.uid().unwrap_or_default();
    let status = facts.status();
    let announced = ChatbotDeployment::pending_call(status).unwrap_or_default();
    let id = version_id(
        service_call,
        status.current_operation.as_ref().map(|operation| operation.version_id.as_str()),
    )?;
    let namespace = object.namespace().unwrap_or_default();
    let credentials = object.spec.credentials_ref.as_ref();
    let (account, bot) =
        context.target(service_call, &namespace, credentials, &object.spec.chatbot_id, false).await?;
    context.spend(&uid);
    let result = match call {
        RolloutMethod::Deploy => account.deploy(&bot, &id, facts.environment()).await,
        RolloutMethod::Rollback => {
            account.rollback(&bot, &id, facts.environment(), &rollback_body(facts)).await
        }
    };
    if let Err(failure) = &result
        && failure.was_not_sent()
    {
        // it was not made, so it may still be
        context.permit(&uid, announced);
    }
    result
}

/// The environment, and whatever else the user knows the service to want.
fn rollback_body(facts: &Observation) -> serde_json::Value {
    let mut body = serde_json::Map::new();
    body.insert("environment".to_owned(), facts.environment().into());
    let parameters = facts.object.spec.rollback.as_ref().and_then(|rollback| rollback.parameters.as_ref());
    for (name, value) in parameters.into_iter().flatten() {
        body.insert(name.clone(), value.as_str().into());
    }
    body.into()
}

async fn retire(facts: &Observation, id: &str, context: &Context) -> Result<(), Failure> {
    let object = &facts.object;
    let id = version_id(ServiceCall::Delete, Some(id))?;
    let namespace = object.namespace().unwrap_or_default();
    let credentials = object.spec.credentials_ref.as_ref();
    let (account, bot) =
        context.target(ServiceCall::Delete, &namespace, credentials, &object.spec.chatbot_id, true).await?;
    account.delete(&bot, &id).await
}

fn version_id(call: ServiceCall, id: Option<&str>) -> Result<VersionId, Failure> {
    VersionId::parse(id.unwrap_or_default())
        .map_err(|bad| Failure::new(call, FailureClass::Unsent, &bad.to_string()))
}
