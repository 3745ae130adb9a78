"""Converts a whole checkpoint: its blocks with their places, and its ResNet."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from .block import Tensors, convert_block, source_of
from .resnet import rename_resnet, resnet_config
from .sources import SOURCES, Source, renamed

COUNTERS = "counters of training batches, which do not affect any output"


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
        model: tensors by their names in Mask R-CNN.
        config: config keys that compute the same, nested as in YAML.
        blocks: names of the blocks in this package, by their original names.
        resnet: names of the ResNet's tensors in Detectron2, by their original names.
        left: reasons, by the names of the tensors that were not converted.
    """

    model: Tensors
    config: dict[str, Any]
    blocks: dict[str, str]
    resnet: dict[str, str]
    left: dict[str, str]


def convert(
    tensors: Tensors,
    source: str,
    *,
    places: dict[str, str] | None = None,
    fpn: bool = True,
    **given: Any,
) -> Converted:
    """Convert the blocks of a model, and its ResNet if Detectron2's computes the same; or the
    ResNet alone, if there are no blocks.

    Args:
        tensors: all tensors of a checkpoint by name.
        source: a key of ``SOURCES``.
        places: for each block to convert, by its original name (``""`` for the only one), the
            residual block that it follows, such as ``res4.4``. By default all blocks are
            converted, at the places that their names show.
        fpn: whether the model has an FPN; C4 and DC5 have none.
        given: properties that tensors do not show, as in :func:`convert_block`.

    Raises:
        UsageError: there is neither a block nor a ResNet that can be converted, the place of a
            block is unknown or does not exist, no single config describes all blocks, or any error
            of :func:`convert_block`.
    """
    table = source_of(source)
    found = find_blocks(tensors, table)
    if not found:
        return _convert_resnet(tensors, source, fpn, bool(places or given))
    places = find_places(found, table, places)
    backbone = "backbone.bottom_up" if fpn else "backbone"
    model, blocks, options = {}, {}, {}
    for name, place in places.items():
        blocks[name] = f"{backbone}.{place.replace('.', '.nonlocal')}"
        try:
            block, options[name] = convert_block(found[name], source, **given)
        except UsageError as error:
            raise UsageError(f"block {name!r}: {error}") from error
        model |= {f"{blocks[name]}.{key}": tensor for key, tensor in block.items()}

    block_of = tensors_of_blocks(found, table)
    left = {key: "not selected by --place" for key, name in block_of.items() if name not in places}
    rest = {name: tensor for name, tensor in tensors.items() if name not in block_of}
    resnet, reason = rename_resnet(rest, table)
    for name, tensor in rest.items():
        if name in resnet:
            model[f"{backbone}.{resnet[name]}"] = tensor.squeeze(2) if tensor.dim() == 5 else tensor
        else:
            left[name] = _why_left(name, reason, table)
    keys = {"NAME": f"build_nonlocal_resnet{'_fpn' * fpn}_backbone"}
    config = {"MODEL": {"BACKBONE": keys, "NONLOCAL": nonlocal_keys(options, places)}}
    return Converted(model, config, blocks, resnet, left)


def _convert_resnet(tensors: Tensors, source: str, fpn: bool, about_blocks: bool) -> Converted:
    """Convert a model without blocks."""
    table = source_of(source)
    names, reason = rename_resnet(tensors, table)
    if not table.block and about_blocks:
        raise UsageError(f"{source} has no non-local blocks, which an option given is about")
    if not table.block and not names:
        raise UsageError(
            reason
            or f"there is no ResNet of {source} among {len(tensors)} tensors (such as "
            f"{', '.join(list(tensors)[:3])})"
        )
    if not names or about_blocks:
        raise UsageError(
            f"there is no non-local block of {source} among {len(tensors)} tensors (such as "
            f"{', '.join(list(tensors)[:3])})"
            + (" that an option could be about" if names else f"; {reason}" * bool(reason))
            + f"; known sources are {', '.join(SOURCES)}"
        )
    resnet = {ours: tensors[theirs] for theirs, ours in names.items()}
    if any(tensor.dim() == 5 for tensor in resnet.values()):
        resnet = {n: t.squeeze(2) if t.dim() == 5 else t for n, t in resnet.items()}
    config = resnet_config(resnet, table.resnet_config)
    backbone = "backbone.bottom_up" if fpn else "backbone"
    model = {f"{backbone}.{name}": tensor for name, tensor in resnet.items()}
    left = {name: _why_left(name, reason, table) for name in tensors if name not in names}
    return Converted(model, config, {}, names, left)


def find_blocks(tensors: Tensors, table: Source) -> dict[str, Tensors]:
    """The tensors of each block by the block's name, then by their names within the block."""
    parts = {}
    for name in tensors:
        for pattern, ours in table.block.items():
            if match := re.search(rf"(?:^|{re.escape(table.separator)})(?:{pattern})$", name):
                parts.setdefault(name[: match.start()], set()).add(match.expand(ours))
                break
    blocks = [name for name, ours in parts.items() if {"g.weight", "w_z.weight"} <= ours]
    return {
        block: {
            name.removeprefix(_of(block, table)): tensor
            for name, tensor in tensors.items()
            if name.startswith(_of(block, table))
        }
        for block in blocks
    }


def tensors_of_blocks(found: dict[str, Tensors], table: Source) -> dict[str, str]:
    """The block's name by the name of each of its tensors in the checkpoint."""
    return {_of(name, table) + key: name for name, block in found.items() for key in block}


def _of(block: str, table: Source) -> str:
    """Prefix of the names of a block's tensors."""
    return block + table.separator if block else ""


def find_places(
    found: dict[str, Tensors], table: Source, named: dict[str, str] | None
) -> dict[str, str]:
    """The residual block that each block follows, in the order of the network."""
    wanted: Mapping[str, str | None]
    if named is None:
        wanted = {block: renamed(block, table.place) for block in found}
    elif set(named) == {""} and len(found) == 1:
        wanted = {block: named[""] for block in found}
    else:
        wanted = named
    places: dict[str, str] = {}
    for block, place in wanted.items():
        if block not in found:
            raise UsageError(
                f"--place: there is no block {block!r}; the file has {', '.join(found)}"
            )
        for pattern, why in table.inside.items():
            if re.fullmatch(pattern, block):
                raise UsageError(f"{block} cannot be converted: {why}")
        if place is None:
            example = "res4.4" if len(found) == 1 else f"{block}=res4.4"
            raise UsageError(
                f"the name {block!r} does not show where the block belongs; name the residual "
                f"block that it follows, such as --place {example}"
            )
        if not re.fullmatch(r"res[2-5]\.\d+", place):
            raise UsageError(
                f"--place: expected a residual block, counted from 0, such as res4.4, got {place!r}"
            )
        places[block] = place
    twice = [place for place, count in Counter(places.values()).items() if count > 1]
    if twice:
        raise UsageError(f"--place: more than one block follows {', '.join(twice)}")
    numbers = {block: [int(n) for n in re.findall(r"\d+", p)] for block, p in places.items()}
    return {block: places[block] for block in sorted(places, key=lambda block: numbers[block])}


def _why_left(name: str, of_resnet: str, table: Source) -> str:
    if of_resnet and re.match(table.trunk, name):
        return of_resnet
    if name.endswith("num_batches_tracked"):
        return COUNTERS
    return "names of no known block or ResNet"


def nonlocal_keys(options: dict[str, dict], places: dict[str, str]) -> dict[str, Any]:
    """MODEL.NONLOCAL, which all blocks share, of the arguments and the place of each."""
    words = {}
    for name, of_block in options.items():
        channels, inner = of_block["in_channels"], of_block["inner_channels"]
        if inner > channels or channels // (channels // inner) != inner:
            raise UsageError(
                f"block {name!r}: {inner} inner channels of {channels} are not a whole fraction, "
                "so no MODEL.NONLOCAL.REDUCTION describes the block"
            )
        words[name] = {
            "PAIRWISE": of_block["pairwise"],
            "REDUCTION": channels // inner,
            "SUBSAMPLE": of_block["subsample"],
            "USE_SCALE": of_block["use_scale"],
            "NORM": of_block["norm"],
        }
    first, *others = words.values()
    if any(other != first for other in others):
        differ = "; ".join(f"{name}: {of_block}" for name, of_block in words.items())
        raise UsageError(
            f"one config describes all blocks, but these differ ({differ}); select with --place"
        )
    return {"BACKBONE": {"AFTER": list(places.values())}, **first}
