"""Settings without room for the object or its signal are refused."""

from dataclasses import replace

import pytest
from relay_variants import TINY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 31}, "height of 32 or more"),
        ({"signal": 0}, "signal of 1"),
        ({"signal": 60}, "signal of 1 to the height less"),
        ({"width": 77}, "width of 78 or more"),
        ({"place": "any", "width": 80}, "width of 81 or more"),
        ({"place": "near"}, "expected one of"),
        ({"beside": 1.5}, "share from 0 to 1"),
        ({"beside": 0.5, "width": 84}, "width of 85 or more"),
        ({"place": "beside", "width": 84}, "width of 85 or more"),
        ({"place": "end"}, "with keypoints=True"),
        ({"place": "end", "keypoints": True, "signal": 26}, "signal of at most 25"),
        ({"pairs": 5}, "1 to 4 pairs"),
        ({"pairs": 2, "place": "any"}, "several pairs go with"),
        ({"pairs": 2, "beside": 0.5}, "several pairs go with"),
        ({"pairs": 2, "keypoints": True}, "several pairs go with"),
        ({"pairs": 3, "height": 63}, "height of 64 or more"),
        ({"pairs": 2, "signal": 28}, "signal of at most 27"),
        ({"pairs": 4, "width": 127}, "width of 128 or more"),
    ],
    ids=str,
)
def test_settings_that_leave_no_room_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
