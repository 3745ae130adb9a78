"""What the check of losses and gradients adds to a step: ``python -m benchmarks.finite_check``.

Steps of the trainer of ``train_net.py`` and of Detectron2's, of the same Mask R-CNN R50-FPN with
a block, take turns: one of ours between two of Detectron2's, whose mean it is compared with.
Images are synthetic, and the learning rate is 0. Steps vary by more than the check takes, so it is
also timed alone, on the gradients of the last step.
"""

import argparse
import itertools
import time

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.utils.events import EventStorage

from nl_detectron.engine.finite_steps import FiniteTrainer
from nl_detectron.engine.mixed_precision import MixedPrecisionTrainer

from .bench_models import IMAGE, MODELS, load, make_synthetic_image
from .machine import machine
from .timing import Budget, spread, take_turns

CHECKS = Budget(seconds=2.0, at_least=20, at_most=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, nargs=2, default=IMAGE, metavar=("H", "W"))
    parser.add_argument("--seconds", type=float, default=60.0, help="at least this long (60)")
    parser.add_argument("--amp", action="store_true", help="float16, on a GPU only")
    args = parser.parse_args()
    config, *_ = MODELS["Mask R-CNN R50-FPN, 1 block"]
    model = load(config, "MODEL.DEVICE", args.device).train()
    images = [make_synthetic_image(*args.size, seed=seed) for seed in range(2)]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
    common = (model, itertools.repeat(images), optimizer)
    if args.amp:
        trainers = [MixedPrecisionTrainer(*common, "float16"), AMPTrainer(*common)]
    else:
        trainers = [FiniteTrainer(*common), SimpleTrainer(*common)]

    def step(trainer: SimpleTrainer):
        def call():
            torch.manual_seed(1)  # proposals are sampled randomly
            with EventStorage() as trainer.storage:
                trainer.run_step()
            return ()

        return call

    checked, unchecked = map(step, trainers)
    calls = {"before": unchecked, "checked": checked, "after": unchecked}
    clock = time.perf_counter if args.device == "cuda" else time.process_time
    turns, _ = take_turns(calls, Budget(args.seconds, at_least=5, at_most=10**6), clock)
    means = [(turn["before"] + turn["after"]) / 2 for turn in turns]
    ratio = spread([turn["checked"] / mean for turn, mean in zip(turns, means, strict=True)])
    seconds = spread(means)["median"]
    losses = {f"loss {number}": torch.zeros((), device=args.device) for number in range(5)}
    alone, _ = take_turns({"check": lambda: trainers[0]._check(losses) or ()}, CHECKS, clock)
    check = spread([turn["check"] for turn in alone])["median"]
    print(
        f"the check alone: {check * 1000:.1f} ms, {100 * check / seconds:.2f} % of a step; "
        f"checked / unchecked: {ratio['median']:.4f} ({ratio['q1']:.4f} to {ratio['q3']:.4f}), "
        f"{len(turns)} turns, {seconds * 1000:.0f} ms a step, 2 images of {args.size}, {machine()}"
    )


if __name__ == "__main__":
    main()
