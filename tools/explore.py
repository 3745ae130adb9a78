#!/usr/bin/env python3
"""Open a local page: click into an image and see where each non-local block looks from there.

python tools/explore.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml \
    --opts MODEL.WEIGHTS model_final.pth --images path/to/images

The page is served to this machine alone, and neither it nor the server asks anything of another.
"""

import argparse
import html
import os
import signal
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import ModuleType

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.utils.visualizer import Visualizer
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from nl_detectron.engine import Checkpointer, UsageError, build_on_meta, load_config
from nl_detectron.engine.checkpoint import fresh_outside_blocks, read_checkpoint
from nl_detectron.layers import NonLocalBlock, build_pairwise
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.visualization import Attention, View, look, mean_distance, strongest
from nl_detectron.visualization.draw import ARROWS, arrows, as_image, heat, likeness

HOST = "127.0.0.1"
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SCORE = 0.5  # the slider's first place
KEPT = 8  # images whose views are kept
WIDTH, DPI = 7.2, 100  # of a map, in inches: as wide as half a page
SHOWN = 800  # pixels of the picture's longer side, at least
SAME_EMBEDDINGS = ("embedded_gaussian", "dot_product")  # both are of theta . phi
MEANING = f"""
Click a point. To the feature there a non-local block adds a weighted sum of the features at all
positions: the **map** shows the weight of each, in multiples of an even look (1 is what each would
get if all were alike), and **arrows** lead to the greatest, at most {ARROWS}, the wider the
greater. Some forms give weights below zero, which the map's scale tells; their arrows are dotted.
"""
NO_ROI = (
    "No detection holds this point, so this head did not look here. Click into a detection (those "
    "of lower scores than the slider's count, too)."
)
CLICK = "Click a point"
MAPS = [("weights", "weights"), ("log f", "scores")]
QUICK = {"show_progress": "hidden", "trigger_mode": "always_last"}  # events that need no model
CSS = """
#picture img { cursor: crosshair }
.map .image-container { padding-top: 2.2rem }  /* labels and buttons stand above pictures */
.alert { font-weight: 600; border-left: 4px solid; padding-left: 0.6rem }
"""


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="overrides")
    parser.add_argument("--compare-config", metavar="FILE", help="of a second model, to compare")
    parser.add_argument(
        "--compare-opts", nargs="*", default=[], metavar="KEY VALUE", help="its own"
    )
    parser.add_argument(
        "--images",
        nargs="*",
        default=[],
        metavar="PATH",
        help="files, or folders of them; by default the config's test data set, if it is here",
    )
    parser.add_argument("--port", type=int, help="by default the first free one from 7860")
    args = parser.parse_args(words)
    if args.compare_opts and not args.compare_config:
        raise UsageError("--compare-opts, but no --compare-config FILE that they would be for")
    # the server writes every picture and upload into files: here, until it ends
    with tempfile.TemporaryDirectory(prefix="nl_detectron-explore-") as folder:
        gr = import_gradio(folder)
        images = find_images(args.images)
        models = [load(args.config_file, args.opts)]
        if args.compare_config:
            models.append(load(args.compare_config, args.compare_opts))
        serve(gr, page(gr, Explorer(models), images or of_data_set(models[0])), args.port)


def import_gradio(folder: str) -> ModuleType:
    """Gradio, told to stay on this machine and to keep its files in a folder.

    Raises:
        UsageError: it is not installed, or does not import.
    """
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_RUN_HISTORY="False",
        GRADIO_TEMP_DIR=folder,
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
    )
    for name in ("no_proxy", "NO_PROXY"):  # it asks itself whether it is up
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    try:
        import gradio
    except ImportError as error:
        raise UsageError(
            f"the page needs gradio ({error}): pip install -r requirements-explore.txt"
        ) from error
    return gradio


# --- models and images ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """A model to look through.

    Attributes:
        title: its config's and checkpoint's names.
        resize: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
        data_set: the first of DATASETS.TEST; or "".
        classes: names for what it finds, where that data set tells them.
        untrained: in words, what its checkpoint did not give; or "".
    """

    title: str
    model: nn.Module
    resize: tuple[int, int]
    data_set: str
    classes: Metadata
    untrained: str


def load(config_file: str, opts: list[str]) -> Loaded:
    """The model of a config, with its checkpoint's weights.

    Raises:
        UsageError: a config or a checkpoint that will not do, or a model without blocks.
    """
    cfg = load_config(config_file, opts)
    if not find_blocks(build_on_meta(cfg)):
        raise UsageError(
            f"{config_file}: this model has no non-local blocks to look through; name a config "
            "with blocks, such as one of the *_nl_*.yaml below configs/"
        )
    weights = cfg.MODEL.WEIGHTS
    if weights:
        read_checkpoint(weights)
    model = build_model(cfg).eval()
    checkpointer = Checkpointer(model)
    checkpointer.load(weights)
    return Loaded(
        title=f"{Path(config_file).stem}, {Path(weights).name or 'no weights'}",
        model=model,
        resize=(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        data_set=next(iter(cfg.DATASETS.TEST), ""),
        classes=_classes(cfg),
        untrained=_untrained(checkpointer),
    )


def _classes(cfg: CfgNode) -> Metadata:
    known = MetadataCatalog.get(cfg.DATASETS.TEST[0]) if cfg.DATASETS.TEST else Metadata()
    enough = len(known.get("thing_classes", ())) >= cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return known if enough else Metadata()


def _untrained(checkpointer: Checkpointer) -> str:
    fresh = tuple(checkpointer.fresh)
    blocks = [b for b in find_blocks(checkpointer.model) if any(n.startswith(b) for n in fresh)]
    others = fresh_outside_blocks(checkpointer)
    told = []
    if blocks:
        told.append("tensors of " + ", ".join(blocks))
    if others:
        parts = sorted({name.split(".")[0] for name in others})
        told.append(f"{len(others)} tensors of {', '.join(parts)}, so detections say little")
    return f"Not in the checkpoint, so untrained: {'; '.join(told)}." if told else ""


def find_images(places: Sequence[str]) -> list[Path]:
    """The files named, and those in the folders named.

    Raises:
        UsageError: a place that does not exist, or a folder without images.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            here = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES)
            if not here:
                raise UsageError(f"--images {place}: no image in it ({' '.join(SUFFIXES)})")
            found += here
        elif place.is_file():
            found.append(place)
        else:
            raise UsageError(f"--images {place}: expected a file or a folder, there is none")
    return list(dict.fromkeys(found))


def of_data_set(model: Loaded) -> list[Path]:
    """The images of a model's data set; none where it is not here, since one can be uploaded."""
    try:
        return [Path(r["file_name"]) for r in DatasetCatalog.get(model.data_set)]
    except (KeyError, OSError):
        return []


def read(path: str | Path, most: int) -> np.ndarray:
    """An image file as RGB uint8 (H,W,3), its longer side no more than so many pixels.

    Raises:
        UsageError: it is no image, or a broken one.
    """
    try:
        image = read_image(path, "RGB")
    except Exception as error:  # each format of Pillow's raises its own
        raise UsageError(
            f"{Path(path).name} cannot be read as an image; it is broken, or of a format that is "
            f"not known here: try a JPEG or a PNG ({type(error).__name__})"
        ) from error
    height, width = image.shape[:2]
    if max(height, width) <= most:
        return image
    size = [max(round(side * most / max(height, width)), 1) for side in (width, height)]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


class Explorer:
    """Models, and their views of the images that were looked at last: a click needs no model."""

    def __init__(self, models: Sequence[Loaded]):
        self.models = models
        self._views: OrderedDict[str, list[View]] = OrderedDict()
        self._lock = Lock()  # a view is caught by hooks on the model

    def views(self, path: str) -> list[View]:
        """One of each model.

        Raises:
            UsageError: no image, or one that a model cannot take.
        """
        with self._lock:
            if path not in self._views:
                self._views[path] = self._look(path)
            self._views.move_to_end(path)
            while len(self._views) > KEPT:
                self._views.popitem(last=False)
            return self._views[path]

    def _look(self, path: str) -> list[View]:
        # no model sees more pixels than this, and pictures of fewer are drawn sooner
        image = read(path, max(m.resize[1] for m in self.models))
        try:
            return [look(m.model, [image], m.resize)[0] for m in self.models]
        except (ValueError, AssertionError, RuntimeError) as error:  # too small, NaN, no memory
            size = "{1} x {0}".format(*image.shape)
            raise UsageError(
                f"{Path(path).name}, {size}: the model could not take it "
                f"({str(error) or type(error).__name__})"
            ) from error


# --- the switch of forms -------------------------------------------------------------------------


def forms(block: NonLocalBlock) -> list[str]:
    """Forms that can be told of a block's weights, its own first.

    Embedded Gaussian and dot product want the same theta and phi, and Gaussian neither. The other
    forms have weights of their own, which only a block trained with them has.
    """
    own = block.pairwise_name
    others = SAME_EMBEDDINGS if own in SAME_EMBEDDINGS else ()
    return list(dict.fromkeys([own, *others, "gaussian"]))


def in_form(view: View, found: Attention, form: str) -> Attention:
    """Where the same position would look, if the block had another one of its :func:`forms`."""
    block = view._modules[found.block]
    if form == block.pairwise_name:
        return found
    seen = next(s for s in view._seen[found.block] if s.box == found.box)
    row, column = seen.grid.nearest(*found.point)
    x = seen.x[None]
    with torch.no_grad():
        if form == "gaussian":
            theta, phi = (t.flatten(2).transpose(1, 2) for t in (x, block.pool(x)))
        else:
            theta, phi, _ = block.embed(x)
        one = theta[:, row * seen.grid.shape[1] + column][:, None]
        pairwise = build_pairwise(form, phi.shape[2], block.pairwise.use_scale)
        rows = [pairwise.weights(one, phi)]
        rows += [pairwise.scores(one, phi)] if hasattr(pairwise, "scores") else []
    weights, *scores = (row.float().cpu().numpy().reshape(found.grid.shape) for row in rows)
    return replace(found, form=form, weights=weights, scores=scores[0] if scores else None)


def about(form: str, own: str) -> str:
    """Whose weights a form is computed with."""
    if form == own:
        return f"**{form}**, the block's own form."
    if form == "gaussian":
        return f"**gaussian**, of this block's input x; the block was trained as **{own}**."
    return f"**{form}**, of this block's theta and phi, which were trained as **{own}**."


# --- pictures and words --------------------------------------------------------------------------


def scale(view: View) -> float:
    """Of the picture of detections over the image: small images are shown larger."""
    return max(1.0, SHOWN / max(view.image.shape[:2]))


def detections(view: View, classes: Metadata, score: float) -> tuple[np.ndarray, str]:
    """A picture of what was found with this score or more, and in words how many that is."""
    found = view.instances
    sure = found[found.scores >= score] if found.has("scores") else found
    drawn = Visualizer(view.image, classes, scale(view)).draw_instance_predictions(sure)
    return (
        drawn.get_image(),
        f"Detections with a score of {score:g} or more: {len(sure)} of {len(found)}.",
    )


def begin(view: View) -> tuple[float, float]:
    """A point to begin with: in the middle of the surest detection, or else of the image."""
    height, width = view.image.shape[:2]
    box = (0, 0, width, height)
    if len(view.instances):
        box = view.instances.pred_boxes.tensor[0].tolist()
    return round((box[0] + box[2]) / 2, 1), round((box[1] + box[3]) / 2, 1)


def maps(view: View, found: Attention, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The map of one of MAPS, or of weights where a form has no scores; and the arrows."""
    height, width = view.image.shape[:2]
    tall = WIDTH * min(max(height / width, 0.1), 1.2)
    figure = Figure(figsize=(WIDTH, max(0.88 * tall, 2.4)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    of_scores = what == "scores" and found.scores is not None
    (likeness if of_scores else heat)(axes, view.image, found)
    plain = Figure(figsize=(min(max(tall * width / height, 1), WIDTH), tall))
    axes = plain.add_axes((0, 0, 1, 1))
    axes.axis("off")
    arrows(axes, view.image, found)
    return as_image(figure, DPI), as_image(plain, DPI)


def readout(found: Attention, own: str) -> str:
    """What the maps show, in words and numbers."""
    sizes = np.abs(found.weights)
    best = strongest(found, ARROWS)
    x, y, weight = best[0]
    part = sum(abs(w) for *_, w in best) / max(float(sizes.sum()), 1e-12)
    return (
        f"{about(found.form, own)} From x {found.point[0]:.0f}, y {found.point[1]:.0f}: the "
        f"greatest of {sizes.size} weights is {weight * sizes.size:.3g} times an even one, at "
        f"x {x:.0f}, y {y:.0f}; arrows: {len(best)}, with {part:.0%} of all weight; mean distance: "
        f"{mean_distance(found):.0f} pixels."
    )


def told(view: View, x: float, y: float, what: str, block: str, form: str) -> tuple:
    """Map, arrows and readout for a point of the image, or the nearest to it that is inside."""
    height, width = view.image.shape[:2]
    found = view.attention(min(max(x, 0), width), min(max(y, 0), height), block)
    if found is None:
        return None, None, NO_ROI
    own = view._modules[block].pairwise_name
    found = in_form(view, found, form)
    return *maps(view, found, what), readout(found, own)


# --- the page ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """What the page has of one model: Gradio's components, and the model's blocks."""

    block: object
    form: object
    outputs: list
    blocks: dict[str, NonLocalBlock]


def page(gr: ModuleType, explorer: Explorer, images: Sequence[Path]):
    """All of it, as Gradio's Blocks."""
    models, titles = explorer.models, _titles(explorer.models)
    names = [p.name for p in images]
    labels = [p.name if names.count(p.name) == 1 else str(p) for p in images]
    with gr.Blocks(title="Where non-local blocks look", fill_width=True) as demo:
        path = gr.State(None)  # of the image that is shown
        gr.Markdown(f"# Where non-local blocks look\n{MEANING}")
        with gr.Row():
            with gr.Column(min_width=360):
                with gr.Row():
                    with gr.Column(min_width=160):
                        image = gr.Dropdown(
                            list(zip(labels, map(str, images), strict=True)),
                            value=str(images[0]) if images else None,
                            label="Image",
                            elem_id="image",
                            visible=bool(images),
                        )
                        score = gr.Slider(0, 1, SCORE, step=0.05, label="Least score")
                    upload = gr.File(label="Your own", height=160, min_width=160, elem_id="upload")
                message = gr.HTML(elem_id="message")
                picture = gr.Image(
                    label=CLICK,
                    interactive=False,
                    buttons=[],
                    elem_id="picture",
                    elem_classes="map",
                    alt_text="The image and the detections in it. Click a point, or type x and y",
                )
                found = gr.Markdown()
                with gr.Row():
                    x = gr.Number(label="x, pixels", elem_id="x", min_width=80)
                    y = gr.Number(label="y, pixels", elem_id="y", min_width=80)
                    what = gr.Radio(
                        MAPS,
                        value="weights",
                        label="Map of",
                        info="log f: what goes into the softmax, of forms with one",
                        elem_id="what",
                        min_width=200,
                    )
                whose = gr.Radio(
                    list(zip(titles, range(len(models)), strict=True)),
                    value=0,
                    label="Detections of",
                    visible=len(models) > 1,
                )
            columns = [
                _column(gr, number, title, model)
                for number, (title, model) in enumerate(zip(titles, models, strict=True))
            ]
        choices = [what, *(c for column in columns for c in (column.block, column.form))]
        shown = [o for column in columns for o in column.outputs]

        def of_all(views, x, y, what, *chosen):
            pairs = zip(views, chosen[::2], chosen[1::2], strict=True)
            return [o for view, *words in pairs for o in told(view, x, y, what, *words)]

        def choose(new, score, whose, *chosen):
            """Another image. If it will not do, a message; all else stays."""
            if not new:
                return {message: ""}
            try:
                views = explorer.views(new)
            except UsageError as error:
                return {message: _alert(str(error)), upload: None}
            drawn, words = detections(views[whose], models[whose].classes, score)
            at = begin(views[0])
            return {
                message: "",
                upload: None,
                path: new,
                picture: gr.Image(drawn, label=f"{Path(new).name}: {CLICK.lower()}"),
                found: words,
                x: at[0],
                y: at[1],
                **dict(zip(shown, of_all(views, *at, *chosen), strict=True)),
            }

        def click(event: gr.SelectData, path, *chosen):
            views = _views(gr, explorer, path)
            at = [round(i / scale(views[0]), 1) for i in event.index]
            return [*at, *of_all(views, *at, *chosen)]

        def again(path, x, y, *chosen):
            if not path:
                return [gr.skip()] * len(shown)
            return of_all(_views(gr, explorer, path), x or 0, y or 0, *chosen)

        def sift(path, score, whose):
            if not path:
                return [gr.skip()] * 2
            view = _views(gr, explorer, path)[whose]
            return detections(view, models[whose].classes, score)

        everything = [message, upload, path, picture, found, x, y, *shown]
        for event, new in ((demo.load, image), (image.input, image), (upload.upload, upload)):
            event(choose, [new, score, whose, *choices], everything)
        picture.select(click, [path, *choices], [x, y, *shown], **QUICK)
        for event in (x.submit, y.submit, what.input):
            event(again, [path, x, y, *choices], shown, **QUICK)
        for event in (score.input, whose.input):
            event(sift, [path, score, whose], [picture, found], **QUICK)
        for number, column in enumerate(columns):
            _listen(gr, explorer, number, column, [path, x, y, what])
    return demo


def _column(gr: ModuleType, number: int, title: str, model: Loaded) -> Column:
    blocks = find_blocks(model.model)
    names = list(blocks)
    of = forms(blocks[names[0]])
    buttons = ["fullscreen", "download"]
    kind = {"interactive": False, "buttons": buttons, "elem_classes": "map"}
    with gr.Column(min_width=360):
        gr.Markdown(f"### {title}\n{model.untrained}")
        with gr.Row():
            block = gr.Dropdown(
                names,
                value=names[0],
                label="Block",
                elem_id=f"block{number}",
                scale=3,
                min_width=300,
            )
            form = gr.Dropdown(of, value=of[0], label="Form", elem_id=f"form{number}", scale=2)
        outputs = [
            gr.Image(
                label="Map",
                elem_id=f"heat{number}",
                alt_text="Heat map over the image; the text below tells of the greatest weight",
                **kind,
            ),
            gr.Image(
                label="Arrows to the greatest weights",
                elem_id=f"arrows{number}",
                alt_text="Arrows over the image, from the point to the positions of most weight",
                **kind,
            ),
            gr.Markdown(elem_id=f"readout{number}"),
        ]
    return Column(block, form, outputs, blocks)


def _listen(gr: ModuleType, explorer: Explorer, number: int, column: Column, at: list) -> None:
    """To what is chosen of one model; another block may have other forms."""

    def other_form(path, x, y, what, block, form):
        if not path:
            return [gr.skip()] * len(column.outputs)
        view = _views(gr, explorer, path)[number]
        return told(view, x or 0, y or 0, what, block, form)

    def other_block(path, x, y, what, block):
        of = forms(column.blocks[block])
        return gr.Dropdown(of, value=of[0]), *other_form(path, x, y, what, block, of[0])

    block, form = column.block, column.form
    block.input(other_block, [*at, block], [form, *column.outputs], **QUICK)
    form.input(other_form, [*at, block, form], column.outputs, **QUICK)


def _views(gr: ModuleType, explorer: Explorer, path: str) -> list[View]:
    """Of an image that was shown before, though its file may be gone since."""
    try:
        return explorer.views(path)
    except UsageError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _titles(models: Sequence[Loaded]) -> list[str]:
    titles = [m.title for m in models]
    same = len(set(titles)) < len(titles)
    return [titles[0], f"{titles[1]} (compared)"] if same else titles


def _alert(text: str) -> str:
    return f'<div role="alert" class="alert">{html.escape(text)}</div>'


def serve(gr: ModuleType, demo, port: int | None) -> None:
    """On this machine alone, until it is interrupted.

    Raises:
        UsageError: a port that is taken.
    """
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # that ends it as Ctrl+C does
    try:
        _, url, _ = demo.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
            footer_links=[],
            theme=theme.set(block_info_text_color="*body_text_color"),
            css=CSS,
        )
    except OSError as error:
        raise UsageError(
            f"port {port or '7860 and those after it'}: taken; name a free one with --port"
        ) from error
    print(f"Open {url} in a browser; Ctrl+C ends it", flush=True)
    demo.block_thread()


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"explore.py: error: {error}")
