"""Reference vectors: inputs, weights and outputs of each block, as the method's released code computes them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

DEFAULT_FOLDER = Path(__file__).parents[3] / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    """One file of reference vectors, whatever the sizes in it.

    Attributes:
        tensors: every tensor of the file, by its name there.
        metadata: what else the file says, as strings (grid, thresholds, numbers of regions kept).
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def load(self, module: nn.Module, names: Mapping[str, str | Tensor]) -> None:
        """Give a module its reference weights: each parameter by the name of a tensor here, or as a tensor.

        Shapes must agree up to axes of length 1, and no parameter may be left out.
        """
        state = module.state_dict()
        assert state.keys() == names.keys(), f"parameters left out or unknown: {state.keys() ^ names.keys()}"
        weights = {ours: self[theirs] if isinstance(theirs, str) else theirs for ours, theirs in names.items()}
        module.load_state_dict({ours: weight.reshape(state[ours].shape) for ours, weight in weights.items()})


def golden_folder() -> tuple[Path, bool]:
    """The folder of reference files, and whether it was named on purpose (DKGZSL_GOLDEN)."""
    named = os.environ.get("DKGZSL_GOLDEN")
    return (Path(named), True) if named else (DEFAULT_FOLDER, False)


def golden_files() -> list[Path]:
    """Every reference file of the folder."""
    return sorted(golden_folder()[0].glob("*.safetensors"))


def read(path: Path) -> Golden:
    """Read one reference file."""
    with safe_open(path, "pt") as file:
        return Golden({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118


def assert_golden(actual: Tensor, expected: Tensor) -> None:
    """Agreement in the tolerance that the reference vectors allow; scalars are stored there as [1]."""
    if actual.numel() == 1 and expected.numel() == 1:
        actual = actual.reshape(expected.shape)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-7)
