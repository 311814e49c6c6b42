"""Manifests of the public client: what is read of them, and what is only kept.

The algorithm and the environment have names that we must know; all else is the
business of whoever trains, and is kept as it came.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from attrs import frozen

from arena_core.application import strict_json
from arena_core.application.experiments import dataset, gym, setup
from arena_core.application.metric_points import LARGEST_STEP
from arena_core.domain import experiment
from arena_core.domain.algorithms import family_of, is_recurrent, is_same
from arena_core.domain.errors import Rejected
from arena_core.domain.values import LONGEST_NAME, Family, Source, shown, trimmed

RECIPE = "agilerl"
"""What trains such an experiment."""
Steps = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_STEP)]


class _Algorithm(msgspec.Struct):
    name: str
    recurrent: bool | None = None
    pretrained_model_name_or_path: str | None = None


class _Environment(msgspec.Struct):
    name: str | None = None
    dataset: str | None = None
    dataset_path: str | None = None
    hf_dataset_id: str | None = None
    entrypoint: str | None = None


class _Training(msgspec.Struct):
    max_steps: Steps | None = None


class _Manifest(msgspec.Struct):
    algorithm: _Algorithm
    environment: _Environment
    training: _Training | None = None


@frozen
class Job:
    """What a manifest asks for."""

    name: str
    """What the experiment is called unless something else was said."""
    setup: experiment.Setup
    max_steps: int | None


def job(manifest: Mapping[str, Any], resources: Mapping[str, Any]) -> Job:
    """Return what is asked for.  Raises `Rejected`, naming the part of the manifest.

    `resources`: what was said beside the manifest, to be kept with it.
    """
    read = strict_json.convert(dict(manifest), _Manifest, at="manifest")
    algorithm = _algorithm(read.algorithm)
    family = _family(algorithm)
    source = _source(read.environment, family)
    return Job(
        f"{algorithm}-{source.name}"[:LONGEST_NAME].strip(),
        setup(
            algorithm=algorithm,
            family=family,
            source=source,
            base_model=read.algorithm.pretrained_model_name_or_path,
            recipe=RECIPE,
            config={"manifest": manifest, **_said(resources)},
        ),
        None if read.training is None else read.training.max_steps,
    )


def _said(resources: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resources.items() if value is not None}


def _algorithm(section: _Algorithm) -> str:
    """Return the algorithm; a recurrent PPO is told from another by its name alone."""
    name = trimmed(section.name, field="manifest.algorithm.name")
    recurrent = section.recurrent is True and not is_recurrent(name)
    return f"Recurrent {name}" if recurrent and is_same(name, "PPO") else name


def _family(algorithm: str) -> Family:
    try:
        return family_of(algorithm)
    except Rejected as error:
        raise Rejected(
            f"The algorithm {shown(algorithm)} is not known here: name another one, or "
            "draft the experiment with its family by the API of this server.",
            field="manifest.algorithm.name",
        ) from error


def _source(section: _Environment, family: Family) -> Source:
    named = (
        section.name,
        section.dataset,
        section.dataset_path,
        section.hf_dataset_id,
        section.entrypoint,
    )
    for name in named:
        if name is not None and name.strip():
            plain = trimmed(name, field="manifest.environment.name")
            return dataset(plain) if family is Family.LLM else gym(plain)
    raise Rejected(
        "The manifest does not say what to train on: give environment.name.",
        field="manifest.environment.name",
    )
