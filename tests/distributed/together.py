"""What the processes of a test do; started as `python together.py WORK=FOLDER...` with torchrun's variables set.

Process 0 leaves what it has trained in FOLDER/SIZE.safetensors, where SIZE is the number of processes.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "methods" / "dkgzsl"))
sys.path.insert(0, str(Path(__file__).parents[1] / "representation"))

import torch
from safetensors.torch import load_file, save_file
from toys import toy_set

from dkgzsl.config import RefinementConfig
from dkgzsl.distributed import Processes, joined
from dkgzsl.methods.dkgzsl.follower import Follower
from dkgzsl.methods.dkgzsl.settings import AdversarialSettings
from dkgzsl.methods.dkgzsl.training import AdversarialTraining
from dkgzsl.representation.sovr import train_refiner

SETTINGS = AdversarialSettings(
    hidden_size=16, batch_size=7, learning_rate=1e-3, fusion_learning_rate=5e-4, gamma=10.0
)
"""Seven images a batch: two processes have three and four of them. An epoch is 12 generator steps, 60 critic's."""
EPOCHS = 4


def training(dtype: torch.dtype, processes: Processes) -> AdversarialTraining:
    toy = toy_set()
    features, semantics = toy.features.to(dtype), toy.semantics.to(dtype)
    return AdversarialTraining(features, toy.labels, semantics, SETTINGS, seed=3, processes=processes)


def refiner_state(work: str) -> dict[str, torch.Tensor]:
    from test_refinement import GRID, World

    world = World()
    if work == "sovr-float64":  # SOVR computes in float32; this shows that nothing but its rounding differs
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    config = RefinementConfig(steps=200, batch_size=15, denoising="trained", precision="float32")
    trained = train_refiner(
        world.tokens,
        world.labels,
        world.training,
        grid=GRID,
        attributes=world.attributes,
        vectors=world.vectors,
        config=config,
        seed=0,
    )
    return dict(trained.state_dict()) | {"loss": torch.tensor(list(trained.record["final_losses"].values()))}


def lead(work: str, folder: Path, processes: Processes) -> None:
    if work.startswith("sovr"):
        save_file(refiner_state(work), folder / f"{processes.size}.safetensors")
        return
    dtype = torch.float32 if work == "float32" else torch.float64
    trained = training(dtype, processes)
    before = folder / "before.safetensors"
    if work == "second-half":
        trained.restore(load_file(before), epoch=EPOCHS // 2)
    figures = {}
    while trained.epoch < (EPOCHS // 2 if work == "first-half" else EPOCHS):
        figures = trained.train_epoch()
        if work == "killed" and trained.epoch == 1:
            os.kill(int((folder / "victim").read_text()), signal.SIGKILL)
    state = {name: tensor.clone() for name, tensor in trained.state().items()}
    if work == "first-half":
        save_file(state, before)
    else:
        state["figures"] = torch.tensor(list(figures.values()), dtype=torch.float64)
        save_file(state, folder / f"{processes.size}.safetensors")


def main(works: list[tuple[str, Path]]) -> None:
    with joined() as processes:
        if processes.leads:
            for work, folder in works:
                lead(work, folder, processes)
            return
        work, folder = works[-1]
        (folder / "victim").write_text(str(os.getpid()))
        sovr = {"sovr": lambda values, tensors: refiner_state(work)}
        processes.serve({**Follower(processes).handlers, **sovr})


if __name__ == "__main__":
    torch.set_num_threads(1)
    pairs = [word.split("=", 1) for word in sys.argv[1:]]
    main([(work, Path(folder)) for work, folder in pairs])
