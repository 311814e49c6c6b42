"""The description of the API, tried by a stranger who believes every word of it.

Schemathesis makes requests of what `/openapi.json` says, good ones and bad ones, and
chains of them, as two organisations at the same time.  How long it may take is
`ARENA_TEST_SCHEMATHESIS_S`: half a minute here, a quarter of an hour by `make nightly`.
"""

import json
import os
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

import arena_core
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import LIBRARY, Role
from arena_core.entrypoints.http.app import build_app
from arena_core.entrypoints.http.server import Server, listen

import bundles
from end_to_end.environments import environment

SECONDS = int(os.environ.get("ARENA_TEST_SCHEMATHESIS_S", "30"))
REQUIREMENT = "schemathesis==4.32.5"
CHECKS = (
    "not_a_server_error", "ignored_auth", "object_level_authorization",
    "use_after_free", "status_code_conformance", "response_schema_conformance",
    "negative_data_rejection", "content_type_conformance",
    "response_headers_conformance", "missing_required_header",
    "ensure_resource_availability",
)  # fmt: skip
OF_CREDENTIALS = "^/api/v1/(tokens/|sign-ins/|organisations/.*/members/|users/me)"
"""What would end the very credentials with which all else is tried."""


def inhabited(arena: arena_core.Arena, organisation: str, folder: Path):
    """Return a manager's token, a live agent and a pipeline of an organisation."""
    caller = arena_core.Caller(OrganisationId(organisation), LIBRARY, Role.MANAGER)
    use = arena.on_behalf_of(caller)
    project = use.projects.create("p", kind="classic")
    experiment = use.experiments.create(
        project.id,
        name="e",
        algorithm="PPO",
        source=arena_core.gym("CartPole-v1"),
    )
    for step in (10, 20):
        use.experiments.add_checkpoint(
            experiment.id, step=step, path=folder, score=1.0, fitness=2.0
        )
    agent = use.agents.create("a", experiment.id, checkpoint=arena_core.final())
    use.agents.connect(agent.id)
    live = use.agents.wait(agent.id, timeout_s=30)
    lab = use.projects.create("l", kind="advanced")
    drafts = [
        use.experiments.create(lab.id, name=f"d{number}", algorithm="PPO")
        for number in range(2)
    ]
    made = use.pipelines.create(lab.id, name="line")
    line = use.pipelines.insert_stage(
        made.id, type="experiment", experiment_id=drafts[0].id
    )
    issued = use.tokens.issue(name="t", user=f"{organisation}-ada", role="manager")
    return issued.token, live, line


def _configuration(folder: Path, tokens: dict[str, str], live, line, head: int) -> Path:
    bearers = [
        {
            "name": name,
            "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}],
        }
        for name, token in tokens.items()
    ]
    (folder / "auth.json").write_text(json.dumps({"auth": bearers}))
    known = {
        "as_of": [str(head)],
        "project_id": [str(live.project_id), str(line.project_id)],
        "experiment_id": [str(live.experiment_id)],
        "agent_id": [str(live.id)],
        "pipeline_id": [str(line.id)],
        "stage_id": [str(line.stages[0].id)],
        "deployment_id": [str(live.deployment.id)],
        "organisation_id": ["default"],
        "experiment_name": ["e"],
    }
    harmless = {
        "If-Match": ["*"],
        "If-None-Match": ['"another"'],
        "Idempotency-Key": [str(UUID(int=number)) for number in range(2000)],
    }
    # Others hold the answer for up to a minute.
    short = {"wait": [0.0, 0.05]}
    lines = [
        f'[auth.wfc]\npath = "{folder / "auth.json"}"',
        f"peers = {json.dumps([*tokens])}",
        "[checks]\nenabled = false",
        *(f"{check}.enabled = true" for check in CHECKS),
        "[dictionaries]",
        *(
            f"{name} = {{ values = {json.dumps(values)} }}"
            for name, values in {**known, **harmless, **short}.items()
        ),
        "[parameters]",
        # Half of the time what is there, half of the time anything.
        *(f'{n} = {{ dictionary = "{n}", probability = 0.5 }}' for n in known),
        *(f'{n} = {{ dictionary = "{n}", probability = 0.95 }}' for n in harmless),
        *(f'{n} = {{ dictionary = "{n}", probability = 1.0 }}' for n in short),
        f"[[operations]]\ninclude-path-regex = {json.dumps(OF_CREDENTIALS)}",
        "enabled = false",
    ]
    written = folder / "schemathesis.toml"
    written.write_text("\n".join(lines))
    return written


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_the_api_does_what_its_description_says(tmp_path):
    python = environment(REQUIREMENT)
    folder = bundles.cartpole(tmp_path / "bundle")
    with arena_core.open(
        tmp_path / "arena.db", probe_interval_s=0, failed_auth_rate=0
    ) as arena:
        ours, live, line = inhabited(arena, "default", folder)
        theirs, *_ = inhabited(arena, "rivals", folder)
        tokens = {"ours": ours, "theirs": theirs}
        head = arena.application.core.store.head()
        configuration = _configuration(tmp_path, tokens, live, line, head)
        server = Server(build_app(arena), listen("127.0.0.1", 0))
        with server.in_background() as url:
            tried = subprocess.run(
                [
                    python.with_name("schemathesis"),
                    "--config-file",
                    configuration,
                    "run",
                    f"{url}/openapi.json",
                    "--max-time",
                    str(SECONDS),
                    "--request-timeout",
                    "70",
                    "--no-color",
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
    assert "✅ Stateful" in tried.stdout, tried.stdout[-2000:] + tried.stderr[-2000:]
    assert tried.returncode == 0, tried.stdout[:10_000]
