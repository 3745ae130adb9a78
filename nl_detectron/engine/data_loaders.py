"""Detectron2's data loaders, which here name a sample that cannot be read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from detectron2.config import CfgNode, instantiate
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import DatasetMapper as Detectron2Mapper
from detectron2.utils.file_io import PathManager
from detectron2.utils.registry import locate
from omegaconf import DictConfig

from nl_detectron_cli.names import program_name

from ..config import is_video
from ..data.bad_samples import CheckedLoader, ReplacingMapper
from ..data.mapper import DatasetMapper
from ..data.video.dataset import check_classes
from ..data.video.mapper import make_mapper as make_video_mapper
from ..errors import UsageError
from .weight_files import read_weight_file

# Detectron2's decorator `configurable` hides what these take and return.
_build_train_loader = cast(Callable[..., Iterable], build_detection_train_loader)
_build_test_loader = cast(Callable[..., Iterable], build_detection_test_loader)
_make_image_mapper = cast(Callable[..., DatasetMapper], DatasetMapper)


def build_train_loader(cfg: CfgNode, key: str) -> CheckedLoader:
    """Build the training data loader of a YAML file.

    Args:
        key: the config's key of the number of bad samples that are allowed, for messages.

    Raises:
        UsageError: a data set cannot be loaded, or has nothing to train on.
    """
    _check_proposal_files(cfg, "TRAIN")
    sets, keypoints = cfg.DATASETS, cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
    records = _load_records(
        lambda: get_detection_dataset_dicts(  # as Detectron2's builder calls it
            sets.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=keypoints if cfg.MODEL.KEYPOINT_ON else 0,
            proposal_files=sets.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        ),
        sets.TRAIN,
    )
    limit = cfg.DATALOADER.MAX_BAD_SAMPLES
    mapper = ReplacingMapper(make_mapper(cfg, True), records, limit)
    options = {}
    if is_video(cfg):
        options["aspect_ratio_grouping"] = False  # all crops have one size
        for name in sets.TRAIN:
            check_classes(name, cfg.MODEL.VIDEO.NUM_CLASSES)
    loader = _build_train_loader(cfg, dataset=records, mapper=mapper, **options)
    return CheckedLoader(loader, limit, key)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> CheckedLoader:
    """Build the data loader of a test set of a YAML file; no sample may be bad.

    Raises:
        UsageError: the data set cannot be loaded.
    """
    _check_proposal_files(cfg, "TEST")
    mapper = ReplacingMapper(make_mapper(cfg, False))
    with _explain_failure([dataset_name]):
        return CheckedLoader(_build_test_loader(cfg, dataset_name, mapper=mapper))


def build_video_loader(cfg: CfgNode, records: list[dict]) -> CheckedLoader:
    """Build the data loader of some videos of a test set; no sample may be bad."""
    mapper = ReplacingMapper(make_mapper(cfg, False))
    workers = cfg.DATALOADER.NUM_WORKERS
    return CheckedLoader(_build_test_loader(records, mapper=mapper, num_workers=workers))


def make_mapper(cfg: CfgNode, training: bool) -> Callable[[dict], dict]:
    """The mapper of a YAML file, from records to samples of images or of videos."""
    make: Callable[..., Any] = make_video_mapper if is_video(cfg) else _make_image_mapper
    return make(cfg, training)


def build_lazy_loader(call: DictConfig, limit: int = 0, key: str = "") -> Iterable:
    """Build a data loader of a LazyConfig.

    One that does not call Detectron2's builders is built as it is.

    Args:
        call: the section ``dataloader.train`` or ``dataloader.test``.
        limit: number of bad samples that are allowed.
        key: the config's key of ``limit``, for messages.

    Raises:
        UsageError: the data set cannot be loaded, or has nothing to train on.
    """
    options: dict[str, Any] = {str(name): value for name, value in call.items()}
    build = _locate(options.pop("_target_", None))
    if build not in (build_detection_train_loader, build_detection_test_loader):
        return cast(Iterable, instantiate(call))
    names = call.dataset.get("names", "") if isinstance(call.get("dataset"), DictConfig) else ""
    names = [names] if isinstance(names, str) else names
    records = _load_records(lambda: instantiate(options.pop("dataset")), names)
    mapper: Any = options.pop("mapper")
    if isinstance(mapper, DictConfig) and _locate(mapper.get("_target_")) is Detectron2Mapper:
        mapper = {**mapper, "_target_": DatasetMapper}
    mapper = ReplacingMapper(instantiate(mapper), records if limit else (), limit)
    options = {name: instantiate(value) for name, value in options.items()}
    loader = cast(Callable[..., Iterable], build)(dataset=records, mapper=mapper, **options)
    return CheckedLoader(loader, limit, key)


def _check_proposal_files(cfg: CfgNode, part: str) -> None:
    """Read the files of proposals, which Detectron2 then unpickles: that would run code in them."""
    if cfg.MODEL.LOAD_PROPOSALS:
        files, sets = cfg.DATASETS[f"PROPOSAL_FILES_{part}"], cfg.DATASETS[part]
        if len(files) != len(sets):
            raise UsageError(
                f"DATASETS.PROPOSAL_FILES_{part}: expected a file for each of the {len(sets)} sets "
                f"of DATASETS.{part}, as MODEL.LOAD_PROPOSALS is True, got {tuple(files)}"
            )
        for file in files:
            read_weight_file(PathManager.get_local_path(file), is_pickle=True)


def _locate(target: Any) -> Any:
    return locate(target) if isinstance(target, str) else target


def _load_records(load: Callable[[], Any], names: Sequence[str]) -> Any:
    """Records in the form that Detectron2's loaders share between processes."""
    with _explain_failure(names):
        records = load()
    return DatasetFromList(records, copy=False) if isinstance(records, list) else records


@contextmanager
def _explain_failure(names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # Detectron2 and pycocotools raise anything for a bad file
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UsageError(
            f"data set {', '.join(names)} cannot be loaded ({reason}); "
            f"{program_name('check')} names what is wrong with its annotations"
        ) from error
