"""The pairwise functions f of "Non-local Neural Networks" (Wang et al., CVPR 2018), Eqs. 2-5.

Each is a module that computes Eq. 1, y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j), and has three methods:

- ``weights(theta, phi)``: f / C for every pair, by definition;
- ``dense(theta, phi, g)``: the weights times g;
- ``fused(theta, phi, g)``: the same sum without a matrix of all pairs.

``forward`` calls the cheaper one of ``dense`` and ``fused``, by ``dense_cost`` and ``fused_cost``.

Axes: B images or RoIs, N positions i, M positions j (fewer than N under subsampling),
D channels of the embedding (of x itself for gaussian), P channels of phi (D unless the function
needs more), E channels of g.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from .choice import MOST_PAIRS, REMADE_MACS, ROWS_PAIRS, Cost, Sizes, prefers_sdpa
from .graphs import is_exporting
from .layout import matmul_like, to_float32
from .padding import ValidPositions
from .softmax_sum import softmax_sum
from .sorted_sum import sorted_relu_sum

# Without cuDNN's attention: it builds a plan for every new shape, and shapes change constantly with
# the sizes of images and the numbers of RoIs.
SDPA_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class Pairwise(nn.Module):
    """A pairwise function over theta (B,N,D), phi (B,M,P) and g (B,M,E).

    Args:
        channels: D.
        use_scale: divide theta . phi by sqrt(D); the functions that do not use it ignore it.

    A subclass implements :meth:`weights` and, if there is a cheaper sum, :meth:`fused` and
    :meth:`fused_cost`. A cheaper sum matters: the weights of res3 take 1.1 GB. torch.export and
    ONNX always call :meth:`fused`, which calls :meth:`dense` where they cannot represent it.

    If images are padded, ``valid`` are the positions j that are no padding. Only these count, also
    in C(x); the weights of the others are zero.

    Attributes:
        embeddings: those of the block's 1x1 convs theta and phi that it uses; in place of the
            others it receives x itself.
        memory_passes: passes over the (N,M) weights outside the matrix products of :meth:`dense`.
        weights_have_fixed_sum: whether the weights are non-negative and their sum over j is the
            same for any x, which limits y to a multiple of g. If not, half precision could
            overflow, and the sum is computed in float32.
        query_independent: whether f does not depend on x_i, so that y is equal for all i.
        fused_is_deterministic: whether :meth:`fused` and its gradients are deterministic on a GPU.
            If not, ``torch.use_deterministic_algorithms(True)`` selects :meth:`dense`.
        remakes_weights: whether the softmax functions compute cheap weights again in the backward
            pass instead of keeping them. The block sets it.
    """

    embeddings: tuple[str, ...] = ("theta", "phi")
    memory_passes = 1
    weights_have_fixed_sum = True
    query_independent = False
    remakes_weights = False
    fused_is_deterministic = True

    def __init__(self, channels: int, use_scale: bool = True):
        super().__init__()
        self.channels = channels
        self.use_scale = use_scale

    @property
    def phi_channels(self) -> int:
        """P, the channels of phi: D, or more if the function needs further maps of x_j."""
        return self.channels

    def init_embeddings(self, theta: nn.Module, phi: nn.Module) -> None:
        """Change the initial values of the block's convs, if the function needs it."""

    def transform_embeddings(
        self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None
    ) -> tuple[Tensor, Tensor]:
        """Change theta (B,N,D) and phi (B,M,P) where the function needs all positions at once.

        The block calls it first. The other methods take what it returns, and compute each position
        i from its valid row of theta. Here, ``valid`` are the positions i that are no padding.
        """
        return theta, phi

    def weights(self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None) -> Tensor:
        """f(x_i, x_j) / C(x) for every pair of positions, (B,N,M)."""
        raise NotImplementedError

    def scores(self, theta: Tensor, phi: Tensor) -> Tensor | None:
        """log f(x_i, x_j), (B,N,M), if the weights are its softmax over j; None otherwise."""
        return None

    def dense(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        """The sum by definition, (B,N,E), in the layout of g."""
        return matmul_like(self.weights(theta, phi, valid).to(g.dtype), g, like=g)

    def fused(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        """The same sum without the (B,N,M) weights, (B,N,E); by default :meth:`dense`."""
        return self.dense(theta, phi, g, valid)

    def dense_cost(self, s: Sizes) -> Cost:
        """Cost of :meth:`dense`: two matrix products, and writing and reading the weights."""
        return Cost(macs=s.pairs * (s.d + s.e), passed=self.memory_passes * s.pairs)

    def fused_cost(self, s: Sizes) -> Cost:
        """Cost of :meth:`fused`."""
        return self.dense_cost(s)

    def prefers_fused(self, s: Sizes) -> bool:
        """Whether :meth:`forward` uses :meth:`fused` for these sizes."""
        deterministic = s.device == "cuda" and torch.are_deterministic_algorithms_enabled()
        if deterministic and not self.fused_is_deterministic:
            return False
        fused, dense = (cost.total(s.device) for cost in (self.fused_cost(s), self.dense_cost(s)))
        return s.pairs > MOST_PAIRS or fused < dense

    def prefers_rows(self, s: Sizes) -> bool:
        """Whether a block converts a contiguous x of these sizes to channels-last."""
        return s.device == "cuda"

    def forward(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        """y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j) (Eq. 1), (B,N,E).

        The result has the dtype of g, or float32 under autocast unless ``weights_have_fixed_sum``.

        Raises:
            ValueError: the shapes do not match.
        """
        self._check(theta, phi, g)
        device = theta.device.type
        sizes = Sizes.of(theta, g)
        # torch.export has symbolic sizes, so it needs one choice for all of them
        impl = (
            self.fused if torch.compiler.is_exporting() or self.prefers_fused(sizes) else self.dense
        )
        if self.weights_have_fixed_sum:
            return impl(theta, phi, g, valid)
        with torch.autocast(device, enabled=False):
            y = impl(to_float32(theta), to_float32(phi), to_float32(g), valid)
        return y if torch.is_autocast_enabled(device) else y.to(g.dtype)

    def _check(self, theta: Tensor, phi: Tensor, g: Tensor) -> None:
        fits = (
            theta.dim() == phi.dim() == g.dim() == 3
            and theta.shape[2] == self.channels
            and phi.shape[2] == self.phi_channels
            and phi.shape[:2] == g.shape[:2]
            and theta.shape[0] == phi.shape[0]
        )
        if not fits:
            raise ValueError(
                f"expected theta (B,N,{self.channels}), phi (B,M,{self.phi_channels}) "
                f"and g (B,M,E), got {tuple(theta.shape)}, {tuple(phi.shape)} and {tuple(g.shape)}"
            )

    def extra_repr(self) -> str:
        return f"channels={self.channels}"


class Gaussian(Pairwise):
    """exp(x_i . x_j), normalised over j (Eq. 2), without theta, phi and scale."""

    embeddings = ()
    memory_passes = 3

    scale = 1.0

    def weights(self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None) -> Tensor:
        return _softmax(self._log_f(theta, phi), valid)

    def scores(self, theta: Tensor, phi: Tensor) -> Tensor | None:
        return self._log_f(theta, phi)

    def fused(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        """:meth:`tiled`, or on a GPU :meth:`sdpa`, as choice.py decides.

        Scores are float32 inside, for inputs of any dtype. The CPU's fused attention is not used:
        it trains more slowly and needs D = E.
        """
        # The number of tiles depends on the sizes, so a graph uses the dense sum instead.
        if is_exporting():
            return self.dense(theta, phi, g, valid)
        compute = self.sdpa if prefers_sdpa(Sizes.of(theta, g)) else self.tiled
        return compute(theta, phi, g, valid)

    def prefers_fused(self, s: Sizes) -> bool:
        """Always true: one tile may hold all weights."""
        return True

    def prefers_rows(self, s: Sizes) -> bool:
        """For fused attention, where one copy replaces three, and many tiles on a CPU."""
        if is_exporting():
            return False
        many_tiles = s.device == "cpu" and s.pairs_per_image >= ROWS_PAIRS
        return prefers_sdpa(s) or (many_tiles and not torch.is_grad_enabled())

    def tiled(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        """The sum, one tile of the weights at a time."""
        padding = None if valid is None else valid.padding
        sizes = Sizes.of(theta, g)
        keep_weights = not (self.remakes_weights and sizes.pairs_per_image * sizes.d < REMADE_MACS)
        with torch.autocast(sizes.device, enabled=False):
            return softmax_sum(theta, phi, g, self.scale, keep_weights, padding)

    def sdpa(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        """The sum by PyTorch's fused attention, which never stores the weights."""
        counts = None if valid is None else ~valid.padding[:, None, None]  # the same for all i
        # The kernels need contiguous channels and otherwise fall back to a slow formula. These
        # are views if the inputs have the block's layout.
        theta, phi, g = (t.to(g.dtype).contiguous()[:, None] for t in (theta, phi, g))
        with sdpa_kernel(SDPA_BACKENDS):
            y = F.scaled_dot_product_attention(theta, phi, g, attn_mask=counts, scale=self.scale)
        return y[:, 0]

    def _log_f(self, theta: Tensor, phi: Tensor) -> Tensor:
        # x_i . x_j exceeds fp16's 65,504, so scores are at least float32
        with torch.autocast(theta.device.type, enabled=False):
            return self._scaled(theta) @ to_float32(phi).transpose(1, 2)

    def _scaled(self, theta: Tensor) -> Tensor:
        """theta times the scale, at least in float32. Scaling the scores would cost more."""
        theta = to_float32(theta)
        return theta if self.scale == 1 else theta * self.scale


class EmbeddedGaussian(Gaussian):
    """exp(theta(x_i) . phi(x_j)), normalised over j (Eq. 3)."""

    embeddings = ("theta", "phi")

    def __init__(self, channels: int, use_scale: bool = True):
        super().__init__(channels, use_scale)
        # as in the released code; the paper has no scale
        self.scale = 1 / math.sqrt(channels) if use_scale else 1.0


class DotProduct(Pairwise):
    """theta(x_i) . phi(x_j), divided by the number of positions j (Eq. 4)."""

    weights_have_fixed_sum = False

    def weights(self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None) -> Tensor:
        return theta / phi.shape[1] @ _only_valid(phi, valid).transpose(1, 2)

    def fused(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        """theta (phi^T g) / M: linear in positions."""
        g = _only_valid(g, valid)
        return matmul_like(theta, phi.transpose(1, 2) @ g / phi.shape[1], like=g)

    def fused_cost(self, s: Sizes) -> Cost:
        return Cost(macs=s.b * (s.n + s.m) * s.d * s.e, passed=s.b * s.d * s.e)


class Concatenation(Pairwise):
    """ReLU(w_f . [theta(x_i), phi(x_j)]), divided by the number of positions j (Eq. 5).

    w_f . [theta, phi] = w_theta . theta + w_phi . phi = a_i + b_j, so no (2D,N,M) tensor is needed.
    """

    weights_have_fixed_sum = False
    memory_passes = 3
    fused_is_deterministic = False  # PyTorch's cumsum of floats is not, on CUDA

    def __init__(self, channels: int, use_scale: bool = True):
        super().__init__(channels, use_scale)
        self.w_f = nn.Parameter(torch.empty(2 * channels))
        nn.init.normal_(self.w_f, std=0.01)

    def init_embeddings(self, theta: nn.Module, phi: nn.Module) -> None:
        """Set theta's bias so that a_i + b_j starts near 1 and y is a mean of g, like a softmax.

        x is the output of a ReLU, so all pairs move together. If they started near 0, a few steps
        could move all of them below 0, and no gradient would reach the block any more.
        """
        w_theta, _ = self.w_f.detach().split(self.channels)
        with torch.no_grad():
            theta.get_parameter("bias").copy_(w_theta / w_theta.square().sum())

    def weights(self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None) -> Tensor:
        a, b = self._terms(theta, phi)
        weights = torch.relu(a[:, :, None] + b[:, None, :]) / phi.shape[1]
        return weights if valid is None else weights * valid.factors(weights).transpose(1, 2)

    def fused(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        if torch.onnx.is_in_onnx_export():  # ONNX has no searchsorted
            return self.dense(theta, phi, g, valid)
        a, b = self._terms(theta, phi)
        if valid is not None:
            # g is zero in the padding, but far values of b would cost the sum its precision
            b = torch.where(valid.padding, b[:, :1], b)
        return sorted_relu_sum(a, b, _only_valid(g, valid) / phi.shape[1])

    def fused_cost(self, s: Sizes) -> Cost:
        prefix_sums, gathered = 10 * s.m * s.e, 8 * s.n * s.e
        return Cost(macs=0, passed=s.b * (prefix_sums + gathered + s.m * math.log2(s.m + 1)))

    def dense_cost(self, s: Sizes) -> Cost:
        return Cost(macs=s.pairs * s.e, passed=self.memory_passes * s.pairs)

    def _terms(self, theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        """a (B,N) and b (B,M)."""
        w_theta, w_phi = self.w_f.to(theta.dtype).split(self.channels)
        return _dot(theta, w_theta), _dot(phi, w_phi)


class GlobalContext(Pairwise):
    """exp(w . phi(x_j)), normalised over j, the same for every i.

    This is the query-independent simplification of Cao et al., "GCNet", ICCV Workshops 2019.
    """

    embeddings = ("phi",)
    query_independent = True

    def __init__(self, channels: int, use_scale: bool = True):
        super().__init__(channels, use_scale)
        self.w = nn.Parameter(torch.empty(channels))
        nn.init.normal_(self.w, std=0.01)

    def weights(self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None) -> Tensor:
        return self._weights_of_one(phi, valid).expand(-1, theta.shape[1], -1)

    def fused(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        return (self._weights_of_one(phi, valid).to(g.dtype) @ g).expand(-1, theta.shape[1], -1)

    def fused_cost(self, s: Sizes) -> Cost:
        return Cost(macs=s.b * s.m * (s.d + s.e), passed=s.b * s.m)

    def _weights_of_one(self, phi: Tensor, valid: ValidPositions | None) -> Tensor:
        """The weights of one position i, (B,1,M), at least in float32."""
        with torch.autocast(phi.device.type, enabled=False):
            scores = _dot(to_float32(phi), to_float32(self.w))
        return _softmax(scores[:, None], valid)


class Disentangled(EmbeddedGaussian):
    """Softmax over j of (theta_i - mean theta) . (phi_j - mean phi), plus softmax of w . x_j.

    These are the whitened pairwise term and the unary term of Yin et al., "Disentangled Non-Local
    Neural Networks", ECCV 2020. Mean phi adds the same number to all scores of a position i, which
    does not change their softmax, so only theta is centred. w . x_j is the last channel of phi.
    """

    @property
    def phi_channels(self) -> int:
        return self.channels + 1

    def transform_embeddings(
        self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None
    ) -> tuple[Tensor, Tensor]:
        mean = theta.mean(dim=1, keepdim=True) if valid is None else valid.mean(theta)
        return theta - mean, phi

    def weights(self, theta: Tensor, phi: Tensor, valid: ValidPositions | None = None) -> Tensor:
        return super().weights(theta, phi[..., :-1], valid) + self._unary_weights(phi, valid)

    def scores(self, theta: Tensor, phi: Tensor) -> None:
        """None: a sum of two softmaxes is not a softmax."""

    def fused(
        self, theta: Tensor, phi: Tensor, g: Tensor, valid: ValidPositions | None = None
    ) -> Tensor:
        if is_exporting():
            return self.dense(theta, phi, g, valid)
        unary = self._unary_weights(phi, valid).to(g.dtype) @ g
        return super().fused(theta, phi[..., :-1], g, valid) + unary

    def prefers_fused(self, s: Sizes) -> bool:
        """On a CPU, adding the unary term to y costs more than to the weights if M is at most E."""
        return s.device == "cuda" or s.pairs > MOST_PAIRS or s.m > s.e

    def _unary_weights(self, phi: Tensor, valid: ValidPositions | None) -> Tensor:
        """Softmax over j of w . x_j, (B,1,M), at least in float32."""
        return _softmax(to_float32(phi[..., -1])[:, None], valid)


def _softmax(scores: Tensor, valid: ValidPositions | None) -> Tensor:
    """Softmax over the j of scores (B,...,M) that are no padding."""
    if valid is not None:
        scores = scores.masked_fill(valid.padding[:, None], -math.inf)
    return torch.softmax(scores, dim=-1)


def _only_valid(rows: Tensor, valid: ValidPositions | None) -> Tensor:
    """rows (B,M,C) such that their sum over j, divided by M, is a mean over the j of no padding."""
    return rows if valid is None else rows * valid.factors(rows)


def _dot(rows: Tensor, w: Tensor) -> Tensor:
    """rows (B,N,D) times w (D), (B,N).

    w is a matrix of one column, because onnxruntime 1.32 wrongly multiplies transposed rows with a
    vector.
    """
    return (rows @ w[:, None]).squeeze(2)


PAIRWISE: dict[str, type[Pairwise]] = {
    "gaussian": Gaussian,
    "embedded_gaussian": EmbeddedGaussian,
    "dot_product": DotProduct,
    "concatenation": Concatenation,
    "global_context": GlobalContext,
    "disentangled": Disentangled,
}


def build_pairwise(name: str, channels: int, use_scale: bool = True) -> Pairwise:
    """Build the pairwise function called ``name``.

    Args:
        name: a key of ``PAIRWISE``.
        channels: D, the channels of theta and phi (of x for gaussian).
        use_scale: divide theta . phi by sqrt(D); the functions that do not use it ignore it.

    Raises:
        ValueError: the name is unknown, or there is less than one channel.
    """
    if name not in PAIRWISE:
        raise ValueError(f"pairwise: expected one of {', '.join(PAIRWISE)}, got {name!r}")
    if channels < 1:
        raise ValueError(f"channels: expected 1 or more, got {channels}")
    return PAIRWISE[name](channels, use_scale)
