//! What goes wrong in the field, one scenario after the other, then everything at once.
//!
//! `make chaos` is the long form: `CHAOS_SECONDS` and `CHAOS_CREATES` say how long, `SEED` replays the storm's
//! decisions. Without them everything is short enough for every run of the tests.
//!
//! | scenario | shown by |
//! |---|---|
//! | 1 killed between the effect of a create and its record | `creates::killed_between_the_effect_and_the_record`, `behaviour::crash_points::of_a_create` |
//! | 2 the client gives up, the service commits later | `creates::an_effect_after_the_client_gave_up_is_waited_for`, `creates::an_effect_after_the_grace_makes_one_duplicate_at_most` |
//! | 3 5xx, HTML or half an answer after the effect | `behaviour::create::an_answer_that_is_lost_leads_to_one_version_too` |
//! | 4 nothing reaches the service | `creates::a_service_out_of_reach_is_told_and_waited_for`, `creates::a_name_that_does_not_resolve_is_told` |
//! | 5 conflict or outage between a create and its record | `creates::an_edit_in_the_middle_of_a_create_loses_nothing`, `outage::the_record_of_a_create_waits_for_the_api_server`, `outage::an_api_server_that_is_away_in_the_middle_of_creates`, `outage::writes_that_take_effect_when_nobody_waits` |
//! | 6 a writer with an old copy | `creates::two_writers_at_once_make_one_version_each`, `outage::a_watch_that_froze_makes_no_second_version` |
//! | 7 the leader stalls, another takes over | `leaders::a_leader_frozen_in_the_middle_of_a_create`, `behaviour::replicas::one_of_two_replicas_leads_and_the_other_takes_over` |
//! | 8 the list is late | `behaviour::create::every_answer_leads_to_one_version` |
//! | 9 the cluster is rebuilt from git | `behaviour::rebuild::the_same_manifests_on_a_new_cluster_adopt_everything`, `creates::rebuilt_without_a_usable_marker_a_human_is_asked` |
//! | 10 replace, and replace by force | `gitops::replace_leads_to_no_call`, `gitops::replace_by_force_adopts_what_it_let_go` |
//! | 11 namespace and Secret go together, or the key is revoked first | `behaviour::deletion::a_namespace_goes_with_its_versions`, `deletion_table::every_row_of_the_deletion_table` |
//! | 12 a key is refused, missing, badly written, then changed | `keys::a_refused_key_costs_next_to_nothing_and_heals_at_once`, `keys::white_space_around_a_key_is_no_part_of_it`, `behaviour::bad_input::missing_credentials_are_named` |
//! | 13 throttled, with many objects | `limits::a_throttled_account_is_left_in_peace_and_started_smoothly`, `limits::a_throttle_is_that_of_one_key` |
//! | 14 throttles in disguise, refusals as 200 | `limits::a_throttled_account_is_left_in_peace_and_started_smoothly`, `deletion_table::every_row_of_the_deletion_table` |
//! | 15 restarts and crash loops | `behaviour::rest::a_hundred_objects_at_rest_cost_one_look_per_interval`, `creates::a_crash_loop_resets_no_backoff` |
//! | 16 a version is pruned before, with, or after its deployment moves | `behaviour::deletion::a_live_version_is_handed_over_and_deleted_after_the_move`, `gitops::version_and_deployment_pruned_together_both_go` |
//! | 17 somebody deletes or deploys by hand | `deployments::a_version_deleted_by_hand_is_lost_and_said_so`, `behaviour::drift::nobody_is_fought_without_end` |
//! | 18 two claims | `behaviour::waking::the_older_of_two_deployments_decides_until_it_goes`, `behaviour::rebuild::another_installation_is_left_alone` |
//! | 19 a deploy seems to fail, fails, and so does the way back | `deployments::a_deploy_that_only_seems_to_fail_is_not_repeated`, `deployments::a_rollout_that_fails_goes_back_once`, `deployments::a_rollback_that_fails_too_is_said` |
//! | 20 objects are deleted while no operator is there | `gitops::a_deletion_that_nobody_saw_is_carried_out`, `uninstall::nothing_hangs_and_nothing_is_lost`, `uninstall::objects_that_hang_are_let_go` |
//! | reserve: a key of another account | `keys::a_key_of_another_account_proves_nothing` |
//! | reserve: a clock jumps, or those of two replicas differ | `clocks::no_jump_of_the_clock_makes_a_second_version`, `clocks::a_replica_whose_clock_is_ahead_waits_as_well`, `clocks::no_jump_back_holds_up_a_create`, `leaders::a_leader_whose_clock_jumps_still_leads` |
//! | reserve: a flapping API server | `outage::a_flapping_api_server_leaks_nothing`, `outage::what_happens_while_the_watch_is_broken_is_seen_to`, `outage::that_a_secret_went_while_none_could_be_watched_is_noticed` |
//! | reserve: an object is deleted within its create | `creates::an_object_deleted_in_the_middle_of_its_create_leaves_nothing` |
//! | reserve: etcd is restored to yesterday | `restored::an_etcd_restored_to_yesterday` |
//! | reserve: huge, deep and endless answers | `hostile::memory::no_answer_takes_more_memory_than_it_may` |
//! | all at once | `soak::nothing_twice_nothing_lost_nothing_live_deleted`, `soak::bulk::creates_under_faults`, `soak::doctored::it_sees_each_promise_broken` |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod clocks;
mod creates;
mod deletion_table;
mod deployments;
mod gitops;
#[path = "../behaviour/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests/behaviour uses the rest")]
mod harness;
mod keys;
mod leaders;
mod limits;
mod outage;
mod relay;
mod restored;
mod soak;
mod uninstall;
mod usage;

/// The long form, as `make chaos` runs it: figures over a minute and more, and a soak of that many seconds.
fn is_long() -> bool {
    std::env::var_os("CHAOS_SECONDS").is_some()
}

/// The table above names tests that exist.
#[test]
fn every_scenario_is_shown_by_a_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let table = include_str!("main.rs").lines().filter(|line| line.starts_with("//! |"));
    let names = table.flat_map(|line| line.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        let mut parts: Vec<&str> = name.split("::").collect();
        let test = parts.pop().unwrap();
        let target = if ["behaviour", "hostile"].contains(&parts[0]) { parts.remove(0) } else { "chaos" };
        let module = root.join(target).join(parts.join("/"));
        let files = [module.with_extension("rs"), module.join("mod.rs")];
        let code = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
        let code = code.unwrap_or_else(|| panic!("{name}: no such module"));
        assert!(code.contains(&format!("#[test]\nfn {test}()")), "{name}: no such test");
        count += 1;
    }
    assert!(count > 40, "{count}");
}
