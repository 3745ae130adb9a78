"""The non-local block of a clip: over spacetime, over space or over time alone (Table 2d).

Axes: B clips, C channels, T frames, H rows, W columns.
"""

from collections.abc import Sequence

from torch import Tensor

from .nonlocal_block import NonLocalBlock

AXES = ("spacetime", "space", "time")


class VideoNonLocalBlock(NonLocalBlock):
    """A block whose x_i sees the positions x_j of its clip, or a part of them.

    The parts of a clip become a batch, on which the block is an ordinary one. The norm after W_z
    gets whole clips.

    Args:
        in_channels: C, the channels of x and z.
        axes: ``spacetime``: x_j are all positions; ``space``: those of the frame of x_i; ``time``:
            those at its place in all frames. Table 2d.
        frames_per_group: x_j are those of a group of so many consecutive frames, as in the released
            code's models of long clips; 0: of all frames.
        subsample: as in :class:`NonLocalBlock`. It pools over space, so it has no effect where x_j
            are at one place (``time``).
        options: the other arguments of :class:`NonLocalBlock`.

    Raises:
        ValueError: an argument is not one of its choices.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        axes: str = "spacetime",
        frames_per_group: int = 0,
        subsample: str = "before",
        **options,
    ):
        if axes not in AXES:
            raise ValueError(f"axes: expected one of {AXES}, got {axes!r}")
        if frames_per_group < 0 or (frames_per_group and axes != "spacetime"):
            raise ValueError(
                "frames_per_group: expected 0 or more, and 0 with the axes space and time, "
                f"got {frames_per_group} with {axes}"
            )
        super().__init__(
            in_channels, subsample="none" if axes == "time" else subsample, ndim=3, **options
        )
        self.axes = axes
        self.frames_per_group = frames_per_group

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`NonLocalBlock.embed`, with the parts of the clips as the batch."""
        return super().embed(self.split(x))

    def split(self, x: Tensor) -> Tensor:
        """The parts of clips (B,C,T,H,W) in which every x_i sees every x_j, in order.

        Returns:
            (B,C,T,H,W) for spacetime, (B*T/F,C,F,H,W) for groups of F frames, (B*T,C,1,H,W) for
            space, and (B*H*W,C,T,1,1) for time.
        """
        if self.axes == "time":
            places = x.permute(0, 3, 4, 1, 2).flatten(0, 2)
            return places[..., None, None]
        if not self._frames:
            return x
        groups = x.unflatten(2, (-1, self._frames))
        return groups.transpose(1, 2).flatten(0, 1)

    def locate(self, position: tuple[int, int, int], space: Sequence[int]) -> tuple[int, int]:
        """The part of a single clip that has a position (t, h, w), and its row in the part.

        Args:
            position: of x.
            space: T, H and W.
        """
        (t, h, w), (_, height, width) = position, space
        if self.axes == "time":
            return h * width + w, t
        part, t = divmod(t, self._frames or space[0])
        return part, (t * height + h) * width + w

    def join(self, parts: Tensor, space: Sequence[int]) -> Tensor:
        """The clips (B,C,T,H,W) of their parts, with T, H and W as ``space``."""
        frames, height, width = space
        if self.axes == "time":
            places = parts[..., 0, 0].unflatten(0, (-1, height, width))
            return places.expand(*places.shape[:-1], frames).permute(0, 3, 4, 1, 2)
        if not self._frames:
            return parts
        # one y for all positions of a part, if it does not depend on x_i
        parts = parts.expand(*parts.shape[:2], self._frames, height, width)
        groups = parts.unflatten(0, (-1, frames // self._frames))
        return groups.transpose(1, 2).flatten(2, 3)

    @property
    def _frames(self) -> int:
        """Frames of a part; 0: all."""
        return 1 if self.axes == "space" else self.frames_per_group

    def _w_z_y(self, x: Tensor, sizes: Sequence[Sequence[int]] | None) -> Tensor:
        return self.join(super()._w_z_y(self.split(x), sizes), x.shape[2:])

    def _check_input(self, x: Tensor, sizes: Sequence[Sequence[int]] | None) -> None:
        if sizes is not None and (self.axes != "spacetime" or self._frames):
            raise ValueError(
                "sizes: expected None unless axes is spacetime and frames_per_group 0, got "
                f"{sizes} with {self.axes} and {self.frames_per_group}"
            )
        super()._check_input(x, sizes)
        if self._frames and x.shape[2] % self._frames:
            raise ValueError(
                f"expected a multiple of {self._frames} frames, the block's frames_per_group, got "
                f"x of shape {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        groups = f", frames_per_group={self.frames_per_group}" if self.frames_per_group else ""
        return f"{super().extra_repr()}, axes={self.axes}{groups}"
