"""What becomes of calls to a gateway that answers, fails, or keeps silent."""

from __future__ import annotations

from typing import Any

from actors.ports import Silence
from actors.promise import Promise
from domain.payments import Unknown
from tests.support.virtual_time import pass_time, virtual_time

TIMEOUT_S = 5.0


@virtual_time
async def test_silence_is_an_unknown_outcome_and_an_answer_is_none_of_its_business() -> None:
    """Each call has its own time; what is over is not held any longer."""
    silence = Silence(TIMEOUT_S)
    told: list[Any] = []

    def call() -> Promise:
        begun = silence.bounded(Promise())
        begun.add_done_callback(lambda done: told.append(done.exception() or done.result()))
        return begun

    answered, failed, silent = call(), call(), call()
    await pass_time(1.0)
    later = call()
    answered.set_result("yes")
    assert answered not in silence._until_s
    failed.set_exception(ZeroDivisionError())
    await pass_time(TIMEOUT_S - 1.5)
    assert (told[0], type(told[1]), len(told)) == ("yes", ZeroDivisionError, 2)
    assert not silent.done()
    await pass_time(1.0)
    assert isinstance(silent.result(), Unknown)
    assert not later.done()
    await pass_time(1.0)
    assert isinstance(later.result(), Unknown)
    assert len(told) == 4
    assert not silence._until_s
