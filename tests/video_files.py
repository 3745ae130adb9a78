"""Small video files of many kinds, whose frames show their number."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

BASE = Fraction(1, 90000)


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame (H,W,3): a brightness for each bit of its number, in blocks that survive encoding."""
    frame = np.full((height, width, 3), 40, dtype=np.uint8)
    side = width // 8
    for bit in range(8):
        if number >> bit & 1:
            frame[:, bit * side : (bit + 1) * side] = 220
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number that a frame of any size shows."""
    height, width = frame.shape[:2]
    centres = ((np.arange(8) + 0.5) * width / 8).astype(int)
    bits = frame[height // 2, centres].mean(axis=-1) > 130
    return int((bits << np.arange(8)).sum())


def write_video(
    file: Path,
    count: int,
    *,
    codec: str = "libx264",
    times: Callable[[int], int] = lambda number: 3600 * number,
    draw: Callable[[int], np.ndarray] = picture,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    key_every: int = 12,
    b_frames: int = 0,
) -> Path:
    """Write a video of ``count`` frames, whose timestamps ``times`` gives in 1/90000 s."""
    import av

    with av.open(str(file), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=25)
        height, width = draw(0).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if codec == "libx264":
            stream.codec_context.time_base = stream.time_base = BASE
        stream.codec_context.gop_size = key_every
        stream.codec_context.max_b_frames = b_frames
        stream.options = options or {}
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            if codec == "libx264":
                frame.pts, frame.time_base = times(number), BASE
            else:
                frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file


def write_sound(file: Path) -> Path:
    """Write a file with a sound alone."""
    import av

    with av.open(str(file), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate = 16000
        output.mux(stream.encode(sound))
        output.mux(stream.encode())
    return file


def break_frame(file: Path, number: int) -> None:
    """Write zeros over an encoded frame, counted in the order of decoding."""
    import av

    with av.open(str(file)) as opened:
        packet = [one for one in opened.demux(video=0) if one.size][number]
        start, size = packet.pos, packet.size
    content = bytearray(file.read_bytes())
    content[start : start + size] = bytes(size)
    file.write_bytes(content)


def decode_everything(file: Path, short_side: int | None = None) -> np.ndarray:
    """All frames (N,H,W,3) by PyAV's own loop."""
    import av

    frames: Sequence = []
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            height, width = frame.height, frame.width
            if short_side:
                scale = short_side / min(height, width)
                height, width = int(height * scale + 1e-6), int(width * scale + 1e-6)
            options = {"width": width, "height": height, "interpolation": "BILINEAR"}
            frames.append(frame.to_ndarray(format="rgb24", **options))
    return np.stack(frames)
