//! The names of all rules, for a macro that cannot read them from the data. A test holds the two
//! together.

/// Calls `$test` for each rule, in one module a group.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_rule {
    ($test:ident) => {
        mod basic {
            $test!(basic an_absent_key_is_a_miss; basic an_absent_key_is_a_miss);
            $test!(basic a_set_value_is_found; basic a_set_value_is_found);
            $test!(basic reading_does_not_consume; basic reading_does_not_consume);
            $test!(basic set_replaces; basic set_replaces);
            $test!(basic delete_removes; basic delete_removes);
            $test!(basic deleting_an_absent_key_succeeds; basic deleting_an_absent_key_succeeds);
            $test!(basic a_deleted_key_can_be_set_again; basic a_deleted_key_can_be_set_again);
            $test!(basic set_touches_its_key_only; basic set_touches_its_key_only);
            $test!(basic delete_touches_its_key_only; basic delete_touches_its_key_only);
            $test!(basic many_keys_are_kept; basic many_keys_are_kept);
        }
        mod keys {
            $test!(keys the_empty_key_is_refused; keys the_empty_key_is_refused);
            $test!(keys case_is_kept; keys case_is_kept);
            $test!(keys surrounding_space_is_kept; keys surrounding_space_is_kept);
            $test!(keys inner_space_is_kept; keys inner_space_is_kept);
            $test!(keys line_breaks_inject_nothing; keys line_breaks_inject_nothing);
            $test!(keys control_characters_are_kept; keys control_characters_are_kept);
            $test!(keys forms_of_unicode_are_kept; keys forms_of_unicode_are_kept);
            $test!(keys any_script_is_kept; keys any_script_is_kept);
            $test!(keys separators_are_kept; keys separators_are_kept);
            $test!(keys words_of_protocols_are_kept; keys words_of_protocols_are_kept);
            $test!(keys numbers_are_text; keys numbers_are_text);
            $test!(keys long_keys_are_not_truncated; keys long_keys_are_not_truncated);
            $test!(keys all_operations_agree; keys all_operations_agree);
        }
        mod values {
            $test!(values the_empty_payload_is_a_hit; values the_empty_payload_is_a_hit);
            $test!(values every_byte_is_kept; values every_byte_is_kept);
            $test!(values ends_are_not_trimmed; values ends_are_not_trimmed);
            $test!(values words_of_protocols_are_kept; values words_of_protocols_are_kept);
            $test!(values envelopes_are_kept; values envelopes_are_kept);
            $test!(values every_length_is_kept; values every_length_is_kept);
            $test!(values large_payloads_are_kept; values large_payloads_are_kept);
            $test!(values a_shorter_payload_leaves_nothing_behind; values a_shorter_payload_leaves_nothing_behind);
        }
        mod limits {
            $test!(limits the_longest_key_is_kept; limits the_longest_key_is_kept);
            $test!(limits too_large_is_an_error; limits too_large_is_an_error);
            $test!(limits too_large_removes_the_old_value; limits too_large_removes_the_old_value);
            $test!(limits too_large_leaves_the_connection_good; limits too_large_leaves_the_connection_good);
            $test!(limits too_large_fails_its_key_only; limits too_large_fails_its_key_only);
            $test!(limits the_largest_payload_is_kept; limits the_largest_payload_is_kept);
        }
        mod metadata {
            $test!(metadata the_cached_time_comes_back; metadata the_cached_time_comes_back);
            $test!(metadata old_and_future_times_are_kept; metadata old_and_future_times_are_kept);
            $test!(metadata set_replaces_the_cached_time; metadata set_replaces_the_cached_time);
            $test!(metadata reading_does_not_touch_the_cached_time; metadata reading_does_not_touch_the_cached_time);
            $test!(metadata multi_operations_carry_it; metadata multi_operations_carry_it);
            $test!(metadata no_lifetime_is_none; metadata no_lifetime_is_none);
            $test!(metadata the_lifetime_left_is_told; metadata the_lifetime_left_is_told);
            $test!(metadata the_default_lifetime_left_is_told; metadata the_default_lifetime_left_is_told);
            $test!(metadata the_lifetime_left_shrinks; metadata the_lifetime_left_shrinks);
        }
        mod multi {
            $test!(multi order_is_kept; multi order_is_kept);
            $test!(multi duplicates_are_answered_in_place; multi duplicates_are_answered_in_place);
            $test!(multi misses_stay_in_place; multi misses_stay_in_place);
            $test!(multi only_misses_are_answered; multi only_misses_are_answered);
            $test!(multi no_keys_are_no_work; multi no_keys_are_no_work);
            $test!(multi one_key_is_enough; multi one_key_is_enough);
            $test!(multi set_multi_sets_each; multi set_multi_sets_each);
            $test!(multi the_last_of_repeated_keys_wins; multi the_last_of_repeated_keys_wins);
            $test!(multi delete_multi_removes_exactly_those; multi delete_multi_removes_exactly_those);
            $test!(multi delete_multi_takes_absent_keys; multi delete_multi_takes_absent_keys);
            $test!(multi delete_multi_takes_repeated_keys; multi delete_multi_takes_repeated_keys);
            $test!(multi an_invalid_key_refuses_set_multi; multi an_invalid_key_refuses_set_multi);
            $test!(multi an_invalid_key_refuses_delete_multi; multi an_invalid_key_refuses_delete_multi);
            $test!(multi an_invalid_key_refuses_get_multi; multi an_invalid_key_refuses_get_multi);
            $test!(multi more_keys_than_a_batch; multi more_keys_than_a_batch);
            $test!(multi more_bytes_than_a_message; multi more_bytes_than_a_message);
            $test!(multi odd_keys_keep_their_places; multi odd_keys_keep_their_places);
        }
        mod expiry {
            $test!(expiry own_ttl_expires; expiry own_ttl_expires);
            $test!(expiry default_ttl_expires; expiry default_ttl_expires);
            $test!(expiry not_lost_before_the_deadline; expiry not_lost_before_the_deadline);
            $test!(expiry longer_own_ttl_beats_the_default; expiry longer_own_ttl_beats_the_default);
            $test!(expiry shorter_own_ttl_beats_the_default; expiry shorter_own_ttl_beats_the_default);
            $test!(expiry without_any_ttl_nothing_expires; expiry without_any_ttl_nothing_expires);
            $test!(expiry own_ttl_of_zero_is_expired_at_once; expiry own_ttl_of_zero_is_expired_at_once);
            $test!(expiry own_ttl_of_zero_removes_the_old_value; expiry own_ttl_of_zero_removes_the_old_value);
            $test!(expiry tiny_ttls_expire; expiry tiny_ttls_expire);
            $test!(expiry huge_ttls_do_not_expire; expiry huge_ttls_do_not_expire);
            $test!(expiry a_huge_default_does_not_expire; expiry a_huge_default_does_not_expire);
            $test!(expiry a_longer_ttl_replaces_the_deadline; expiry a_longer_ttl_replaces_the_deadline);
            $test!(expiry a_shorter_ttl_replaces_the_deadline; expiry a_shorter_ttl_replaces_the_deadline);
            $test!(expiry set_without_ttl_removes_the_deadline; expiry set_without_ttl_removes_the_deadline);
            $test!(expiry delete_removes_the_deadline; expiry delete_removes_the_deadline);
            $test!(expiry reading_does_not_prolong; expiry reading_does_not_prolong);
            $test!(expiry get_multi_misses_the_expired; expiry get_multi_misses_the_expired);
            $test!(expiry set_multi_keeps_each_ttl; expiry set_multi_keeps_each_ttl);
            $test!(expiry set_multi_applies_the_default; expiry set_multi_applies_the_default);
            $test!(expiry the_last_of_repeated_keys_sets_the_deadline; expiry the_last_of_repeated_keys_sets_the_deadline);
            $test!(expiry an_expired_key_can_be_set_again; expiry an_expired_key_can_be_set_again);
            $test!(expiry deleting_the_expired_succeeds; expiry deleting_the_expired_succeeds);
            $test!(expiry the_clock_starts_at_set; expiry the_clock_starts_at_set);
            $test!(expiry many_expire_together; expiry many_expire_together);
            $test!(expiry expired_values_stay_expired; expiry expired_values_stay_expired);
        }
        mod sharing {
            $test!(sharing a_second_instance_sees_what_is_set; sharing a_second_instance_sees_what_is_set);
            $test!(sharing a_second_instance_sees_what_is_replaced; sharing a_second_instance_sees_what_is_replaced);
            $test!(sharing a_second_instance_sees_what_is_deleted; sharing a_second_instance_sees_what_is_deleted);
            $test!(sharing a_second_instance_sees_a_miss_filled; sharing a_second_instance_sees_a_miss_filled);
            $test!(sharing metadata_is_shared; sharing metadata_is_shared);
            $test!(sharing deadlines_are_shared; sharing deadlines_are_shared);
            $test!(sharing an_instance_outlives_the_other; sharing an_instance_outlives_the_other);
            $test!(sharing instances_write_at_the_same_time; sharing instances_write_at_the_same_time);
            $test!(sharing namespaces_stay_apart; sharing namespaces_stay_apart);
            $test!(sharing foreign_data_is_left_alone; sharing foreign_data_is_left_alone);
        }
        mod concurrency {
            $test!(concurrency answers_belong_to_their_questions; concurrency answers_belong_to_their_questions);
            $test!(concurrency no_value_is_torn; concurrency no_value_is_torn);
            $test!(concurrency metadata_goes_with_its_payload; concurrency metadata_goes_with_its_payload);
            $test!(concurrency no_key_is_lost; concurrency no_key_is_lost);
            $test!(concurrency a_replaced_value_is_never_missing; concurrency a_replaced_value_is_never_missing);
            $test!(concurrency readers_agree_once_writers_stop; concurrency readers_agree_once_writers_stop);
            $test!(concurrency set_and_delete_do_not_collide; concurrency set_and_delete_do_not_collide);
            $test!(concurrency histories_are_linearizable; concurrency histories_are_linearizable);
        }
        mod cancellation {
            $test!(cancellation get_may_be_dropped; cancellation get_may_be_dropped);
            $test!(cancellation set_may_be_dropped; cancellation set_may_be_dropped);
            $test!(cancellation delete_may_be_dropped; cancellation delete_may_be_dropped);
            $test!(cancellation get_multi_may_be_dropped; cancellation get_multi_may_be_dropped);
            $test!(cancellation set_multi_may_be_dropped; cancellation set_multi_may_be_dropped);
            $test!(cancellation delete_multi_may_be_dropped; cancellation delete_multi_may_be_dropped);
            $test!(cancellation a_thousand_drops_leak_nothing; cancellation a_thousand_drops_leak_nothing);
            $test!(cancellation drops_do_not_disturb_other_callers; cancellation drops_do_not_disturb_other_callers);
        }
        mod faults {
            $test!(faults reads_from_a_dead_server_are_errors; faults reads_from_a_dead_server_are_errors);
            $test!(faults writes_to_a_dead_server_are_errors; faults writes_to_a_dead_server_are_errors);
            $test!(faults a_dead_server_is_transient; faults a_dead_server_is_transient);
            $test!(faults a_server_that_is_back_is_used; faults a_server_that_is_back_is_used);
            $test!(faults a_silent_server_ends_reads; faults a_silent_server_ends_reads);
            $test!(faults a_silent_server_ends_writes; faults a_silent_server_ends_writes);
            $test!(faults a_silent_server_is_transient; faults a_silent_server_is_transient);
            $test!(faults a_silent_server_blocks_no_thread; faults a_silent_server_blocks_no_thread);
            $test!(faults a_silent_server_costs_no_work; faults a_silent_server_costs_no_work);
            $test!(faults many_calls_to_a_silent_server_all_end; faults many_calls_to_a_silent_server_all_end);
            $test!(faults late_answers_reach_nobody_else; faults late_answers_reach_nobody_else);
            $test!(faults calls_to_a_silent_server_may_be_dropped; faults calls_to_a_silent_server_may_be_dropped);
            $test!(faults garbage_is_an_error; faults garbage_is_an_error);
            $test!(faults garbage_does_not_last; faults garbage_does_not_last);
            $test!(faults half_an_answer_is_an_error; faults half_an_answer_is_an_error);
            $test!(faults broken_connections_are_replaced; faults broken_connections_are_replaced);
            $test!(faults errors_show_no_secret; faults errors_show_no_secret);
        }
        mod bounds {
            $test!(bounds calls_may_move_between_tasks; bounds calls_may_move_between_tasks);
            $test!(bounds many_calls_at_once_all_end; bounds many_calls_at_once_all_end);
            $test!(bounds calls_of_one_task_do_not_wait_for_each_other; bounds calls_of_one_task_do_not_wait_for_each_other);
            $test!(bounds one_thread_is_enough; bounds one_thread_is_enough);
            $test!(bounds waiting_is_not_polling; bounds waiting_is_not_polling);
        }
        mod errors {
            $test!(errors the_refused_key_is_named; errors the_refused_key_is_named);
            $test!(errors the_backend_and_the_reason_are_named; errors the_backend_and_the_reason_are_named);
            $test!(errors a_refused_key_is_not_transient; errors a_refused_key_is_not_transient);
            $test!(errors payloads_are_not_shown; errors payloads_are_not_shown);
            $test!(errors keys_do_not_break_lines; errors keys_do_not_break_lines);
            $test!(errors long_keys_are_shortened; errors long_keys_are_shortened);
        }
        mod model {
            $test!(model sequences_agree; model sequences_agree);
            $test!(model sequences_in_time_agree; model sequences_in_time_agree);
            $test!(model sequences_with_drops_agree; model sequences_with_drops_agree);
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_is_listed_and_every_name_is_a_rule() {
        let lines = include_str!("names.rs").lines();
        let mut listed: Vec<String> = lines
            .filter_map(|line| line.trim().strip_prefix("$test!(")?.strip_suffix(");"))
            .map(str::to_owned)
            .collect();
        let line = |rule: &crate::Rule| format!("{0} {1}; {0} {1}", rule.group, rule.name);
        let mut rules: Vec<String> = crate::rules().iter().map(line).collect();
        listed.sort();
        rules.sort();
        assert_eq!(listed, rules);
    }
}
