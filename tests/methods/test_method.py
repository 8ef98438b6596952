"""What all methods refuse."""

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import refuse_outside, two_views


@pytest.mark.parametrize("sizes", [(32,), (32, 32, 16)])
def test_a_plan_with_another_number_of_views_is_refused_with_the_right_one(make_views, sizes):
    with pytest.raises(ScarceError, match="TwoViews"):
        two_views(make_views(*sizes, count=2))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_settings_outside_their_range_are_refused_by_name(value):
    with pytest.raises(ScarceError, match=r"method\.momentum from 0 to 1"):
        refuse_outside(0, 1, momentum=value)
    refuse_outside(0, 1, momentum=1)
