"""Calls with the Python package of the public client."""

from collections.abc import Sequence

from arena_core.application.resources import Example, Language, Tab
from arena_core.entrypoints.http.examples.arrays import Forbidding
from arena_core.entrypoints.http.examples.layout import (
    Lines,
    call,
    indented,
    laid_out,
    mapping,
    mask,
    tree,
)
from arena_core.entrypoints.http.examples.literals import python
from arena_core.entrypoints.http.examples.subject import Situation, Subject

NUMPY = "import numpy as np"
GYMNASIUM = "import gymnasium"


def examples(subject: Subject) -> list[Example]:
    match subject.situation:
        case Situation.PREDICTING:
            return [_prediction(subject)]
        case Situation.TOGETHER:
            return [_together(subject), _directed(subject)]
        case _:
            plays, forbids = subject.environment, subject.forbidding
            first = _alone(subject) if plays is None else _played(subject, plays)
            masked = [] if forbids is None else [_masked(subject, forbids)]
            return [first, *masked]


# --- one agent ---------------------------------------------------------------------


def _played(subject: Subject, environment: str) -> Example:
    before = [f"env = gymnasium.make({python(environment)})"]
    asking = [
        f"    {_acting(subject, 'action', 'observation')}",
        "    observation, reward, terminated, truncated, _ = env.step(action)",
        "    total, done = total + reward, terminated or truncated",
    ]
    during = [
        "observation, _ = env.reset(seed=0)",
        *_beginning(subject),
        "total, done = 0.0, False",
        "while not done:",
        *asking,
        'print("Return:", total)',
    ]
    title = f"Play an episode of {environment}"
    return _example(subject, title, GYMNASIUM, before, during)


def _alone(subject: Subject) -> Example:
    before = laid_out("observation = ", tree(subject.observed))
    asking = [
        _acting(subject, "action", "observation"),
        'print("Action:", action)',
    ]
    return _example(subject, "Get an action", NUMPY, before, _repeated(subject, asking))


def _masked(subject: Subject, forbidding: Forbidding) -> Example:
    before = [
        *laid_out("observation = ", tree(subject.observed)),
        f"mask = {mask(forbidding)}  # forbids choice {forbidding.place}",
    ]
    during = [
        'action, _ = agent.get_action(observation, info={"action_mask": mask})',
        'print("Action:", action)',
    ]
    return _example(subject, "Get an action under a mask", NUMPY, before, during)


def _acting(subject: Subject, result: str, observed: str) -> str:
    if subject.manifest.is_recurrent:
        return f"{result}, hidden = agent.get_action({observed}, hidden_state=hidden)"
    return f"{result}, _ = agent.get_action({observed})"


def _beginning(subject: Subject) -> Lines:
    begins = "hidden = None  # begins an episode"
    return [begins] if subject.manifest.is_recurrent else []


def _repeated(subject: Subject, asking: Lines) -> Lines:
    """Return what asks several times, where one answer leads to the next question."""
    if not subject.manifest.is_recurrent:
        return asking
    return [*_beginning(subject), "for _ in range(3):", *indented(asking)]


# --- several agents ----------------------------------------------------------------

_EACH = ["for name, action in actions.items():", '    print(f"{name}:", action)']


def _together(subject: Subject) -> Example:
    before = [*unnamed(subject), *laid_out("observations = ", tree(subject.observed))]
    asking = [_acting(subject, "actions", "observations"), *_EACH]
    return _example(
        subject, "Get everybody's actions", NUMPY, before, _repeated(subject, asking)
    )


def _directed(subject: Subject) -> Example:
    masks = {agent: mask(forbids) for agent, forbids in subject.masks.items()}
    chosen = {agent: tree(action) for agent, action in subject.forced.items()}
    before = [
        *unnamed(subject),
        *laid_out("observations = ", tree(subject.observed)),
        *laid_out("masks = ", mapping(masks)),
        *laid_out("chosen = ", mapping(chosen)),
    ]
    during = [
        "actions, _ = agent.get_action(",
        "    observations,",
        '    info={"action_mask": masks},',
        "    env_defined_actions=chosen,  # by the environment, not by the policy",
        ")",
        *_EACH,
    ]
    title = "Mask actions, and choose some in the environment"
    return _example(subject, title, NUMPY, before, during)


def unnamed(subject: Subject) -> Lines:
    if not subject.unnamed:
        return []
    return [f"# Some agents only: {subject.unnamed} more can be named, or left out."]


# --- predictions -------------------------------------------------------------------


def _prediction(subject: Subject) -> Example:
    before = laid_out("inputs = ", tree(subject.observed))
    during = ["results, _ = agent.predict(inputs)", 'print("Results:", results)']
    return _example(subject, "Get a prediction", NUMPY, before, during)


# --- around it ---------------------------------------------------------------------


def _example(
    subject: Subject, title: str, imported: str, before: Lines, during: Lines
) -> Example:
    around = _by_name if subject.callee.is_only else _by_endpoint
    lines = [imported, *around(subject, before, during)]
    code = "\n".join(lines) + "\n"
    return Example(Tab.ARENA_CLIENT, title, Language.PYTHON, code)


def _by_name(subject: Subject, before: Sequence[str], during: Sequence[str]) -> Lines:
    configured = call(
        "ArenaClient.configure",
        base_url=python(subject.base_url),
        keycloak_url=python(subject.base_url + "/"),
    )
    opened = call("client.open_inference_agent", python(subject.callee.name))
    return [
        "from agilerl.arena.client import ArenaClient",
        "",
        *laid_out("", configured),
        "",
        *before,
        "",
        "with ArenaClient() as client:",
        "    client.login()  # opens a browser, unless ARENA_API_KEY holds a token",
        *laid_out("with ", opened, " as agent:", levels=1),
        *indented(during, 2),
    ]


def _by_endpoint(
    subject: Subject, before: Sequence[str], during: Sequence[str]
) -> Lines:
    opened = call("Agent", python(subject.endpoint), api_key=python(subject.api_key))
    return [
        "from agilerl.arena.inference import Agent",
        "",
        *before,
        "",
        "# By its endpoint, for other agents have its name.",
        *laid_out("with ", opened, " as agent:"),
        *indented(during),
    ]
