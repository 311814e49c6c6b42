"""What strangers may try with files and requests: each attempt has its tests."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
THREATS = {
    # --- model files
    "a pickle in any wrapping is uploaded as a bundle": [
        "test_no_bundle_runs_anything_when_it_is_checked",
        "test_no_trace_runs_anything_when_it_is_read",
        "test_no_weights_run_anything_when_they_are_loaded",
        "test_pickles_are_refused_wherever_they_lie",
    ],
    "a pickle in any wrapping is imported": [
        "test_no_converter_runs_anything_even_where_it_could",
        "test_nothing_sings_in_the_process_of_its_own_either",
        "test_the_same_pickle_runs_where_pickle_reads_it",
    ],
    "a safe reader fails, and an unsafe one is tried": [
        "test_no_module_of_ours_can_unpickle_evaluate_or_load_with_trust",
        "test_the_check_for_that_finds_each",
    ],
    "torch comes into the server by the way": [
        "test_torch_is_imported_neither_by_a_module_nor_by_a_server",
    ],
    "a torch.export archive runs code when torch loads it": [
        "test_nothing_in_a_file_of_torch_is_run",
        "test_operators_that_are_not_listed_are_refused_by_name",
        "test_compiled_code_and_files_that_nobody_knows_are_refused",
    ],
    "ONNX keeps data outside of its file": [
        "test_data_outside_of_the_file_is_refused_unread",
        "test_onnxruntime_alone_would_read_files_of_this_machine",
        "test_weights_with_external_data_never_become_deployed",
    ],
    "ONNX brings operators, functions or loops of its own": [
        "test_operators_beyond_the_standard_are_refused",
        "test_functions_are_refused_because_they_inline_to_any_size",
        "test_loops_are_refused_because_they_may_never_end",
    ],
    "a stored file is changed, or swapped between check and use": [
        "test_a_flipped_bit_is_noticed",
        "test_two_swapped_files_are_noticed",
        "test_a_link_that_takes_the_place_of_a_file_is_not_followed",
        "test_weights_that_also_pass_for_another_format_are_run_as_what_was_checked",
    ],
    "weights take all time or memory while they are loaded": [
        "test_weights_that_compute_for_ever_while_they_are_loaded_are_given_up",
        "test_weights_that_ask_for_more_memory_than_there_is_are_refused",
        "test_only_a_few_are_looked_at_at_once",
    ],
    "a converter is made to run code": [
        "test_it_can_reach_nobody",
        "test_it_can_start_no_program_and_no_process",
        "test_it_sees_nothing_of_whoever_started_it",
        "test_it_writes_in_its_own_folder_only",
        "test_it_dies_with_the_process_that_started_it",
    ],
    "a converter is made to take everything": [
        "test_it_is_ended_when_it_needs_too_much_memory",
        "test_it_is_ended_when_it_fills_the_disk",
        "test_it_is_ended_after_a_while",
        "test_it_can_take_nothing_that_no_limit_counts",
    ],
    "a converter is made to lie": [
        "test_saying_that_all_is_done_makes_no_bundle",
        "test_only_plain_files_of_one_name_make_a_bundle",
        "test_what_it_says_is_made_plain",
    ],
    # --- payloads
    "an array claims more than it holds": [
        "test_elements_of_no_size_cannot_make_a_huge_array",
        "test_a_claim_of_a_tebibyte_is_refused",
        "test_no_claim_of_an_array_takes_memory",
    ],
    "the header of an array is made to break its parser": [
        "test_deep_nesting_in_the_header_is_refused",
        "test_booleans_as_dimensions_are_refused",
        "test_a_huge_header_length_is_refused",
    ],
    "an array is an archive, a pickle, or has something behind it": [
        "test_a_zip_archive_is_not_opened",
        "test_an_object_array_is_not_unpickled",
        "test_bytes_behind_the_array_are_refused",
    ],
    "base64 is spelled in several ways": [
        "test_text_that_is_not_standard_base64_is_refused",
        "test_bits_that_are_lost_in_the_padding_are_refused",
        "test_no_two_texts_are_the_same_array_file",
    ],
    "an observation is of another shape, kind or not finite": [
        "test_a_malformed_array_is_refused_quickly_in_one_sentence",
        "test_any_json_in_any_place_is_answered_or_plainly_refused",
        "test_bad_rows_of_one_caller_spoil_nothing_for_another",
    ],
    "a body is huge, endless, in tiny pieces, or compressed": [
        "test_a_body_over_the_limit_is_refused_before_and_while_it_is_read",
        "test_a_body_in_many_parts_takes_no_more_than_itself",
        "test_a_body_that_is_compressed_is_not_inflated",
        "test_of_a_bomb_no_more_is_inflated_than_a_body_may_have",
    ],
    "a head or a body comes byte after byte, or never ends": [
        "test_half_a_head_is_answered_408",
        "test_half_a_body_is_answered_408_and_promises_nothing",
        "test_a_trickle_is_not_taken_for_ever",
        "test_a_head_without_end_is_refused",
        "test_who_sends_byte_after_byte_is_answered_408_too",
    ],
    "answers are asked for, and never read": [
        "test_whoever_never_reads_what_it_is_answered_is_not_read_any_more",
        "test_whoever_does_not_read_is_let_go_after_a_while",
    ],
    "one request is passed off as two": [
        "test_odd_requests_end_where_uvicorn_sees_their_end",
        "test_a_head_that_begins_with_the_end_of_a_refused_body_is_one_head",
    ],
    "more is asked than can be answered": [
        "test_who_would_be_answered_too_late_is_refused_before_the_body_comes",
        "test_who_has_waited_too_long_is_answered_504_and_not_run",
        "test_what_nobody_waits_for_is_not_run",
    ],
    "one caller takes the place of all others": [
        "test_each_key_has_a_rate_of_its_own",
        "test_no_spelling_of_a_key_has_another_rate",
    ],
    "a rotated key lives on in what is remembered": [
        "test_what_changes_is_obeyed_although_the_head_is_known",
        "test_what_changes_while_the_body_comes_is_obeyed",
    ],
    "the sizes of a tensor are not those of its bytes": [
        "test_more_or_fewer_bytes_than_the_shape_says_are_refused",
        "test_a_shape_beyond_all_memory_is_refused_and_nothing_allocated",
        "test_bytes_that_are_nobodys_are_refused",
        "test_bytes_of_the_array_before_are_never_used_again",
        "test_json_of_too_many_parts_is_refused_before_it_is_decoded",
    ],
    "an episode is gone on with by somebody else, or never ended": [
        "test_nobody_else_can_go_on_with_an_episode",
        "test_what_nobody_goes_on_with_is_forgotten",
        "test_a_deployment_has_so_many_episodes_at_most",
        "test_all_episodes_together_remember_so_much_at_most",
        "test_what_is_needed_without_end_is_closed_after_an_hour",
    ],
    "a key is rotated while it is used": [
        "test_nothing_that_is_sent_after_a_rotation_is_answered_for_an_old_version",
        "test_a_stream_sends_nothing_from_beyond_the_end_of_its_token",
        "test_who_is_refused_while_nothing_goes_out_is_sent_nothing_more",
        "test_who_loses_its_token_while_it_waits_is_refused",
    ],
    "a page in a browser calls, by whatever name it has found": [
        "test_no_route_answers_by_a_name_that_is_not_ours",
        "test_a_page_of_others_gets_no_answer_of_the_api_and_changes_nothing",
        "test_a_cookie_authenticates_nothing_and_none_is_ever_set",
        "test_on_a_loopback_address_it_is_called_by_no_name_from_elsewhere",
    ],
    "a Host that is none leads past a check": [
        "test_no_route_answers_to_what_is_no_host",
        "test_no_route_answers_to_two_hosts",
        "test_the_quicker_protocol_asks_the_same_of_a_request",
    ],
    "credentials are guessed": [
        "test_a_guesser_is_told_to_wait_and_a_good_token_beside_it_is_not",
        "test_attempts_are_counted_and_none_is_recorded_in_the_log",
        "test_those_who_have_been_quiet_longest_are_forgotten",
    ],
    "streams of the log are opened without end, or not read": [
        "test_there_are_so_many_streams_and_no_more",
        "test_nothing_is_read_for_who_does_not_read",
        "test_streams_take_no_thread_from_anybody",
    ],
    "JSON is nested deeply, or has numbers without end": [
        "test_depth_and_length_of_numbers_are_limited",
        "test_an_integer_of_too_many_digits_is_refused",
    ],
    "a small request asks for much": [
        "test_a_small_request_cannot_ask_for_a_huge_answer",
        "test_rows_against_columns_take_no_memory",
        "test_a_batch_that_is_long_by_its_rows_goes_to_the_thread",
    ],
    "a hidden state is forged": [
        "test_whatever_is_sent_is_answered_or_refused_in_one_sentence",
        "test_any_object_is_answered_or_plainly_refused",
    ],
    "an error tells of the inside": [
        "test_a_defect_shows_nothing_of_the_inside",
        "test_no_secret_gets_into_logs_events_errors_or_reprs",
        "test_what_failed_is_unavailable_and_does_not_say_why",
    ],
    "a cursor is forged, altered or taken to another list": [
        "test_another_list_does_not_take_it",
        "test_no_character_of_it_can_be_changed",
        "test_a_cursor_is_good_for_its_own_list_only",
    ],
    "an order is carried out twice, or answered to somebody else": [
        "test_every_order_is_carried_out_once",
        "test_what_was_done_before_a_crash_is_answered_after_it",
        "test_users_do_not_share_their_keys",
        "test_who_may_not_do_it_any_more_is_not_answered_again",
    ],
    "a change of somebody else is overwritten unseen": [
        "test_no_change_of_another_is_ever_overwritten_unseen",
        "test_of_many_who_change_what_they_have_read_one_is_first",
        "test_an_etag_is_never_newer_than_what_it_came_with",
    ],
    "a precondition tells what another organisation has": [
        "test_what_is_not_there_is_not_there_whatever_is_expected",
    ],
    "a form of another site is taken for JSON": [
        "test_a_body_that_says_it_is_something_else_is_refused",
    ],
    "a line of the log is forged, or holds a secret": [
        "test_as_text_a_line_can_be_read_and_not_be_forged",
        "test_no_secret_is_said_wherever_it_stands",
        "test_every_request_is_a_line_of_json_and_no_line_holds_a_secret",
    ],
    # --- archives and names
    "a name leads elsewhere": [
        "test_names_that_lead_elsewhere_are_refused",
        "test_a_bad_name_is_refused",
        "test_any_other_name_is_refused",
    ],
    "names collide": [
        "test_names_that_collide_are_refused",
        "test_two_members_whose_names_differ_in_case_alone_are_refused",
        "test_names_that_some_file_system_cannot_keep_apart_are_refused",
    ],
    "an archive holds links or devices": [
        "test_a_file_that_nobody_would_read_is_refused",
        "test_a_folder_with_a_link_is_refused",
        "test_a_folder_with_a_named_pipe_is_refused",
    ],
    "an archive is a bomb": [
        "test_a_bomb_is_not_inflated",
        "test_a_bomb_is_refused_by_its_ratio_alone",
        "test_members_that_inflate_to_too_much_together_are_refused",
        "test_a_directory_that_claims_to_be_huge_is_refused_before_it_is_read",
    ],
    # --- organisations
    "another organisation's things are asked for, changed or counted": [
        "test_rule_02_what_another_organisation_has_does_not_exist",
        "test_rule_02_another_organisation_is_not_there_whatever_is_asked",
        "test_rule_02_what_a_manager_is_answered_says_nothing_of_users_elsewhere",
        "test_what_users_do_beyond_an_organisation_is_in_nobodys_log",
    ],
    "somebody joins in the name of another": [
        "test_who_is_a_user_accepts_with_their_own_credential_and_no_other",
        "test_it_proves_nothing_of_a_user_who_is_registered_under_that_name",
        "test_a_key_speaks_for_who_is_outside_and_never_for_a_user",
    ],
    "rights are kept, or made more of": [
        "test_rule_04_who_is_removed_has_no_access_and_acts_where_else_they_belong",
        "test_a_token_gives_no_more_rights_than_who_issues_it_has",
        "test_who_is_only_signed_in_gets_no_token_out_of_that",
        "test_rule_03_everybody_may_do_what_the_model_says_and_nothing_else",
    ],
    # --- logins
    "logins are begun to fill the disk or the memory": [
        "test_who_begins_a_login_leaves_nothing_behind",
        "test_a_refresh_leaves_nothing_behind",
        "test_what_is_remembered_is_bounded_and_forgets_who_asked_longest_ago",
    ],
    "a code or a token of a login is forged or altered": [
        "test_an_altered_device_code_is_none",
        "test_a_forged_device_code_with_a_true_check_sum_is_none",
        "test_another_key_or_algorithm_is_refused",
        "test_an_altered_token_is_refused",
        "test_no_refresh_token_serves_as_an_access_token_or_the_other_way_round",
    ],
    "a code of a login is used twice": [
        "test_of_two_who_hold_the_same_code_on_two_workers_one_gets_in",
        "test_of_many_polls_at_the_same_time_one_gets_the_tokens",
    ],
    "a stolen credential is made a lasting one": [
        "test_a_client_that_is_signed_in_lets_no_other_in",
        "test_a_token_takes_the_sign_ins_with_it_that_it_has_approved",
        "test_a_sign_in_may_no_more_than_the_token_that_approved_it",
    ],
    "an access token outlives what it was given for": [
        "test_signing_out_kills_both_tokens_at_once_and_only_those",
        "test_signing_out_is_known_to_every_other_worker_at_once",
        "test_who_is_removed_from_their_organisation_has_no_access_any_more",
        "test_no_refresh_leads_beyond_the_end_of_the_sign_in",
    ],
    "another site rides on the approval page": [
        "test_the_page_may_load_and_call_nothing_but_its_own_server",
        "test_what_stands_in_the_address_is_text_and_no_markup",
        "test_the_page_keeps_nothing_of_the_token",
    ],
    "a deployment key is tried on the control plane": [
        "test_every_route_refuses_every_wrong_credential",
        "test_credentials_that_are_good_for_something_else_are_forbidden",
    ],
}
# There is no door yet for safetensors files and for models at an address: whoever opens
# one adds a line.


@pytest.fixture(scope="module")
def names():
    sources = (path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py"))
    return set(re.findall(r"def (test_\w+)\(", "\n".join(sources)))


@pytest.mark.parametrize("threat", THREATS)
def test_the_tests_of_this_threat_are_there(threat, names):
    assert not set(THREATS[threat]) - names
