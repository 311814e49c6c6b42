"""Writes docs/events.md from the catalogue of events.

python docs/generate_events.py

A test refuses a page that is not what this would write.
"""  # noqa: INP001 -- a script, no package

import json
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from attrs import fields, has

from arena_core.adapters.codec import CATALOGUE, EventType

DOCS = Path(__file__).parent
PAGE = DOCS / "events.md"
BODIES = DOCS.parent / "tests" / "history" / "bodies"

MEANINGS = {
    "project.created": "A project begins; its kind can never be changed.",
    "project.renamed": "It has another name.",
    "project.described": "It has another description.",
    "project.deleted": "It is gone from every list. Its pipelines and experiments were "
    "deleted in the same transaction.",
    "experiment.drafted": "An experiment begins, as a Draft.",
    "experiment.configured": "A Draft has another set-up.",
    "experiment.renamed": "It has another name.",
    "experiment.bound": "A stage of a pipeline has it, and alone trains it; no other "
    "can have it.",
    "experiment.released": "It is that stage's no more.",
    "experiment.checkpoint_written": "A bundle is the experiment's checkpoint at a "
    "step. The bundle was durable before this was recorded. `training` is the number "
    "of the training that wrote it; null: it was uploaded or imported.",
    "experiment.checkpoint_deleted": "The step has no checkpoint any more. Agents "
    "that have frozen it keep it. The first checkpoint of a training that began anew "
    "comes with one of these for each that was there.",
    "experiment.training_requested": "Training is to begin, from nothing or from an "
    "earlier checkpoint, which the training `resume_of` has written. `beginning` says "
    "what it is given besides, `stage` which stage of a pipeline asks for it.",
    "experiment.training_claimed": "A worker has taken that on, until its lease ends. "
    "`claim` counts all claims of the experiment's trainings; `lost` held it before, "
    "and is dead, or has let its lease run out.",
    "experiment.training_started": "It runs, in a process of its own.",
    "experiment.stop_requested": "Training is to end early.",
    "experiment.training_stopped": "It has ended early, as it was asked to.",
    "experiment.training_succeeded": "It has ended by itself.",
    "experiment.training_failed": "It has ended with an error: `reason` says which, "
    "and what was printed last.",
    "experiment.deleted": "It is gone from every list. Agents made of it stay.",
    "import.requested": "Files of other training code are to become a checkpoint: "
    "`files` is what was handed in, kept under its digest as bundles are, and `order` "
    "what was said about it.",
    "import.claimed": "A worker has taken that on, until its lease ends. `claim` "
    "counts all claims of the import.",
    "import.succeeded": "The bundle with this digest came of it, and is a checkpoint "
    "of the experiment since the same transaction. `code` in the envelope is the "
    "release that has converted it.",
    "import.failed": "Nothing came of it, and never will.",
    "import.interrupted": "What worked on it has ended, or met something that may "
    "pass: Pending again, one attempt the poorer.",
    "import.released": "What worked on it was stopped, and gave it back: Pending "
    "again, as if it had not been begun.",
    "import.cancelled": "Nothing is to come of it.",
    "agent.checkpoint_frozen": "An agent begins: one checkpoint was chosen, and what "
    "was known of it then is kept here.",
    "agent.renamed": "It has another name.",
    "agent.described": "It has another description.",
    "agent.checkpoint_replaced": "The agent has another checkpoint: by an order, or "
    "because a limit of the guard was crossed. While it is live, this is in the same "
    "transaction as the deployment's event.",
    "agent.deleted": "It is gone from every list, and can be restored for a time.",
    "agent.restored": "The deletion was undone.",
    "deployment.created": "The agent has its deployment, Undeployed.",
    "deployment.connect_requested": "The agent is to be put live: Pending.",
    "deployment.connect_claimed": "A worker has taken that on, until its lease ends. "
    "`claim` counts all claims of the deployment, `attempt` those of this Connect.",
    "deployment.parity_checked": "The worker has replayed the golden trace through "
    "the served path.",
    "deployment.connected": "The worker answers for the deployment: Deployed.",
    "deployment.connect_failed": "It could not be put live: Failed.",
    "deployment.connection_lost": "What claimed or served it has ended, by a crash or "
    "a stop: Pending again.",
    "deployment.server_replaced": "Another worker, with the same weights loaded, "
    "serves on what `lost` had put live: still Deployed, without a gap.",
    "deployment.checkpoint_assigned": "It has other weights, and serves none now.",
    "deployment.swap_requested": "Other weights are to take the place of those that "
    "answer, or to be compared with them as a shadow. The envelope says by whose hand "
    "and why.",
    "deployment.swap_claimed": "A worker has taken that on, until its lease ends.",
    "deployment.swap_interrupted": "What had claimed it has ended, or met a defect: "
    "others may claim it. What was live answers.",
    "deployment.swap_failed": "The weights could not be loaded, or answer otherwise "
    "than trained: what was live goes on.",
    "deployment.checkpoint_swapped": "From here on `digest` answers, and `before` does "
    "not. `baking_until`: it has a guard, which may bring `before` back until then.",
    "deployment.swap_passed": "It has kept the limits of its guard, as the figures of "
    "the worker that serves it show.",
    "deployment.swap_reverted": "`before` has crossed a limit: `digest`, which it had "
    "replaced, answers again.",
    "deployment.shadow_started": "The weights are asked beside those that answer, "
    "and their answers go nowhere.",
    "deployment.shadow_compared": "The time of a shadow is over, with these figures; "
    "nothing was replaced.",
    "deployment.baking_stopped": "Somebody's order has ended the baking, or the "
    "shadow, before its time.",
    "deployment.disconnected": "It was taken off its endpoint: Undeployed. A swap that "
    "was under way or baking has ended with it.",
    "deployment.key_rotated": "Keys of smaller versions are dead.",
    "deployment.deleted": "Nothing will answer at its endpoint.",
    "deployment.restored": "The deletion was undone; it is Undeployed.",
    "credential.access_token_issued": "A token can be used from now on. Only the "
    "SHA-256 of its text and its last four characters are kept.",
    "credential.access_token_rotated": "It has a new secret; the old one is dead.",
    "credential.access_token_revoked": "It is dead for ever.",
    "user.registered": "Somebody can sign in by this name, whose case does not matter.",
    "user.described": "They are called otherwise, or have another e-mail address.",
    "user.organisation_joined": "They belong to an organisation, which is their "
    "current one from here on if they had none.",
    "user.organisation_left": "They do not belong to it any more, and act in `current` "
    "from here on.",
    "user.organisation_chosen": "They have made it their current one.",
    "user.personal_token_held": "This is their one personal token, which was issued in "
    "the same transaction.",
    "user.personal_token_released": "They have none any more: it was revoked in the "
    "same transaction.",
    "organisation.created": "An organisation begins. That of `default` is recorded "
    "when something of it is, for the first time.",
    "organisation.renamed": "It has another name.",
    "organisation.member_invited": "Whoever signs in as `user` may join, until then. "
    "Only the SHA-256 of the invitation's text and its last four characters are kept.",
    "organisation.invitation_withdrawn": "The invitation is void: it was taken back, "
    "replaced by another, or the user was made a member without it.",
    "organisation.member_joined": "They belong to it, by an invitation, or without one "
    "as who founds it or was added by an operator.",
    "organisation.member_role_changed": "They may do more, or less, from here on.",
    "organisation.member_removed": "They do not belong to it any more. What they "
    "owned is the `successor`'s from here on: the manager who has removed them, or the "
    "one who was there first. The envelope says by whose hand: by their own, they "
    "left.",
    "sign_in.approved": "A user lets the client act for them that shows a code, with a "
    "personal token that bounds what it may do. The client has yet to take it up.",
    "sign_in.denied": "The user does not let it.",
    "sign_in.redeemed": "The client has taken it up, which only one can; it acts for "
    "the user until then, or until it is ended.",
    "sign_in.signed_out": "It is over for ever: the client has signed out, or the user "
    "has ended it.",
    "request.carried_out": "What was asked for under an Idempotency-Key was done by "
    "the events that follow it in the same transaction. `digest` is the SHA-256 of all "
    "that was asked for; the key itself is not kept.",
    "pipeline.created": "A pipeline begins, without stages.",
    "pipeline.duplicated": "A pipeline begins as a copy of `original`: its structure "
    "and settings, over Drafts that were made in the same transaction.",
    "pipeline.renamed": "It has another name.",
    "pipeline.described": "It has another description.",
    "pipeline.stage_inserted": "It has a stage more, at a position from 1.",
    "pipeline.stage_moved": "The stage is at another position. Nothing is started by "
    "that.",
    "pipeline.stage_edited": "The stage has these settings now. An Auto stage that has "
    "become the first is made Manual like that, in the same transaction.",
    "pipeline.stage_removed": "The pipeline has the stage no more. What it did stays "
    "in the stage's own stream.",
    "pipeline.deleted": "It is gone from every list. Its experiments and agents stay.",
    "stage.triggered": "The stage is to run: Pending. The run keeps these settings. "
    "`fingerprint` is of all that decides what it makes: the stage is stale once it "
    "would begin with another. If `cause` is `auto`, the success before it is in the "
    "same transaction.",
    "stage.checkpoint_consumed": "The run takes this checkpoint, whatever the stage "
    "before it leaves later.",
    "stage.condition_checked": "Its condition was judged by what was `seen`.",
    "stage.approval_requested": "Somebody has to approve of what was `seen`.",
    "stage.approved": "Somebody has, as the envelope says.",
    "stage.started": "An attempt has begun: Running. The request for its training, or "
    "what puts its agent live, is in the same transaction.",
    "stage.attempt_failed": "It has failed, and is tried again at `retry_at`: Pending.",
    "stage.stop_requested": "The run is to end early, because somebody said so or its "
    "time is over: Stopping.",
    "stage.succeeded": "The run has ended well. The stages behind it take what it "
    "`yields`. The agent that was `added`, and the trigger of the next Auto stage, "
    "are in the same transaction.",
    "stage.failed": "The run has ended with an error. What it `yields` can be taken "
    "all the same, by hand.",
    "stage.stopped": "It has ended early, or was not to begin at all.",
}

NOTES = {
    "Cause": "`automatic_rollback`: a limit of the guard was crossed.",
    "Figures": "What one worker has seen itself since the baking began, or since it "
    "was started in the midst of it. `requests`, `errors` and `p99_ms` are of what has "
    "answered: of a shadow that is what it was compared with. `seconds`: those in "
    "which requests were answered; `slow_seconds`: the sum, over these, of the share "
    "of requests that took longer than the guard allows. The rest is of a sample of "
    "rows: `masked_rows` with an action mask, of which `mask_violations` would have "
    "been answered with what the mask forbids; `compared`, which both checkpoints were "
    "asked; `action_shift`, by how much they differ on these, from 0 to 1, the "
    "greatest of `greatest_of` parts of the action.",
    "Guard": "Limits that must be kept for `bake_s` seconds, each the most that is "
    "allowed; null: not limited. Rates and shift are from 0 to 1.",
    "Shadow": "For how many seconds weights are asked beside those that answer.",
}

MARK = "<!-- From here on the page is made by docs/generate_events.py. -->\n"


def page() -> str:
    """Return the whole page: what people wrote before the mark stays as it is."""
    written, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    types: dict[str, type] = {}
    sections = ["## The events"]
    aggregate = ""
    for kind in CATALOGUE.types:
        if (begun := kind.name.partition(".")[0]) != aggregate:
            aggregate = begun
            sections.append(f"### {aggregate}")
        sections += _event(kind, types)
    sections.append("## Types of fields")
    for _, cls in sorted(types.items()):
        sections += _nested(cls)
    return written + MARK + "\n" + "\n\n".join(sections) + "\n"


def _event(kind: EventType, types: dict[str, type]) -> list[str]:
    stored = f"{kind.name}@{kind.version}"
    body = json.loads((BODIES / f"{stored}.json").read_text(encoding="utf-8"))
    example = json.dumps(body, indent=2, ensure_ascii=False)
    return [
        f"#### `{stored}`",
        f"{MEANINGS[kind.name]}\nClass `{kind.cls.__name__}`.",
        *_table(kind.cls, types),
        f"```json\n{example}\n```",
    ]


def _table(cls: type, types: dict[str, type]) -> list[str]:
    if not fields(cls):
        return []
    hints = get_type_hints(cls)
    rows = ["| field | type |", "|---|---|"]
    for field in fields(cls):
        hint = hints[field.name]
        _collect(hint, types)
        rows.append(f"| `{field.name}` | {_spelled(hint)} |")
    return ["\n".join(rows)]


def _nested(cls: type) -> list[str]:
    title = f"### {cls.__name__}"
    notes = [NOTES[cls.__name__]] if cls.__name__ in NOTES else []
    if issubclass(cls, Enum):
        values = ", ".join(f"`{member.value}`" for member in cls)
        return [title, f"One of {values}.", *notes]
    return [title, *notes, *_table(cls, {})]


def _collect(hint: Any, types: dict[str, type]) -> None:  # noqa: ANN401 -- any annotation
    for part in get_args(hint):
        _collect(part, types)
    if isinstance(hint, type) and (has(hint) or issubclass(hint, Enum)):
        types[hint.__name__] = hint
    if has(hint):
        for inner in get_type_hints(hint).values():
            _collect(inner, types)


def _spelled(hint: Any) -> str:  # noqa: ANN401 -- any annotation
    if hint is NoneType:
        return "null"
    if hasattr(hint, "__supertype__"):
        return f"{hint.__name__} ({_spelled(hint.__supertype__)})"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_spelled(part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {_spelled(get_args(hint)[0])}s"
    if has(hint) or issubclass(hint, Enum):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return _JSON[hint.__name__]


_JSON = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "boolean",
    "UUID": "UUID",
    "datetime": "time, RFC 3339",
}

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
