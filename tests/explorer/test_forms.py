"""Forms that a block can be shown in."""

import numpy as np
import pytest
from fast_part import first_cases
from thin_models import CONFIG, IN_HEAD, KEYPOINTS, thin_model

from nl_detectron.attention import forms_of, record_attention
from nl_detectron.explorer.rendering import choose_first_point, describe_form
from nl_detectron.layers import PAIRWISE, SUBSAMPLES, NonLocalBlock

PLACES = {"backbone": (CONFIG, []), "head": (KEYPOINTS, IN_HEAD)}


@pytest.mark.parametrize("own", PAIRWISE)
def test_a_block_can_be_shown_in_its_own_form_and_those_that_need_no_more_weights(own):
    found = forms_of(NonLocalBlock(4, pairwise=own))
    assert found[0] == own and len(set(found)) == len(found)
    assert (
        ("dot_product" in found)
        == ("embedded_gaussian" in found)
        == (own in ("dot_product", "embedded_gaussian"))
    )
    assert "gaussian" in found
    assert set(found) & {"concatenation", "global_context"} <= {own}


@pytest.mark.parametrize("subsample", SUBSAMPLES)
@pytest.mark.parametrize("place", PLACES)
@first_cases(
    1,
    "own, other",
    [
        ("embedded_gaussian", "dot_product"),
        ("dot_product", "embedded_gaussian"),
        ("dot_product", "gaussian"),
        ("concatenation", "gaussian"),
    ],
)
def test_another_form_is_what_a_model_of_that_form_sees_with_the_same_weights(
    own, other, place, subsample, image
):
    config, words = PLACES[place]
    words = [*words, "MODEL.NONLOCAL.SUBSAMPLE", subsample]
    model, twin = (thin_model(form, config, words) for form in (own, other))
    twin.load_state_dict(model.state_dict(), strict=False)
    records = [
        record_attention(m, [image], (64, 999), image_format="RGB")[0] for m in (model, twin)
    ]
    [block] = records[0].blocks
    x, y = choose_first_point(records[0])
    ours, theirs = (record.attention(x, y, block) for record in records)
    found = records[0].attention(x, y, block, other)
    assert found.form == theirs.form == other
    assert (found.box is None) == (place == "backbone") and found.point == theirs.point
    assert found.weights == pytest.approx(theirs.weights, rel=1e-4, abs=1e-7)
    assert (found.scores is None) == (other == "dot_product")
    if found.scores is not None:
        assert found.scores == pytest.approx(theirs.scores, rel=1e-4, abs=1e-5)
    assert not np.allclose(found.weights, ours.weights, rtol=0.1, atol=0)


def test_the_page_says_whose_weights_another_form_has():
    assert "own form" in describe_form("gaussian", "gaussian")
    text = describe_form("dot_product", "embedded_gaussian")
    assert "theta and phi" in text and "trained as **embedded_gaussian**" in text
    assert "input x" in describe_form("gaussian", "concatenation")
