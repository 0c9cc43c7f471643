//! The situations from which the exploration starts.

use chatcaptain_operator::{
    crd::{DriftPolicy, OnFailure, RollbackMethod},
    plan::deployment::Gate,
};

use super::{
    interference::Interference,
    world::{DeploymentWorld, FOREIGN, Rollback, Setup},
};
use crate::{budget::Budget, service::Behavior};

/// Every start, with `extra` faults in each run.
pub fn starts(extra: i8) -> Vec<DeploymentWorld> {
    let mut starts = Vec::new();
    let mut start = |setup: Setup, interferences: &[Interference], fault: u8| {
        let mut world = DeploymentWorld::new(setup);
        for &interference in interferences {
            world.run_until_settled();
            world.interfere(interference);
        }
        world.budget = Budget::new(2, fault.saturating_add_signed(extra));
        world.calm = false;
        starts.push(world);
    };
    let usual = Setup {
        behavior: Behavior::IDEAL,
        rollback: Rollback::Effective,
        method: RollbackMethod::Rollback,
        drift: DriftPolicy::Enforce,
        on_failure: OnFailure::Never,
        by_id: false,
        elsewhere_known: false,
        keeps: 0,
        shared: false,
        gate: None,
        foreign: false,
    };
    let slow = Behavior { rollout: 3, ..Behavior::IDEAL };
    // a, then b, then back to a: by every kind of rollback, and with every way to show what runs
    let there_and_back = [Interference::MoveSpec(1), Interference::MoveSpec(0)];
    for rollback in [Rollback::Effective, Rollback::WorkingCopy, Rollback::Refused] {
        for (readable, dated, numbered) in
            [(true, true, true), (true, true, false), (false, true, true), (false, false, true)]
        {
            let behavior = Behavior { readable, dated, numbered, ..Behavior::IDEAL };
            start(Setup { behavior, rollback, ..usual }, &there_and_back, 2);
        }
        start(Setup { behavior: slow, rollback, ..usual }, &there_and_back, 2);
    }
    start(Setup { method: RollbackMethod::Redeploy, by_id: true, ..usual }, &there_and_back, 2);
    // from nothing
    start(Setup { shared: true, ..usual }, &[], 2);
    start(Setup { behavior: slow, by_id: true, ..usual }, &[], 2);
    // a version is deployed outside the operator
    for drift in [DriftPolicy::Enforce, DriftPolicy::Warn] {
        start(Setup { drift, ..usual }, &[Interference::MoveSpec(1), Interference::DeployManually(0)], 2);
    }
    start(
        usual,
        &[Interference::MoveSpec(1), Interference::ExhaustDriftCorrections, Interference::DeployManually(0)],
        1,
    );
    // the live version's object is deleted, and git moves on
    for (behavior, elsewhere_known) in [
        (Behavior::IDEAL, false),
        (slow, false),
        (Behavior { readable: false, ..Behavior::IDEAL }, true),
        (Behavior { readable: false, ..Behavior::IDEAL }, false),
    ] {
        start(
            Setup { behavior, elsewhere_known, ..usual },
            &[Interference::Prune(0), Interference::MoveSpec(1)],
            2,
        );
    }
    // an earlier version is kept for a rollback
    start(Setup { keeps: 1, ..usual }, &[Interference::Prune(0), Interference::MoveSpec(1)], 2);
    // the desired version does not become live
    for empties in [false, true] {
        let broken = Behavior { broken: Some(2), empties, ..Behavior::IDEAL };
        for on_failure in [OnFailure::Never, OnFailure::Previous] {
            start(Setup { behavior: broken, on_failure, ..usual }, &[Interference::MoveSpec(1)], 2);
        }
    }
    let broken = Behavior { broken: Some(1), ..Behavior::IDEAL };
    start(
        Setup { behavior: broken, on_failure: OnFailure::Previous, ..usual },
        &[Interference::MoveSpec(1)],
        1,
    );
    // a command
    start(usual, &[Interference::MoveSpec(1), Interference::Command], 2);
    start(usual, &[Interference::MoveSpec(1), Interference::CommandByName(0)], 2);
    start(usual, &[Interference::CommandByName(1)], 2);
    // each gate: closed from the start, opened, open for what ran before, and closed for what somebody has replaced
    let promoted = [Interference::MoveSpec(1), Interference::Promote(Some(1))];
    for gate in [Gate::Promotion, Gate::Approval, Gate::Freeze] {
        let gated = Setup { gate: Some(gate), ..usual };
        start(gated, &[Interference::Promote(None)], 2);
        start(gated, &[Interference::MoveSpec(1)], 2);
        start(gated, &promoted, 2);
        start(gated, &[&promoted[..], &[Interference::MoveSpec(0)]].concat(), 2);
        let replaced = [Interference::Promote(None), Interference::DeployManually(0)];
        start(gated, &[&promoted[..], &replaced].concat(), 2);
    }
    // both versions have the same number
    for (dated, rollback) in
        [(true, Rollback::Effective), (true, Rollback::WorkingCopy), (false, Rollback::Effective)]
    {
        let behavior = Behavior { same_number: true, dated, ..Behavior::IDEAL };
        start(Setup { behavior, rollback, ..usual }, &there_and_back, 2);
        start(Setup { behavior, rollback, ..usual }, &[Interference::MoveSpec(1)], 2);
    }
    // a version of another installation is live
    let foreign = Setup { foreign: true, ..usual };
    start(foreign, &[Interference::DeployManually(FOREIGN)], 2);
    start(foreign, &[Interference::MoveSpec(1), Interference::DeployManually(FOREIGN)], 2);
    starts
}
