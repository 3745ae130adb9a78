"""How a run on COCO goes and is evaluated, as in the YAMLs here; the rest is Detectron2's."""

from detectron2.config import LazyCall as L
from detectron2.evaluation import COCOEvaluator
from detectron2.model_zoo import get_config

from nl_detectron.engine.fast_evaluation import fast_evaluation

optimizer = get_config("common/optim.py").SGD
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_1x
train = get_config("common/train.py").train
train.eval_period = 0  # at the end alone


def evaluator(*tasks: str):
    """COCO's metrics of these tasks; the AP of the last decides the best checkpoint."""
    return L(COCOEvaluator)(
        dataset_name="${..test.dataset.names}",
        tasks=list(tasks),
        output_dir="${train.output_dir}/inference/${..test.dataset.names}",
        use_fast_impl=L(fast_evaluation)(),
    )
