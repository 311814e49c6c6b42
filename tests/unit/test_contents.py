"""What a stored bundle says of itself, however little or much that is."""

import pytest

from arena_core import best
from arena_core.application.contents import TrainedOn
from arena_core.domain.errors import NotFound

import bundles

DATASET = {"name": "irises.csv", "sha256": "ab" * 32, "rows": 150}
NAMES = {"columns": ["sepal", "petal"], "classes": ["setosa"]}


@pytest.fixture
def contents(scene):
    """Return what tells what is in a bundle that says this of its origin."""

    def tell(provenance):
        folder = scene.bundle(bundles.regressor)
        stored = {**bundles.manifest(folder), "provenance": provenance}
        bundles.write_manifest(folder, stored)
        made = scene.experiment(bundle=folder, algorithm="Supervised", kind="advanced")
        return scene.use.experiments.contents(made.id, 10)

    return tell


def test_a_model_of_a_dataset_says_which_and_what_its_numbers_mean(contents):
    found = contents({"seed": 7, "dataset": DATASET | NAMES})
    assert found.dataset == TrainedOn("irises.csv", "ab" * 32, 150)
    assert (found.columns, found.classes) == (["sepal", "petal"], ["setosa"])
    assert found.provenance["seed"] == 7


@pytest.mark.parametrize("provenance", [{}, {"dataset": None}, {"dataset": "irises"}])
def test_a_model_of_nothing_that_is_known_says_so(contents, provenance):
    found = contents(provenance)
    assert (found.dataset, found.columns, found.classes) == (None, None, None)


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({"name": 1, "sha256": 2, "rows": "many"}, TrainedOn(None, None, None)),
        ({"rows": True}, TrainedOn(None, None, None)),
        ({"columns": [], "classes": [0, 1]}, TrainedOn(None, None, None)),
        ({"columns": "sepal", "rows": 0}, TrainedOn(None, None, 0)),
    ],
)
def test_what_a_bundle_says_in_another_form_is_not_repeated(contents, said, known):
    found = contents({"dataset": said})
    assert (found.dataset, found.columns, found.classes) == (known, None, None)


def test_an_agent_says_it_of_its_own_checkpoint(scene):
    made = scene.experiment()
    agent = scene.use.agents.create("balancer", made.id, checkpoint=best())
    of_step = scene.use.experiments.contents(made.id, 10)
    assert scene.use.agents.contents(agent.id) == of_step
    with pytest.raises(NotFound, match="there are: 10"):
        scene.use.experiments.contents(made.id, 11)
