"""Small policies in PyTorch, and the golden traces of what they answer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BATCHES = (1, 7)
EPISODE_STEPS = 4


class Gaussian(nn.Module):
    """The mean of an action in two dimensions, and the logarithm of its deviation."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
        self.log_std = nn.Parameter(torch.tensor([-0.5, 0.25]))

    def forward(self, obs):
        mean = self.mean(obs)
        return mean, self.log_std.expand(mean.shape[0], 2)


class Recurrent(nn.Module):
    """Logits by an LSTM of two layers; callers see its states batch first."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, num_layers=2)
        self.logits = nn.Linear(8, 3)

    def forward(self, obs, h, c):
        before = h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous()
        seen, (h, c) = self.lstm(obs.unsqueeze(0), before)
        return self.logits(seen.squeeze(0)), h.transpose(0, 1), c.transpose(0, 1)


class Convolutional(nn.Module):
    """The values of four actions, of an image in bytes."""

    def __init__(self):
        super().__init__()
        self.values = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.BatchNorm2d(4),
            nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(36), nn.Dropout(0.5),
            nn.Linear(36, 4),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)

    def forward(self, image):
        return self.values(image.float() / 255)


class Several(nn.Module):
    """The logits of two choices, of an observation of three parts."""

    def __init__(self):
        super().__init__()
        self.task = nn.Embedding(5, 4)
        self.logits = nn.Linear(4 + 3 + 4, 5)

    def forward(self, obs):
        parts = [obs["vector"], obs["grid"].flatten(1)[:, :3].float()]
        return self.logits(torch.cat([*parts, self.task(obs["task"])], dim=1))


class Dueling(nn.Module):
    """Values as a dueling network puts them together, and which is the greatest."""

    def __init__(self):
        super().__init__()
        self.advantage, self.value = nn.Linear(4, 5), nn.Linear(4, 1)

    def forward(self, obs):
        advantage = self.advantage(obs)
        q = self.value(obs) + advantage - advantage.mean(dim=1, keepdim=True)
        return q, q.argmax(dim=1)


class Classifier(nn.Module):
    """The probabilities of three classes, by attention over a sequence of five."""

    def __init__(self):
        super().__init__()
        self.attend = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.classes = nn.Linear(8, 3)

    def forward(self, sequence):
        return self.classes(self.attend(sequence).mean(1)).softmax(-1)


# --- what they answer ------------------------------------------------------------


def greedy(outputs: Sequence[Tensor]) -> Tensor:
    """Return the place of the greatest of the first output."""
    return outputs[0].argmax(dim=1)


def first(outputs: Sequence[Tensor]) -> Tensor:
    return outputs[0]


def record(
    module: nn.Module,
    draw: Callable[[int], Mapping[str, Tensor]],
    file: Path,
    *,
    names: Sequence[str],
    hidden: Sequence[tuple[int, ...]] = (),
    answer: tuple[str, Callable[[Sequence[Tensor]], Tensor]] = ("action", greedy),
    asked: str = "obs",
) -> None:
    """Write the golden trace of `module`, by PyTorch alone.

    `draw(rows)` returns the arrays of an observation by their paths; `names` are those
    of the outputs, the last of which are hidden states of the shapes `hidden`.
    """
    recorded: dict[str, np.ndarray] = {}
    for case, rows in enumerate(BATCHES):
        states = [torch.zeros(rows, *shape) for shape in hidden]
        for step in range(EPISODE_STEPS if hidden else 1):
            observed = draw(rows)
            with torch.no_grad():
                outputs = module(_argument(observed), *states)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            at = f"case{case}/step{step}"
            recorded |= {
                f"{at}/{asked}/{path}".rstrip("/"): array.numpy()
                for path, array in observed.items()
            }
            recorded |= {
                f"{at}/outputs/{name}": output.detach().numpy()
                for name, output in zip(names, outputs, strict=True)
            }
            recorded[f"{at}/{answer[0]}"] = answer[1](outputs).detach().numpy()
            states = list(outputs[len(outputs) - len(hidden) :])
    np.savez_compressed(file, **recorded)


def _argument(observed: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
    return observed[""] if [*observed] == [""] else dict(observed)
