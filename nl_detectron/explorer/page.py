"""The explorer's page: Gradio's components, and what happens when the user changes one."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..attention import AttentionRecord, forms_of
from ..attention.maps import ARROWS
from ..errors import UsageError
from ..layers import NonLocalBlock
from ..modeling import find_blocks
from .models import Explorer, ExplorerModel
from .rendering import choose_first_point, picture_scale, render_detections, render_point

THRESHOLD = 0.5  # the slider's first value
MEANING = f"""
Click a point. To the feature there a non-local block adds a weighted sum of the features at all
positions: the **map** shows the weight of each, in multiples of an even look (1 is what each would
get if all were alike), and **arrows** lead to the greatest, at most {ARROWS}, the wider the
greater; there are none where the weights are nearly even. Some forms give weights below zero, which
the map's scale shows; their arrows are dotted.
"""
CLICK = "Click a point"
LONGEST_NAME = 26  # letters of a picture's label: a second line would cover the picture
MAPS = ["weights", "scores"]
QUICK = {"show_progress": "hidden", "trigger_mode": "always_last"}  # events that need no model
CSS = """
#picture img { cursor: crosshair }
.map .image-container { padding-top: 2.2rem }  /* labels and buttons stand above pictures */
.pick input { padding-right: 2.2rem !important; text-overflow: ellipsis !important }  /* caret */
.alert { font-weight: 600; border-left: 4px solid; padding-left: 0.6rem }
"""


@dataclass(frozen=True)
class Column:
    """One model's part of the page: Gradio's components, and the model's blocks."""

    block: Any
    form: Any
    outputs: list[Any]
    blocks: dict[str, NonLocalBlock]


def build_page(
    gr: ModuleType, explorer: Explorer, images: Sequence[Path], first: Path | None = None
) -> Any:
    """Build the page for one or two models.

    Args:
        gr: Gradio, of :func:`import_gradio`.
        images: to choose from; one can be uploaded too.
        first: the one that is shown first; by default the first of ``images``.

    Returns:
        Gradio's Blocks.
    """
    models, titles = explorer.models, _make_titles(explorer.models)
    names = [p.name for p in images]
    labels = [p.name if names.count(p.name) == 1 else str(p) for p in images]
    with gr.Blocks(title="Where non-local blocks look", fill_width=True) as page:
        path = gr.State(None)  # of the image that is shown
        gr.Markdown(f"# Where non-local blocks look\n{MEANING}")
        with gr.Row():
            with gr.Column(min_width=360):
                with gr.Row():
                    with gr.Column(min_width=160):
                        image = gr.Dropdown(
                            list(zip(labels, map(str, images), strict=True)),
                            value=str(first or images[0]) if images else None,
                            label="Image",
                            elem_id="image",
                            elem_classes="pick",
                            visible=bool(images),
                        )
                        score = gr.Slider(0, 1, THRESHOLD, step=0.05, label="Least score")
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
                        info="scores: log f, which goes into the softmax, of forms with one",
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
                _add_column(gr, number, title, model)
                for number, (title, model) in enumerate(zip(titles, models, strict=True))
            ]
        choices = [what, *(c for column in columns for c in (column.block, column.form))]
        shown = [o for column in columns for o in column.outputs]

        def render_all(records, x, y, what, *chosen):
            pairs = zip(records, chosen[::2], chosen[1::2], strict=True)
            return [o for record, *words in pairs for o in render_point(record, x, y, what, *words)]

        def show_image(new, score, whose, *chosen):
            """Show another image; if it will not do, show a message and keep all else."""
            if not new:
                return {message: ""}
            try:
                records = explorer.get_records(new)
            except UsageError as error:
                return {message: alert(str(error)), upload: None}
            drawn, words = render_detections(records[whose], models[whose].classes, score)
            at = choose_first_point(records[0])
            return {
                message: "",
                upload: None,
                path: new,
                picture: gr.Image(drawn, label=f"{shorten(Path(new).name)}: {CLICK.lower()}"),
                found: words,
                x: at[0],
                y: at[1],
                **dict(zip(shown, render_all(records, *at, *chosen), strict=True)),
            }

        # Gradio passes its event to the parameter that is annotated so
        def show_point(event: gr.SelectData, path, *chosen):  # pyright: ignore[reportInvalidTypeForm]
            records = _get_records(gr, explorer, path)
            at = [round(i / picture_scale(records[0]), 1) for i in event.index]
            return [*at, *render_all(records, *at, *chosen)]

        def redraw_maps(path, x, y, *chosen):
            if not path:
                return [gr.skip()] * len(shown)
            return render_all(_get_records(gr, explorer, path), x or 0, y or 0, *chosen)

        def redraw_detections(path, score, whose):
            if not path:
                return [gr.skip()] * 2
            record = _get_records(gr, explorer, path)[whose]
            return render_detections(record, models[whose].classes, score)

        everything = [message, upload, path, picture, found, x, y, *shown]
        for event, new in ((page.load, image), (image.input, image), (upload.upload, upload)):
            event(show_image, [new, score, whose, *choices], everything)
        picture.select(show_point, [path, *choices], [x, y, *shown], **QUICK)
        for event in (x.submit, y.submit, what.input):
            event(redraw_maps, [path, x, y, *choices], shown, **QUICK)
        for event in (score.input, whose.input):
            event(redraw_detections, [path, score, whose], [picture, found], **QUICK)
        for number, column in enumerate(columns):
            _add_listeners(gr, explorer, number, column, [path, x, y, what])
    return page


def _add_column(gr: ModuleType, number: int, title: str, model: ExplorerModel) -> Column:
    blocks = find_blocks(model.model)
    names = list(blocks)
    forms = forms_of(blocks[names[0]])
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
                elem_classes="pick",
                scale=3,
                min_width=300,
            )
            form = gr.Dropdown(
                forms,
                value=forms[0],
                label="Form",
                elem_id=f"form{number}",
                elem_classes="pick",
                scale=2,
            )
        outputs = [
            gr.Image(
                label="Map",
                elem_id=f"heat{number}",
                alt_text="Heat map over the image; the text below states the greatest weight",
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


def _add_listeners(
    gr: ModuleType, explorer: Explorer, number: int, column: Column, at: list[Any]
) -> None:
    """Redraw one model's maps when its block or form changes; another block may have other forms.

    Args:
        at: the components of the image's path, of x and y, and of what the map shows.
    """

    def change_form(path, x, y, what, block, form):
        if not path:
            return [gr.skip()] * len(column.outputs)
        record = _get_records(gr, explorer, path)[number]
        return render_point(record, x or 0, y or 0, what, block, form)

    def change_block(path, x, y, what, block):
        forms = forms_of(column.blocks[block])
        maps = change_form(path, x, y, what, block, forms[0])
        return gr.Dropdown(forms, value=forms[0]), *maps

    block, form = column.block, column.form
    block.input(change_block, [*at, block], [form, *column.outputs], **QUICK)
    form.input(change_form, [*at, block, form], column.outputs, **QUICK)


def _get_records(gr: ModuleType, explorer: Explorer, path: str) -> list[AttentionRecord]:
    """Records of an image that was shown before, whose file may be gone by now."""
    try:
        return explorer.get_records(path)
    except UsageError as error:
        raise gr.Error(str(error), print_exception=False) from error


def _make_titles(models: Sequence[ExplorerModel]) -> list[str]:
    titles = [m.title for m in models]
    same = len(set(titles)) < len(titles)
    return [titles[0], f"{titles[1]} (compared)"] if same else titles


def shorten(name: str) -> str:
    """A name without its middle if it is too long for one line on a phone."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def alert(text: str) -> str:
    return f'<div role="alert" class="alert">{html.escape(text)}</div>'
