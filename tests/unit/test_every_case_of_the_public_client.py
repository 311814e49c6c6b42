"""What the public client tests with mocks is tested here against a real server.

Each case of its own tests that concerns a server, and what those lack: where it lives.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CASES = {
    # --- arrays as they travel
    "TestSerializeDeserialize": [
        "test_one_observation_gets_what_training_says",
        "test_a_batch_of_observations_gets_what_training_says",
        "test_what_the_policy_cannot_take_is_refused_in_one_sentence",
        "test_a_dead_agent_does_nothing",
    ],
    "TestGetBatchSize": [
        "test_a_batch_of_observations_gets_what_training_says",
        "test_one_observation_gets_one_action_and_seven_get_seven",
    ],
    # --- acting
    "TestGetAction.test_successful_get_action": [
        "test_one_observation_gets_one_action_and_seven_get_seven",
        "test_an_agent_balances_the_pole_for_the_public_client",
    ],
    "TestParseGetActionResponse": [
        "test_whatever_is_asked_no_answer_has_a_key_too_many",
        "test_one_episode_goes_as_in_training",
    ],
    "TestBuildPayload of masks": [
        "test_a_masked_action_is_never_chosen",
        "test_every_part_of_an_action_obeys_its_mask",
        "test_each_agent_has_a_mask_of_its_own",
        "test_one_mask_for_all_agents_is_refused_by_the_client_itself",
    ],
    "TestBuildPayload of hidden states": [
        "test_one_episode_goes_as_in_training",
        "test_episodes_side_by_side_go_as_in_training",
    ],
    "TestBuildPayload of several agents": [
        "test_an_agent_of_another_shape_is_opened_by_its_name",
        "test_what_the_environment_defines_is_what_an_agent_does",
    ],
    "TestPredict": [
        "test_a_supervised_agent_predicts_for_the_public_client",
        "test_an_agent_of_another_shape_is_opened_by_its_name",
    ],
    # --- refusals
    "test_401_raises_auth_error": [
        "test_a_wrong_key_is_found_out_at_the_first_real_call",
        "test_a_wrong_token_is_an_authentication_error",
    ],
    "TestForbiddenErrors": [
        "test_the_key_of_another_deployment_is_forbidden",
        "test_nothing_of_another_organisation_is_seen",
        "test_a_viewer_may_look_but_not_call",
    ],
    "test_400_from_server": ["test_each_shape_has_one_route_and_no_other"],
    "TestStatusWithoutAgentInfo.test_type_guards_defer_to_the_deployment": [
        "test_each_shape_has_one_route_and_no_other",
        "test_a_policy_acts_and_does_nothing_else",
        "test_a_supervised_agent_predicts_and_does_nothing_else",
    ],
    "TestStatus": [
        "test_the_status_is_what_the_clients_own_model_takes",
        "test_the_status_is_asked_for_anew",
        "test_a_path_after_which_comes_a_slash_serves_as_well",
    ],
    "test_exceptions.py": [
        "test_what_is_wrong_is_told_in_one_sentence",
        "test_whatever_is_ordered_it_is_done_or_refused_plainly",
        "test_pages_are_lists_or_plain_refusals",
    ],
    # --- looking agents up
    "TestOpenInferenceAgentAfterARedeploy": [
        "test_a_redeployed_agent_keeps_its_address",
        "test_an_agent_that_moved_is_found_again_by_a_client_that_knows_how",
        "test_an_agent_that_is_unavailable_is_not_looked_up_again",
    ],
    "TestInferenceDeployments": [
        "test_a_row_says_what_every_version_reads",
        "test_filters_are_exact",
        "test_an_unknown_agent_is_not_found",
    ],
    "TestDeploymentUrl": ["test_an_agent_without_an_address_says_to_wait"],
    "TestEnsureInferenceBinding": [
        "test_of_two_agents_with_one_name_none_is_opened_unless_it_is_said_which",
        "test_a_rotated_key_is_dead_where_keys_are_remembered",
    ],
    # --- projects, experiments, metrics
    "TestProjectMethods": [
        "test_projects_are_made_listed_and_deleted_by_their_names",
        "test_of_two_projects_with_one_name_none_is_deleted",
        "test_the_default_project_must_exist",
    ],
    "TestExperimentMethods": [
        "test_a_submitted_manifest_is_the_configuration_of_its_experiment",
        "test_only_the_experiments_of_the_project_are_listed",
        "test_checkpoints_are_listed_with_their_scores_and_sizes",
        "test_an_experiment_that_trains_is_stopped_and_resumed_by_its_name",
    ],
    "TestPreviewExperimentMetricsCsv": ["test_metrics_are_previewed_as_a_table"],
    "TestListExperimentMetricNames": [
        "test_names_of_metrics_are_listed_once_and_in_order",
    ],
    "TestDownloadExperimentMetrics": [
        "test_metrics_are_downloaded_under_a_name_of_the_server",
    ],
    # --- who somebody is
    "TestRequest": [
        "test_what_has_expired_is_renewed_without_a_browser",
        "test_an_unknown_experiment_is_not_found",
    ],
    "TestArenaClientLogin": [
        "test_somebody_signs_in_works_and_signs_out",
        "test_no_login_is_needed_with_a_token",
        "test_who_is_denied_is_not_signed_in",
    ],
    "TestArenaClientLogout": ["test_somebody_signs_in_works_and_signs_out"],
    "TestAuthHeaders": [
        "test_somebody_signs_in_works_and_signs_out",
        "test_a_partner_acts_for_users_of_its_own",
    ],
    "test_auth.py": [
        "test_what_has_expired_is_renewed_without_a_browser",
        "test_the_command_line_signs_in_and_out",
    ],
    "TestGetCliCapabilities": [
        "test_capabilities_are_unknown_whoever_asks",
        "test_help_is_shown_to_everybody",
    ],
    # --- the command line
    "test_cli.py, agent": [
        "test_agents_are_listed_without_their_keys",
        "test_an_agent_that_is_run_is_remembered",
        "test_of_agents_with_one_name_it_must_be_said_which",
        "test_an_agent_that_is_not_deployed_is_waited_for",
    ],
    "test_cli.py, projects": ["test_projects_are_managed_by_their_names"],
    "test_cli.py, experiments": [
        "test_an_experiment_goes_from_its_manifest_to_an_agent",
    ],
    "test_cli.py, what it has not": [
        "test_what_only_the_hosted_platform_has_is_a_plain_sentence",
        "test_misspelled_commands_are_usage_errors",
    ],
    # --- what its tests lack
    "extra keys": [
        "test_whatever_is_asked_no_answer_has_a_key_too_many",
        "test_answers_carry_the_keys_that_all_clients_know_and_no_others",
    ],
    "both kinds of credential open one deployment": [
        "test_an_access_token_opens_every_deployment_of_its_organisation",
        "test_one_observation_gets_one_action_and_seven_get_seven",
    ],
    "a rotated key is 401 at once": [
        "test_a_rotated_key_is_dead_and_the_new_one_is_not",
        "test_a_rotated_token_is_dead_at_once",
    ],
    "the status has exactly its keys": ["test_the_status_has_four_keys_and_five_more"],
    "no square bracket in an error": [
        "test_whatever_is_asked_no_answer_has_a_key_too_many",
        "test_whatever_is_ordered_it_is_done_or_refused_plainly",
    ],
    "no success but 200 on JSON routes": [
        "test_whatever_is_asked_no_answer_has_a_key_too_many",
        "test_whatever_is_ordered_it_is_done_or_refused_plainly",
    ],
    "the first snippets": [
        "test_the_first_snippet_runs",
        "test_the_first_command_line_sends_numbers_that_were_typed",
        "test_the_first_generation_sends_nulls_to_every_shape",
    ],
}
WITHOUT_LANGUAGE_MODELS = {
    "TestGenerate": ["test_a_good_request_is_answered_by_one_route_alone"],
    "TestGenerateStream": [
        "test_a_good_request_is_answered_by_one_route_alone",
        "test_each_shape_has_one_route_and_no_other",
    ],
    "TestSessions": ["test_no_agent_holds_conversations"],
    "a session that the command line has begun": [
        "test_there_are_no_conversations_yet",
    ],
}
"""Cases that come with language models: until then they are refused, by every agent."""


@pytest.fixture(scope="module")
def names():
    sources = (path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    return set(re.findall(r"def (test_\w+)\(", "\n".join(sources)))


@pytest.mark.parametrize(
    ("case", "tests"), [*CASES.items(), *WITHOUT_LANGUAGE_MODELS.items()]
)
def test_the_tests_of_this_case_are_there(case, tests, names):
    assert not set(tests) - names, case
