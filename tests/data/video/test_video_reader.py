"""Frames read by seeking are those of decoding everything, in every kind of file."""

import builtins
import struct

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from video_files import (
    decode_everything,
    number_of,
    picture,
    write_sound,
    write_video,
)

from nl_detectron.data.video.reader import VideoError, VideoReader
from nl_detectron.errors import UsageError

COUNT = 70
OPEN_GOP = {"bf": "3", "x264-params": "open-gop=1:keyint=12:b-adapt=0"}
KINDS = {
    "plain.mp4": {"options": {"x264-params": "scenecut=0"}},  # a key frame every 12
    "b_frames.mp4": {"b_frames": 3},
    "open_gop.mp4": {"options": OPEN_GOP},
    "variable.mp4": {"times": lambda n: 3600 * n + 40 * n * n, "b_frames": 2},
    "late.mp4": {"times": lambda n: 90000 + 3600 * n},
    "early.mkv": {"times": lambda n: 3600 * n - 18000},
    "no_duration.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}, "b_frames": 2},
    "all_key.mp4": {"key_every": 1},
    "one_key.mp4": {"key_every": 1000},
    "variable.mkv": {"times": lambda n: 3600 * n + 40 * n * n, "b_frames": 3},
    "stream.ts": {"b_frames": 3},
    "flash.flv": {"b_frames": 2},
    "old.avi": {"codec": "mpeg4", "b_frames": 2},
    "program.mpg": {"codec": "mpeg2video", "b_frames": 2},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return {name: write_video(folder / name, COUNT, **KINDS[name]) for name in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_any_frames_are_those_of_decoding_everything(videos, kind):
    expected = decode_everything(videos[kind])
    assert [number_of(frame) for frame in expected] == list(range(COUNT))
    rng = np.random.default_rng(0)
    with VideoReader(videos[kind]) as video:
        assert len(video) == COUNT
        for count in (1, 2, 3, 8, 30):
            numbers = rng.integers(0, COUNT, size=count)
            np.testing.assert_array_equal(video.read(numbers), expected[numbers])


def test_frames_are_resized_as_they_are_decoded(videos):
    expected = decode_everything(videos["b_frames.mp4"], short_side=33)
    with VideoReader(videos["b_frames.mp4"]) as video:
        frames = video.read([40, 3], short_side=33)
        assert video.size == (48, 64)
    assert frames.shape == (2, 33, 44, 3)
    np.testing.assert_array_equal(frames, expected[[40, 3]])


def test_far_frames_are_reached_by_a_key_frame_before_them(videos, monkeypatch):
    decoded = []
    timed = VideoReader._timed_frames
    monkeypatch.setattr(
        VideoReader,
        "_timed_frames",
        lambda self: (decoded.append(frame.pts) or frame for frame in timed(self)),
    )
    with VideoReader(videos["plain.mp4"]) as video:
        assert list(map(number_of, video.read([1, 2, 61]))) == [1, 2, 61]
    assert len(decoded) == 3 + 2  # 0 to 2, then the key frame 60 and 61


@pytest.mark.parametrize(("kind", "constant"), [("plain.mp4", True), ("variable.mp4", False)])
def test_times_tell_a_constant_from_a_variable_rate(videos, kind, constant):
    with VideoReader(videos[kind]) as video:
        assert video.has_constant_rate == constant
        expected = [KINDS[kind].get("times", lambda n: 3600 * n)(n) / 90000 for n in range(COUNT)]
        np.testing.assert_allclose(video.times, expected, atol=1e-4)


def test_a_video_that_asks_to_be_turned_is_turned(videos, tmp_path):
    content = bytearray(videos["plain.mp4"].read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 1 << 16  # 90 degrees clockwise, as phones write
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    with VideoReader(videos["plain.mp4"]) as plain, VideoReader(turned) as video:
        frame = video.read([5], short_side=48)[0]
        np.testing.assert_array_equal(frame, np.rot90(plain.read([5], short_side=48)[0], -1))
    assert frame.shape == (64, 48, 3)


def test_frames_that_cannot_be_decoded_show_their_neighbour(videos, tmp_path):
    """The first frames of a video cut at a key frame of an open GOP refer to what is gone."""
    import av

    cut = tmp_path / "cut.mkv"
    with av.open(str(videos["open_gop.mp4"])) as source, av.open(str(cut), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        first = next(i for i, packet in enumerate(packets) if i and packet.is_keyframe)
        for packet in packets[first:]:
            packet.stream = copy
            output.mux(packet)
    shown = [number_of(frame) for frame in decode_everything(cut)]
    with VideoReader(cut) as video:
        numbers = list(map(number_of, video.read(range(len(video)))))
    assert numbers[-1] == COUNT - 1
    assert sorted(set(numbers)) == shown  # nothing but what can be decoded, and all of it
    assert numbers == sorted(numbers)


def test_what_is_no_video_is_named(videos, tmp_path):
    broken = {
        "empty.mp4": b"",
        "text.mp4": b"no video" * 100,
        "half.mp4": videos["plain.mp4"].read_bytes()[:2000],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    for name in (*broken, "gone.mp4"):
        with pytest.raises(VideoError, match="cannot be opened"):
            VideoReader(tmp_path / name)
    with pytest.raises(VideoError, match=r"no video stream \(only audio\)"):
        VideoReader(write_sound(tmp_path / "sound.mp4"))


def test_damage_inside_is_an_error_or_leaves_whole_frames(videos, tmp_path):
    content = bytearray(videos["plain.mp4"].read_bytes())
    content[len(content) // 4 : len(content) // 4 + 400] = bytes(400)
    (tmp_path / "damaged.mp4").write_bytes(content)
    try:
        with VideoReader(tmp_path / "damaged.mp4") as video:
            assert video.read(range(len(video))).shape[1:] == (48, 64, 3)
    except VideoError as error:
        assert "cannot be" in str(error)


def test_numbers_outside_the_video_are_refused(videos):
    with VideoReader(videos["plain.mp4"]) as video:
        for numbers in ([COUNT], [-1]):
            with pytest.raises(VideoError, match=f"frames 0 to {COUNT - 1}"):
                video.read(numbers)


def test_without_pyav_one_line_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def fail(name, *args):
        if name == "av":
            raise ImportError("No module named 'av'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UsageError, match=r"pip install nl_detectron\[video\], or make setup-video"):
        VideoReader("a.mp4")


def test_pictures_tell_their_numbers():
    assert [number_of(picture(n)) for n in (0, 1, 37, 255)] == [0, 1, 37, 255]
