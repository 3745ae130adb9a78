"""From a config and sources to an output folder: load the model, predict, draw and write."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import torch
from detectron2.config import CfgNode
from torch import nn
from tqdm import tqdm

from ..attention import AttentionRecord, record_attention
from ..config import detector_section, is_video
from ..data import CocoDataset
from ..engine import build_on_meta, load_config, load_model, make_output
from ..engine.video_checks import check_sizes
from ..errors import UsageError
from ..modeling import find_blocks
from .drawing import AttentionPoint, PredictionDrawer
from .inputs import Frame, SkipReporter, Source, count_frames, read_batches
from .instances import make_class_metadata
from .outputs import OutputWriter, Window, check_output_folder


def load_prediction_config(
    config_file: str,
    opts: Sequence[str],
    data: Sequence[CocoDataset],
    threshold: float,
    say: Callable[[str], None],
) -> CfgNode:
    """A config as :func:`load_config` reads it, of a model that keeps scores from a threshold on; a
    model of videos keeps all.

    Raises:
        UsageError: of :func:`load_config` and :func:`check_sizes`, or no MODEL.WEIGHTS.
    """
    cfg = load_config(config_file, opts, data, say)
    if not cfg.MODEL.WEIGHTS:
        raise UsageError("MODEL.WEIGHTS is empty: give a checkpoint, --opts MODEL.WEIGHTS FILE")
    if is_video(cfg):
        check_sizes(cfg, training=False)
    else:
        cfg.defrost()
        detector_section(cfg).SCORE_THRESH_TEST = threshold  # the config's may be higher
        cfg.freeze()
    return cfg


def predict_sources(
    cfg: CfgNode,
    sources: Sequence[Source],
    folder: Path,
    skip: SkipReporter,
    say: Callable[[str], None],
    *,
    attention: AttentionPoint | None = None,
    show_scores: bool = False,
    batch_size: int = 1,
) -> dict[str, int]:
    """Write what a model finds in sources into a folder, with a progress bar.

    A camera runs until it ends, Ctrl-C or, where OpenCV has windows, the key q.

    Args:
        cfg: of :func:`load_prediction_config`.
        skip: takes what cannot be read, predicted or looked at.
        say: takes a line for each warning.
        attention, show_scores: as :class:`PredictionDrawer` has them.
        batch_size: images at once.

    Returns:
        Numbers of image(s), frame(s) and detection(s).

    Raises:
        UsageError: an output folder, a checkpoint or a model that will not do, or nothing to read.
    """
    if not sources:
        raise UsageError("nothing of --input can be read: give images, folders of them or videos")
    check_output_folder(folder, [s.path for s in sources if s.camera is None])
    make_output(folder)
    model = load_prediction_model(cfg, say, need_blocks=bool(attention))
    if attention and not find_blocks(model):
        say("warning: --attention: this model has no non-local blocks, so detections alone follow")
        attention = None
    threshold = detector_section(cfg).SCORE_THRESH_TEST
    metadata = make_class_metadata(cfg, say)
    drawer = PredictionDrawer(metadata, threshold, attention, skip, show_scores)
    records = record_batches(model, cfg, read_batches(sources, batch_size, skip), skip)
    counts = {"image(s)": 0, "frame(s)": 0, "detection(s)": 0}
    live = any(source.camera is not None for source in sources)
    window = Window() if live else None
    gc.freeze()  # else finding the cycles that Matplotlib leaves takes longer than a picture
    try:
        with (
            OutputWriter(folder) as outputs,
            tqdm(total=count_frames(sources), unit="image") as bar,
        ):
            for frame, record in records:
                try:
                    picture, panels, detections = drawer.draw(frame, record)
                except (ValueError, RuntimeError, MemoryError) as error:  # Matplotlib's limits
                    skip(frame.source.path, _explain("Matplotlib cannot draw", frame, error))
                    continue
                outputs.write(frame, picture, panels, detections)
                counts["frame(s)" if frame.source.video else "image(s)"] += 1
                counts["detection(s)"] += len(detections)
                bar.update()
                gc.collect()
                if window and not window.show(picture):
                    break
    except KeyboardInterrupt:
        if not live:
            raise
    finally:
        gc.unfreeze()
        if window:
            window.close()
    if not any(counts.values()):
        raise UsageError("nothing could be read, so nothing is drawn")
    return counts


def load_prediction_model(
    cfg: CfgNode, say: Callable[[str], None], *, need_blocks: bool
) -> nn.Module:
    """Build the model of a config with the weights of its checkpoint.

    Args:
        say: takes a warning of tensors that the checkpoint lacks.
        need_blocks: warn of untrained non-local blocks too; for detections alone they do no harm,
            being identities.

    Raises:
        UsageError: a config that describes no model, or a checkpoint that cannot be read.
    """
    build_on_meta(cfg)
    loaded = load_model(cfg)
    path, lacking, blocks = loaded.checkpoint, loaded.untrained, loaded.untrained_blocks
    if lacking:
        say(
            f"warning: checkpoint {path!r} lacks {len(lacking)} of this model's tensors (such as "
            f"{lacking[0]}): they are untrained, so what is found means little"
        )
    if blocks and need_blocks:
        say(
            f"warning: checkpoint {path!r} lacks {', '.join(blocks)}: untrained, so where that "
            "looks means little"
        )
    return loaded.model


def record_batches(
    model: nn.Module, cfg: CfgNode, batches: Iterable[list[Frame]], skip: SkipReporter
) -> Iterator[tuple[Frame, AttentionRecord]]:
    """Run a model on batches of frames; frames that it cannot take are skipped.

    Raises:
        UsageError: a batch that does not fit the GPU's memory, or a model that finds no instances.
    """
    for batch in batches:
        try:
            images = [frame.image for frame in batch]
            records = record_attention(model, images, image_format="RGB", cfg=cfg)
        except torch.cuda.OutOfMemoryError as error:
            raise UsageError(
                f"{len(batch)} image(s) at once do not fit the GPU's memory: give a smaller "
                "--batch-size or INPUT.MIN_SIZE_TEST"
            ) from error
        except (ValueError, RuntimeError, cv2.error) as error:
            if len(batch) > 1:  # the others may do
                yield from record_batches(model, cfg, ([frame] for frame in batch), skip)
                continue
            skip(batch[0].source.path, _explain("the model cannot take", batch[0], error))
        else:
            if "instances" not in records[0].found:
                raise UsageError(
                    f"expected a model that finds instances, got one of {list(records[0].found)}: "
                    "give the config of a detector"
                )
            yield from zip(batch, records, strict=True)


def _explain(what: str, frame: Frame, error: Exception) -> str:
    height, width = frame.image.shape[:2]
    return f"{what} {width} x {height} pixels: {' '.join(str(error).split())[:300]}"
