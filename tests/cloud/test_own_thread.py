import threading

import pytest

from cloud.own_thread import in_own_thread


def test_the_thread_is_another_and_over_when_its_result_is_there():
    worked = in_own_thread(threading.current_thread)
    assert worked is not threading.current_thread()
    assert not worked.is_alive()


def test_what_fails_there_fails_here():
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_own_thread(fail)
