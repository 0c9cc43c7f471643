//! One pass, carried out the way the controller does it: observe, plan, act, tell, publish.

use std::{collections::HashSet, sync::Arc};

use chatcaptain_operator::{
    crd::{ChatbotDeployment, ChatbotDeploymentStatus},
    plan::{
        Report, Requeue, ServiceView, Unavailable, UnavailableReason,
        deployment::{Observation, Outcome, Step, VersionBeingDeleted, next_step, report},
    },
};

use super::world::{DeploymentWorld, Holder, NAMES, id_at};
use crate::{
    budget::Trouble,
    explore::{Broken, Choices},
    laws::at,
    service::Shot,
    version::RULES,
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

impl DeploymentWorld {
    /// The object's turn comes, and it is looked at once.
    pub fn pass(&mut self, choices: &mut Choices) -> Result<bool, Broken> {
        let Some(object) = self.object.clone() else {
            self.now += 3600;
            self.service.pass_time(self.now);
            return Ok(true);
        };
        self.now += self.sleep;
        self.sleep = 0;
        self.service.pass_time(self.now);
        let mut facts = self.observe(&object, choices);
        let step = next_step(&facts.state());
        self.check_step(&facts, step)?;
        let outcome = match step {
            Step::StartRollout(call) => self.call(&facts, call, choices)?,
            Step::DeleteVersion => self.retire(&facts, choices)?,
            _ => Some(Outcome::NoCall),
        };
        let Some(outcome) = outcome else {
            // the process died within the call
            return Ok(false);
        };
        // a call takes its time, and the object may have changed meanwhile
        facts.now = at(self.now);
        facts.object.clone_from(self.object.as_ref().unwrap_or(&object));
        let told = report(&facts, &facts.state(), step, &outcome);
        self.check_told(&facts, step, &outcome, &told)?;
        let wrote = self.publish(step, &told);
        // our own write wakes the object at once
        self.sleep = if wrote { 0 } else { sleep(told.requeue) };
        Ok(!wrote && matches!(step, Step::Wait(_)))
    }

    fn observe(&mut self, object: &Arc<ChatbotDeployment>, choices: &mut Choices) -> Observation {
        let announced = object.status.as_ref().and_then(announced);
        let wanted = self.wanted();
        let mut facts = Observation {
            object: object.clone(),
            service: ServiceView::NotQueried,
            may_call: self.permit.is_some() && self.permit == announced,
            older_claim: self.older.then(|| "ns/older".to_owned()),
            referenced_version: if self.setup.by_id { None } else { self.version(wanted) },
            rollback_version: None,
            promotion_source: None,
            versions_being_deleted: self.leaving(),
            reclaimed: self.reclaimed(),
            in_use_elsewhere: HashSet::new(),
            elsewhere_stable_since: self.setup.elsewhere_known.then(|| at(self.now)),
            config: RULES.clone(),
            now: at(self.now),
            jitter: 0.0,
        };
        if object.spec.suspend != Some(true) && !self.older {
            facts.service = self.look(&facts, choices);
        }
        facts
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
        let status = facts.status();
        self.trusted |= status.active.as_ref().is_some_and(|active| shot.view.shows(&active.version_id));
        let look = shot.view.look(self.now - shot.at, self.trusted);
        self.shot = Some(shot);
        look
    }

    /// Whether an earlier look is new enough: not while something moves or is to be deleted.
    fn will_do(&self, facts: &Observation, shot: &Shot) -> bool {
        let status = facts.status();
        let requested = chatcaptain_operator::plan::reconcile_requested(
            &facts.object.metadata,
            status.common.last_handled_reconcile_at.as_deref(),
        );
        let moving = status.current_operation.as_ref().is_some_and(|operation| operation.call_time.is_some());
        let id = facts.referenced_version.as_ref().and_then(|version| version.version_id());
        let missing = id.is_some_and(|id| !shot.view.shows(id));
        let hurried = requested || moving || missing || !status.pending_deletions.is_empty();
        !hurried && self.now - shot.at <= 60
    }

    /// Versions that run here, or are about to or noted, and whose objects are being deleted.
    fn leaving(&self) -> Vec<VersionBeingDeleted> {
        let status = self.status();
        let active = status.active.as_ref().map(|active| &active.version_id);
        let coming = status.current_operation.as_ref().map(|operation| &operation.version_id);
        let noted = status.pending_deletions.iter().map(|entry| &entry.version_id);
        let ids: HashSet<&String> = active.into_iter().chain(coming).chain(noted).collect();
        (0..2)
            .filter(|index| self.holders[*index] == Holder::Leaving && ids.contains(&id_at(*index)))
            .map(|index| VersionBeingDeleted { version_id: id_at(index), name: NAMES[index].to_owned() })
            .collect()
    }

    /// Versions that were to be deleted and are somebody's again.
    fn reclaimed(&self) -> HashSet<String> {
        let noted = self.status().pending_deletions.iter().map(|entry| entry.version_id.clone());
        noted
            .filter(|id| (0..2).any(|index| id_at(index) == *id && self.holders[index] == Holder::There))
            .collect()
    }

    /// Writes the finalizer or the status, if that says something new.
    fn publish(&mut self, step: Step, told: &Report<ChatbotDeploymentStatus>) -> bool {
        let Some(object) = self.object.clone() else {
            return false;
        };
        if let Some(set) = told.finalizer {
            self.orphans.extend(told.orphans.iter().cloned());
            self.guard(set);
            return true;
        }
        if object.status.as_ref() == Some(&told.status) {
            return false;
        }
        let before = object.status.as_ref().and_then(announced);
        let now = announced(&told.status);
        if !matches!(step, Step::StartRollout(_) | Step::DeleteVersion) && now.is_some() && now != before {
            self.permit = now;
        }
        self.edit(|object| object.status = Some(told.status.clone()));
        true
    }
}

/// Names the call that status has announced.
fn announced(status: &ChatbotDeploymentStatus) -> Option<String> {
    let operation = status.current_operation.as_ref().filter(|operation| operation.call_time.is_none())?;
    Some(format!("{:?} {} {}", operation.operation, operation.version_id, operation.start_time.0))
}

/// Whole seconds until the next pass.
fn sleep(pace: Requeue) -> i64 {
    match pace {
        Requeue::Immediately => 0,
        Requeue::After(pause) => {
            (pause + std::time::Duration::from_millis(999)).as_secs().max(1).cast_signed()
        }
        Requeue::OnChange => 3600,
    }
}
