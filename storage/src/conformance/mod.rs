//! The one suite that every implementation of the storage port passes.

#![allow(clippy::unwrap_used, reason = "a suite of tests; it panics where the contract is broken")]

mod administering;
mod alerting;
mod fixture;
mod isolation;
mod maintaining;
mod merging;
#[cfg(test)]
pub(crate) mod migrated;
mod models;
mod producers;
mod reading;
pub(crate) mod sample;
mod writing;

pub use self::fixture::{NOW, StorageUnderTest};

/// Checks the contract in the crate's documentation; panics where it is broken. `fresh` gives an
/// empty storage.
pub async fn check_storage<T: StorageUnderTest>(fresh: impl Fn() -> T) {
    writing::a_batch_is_stored_once(&fresh()).await;
    writing::a_batch_twice_in_a_call_is_stored_once(&fresh()).await;
    writing::repeats_at_the_same_time_are_stored_once(&fresh()).await;
    writing::other_content_under_the_same_id_is_put_aside_once(&fresh()).await;
    writing::rejected_records_are_put_aside(&fresh()).await;
    writing::poison_takes_nothing_along(&fresh()).await;
    writing::a_batch_without_logs_updates_the_account(&fresh()).await;
    writing::accounts_balance(&fresh()).await;
    reading::logs_come_back_as_they_were(&fresh()).await;
    reading::odd_values_come_back_as_they_were(&fresh()).await;
    reading::filters_hold_for_the_same_logs(&fresh()).await;
    reading::pages_are_complete_and_in_order(&fresh()).await;
    reading::limits_only_cut_pages_short(&fresh()).await;
    reading::pages_stay_stable_while_data_comes_in(&fresh()).await;
    reading::a_log_has_its_neighbours(&fresh()).await;
    reading::counters_equal_a_recount(&fresh()).await;
    reading::templates_are_counted(&fresh()).await;
    merging::merged_patterns_are_shown_as_one(&fresh()).await;
    reading::too_many_points_are_refused(&fresh()).await;
    administering::tokens_are_kept_and_revoked(&fresh()).await;
    administering::dead_letters_are_listed_replayed_and_discarded(&fresh()).await;
    isolation::ids_count_within_their_tenant(&fresh()).await;
    administering::deploys_are_listed(&fresh()).await;
    administering::processes_live_until_they_are_forgotten(&fresh()).await;
    administering::trials_count_until_one_ends(&fresh()).await;
    models::models_are_kept_promoted_and_rolled_back(&fresh()).await;
    models::promotions_at_the_same_time_leave_one_active(&fresh()).await;
    models::the_last_word_on_a_log_holds(&fresh()).await;
    models::a_job_is_done_once_and_answered(&fresh()).await;
    models::jobs_of_tenants_go_by_turns(&fresh()).await;
    models::a_job_that_nobody_waits_for_ends(&fresh()).await;
    models::a_job_is_taken_by_its_kind_and_only_in_time(&fresh()).await;
    models::a_finding_is_kept_once(&fresh()).await;
    alerting::new_patterns_are_found(&fresh()).await;
    alerting::one_process_leads_at_a_time(&fresh()).await;
    alerting::what_was_set_is_kept_until_it_is_removed(&fresh()).await;
    alerting::actions_wait_for_the_leader(&fresh()).await;
    alerting::a_leader_takes_up_what_another_remembered(&fresh()).await;
    alerting::an_incident_and_what_is_told_of_it_are_there_together(&fresh()).await;
    alerting::incidents_are_found_and_old_ones_forgotten(&fresh()).await;
    maintaining::upkeep_changes_no_answer(&fresh()).await;
    maintaining::a_folded_batch_is_still_known(&fresh()).await;
    maintaining::old_dead_letters_leave_but_those_of_acknowledged_logs(&fresh()).await;
    producers::repeats_of_senders_without_an_account_are_counted(&fresh()).await;
    producers::sums_are_those_of_the_accounts(&fresh()).await;
    producers::many_reasons_are_kept_as_few(&fresh()).await;
    producers::the_ledger_tells_what_it_has(&fresh()).await;
    producers::idle_producers_leave_the_list_and_stay_known(&fresh()).await;
    isolation::a_tenant_sees_nothing_of_another(&fresh()).await;
}
