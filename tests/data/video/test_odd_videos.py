"""Odd, damaged and unfinished files: what can be read of them, or the reason why nothing can."""

import struct

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from video_files import break_frame, number_of, picture, write_video

from nl_detectron.data.video.reader import VideoError, VideoReader, scaled_size

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}  # a header, then frames in parts
ONE_KEY = {"key_every": 1000, "options": {"x264-params": "scenecut=0"}}
SKIPPED = b"\x00\x00\x01\xb6\x50\xcf"  # a frame of MPEG-4 that is not coded, as XviD has them


def numbers_in(file) -> list[int]:
    """The numbers that all frames show."""
    with VideoReader(file) as video:
        return list(map(number_of, video.read(range(len(video)))))


def copy_packets(source, target, change):
    """Copy a video without encoding it again; ``change`` takes and returns the list of packets."""
    import av

    with av.open(str(source)) as opened, av.open(str(target), "w") as output:
        stream = opened.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in change([one for one in opened.demux(stream) if one.size]):
            packet.stream = copy
            output.mux(packet)
    return target


def test_a_single_frame_has_a_time_and_a_rate(tmp_path):
    file = write_video(tmp_path / "one.mp4", 1)
    assert numbers_in(file) == [0]
    with VideoReader(file) as video:
        assert video.times.tolist() == [0]
        assert video.rate == 25 and video.has_constant_rate
    with VideoReader(write_video(tmp_path / "ten.mp4", 10, times=lambda n: 9000 * n)) as video:
        assert video.rate == pytest.approx(10)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((48, 64), (30, 40)), ((64, 48), (40, 30)), ((9, 9), (30, 30)), ((100, 33), (90, 30))],
)
def test_the_shorter_side_is_scaled(size, expected):
    assert scaled_size(*size, 30) == expected


def test_a_video_that_ends_before_its_first_frame_has_none(tmp_path):
    content = write_video(tmp_path / "whole.mp4", 8, container=FRAGMENTS).read_bytes()
    (tmp_path / "begun.mp4").write_bytes(content[: content.index(b"moof") - 4])
    with VideoReader(tmp_path / "begun.mp4") as video, pytest.raises(VideoError, match="no frames"):
        len(video)


def test_frames_that_lie_outside_the_file_cannot_be_read(tmp_path):
    content = bytearray(write_video(tmp_path / "a.mp4", 8, container=FRAGMENTS).read_bytes())
    offset = content.index(b"trun") + 12  # of the first frame from the beginning of its part
    content[offset : offset + 4] = struct.pack(">i", -(1 << 30))
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"^it cannot be (opened|read) \([^\n]+\)$"):
        numbers_in(tmp_path / "a.mp4")


def test_of_a_download_that_broke_off_the_frames_that_came_are_read(tmp_path):
    whole = write_video(tmp_path / "a.mp4", 40, container={"movflags": "faststart"}).read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    numbers = numbers_in(tmp_path / "a.mp4")
    assert numbers == list(range(len(numbers))) and 10 < len(numbers) < 40


def test_a_codec_without_a_decoder_is_named(tmp_path):
    content = write_video(tmp_path / "a.mp4", 3).read_bytes()
    (tmp_path / "a.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match=r"no decoder .*: encode it again, for example as H\.264"):
        VideoReader(tmp_path / "a.mp4")


def test_a_stream_without_a_container_has_no_timestamps(tmp_path):
    file = write_video(tmp_path / "raw.h264", 5)
    with (
        VideoReader(file) as video,
        pytest.raises(VideoError, match=r"no timestamps: .* into an MP4"),
    ):
        len(video)


def test_frames_of_two_sizes_are_not_one_clip(tmp_path):
    def write(part, height):
        return write_video(
            tmp_path / f"{part}.ts",
            6,
            times=lambda n: 3600 * (n + 6 * part),
            draw=lambda n: picture(n, height),
        ).read_bytes()

    (tmp_path / "both.ts").write_bytes(write(0, 48) + write(1, 80))
    with VideoReader(tmp_path / "both.ts") as video:
        assert video.read([1, 2]).shape == (2, 48, 64, 3)
        with pytest.raises(VideoError, match=r"different sizes \(64 x 48, 64 x 80\): encode it"):
            video.read(range(len(video)))


def test_a_last_frame_that_was_skipped_shows_the_one_before(tmp_path):
    import av

    def skip_last(packets):
        last = av.Packet(SKIPPED)
        last.pts, last.dts, last.time_base = packets[-1].pts, packets[-1].dts, packets[-1].time_base
        return [*packets[:-1], last]

    whole = write_video(tmp_path / "whole.mkv", 8, codec="mpeg4")
    file = copy_packets(whole, tmp_path / "skipped.mkv", skip_last)
    assert numbers_in(file) == [*range(7), 6]
    with VideoReader(file) as video:
        assert list(map(number_of, video.read_all())) == [*range(7), 6]


def test_first_frames_whose_reference_was_cut_off_show_the_next_one(tmp_path):
    def from_second_key_frame(packets):
        return packets[[n for n, one in enumerate(packets) if one.is_keyframe][1] :]

    whole = write_video(tmp_path / "whole.mkv", 30, codec="mpeg2video", b_frames=2)
    file = copy_packets(whole, tmp_path / "cut.mkv", from_second_key_frame)
    first, *others = numbers_in(file)
    assert [first, *others] == [first, first, *range(first, 30)]


def test_a_video_whose_only_key_frame_was_cut_off_cannot_be_decoded(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", 8, **ONE_KEY)
    with VideoReader(copy_packets(whole, tmp_path / "cut.mkv", lambda p: p[1:])) as video:
        assert len(video) == 7
        for read in (lambda: video.read([3, 5]), lambda: list(video.read_all())):
            with pytest.raises(VideoError, match=r"frame \d and those after it cannot be decoded"):
                read()


def test_a_broken_frame_ends_the_reading_of_all_with_a_reason(tmp_path):
    file = write_video(tmp_path / "a.mp4", 60, key_every=1)
    break_frame(file, 30)
    with VideoReader(file) as video:
        assert list(map(number_of, video.read([2, 50]))) == [2, 50]  # not what is between them
        frames = video.read_all()
        assert [number_of(next(frames)) for _ in range(20)] == list(range(20))
        with pytest.raises(VideoError, match=r"^it cannot be decoded \([^\n]+\)$"):
            list(frames)


def test_frames_of_every_size_keep_their_numbers(tmp_path):
    """Upright frames too, when they are resized."""
    file = write_video(tmp_path / "a.mp4", 6, draw=lambda n: picture(n, 96, 64))
    with VideoReader(file) as video:
        frames = video.read([0, 3, 5], short_side=32)
    assert frames.shape == (3, 48, 32, 3) and frames.dtype == np.uint8
    assert list(map(number_of, frames)) == [0, 3, 5]
