"""The explorer's page: pictures and words for a point, and Gradio's components around them."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.visualizer import Visualizer
from explore_models import Explorer, Loaded
from matplotlib.figure import Figure

from nl_detectron.attention import Attention, AttentionRecord, forms_of, mean_distance, strongest
from nl_detectron.attention.draw import ARROWS, arrows, as_image, heat, likeness
from nl_detectron.errors import UsageError
from nl_detectron.layers import NonLocalBlock
from nl_detectron.modeling import find_blocks

SCORE = 0.5  # the slider's first place
WIDTH, DPI = 7.2, 100  # of a map, in inches: as wide as half a page
SHOWN = 800  # pixels of the picture's longer side, at least
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


def scale(record: AttentionRecord) -> float:
    """Of the picture of detections over the image: small images are shown larger."""
    return max(1.0, SHOWN / max(record.image.shape[:2]))


def detections(record: AttentionRecord, classes: Metadata, score: float) -> tuple[np.ndarray, str]:
    """A picture of what was found with this score or more, and in words how many that is."""
    found = record.instances
    sure = found[found.scores >= score] if found.has("scores") else found
    drawn = Visualizer(record.image, classes, scale(record)).draw_instance_predictions(sure)
    return (
        drawn.get_image(),
        f"Detections with a score of {score:g} or more: {len(sure)} of {len(found)}.",
    )


def begin(record: AttentionRecord) -> tuple[float, float]:
    """A point to begin with: in the middle of the surest detection, or else of the image."""
    height, width = record.image.shape[:2]
    box = (0, 0, width, height)
    if len(record.instances):
        box = record.instances.pred_boxes.tensor[0].tolist()
    return round((box[0] + box[2]) / 2, 1), round((box[1] + box[3]) / 2, 1)


def maps(record: AttentionRecord, found: Attention, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The map of one of MAPS, or of weights where a form has no scores; and the arrows."""
    height, width = record.image.shape[:2]
    tall = WIDTH * min(max(height / width, 0.1), 1.2)
    figure = Figure(figsize=(WIDTH, max(0.88 * tall, 2.4)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    of_scores = what == "scores" and found.scores is not None
    (likeness if of_scores else heat)(axes, record.image, found)
    plain = Figure(figsize=(min(max(tall * width / height, 1), WIDTH), tall))
    axes = plain.add_axes((0, 0, 1, 1))
    axes.axis("off")
    arrows(axes, record.image, found)
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


def render_point(
    record: AttentionRecord, x: float, y: float, what: str, block: str, form: str
) -> tuple:
    """Map, arrows and readout for a point of the image, or the nearest to it that is inside."""
    height, width = record.image.shape[:2]
    found = record.attention(min(max(x, 0), width), min(max(y, 0), height), block, form)
    if found is None:
        return None, None, NO_ROI
    return *maps(record, found, what), readout(found, record.forms(block)[0])


def about(form: str, own: str) -> str:
    """Whose weights a form is computed with."""
    if form == own:
        return f"**{form}**, the block's own form."
    if form == "gaussian":
        return f"**gaussian**, of this block's input x; the block was trained as **{own}**."
    return f"**{form}**, of this block's theta and phi, which were trained as **{own}**."


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

        def of_all(records, x, y, what, *chosen):
            pairs = zip(records, chosen[::2], chosen[1::2], strict=True)
            return [o for record, *words in pairs for o in render_point(record, x, y, what, *words)]

        def choose(new, score, whose, *chosen):
            """Another image. If it will not do, a message; all else stays."""
            if not new:
                return {message: ""}
            try:
                records = explorer.records(new)
            except UsageError as error:
                return {message: _alert(str(error)), upload: None}
            drawn, words = detections(records[whose], models[whose].classes, score)
            at = begin(records[0])
            return {
                message: "",
                upload: None,
                path: new,
                picture: gr.Image(drawn, label=f"{Path(new).name}: {CLICK.lower()}"),
                found: words,
                x: at[0],
                y: at[1],
                **dict(zip(shown, of_all(records, *at, *chosen), strict=True)),
            }

        def click(event: gr.SelectData, path, *chosen):
            records = _records(gr, explorer, path)
            at = [round(i / scale(records[0]), 1) for i in event.index]
            return [*at, *of_all(records, *at, *chosen)]

        def again(path, x, y, *chosen):
            if not path:
                return [gr.skip()] * len(shown)
            return of_all(_records(gr, explorer, path), x or 0, y or 0, *chosen)

        def sift(path, score, whose):
            if not path:
                return [gr.skip()] * 2
            record = _records(gr, explorer, path)[whose]
            return detections(record, models[whose].classes, score)

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
    of = forms_of(blocks[names[0]])
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
        record = _records(gr, explorer, path)[number]
        return render_point(record, x or 0, y or 0, what, block, form)

    def other_block(path, x, y, what, block):
        of = forms_of(column.blocks[block])
        return gr.Dropdown(of, value=of[0]), *other_form(path, x, y, what, block, of[0])

    block, form = column.block, column.form
    block.input(other_block, [*at, block], [form, *column.outputs], **QUICK)
    form.input(other_form, [*at, block, form], column.outputs, **QUICK)


def _records(gr: ModuleType, explorer: Explorer, path: str) -> list[AttentionRecord]:
    """Of an image that was shown before, though its file may be gone since."""
    try:
        return explorer.records(path)
    except UsageError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _titles(models: Sequence[Loaded]) -> list[str]:
    titles = [m.title for m in models]
    same = len(set(titles)) < len(titles)
    return [titles[0], f"{titles[1]} (compared)"] if same else titles


def _alert(text: str) -> str:
    return f'<div role="alert" class="alert">{html.escape(text)}</div>'
