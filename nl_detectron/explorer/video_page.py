"""The explorer's page of a video model: click into a frame and see arrows across the frames."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..attention.maps import ARROWS
from ..errors import UsageError
from ..modeling import find_blocks
from .page import QUICK, alert
from .videos import Look, Strip, VideoExplorer, describe_clip_classes, render_clip_point

MEANING = f"""
Click a point of a frame. To the feature there a non-local block adds a weighted sum of the features
at all positions of the clip: **arrows** lead to the greatest weights, at most {ARROWS}, the wider
the greater; the **map** below shows the weight of each, in multiples of an even look.
"""


def build_video_page(gr: ModuleType, explorer: VideoExplorer, videos: Sequence[Path]) -> Any:
    """Build the page.

    Args:
        gr: Gradio, of :func:`import_gradio`.
        videos: to choose from; one can be uploaded too.

    Returns:
        Gradio's Blocks.
    """
    model = explorer.model
    blocks, classes = list(find_blocks(model.model)), model.classes.get("classes")
    with gr.Blocks(title="Where non-local blocks look", fill_width=True) as page:
        path = gr.State(None)  # of the video that is shown
        around = gr.State(None)  # the frame in the middle of the clip, or None
        gr.Markdown(f"# Where non-local blocks look\n{MEANING}\n\n{model.title}\n{model.untrained}")
        with gr.Row():
            video = gr.Dropdown(
                [(p.name, str(p)) for p in videos],
                value=str(videos[0]) if videos else None,
                label="Video",
                elem_id="image",
                visible=bool(videos),
            )
            block = gr.Dropdown(blocks, value=blocks[0], label="Block", elem_id="block0")
            upload = gr.File(label="Your own", height=120, min_width=160, elem_id="upload")
        message = gr.HTML(elem_id="message")
        strip = gr.Image(
            label="Click a point of a frame",
            interactive=False,
            buttons=[],
            elem_id="picture",
            elem_classes="map",
            alt_text="Frames of the clip. Click a point, or type its frame, x and y",
        )
        found = gr.Markdown()
        with gr.Row():
            frame, x, y = (
                gr.Number(label=label, elem_id=name, precision=digits, min_width=80)
                for label, name, digits in (
                    ("Frame of the video", "frame", 0),
                    ("x, pixels", "x", 1),
                    ("y, pixels", "y", 1),
                )
            )
            jump = gr.Button("Show the clip around this frame", elem_id="jump")
        arrows = gr.Image(
            label="Arrows to the greatest weights, and the weights",
            interactive=False,
            buttons=["fullscreen", "download"],
            elem_id="arrows0",
            elem_classes="map",
            alt_text="Frames with arrows; the text below states the greatest weight",
        )
        readout = gr.Markdown(elem_id="readout0")
        everything = [message, upload, path, around, strip, found, frame, x, y, arrows, readout]

        def show(new: str, middle: int | None, point: tuple[int, float, float] | None, name: str):
            """Show a clip; if it will not do, show a message and keep all else."""
            try:
                look = explorer.look(new, middle)
            except UsageError as error:
                return {message: alert(str(error)), upload: None}
            clip, record = look
            at = point or clip.in_video(*record.most_changed(name))
            return {
                message: "",
                upload: None,
                path: new,
                around: middle,
                strip: Strip(clip).picture,
                found: describe_clip_classes(look, classes),
                **dict(zip((frame, x, y), at, strict=True)),
                **dict(zip((arrows, readout), render_clip_point(look, *at, name), strict=True)),
            }

        def show_video(new, name):
            return show(new, None, None, name) if new else {message: ""}

        def show_around(file, number, x, y, name):
            if not file or number is None:
                return {message: ""}
            return show(file, int(number), (int(number), x or 0, y or 0), name)

        # Gradio passes its event to the parameter that is annotated so
        def show_point(event: gr.SelectData, file, middle, name):  # pyright: ignore[reportInvalidTypeForm]
            look = get_look(file, middle)
            at = Strip(look[0]).point(*event.index)
            return at[0], *(round(n, 1) for n in at[1:]), *render_clip_point(look, *at, name)

        def redraw(file, middle, number, x, y, name):
            if not file:
                return [gr.skip()] * 2
            return render_clip_point(get_look(file, middle), number or 0, x or 0, y or 0, name)

        def get_look(file: str, middle: int | None) -> Look:
            """A clip that was shown before, whose file may be gone by now."""
            try:
                return explorer.look(file, middle)
            except UsageError as error:
                raise gr.Error(str(error), print_exception=False) from error

        for event, new in ((page.load, video), (video.input, video), (upload.upload, upload)):
            event(show_video, [new, block], everything)
        jump.click(show_around, [path, frame, x, y, block], everything)
        strip.select(show_point, [path, around, block], [frame, x, y, arrows, readout], **QUICK)
        for event in (frame.submit, x.submit, y.submit, block.input):
            event(redraw, [path, around, frame, x, y, block], [arrows, readout], **QUICK)
    return page
