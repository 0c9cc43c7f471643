//! One pass, carried out the way the controller does it: observe, plan, act, tell, publish.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chatcaptain_operator::{
    chatcaptain::Inventory,
    crd::{ChatbotVersion, ChatbotVersionStatus, DeletionPolicy, LiveEnvironment, annotation},
    plan::{
        Report, Requeue, ServiceView, Unavailable, UnavailableReason, annotation_value,
        version::{Observation, Outcome, Step, next_step, report},
    },
};

use super::world::{Before, RULES, VersionWorld};
use crate::{
    budget::Trouble,
    explore::{Broken, Choices},
    laws::{at, is_guarded, reason},
    service::{Shot, id_of},
};

/// One of each kind: a human must act, nobody can authenticate, it passes by itself.
const BLOCKED: [UnavailableReason; 3] = [
    UnavailableReason::ChatbotNotFound,
    UnavailableReason::AuthenticationFailed,
    UnavailableReason::ServiceUnavailable,
];

/// What a look brings.
#[derive(Clone, Copy, Debug)]
enum Glance {
    Shown,
    Blocked(UnavailableReason),
}

impl VersionWorld {
    /// The object's turn comes, and it is looked at once.
    pub fn pass(&mut self, choices: &mut Choices) -> Result<bool, Broken> {
        let Some(object) = self.object.clone() else {
            self.now += 3600;
            return Ok(true);
        };
        self.now += self.sleep;
        self.sleep = 0;
        let mut facts = self.observe(&object, choices);
        let state = facts.state();
        let step = next_step(&state);
        self.check_step(&facts, step)?;
        let outcome = match step {
            Step::Create => self.create(&facts, choices)?,
            Step::Delete => self.delete(choices)?,
            _ => Some(Outcome::NoCall),
        };
        let Some(outcome) = outcome else {
            // the process died within the call
            return Ok(false);
        };
        // a call takes its time, and the object may have changed meanwhile
        facts.now = at(self.now);
        facts.object.clone_from(self.object.as_ref().unwrap_or(&object));
        let told = report(&facts, &state, step, &outcome);
        self.check_told(&facts, step, &told)?;
        let is_call = matches!(step, Step::Create | Step::Delete);
        let wrote = self.publish(step, &told);
        // our own write wakes the object at once
        self.sleep = if wrote { 0 } else { sleep(told.requeue) };
        Ok(!is_call && !wrote && matches!(step, Step::Wait(_)))
    }

    fn observe(&mut self, object: &Arc<ChatbotVersion>, choices: &mut Choices) -> Observation {
        let deployment = self.deployment();
        let mut facts = Observation {
            object: object.clone(),
            service: ServiceView::NotQueried,
            may_call: self.permit.is_some(),
            search_elapsed: self.searched(object),
            held_by_others: HashSet::new(),
            deletion_pending: HashSet::new(),
            older_claim: self.older.then(|| "ns/older".to_owned()),
            older_create_pending: false,
            environment_owners: deployment
                .map(|deployment| BTreeMap::from([(LiveEnvironment::Test, deployment)]))
                .unwrap_or_default(),
            namespace_policy: None,
            config: RULES.clone(),
            now: at(self.now),
            attempt_id: format!("attempt {}", self.looks),
            jitter: 0.0,
        };
        if needs_look(&facts) {
            facts.service = self.look(&facts, choices);
        }
        if let ServiceView::Available { inventory, .. } = &facts.service {
            facts.held_by_others = self.claimed(&facts, inventory);
            facts.older_create_pending = !inventory.has_descriptions() && self.rival;
        }
        facts
    }

    fn searched(&mut self, object: &ChatbotVersion) -> Duration {
        let intent = object.status.as_ref().and_then(|status| status.pending_create.as_ref());
        let unconfirmed = intent.filter(|intent| intent.search_start_time.is_some());
        self.searching = unconfirmed.map(|_| self.searching.unwrap_or(self.now));
        let since = self.searching.unwrap_or(self.now);
        Duration::from_secs((self.now - since).unsigned_abs())
    }

    fn look(&mut self, facts: &Observation, choices: &mut Choices) -> ServiceView {
        let mut glances = vec![Glance::Shown];
        if self.budget.allows(Trouble::Blindness) {
            glances.extend(BLOCKED.map(Glance::Blocked));
        }
        if let Glance::Blocked(blocked) = choices.pick(&glances) {
            self.budget.spend(Trouble::Blindness);
            return ServiceView::Unavailable(Unavailable {
                reason: blocked,
                message: "The service tells nothing; see why.".to_owned(),
                retry_after: None,
            });
        }
        self.looks += 1;
        let fresh = Shot { view: self.service.view(self.now), at: self.now, look: self.looks };
        let shot = self.shot.take().filter(|shot| self.will_do(facts, shot)).unwrap_or(fresh);
        let ours = facts.status().version_id.as_ref().is_some_and(|id| shot.view.shows(id));
        self.trusted |= ours || shot.view.inventory(0).contains_owner(&RULES.owner_id);
        let look = shot.view.look(self.now - shot.at, self.trusted);
        self.shot = Some(shot);
        look
    }

    /// Whether an earlier look is new enough.
    fn will_do(&self, facts: &Observation, shot: &Shot) -> bool {
        let object = &facts.object;
        let status = facts.status();
        match self.permit {
            Some(intended) => shot.look > intended,
            None if object.metadata.deletion_timestamp.is_some() || facts.is_reconcile_requested() => false,
            None if status.pending_create.is_some() => false,
            None if reason(&status.common) == "WaitingForVisibility" => false,
            None => self.now - shot.at <= 60,
        }
    }

    fn claimed(&self, facts: &Observation, inventory: &Inventory) -> HashSet<String> {
        let status = facts.status();
        let held = id_of(1);
        let candidates = facts.candidates(inventory);
        let is_candidate = candidates.iter().any(|version| version.id == held);
        let recorded = status.version_id.is_some() && status.pending_create.is_none();
        let other = self.setup.before == Before::Held && is_candidate && !recorded;
        other.then(|| held.as_str().to_owned()).into_iter().collect()
    }

    /// Writes the finalizer or the status, if that says something new.
    fn publish(&mut self, step: Step, told: &Report<ChatbotVersionStatus>) -> bool {
        let Some(object) = self.object.clone() else {
            return false;
        };
        if let Some(set) = told.finalizer {
            self.guard(set);
            if let Step::RemoveFinalizer(why) = step {
                self.released = Some(why);
            }
            return true;
        }
        if object.status.as_ref() == Some(&told.status) {
            return false;
        }
        let announced = |status: &ChatbotVersionStatus| {
            let intent = status.pending_create.as_ref();
            let unsent = intent.filter(|intent| intent.search_start_time.is_none());
            unsent.map(|intent| intent.attempt_id.clone())
        };
        let before = object.status.as_ref().and_then(announced);
        let now = announced(&told.status);
        if !matches!(step, Step::Create | Step::Delete) && now.is_some() && now != before {
            self.permit = Some(self.looks);
        } else if now.is_none() {
            self.permit = None;
        }
        self.edit(|object| object.status = Some(told.status.clone()));
        true
    }
}

fn needs_look(facts: &Observation) -> bool {
    let (meta, spec) = (&facts.object.metadata, &facts.object.spec);
    let kept = spec.deletion_policy == Some(DeletionPolicy::Retain)
        || annotation_value(meta, annotation::FORCE_ORPHAN).is_some();
    let left = meta.deletion_timestamp.is_some() && kept;
    is_guarded(meta) && spec.suspend != Some(true) && facts.older_claim.is_none() && !left
}

/// Whole seconds until the next pass.
fn sleep(pace: Requeue) -> i64 {
    match pace {
        Requeue::Immediately => 0,
        Requeue::After(pause) => (pause + Duration::from_millis(999)).as_secs().max(1).cast_signed(),
        Requeue::OnChange => 3600,
    }
}
