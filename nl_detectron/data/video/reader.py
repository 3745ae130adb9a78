"""Reads single frames of video files by PyAV, without decoding what comes before them.

A video has no list of its frames, and the frame count and the rate in its header may be missing or
wrong. So the packets are read first, without decoding them: their timestamps in order are those of
the frames. Then only the frames from the last key frame before a wanted one are decoded.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...errors import UsageError

GAP = 8  # frames to decode and drop rather than seek; seeking takes about as long
NO_DECODER = "there is no decoder for its codec here: encode it again, for example as H.264"


class VideoError(ValueError):
    """A file from which no frame, or not the wanted one, can be read."""


class FrameIndex(NamedTuple):
    """The frames of a video in the order in which they are shown.

    Attributes:
        times: their timestamps in units of the stream's time base, increasing.
        keys: timestamps of key frames, increasing: decoding can start at each.
        seek_to: by key frame, the timestamp to seek to, which is that of its decoding.
    """

    times: list[int]
    keys: list[int]
    seek_to: list[int]


def import_av() -> ModuleType:
    """Import PyAV.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UsageError(
            f"videos are read by PyAV, which does not import here ({error}): pip install "
            "nl_detectron[video], or make setup-video in a clone"
        ) from error
    return av


class VideoReader:
    """An open video file, from which frames are read by number.

    Use it in a ``with`` statement. It decodes in the calling thread, as data loaders have a process
    for each worker.

    Raises:
        VideoError: the file is missing, empty, not a video, or has no video stream to decode.
        UsageError: PyAV is not installed.
    """

    def __init__(self, file_name: str | os.PathLike):
        self.file_name = os.fspath(file_name)
        self._av = import_av()
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        try:
            # metadata in encodings other than UTF-8 is no reason to refuse a video
            self._container = self._av.open(self.file_name, metadata_errors="ignore")
        except (OSError, ValueError, self._av.error.FFmpegError) as error:
            raise VideoError(self._reason("cannot be opened", error)) from error
        videos = self._container.streams.video
        if not videos or videos[0].codec_context is None:
            kinds = ", ".join(sorted({one.type for one in self._container.streams})) or "none"
            self._container.close()
            raise VideoError(NO_DECODER if videos else f"it has no video stream (only {kinds})")
        self._choose_stream()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.index.times)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, before a rotation that the file asks for."""
        return self._stream.codec_context.height, self._stream.codec_context.width

    @property
    def times(self) -> np.ndarray:
        """Seconds at which the frames are shown, (N,), from 0 on."""
        times = np.array(self.index.times, dtype=np.float64)
        return (times - times[0]) * float(self._stream.time_base or 1)

    @property
    def rate(self) -> float:
        """Frames a second on average; 25 where the timestamps do not tell."""
        seconds = self.times[-1]
        return (len(self) - 1) / seconds if seconds else 25.0

    @property
    def has_constant_rate(self) -> bool:
        """Whether all frames but the last are shown equally long, except for rounding."""
        steps = np.diff(self.index.times)
        return len(steps) < 2 or bool(np.ptp(steps) <= max(1, 0.02 * steps.mean()))

    @cached_property
    def index(self) -> FrameIndex:
        """Timestamps of all frames.

        Raises:
            VideoError: there are no frames.
        """
        try:
            packets = self._packets()
            if any(time is None for time, _, _ in packets):
                packets = self._decoded()
        except self._av.error.FFmpegError as error:
            raise VideoError(self._reason("cannot be read", error)) from error
        if not packets:
            raise VideoError("it has no frames")
        keys = sorted((time, seek) for time, seek, is_key in packets if is_key)
        return FrameIndex(
            times=sorted({time for time, _, _ in packets}),
            keys=[time for time, _ in keys],
            seek_to=[seek for _, seek in keys],
        )

    def _packets(self) -> list[tuple]:
        """Timestamps of showing and of decoding, and whether it is a key frame, by packet."""
        return [
            (packet.pts, packet.pts if packet.dts is None else packet.dts, packet.is_keyframe)
            for packet in self._container.demux(self._stream)
            # the last, empty one ends the stream; an edit list discards frames, which are not shown
            if packet.size and not packet.is_discard and not packet.is_corrupt
        ]

    def _decoded(self) -> list[tuple]:
        """The same by decoding everything, for files such as AVI, which have no timestamps of
        showing."""
        self._rewind()
        frames = [frame.pts for frame in self._container.decode(self._stream)]
        if None in frames:
            raise VideoError("its frames have no timestamps: put it into an MP4, which has them")
        return [(time, time, False) for time in frames]

    def read(
        self, numbers: Sequence[int] | np.ndarray, short_side: int | None = None
    ) -> np.ndarray:
        """Read frames.

        A frame that cannot be decoded, as the first ones of a video that was cut without encoding
        it again, is replaced by the one shown before it, or else by the next one.

        Args:
            numbers: of frames, counted from 0, in any order and repeated or not.
            short_side: of the frames in pixels, to which they are resized bilinearly; None keeps
                their size.

        Returns:
            RGB uint8 (T,H,W,3), as many and in the order of ``numbers``.

        Raises:
            VideoError: there is no such frame, or nothing can be decoded there.
        """
        numbers = np.asarray(numbers)
        wanted = np.unique(numbers)
        self.check_number(wanted[0])
        self.check_number(wanted[-1])
        found: dict[int, np.ndarray] = {}
        try:
            for number, frame in self._select(wanted.tolist()):
                found[number] = self._convert(frame, short_side)
        except self._av.error.FFmpegError as error:
            raise VideoError(self._reason("cannot be decoded", error)) from error
        shapes = {pixels.shape for pixels in found.values()}
        if len(shapes) > 1:
            sizes = ", ".join(f"{width} x {height}" for height, width, _ in sorted(shapes))
            raise VideoError(f"its frames have different sizes ({sizes}): encode it again at one")
        return np.stack([found[number] for number in numbers.tolist()])

    def check_number(self, number: int) -> None:
        """Raises VideoError if there is no frame of this number."""
        if not 0 <= number < len(self):
            raise VideoError(f"it has frames 0 to {len(self) - 1}, not {number}")

    def read_all(self) -> Iterator[np.ndarray]:
        """Yield all frames, RGB uint8 (H,W,3), one at a time. Frames that cannot be decoded are
        replaced as in :meth:`read`.

        Raises:
            VideoError: none can be decoded.
        """
        try:
            for _, frame in self._select(list(range(len(self)))):
                yield self._convert(frame, None)
        except self._av.error.FFmpegError as error:
            raise VideoError(self._reason("cannot be decoded", error)) from error

    def _select(self, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """Yield pairs of a wanted number and its decoded frame; ``wanted`` increases."""
        at, times = 0, self.index.times
        while at < len(wanted):
            key = self._key_before(times[wanted[at]])
            before = None  # the frame shown before the wanted one
            for frame in self._decode_from(key, times[wanted[at]]):
                while at < len(wanted) and frame.pts > times[wanted[at]]:  # it was not decoded
                    yield wanted[at], before or frame
                    at += 1
                if at < len(wanted) and frame.pts == times[wanted[at]]:
                    yield wanted[at], frame
                    at += 1
                before = frame
                if at == len(wanted):
                    return
                # seeking may lead before the key frame: without one after it, decode on
                if self._is_seek_shorter(frame.pts, key, self._key_before(times[wanted[at]])):
                    break
            else:
                if before is None:
                    raise VideoError(f"frame {wanted[at]} and those after it cannot be decoded")
                yield from ((number, before) for number in wanted[at:])
                return

    def _key_before(self, time: int) -> int:
        """Number of the last key frame shown at a time or before it; -1 if there is none."""
        return bisect_right(self.index.keys, time) - 1

    def _is_seek_shorter(self, now: int, last: int, key: int) -> bool:
        """Whether a key frame comes after the one that was sought last, and far after ``now``."""
        if key <= last:
            return False
        times = self.index.times
        return bisect_right(times, self.index.keys[key]) - bisect_right(times, now) > GAP

    def _decode_from(self, key: int, time: int) -> Iterator[Any]:
        """Decode from a key frame, or from an earlier frame, so that the first one is not shown
        after ``time``."""
        if key >= 0:
            self._container.seek(self.index.seek_to[key], stream=self._stream)
            frames = self._timed_frames()
            first = next(frames, None)
            if first is not None and first.pts <= time:
                yield first
                yield from frames
                return
        self._rewind()  # no key frame, or this format's seeking went too far
        yield from self._timed_frames()

    def _timed_frames(self) -> Iterator[Any]:
        return (f for f in self._container.decode(self._stream) if f.pts is not None)

    def _rewind(self) -> None:
        """Go to the start of the file, opening it again: not every format can seek."""
        self._container.close()
        self._container = self._av.open(self.file_name, metadata_errors="ignore")
        self._choose_stream()

    def _choose_stream(self) -> None:
        self._stream = self._container.streams.video[0]
        self._stream.thread_type, self._stream.codec_context.thread_count = "NONE", 1

    def _convert(self, frame: Any, short_side: int | None) -> np.ndarray:
        height, width = frame.height, frame.width
        if short_side:
            height, width = scaled_size(height, width, short_side)
        # one pass of FFmpeg's swscale converts and resizes; by default it starts threads each time
        rgb = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation="BILINEAR", threads=1
        )
        pixels = rgb.to_ndarray()
        turns = round(frame.rotation / 90) % 4  # counterclockwise, as np.rot90
        return np.rot90(pixels, turns) if turns else pixels

    def _reason(self, what: str, error: Exception) -> str:
        text = getattr(error, "strerror", None) or str(error)
        return f"it {what} ({' '.join(str(text).split())[:200]})"


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width whose shorter one is ``short_side``, in the same ratio except for rounding
    down."""
    if height < width:
        return short_side, int(width * short_side / height)
    return int(height * short_side / width), short_side
