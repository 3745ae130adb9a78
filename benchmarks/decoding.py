"""Training clips from video files, beside PyAV's own loop: ``python -m benchmarks.decoding``.

Both read the same 64 frames of the same videos (synthetic, H.264, 340 x 256, ten seconds) in turns
and make 32 of them RGB frames of the same size. PyAV's loop decodes from the start of the file, or
from the key frame that it seeks to; it is given the place of the clip. The mapper counts the frames
of the file to find that out, crops and flips.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nl_detectron.data.video.mapper import TrainVideoMapper
from nl_detectron.data.video.reader import import_av

from .machine import machine
from .timing import Budget, spread, take_turns

SIZE, FRAMES, LENGTH, RATE = (256, 340), 250, 32, 2
SPAN = LENGTH * RATE
SIDE = 256  # shorter side of the clips in pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--videos", type=int, default=12, help="different videos (12)")
    parser.add_argument("--seconds", type=float, default=30.0, help="at least this long (30)")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        files = [write_video(Path(folder, f"{i}.mp4"), i) for i in range(args.videos)]
        mapper = TrainVideoMapper(LENGTH, RATE, (SIDE,), "range", 224, "horizontal")
        calls = {
            "mapper": lambda: [map_clip(mapper, file, i) for i, file in enumerate(files)],
            "seeking loop": lambda: [plain_loop(file, i, True) for i, file in enumerate(files)],
            "loop from the start": lambda: [plain_loop(f, i, False) for i, f in enumerate(files)],
        }
        budget = Budget(args.seconds, at_least=5, at_most=10**6)
        turns, _ = take_turns(calls, budget, time.process_time)
    each = {name: spread([turn[name] / args.videos for turn in turns]) for name in calls}
    for name in ("seeking loop", "loop from the start"):
        ratio = spread([turn[name] / turn["mapper"] for turn in turns])
        print(
            f"speed of the mapper over PyAV's {name}: {ratio['median']:.2f} "
            f"({ratio['q1']:.2f} to {ratio['q3']:.2f})"
        )
    for name, seconds in each.items():
        print(
            f"{name}: {1000 * seconds['median']:.1f} ms, {1 / seconds['median']:.1f} clips a second"
        )
    print(f"{len(turns)} turns, {args.videos} videos, {machine()}")


def write_video(file: Path, seed: int) -> Path:
    """Smooth patterns that move, with some noise."""
    av = import_av()
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = rng.uniform(0.01, 0.06, size=(3, 3))
    with av.open(str(file), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        (stream.height, stream.width), stream.pix_fmt = SIZE, "yuv420p"
        stream.codec_context.gop_size = 250  # x264's default: long distances to decode
        for number in range(FRAMES):
            phases = [np.sin(a * x + b * y + c * number) for a, b, c in waves]
            pixels = 128 + 60 * np.stack(phases, axis=-1) + rng.normal(0, 6, size=(*SIZE, 1))
            frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file


def start_of(seed: int) -> int:
    """The frame at which the mapper's clip starts with this seed."""
    np.random.seed(seed)
    return int(np.random.randint(FRAMES - SPAN + 1))


def map_clip(mapper: TrainVideoMapper, file: Path, seed: int) -> None:
    np.random.seed(seed)
    mapper({"file_name": str(file)})


def plain_loop(file: Path, seed: int, seek: bool) -> np.ndarray:
    """The same frames by PyAV alone, in one thread, as RGB of the clip's size."""
    av = import_av()
    start, frames = start_of(seed), []
    width = SIDE * SIZE[1] // SIZE[0]
    reformatter = av.video.reformatter.VideoReformatter()
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        step = int(1 / (stream.average_rate * stream.time_base))
        wanted = {(start + RATE * i) * step for i in range(LENGTH)}
        if seek:
            container.seek(start * step, stream=stream)
        for frame in container.decode(stream):
            if frame.pts in wanted:
                options = {"interpolation": "BILINEAR", "threads": 1}
                frames.append(
                    reformatter.reformat(frame, width, SIDE, "rgb24", **options).to_ndarray()
                )
            if len(frames) == LENGTH:
                break
    assert len(frames) == LENGTH
    return np.stack(frames)


if __name__ == "__main__":
    main()
