import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.wire import varints


@given(st.integers(0, 2**35 - 1))
def test_one_number_is_encoded_as_among_others(value):
    assert varints.encode_one(value) == varints.encode(np.array([value]))
    assert varints.decode(varints.encode_one(value)).tolist() == [value]
