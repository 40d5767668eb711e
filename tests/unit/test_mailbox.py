"""The sending side: commands gather while calls are under way, and an actor that dies is a pause, not an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mailbox import MAX_BATCH, Mailbox, Unreachable
from actors.post_office import PostOffice
from tests.support.memory_journal import Wire
from tests.support.virtual_time import idle, pass_time, until, virtual_time


class Question(msgspec.Struct, frozen=True, array_like=True):
    n: Any
    later: bool = False


class Take(msgspec.Struct, frozen=True, array_like=True):
    """A command that has to know whether a copy of it may be about."""

    n: int
    resent: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True):
    n: int
    incarnation: int


class Clerk:
    """An actor that answers a question at once, or when it is told to."""

    def __init__(self, incarnation: int = 1) -> None:
        self.incarnation = incarnation
        self.came: list[Any] = []
        self._waiting: list[tuple[Any, Any]] = []

    def submit(self, question: Any, ticket: Any) -> None:
        self.came.append(question)
        if isinstance(question, Question) and question.later:
            self._waiting.append((question, ticket))
            ticket.later()
        else:
            ticket.reply(Answer(question.n, self.incarnation))

    def answer(self) -> None:
        """All that were put off."""
        waiting, self._waiting = self._waiting, []
        for question, ticket in waiting:
            ticket.reply(Answer(question.n, self.incarnation))


class Line:
    """The transport to an actor that can die, and be lost on the way there or back."""

    def __init__(self, command_type: Any = Question) -> None:
        self.wire = Wire()
        self.most_at_once = 0
        self._at_once = 0
        self._command_type = command_type
        self._incarnations = 0
        self._died: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.clerk = self.revive()

    def revive(self) -> Clerk:
        """Another incarnation; whoever is in a call to the former is told that it has died."""
        self._died.add_done_callback(lambda died: died.exception())
        self._died.set_exception(Unreachable("it died"))
        self._died = asyncio.get_running_loop().create_future()
        self._incarnations += 1
        self.clerk = Clerk(self._incarnations)
        self._office = PostOffice(self.clerk.submit, self._command_type)
        return self.clerk

    async def deliver(self, client: str, blob: bytes) -> bytes:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self.wire.request("deliver", msgspec.msgpack.decode(blob))
            answer = await self._or_death(self._office.deliver(client, blob))
            await self.wire.answer("deliver", None)
        finally:
            self._at_once -= 1
        return answer

    async def drain(self, client: str, incarnation: str, acknowledged: int, wait_s: float) -> bytes:
        await self.wire.request("drain", acknowledged)
        answer = await self._or_death(self._office.drain(client, incarnation, acknowledged, wait_s))
        await self.wire.answer("drain", None)
        return answer

    async def _or_death(self, work: Awaitable[bytes]) -> bytes:
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, self._died}, return_when=asyncio.FIRST_COMPLETED)
        if self._died.done() and not task.done():
            task.cancel()
            raise Unreachable("it died")
        return await task

    @property
    def batches(self) -> list[int]:
        return [len(batch) for call, batch in self.wire.calls if call == "deliver"]

    @property
    def acknowledged(self) -> list[int]:
        return [number for call, number in self.wire.calls if call == "drain"]


GONE = Unreachable("gone")


# ── gathering ───────────────────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_what_is_asked_in_one_turn_goes_along_at_once() -> None:
    line = Line()
    mailbox = Mailbox(line, Answer)
    replies = await asyncio.gather(*(mailbox.ask(Question(n)) for n in range(20)))
    assert [reply.n for reply in replies] == list(range(20))
    assert line.batches == [20]
    assert asyncio.get_running_loop().time() == 0, "nothing waited for a timer"
    assert len(mailbox) == 0


@virtual_time
async def test_what_is_asked_while_all_calls_are_under_way_gathers_for_the_next() -> None:
    """At most so many calls at once; what is behind them shares one, however many they are."""
    line = Line()
    mailbox = Mailbox(line, Answer, in_flight=2)
    gates = [line.wire.stop("deliver"), line.wire.stop("deliver")]
    asked = [mailbox.ask(Question(0))]
    await gates[0].reached.wait()
    asked.append(mailbox.ask(Question(1)))
    await gates[1].reached.wait()
    for n in range(2, 30):
        asked.append(mailbox.ask(Question(n)))
        await idle()
    assert line.batches == [1, 1]
    gates[1].open()
    await asyncio.gather(*asked[1:])
    assert line.batches == [1, 1, 28]
    assert not asked[0].done()
    gates[0].open()
    assert (await asked[0]).n == 0
    assert line.most_at_once == 2


@given(st.integers(1, 4), st.lists(st.integers(1, 700), min_size=1, max_size=6))
@virtual_time
async def test_no_batch_and_no_number_of_calls_is_above_its_bound(in_flight: int, bursts: list[int]) -> None:
    """Every ask has its own reply, whatever the bursts."""
    line = Line()
    mailbox = Mailbox(line, Answer, in_flight=in_flight)
    asked: list[asyncio.Future[Answer]] = []
    for burst in bursts:
        asked += [mailbox.ask(Question(len(asked) + n)) for n in range(burst)]
        await asyncio.sleep(0)
    assert [reply.n for reply in await asyncio.gather(*asked)] == list(range(sum(bursts)))
    assert max(line.batches) <= MAX_BATCH
    assert line.most_at_once <= in_flight


# ── an actor that dies, answers that are lost ───────────────────────────────────────────────────────────


@virtual_time
async def test_an_unreachable_actor_is_asked_again_with_the_same_command() -> None:
    """With growing pauses, for as long as it takes."""
    line = Line()
    mailbox = Mailbox(line, Answer)
    line.wire.fail("deliver", GONE, times=20)
    assert await mailbox.ask(Question(7)) == Answer(7, 1)
    assert line.clerk.came == [Question(7)]
    assert len(line.batches) == 21
    assert 0.4 < asyncio.get_running_loop().time() < 20


@virtual_time
async def test_a_command_whose_answer_was_lost_is_repeated_and_answered_once() -> None:
    line = Line()
    mailbox = Mailbox(line, Answer)
    line.wire.fail("deliver", GONE, way="answer")
    assert await mailbox.ask(Question(7)) == Answer(7, 1)
    assert line.clerk.came == [Question(7), Question(7)]


@virtual_time
async def test_a_command_that_has_to_know_is_told_that_a_copy_may_be_about() -> None:
    line = Line(Take)
    mailbox = Mailbox(line, Answer)
    line.wire.fail("deliver", GONE)
    await mailbox.ask(Take(1))
    await mailbox.ask(Take(2))
    assert line.clerk.came == [Take(1, resent=True), Take(2)]


@virtual_time
async def test_what_gathers_during_an_outage_is_sent_behind_what_was_asked_before() -> None:
    line = Line()
    mailbox = Mailbox(line, Answer, in_flight=1)

    async def lost_after_a_while() -> None:
        await pass_time(0.1)
        raise GONE

    for _ in range(3):
        line.wire.plan("deliver", lost_after_a_while)
    asked: list[asyncio.Future[Answer]] = []
    for n in range(10):
        asked.append(mailbox.ask(Question(n)))
        await pass_time(0.05)
    await asyncio.gather(*asked)
    assert [question.n for question in line.clerk.came] == list(range(10))


@virtual_time
async def test_a_later_reply_whose_actor_died_is_asked_for_again() -> None:
    """Its next incarnation owes nothing, so waiting for it would be for ever."""
    line = Line()
    mailbox = Mailbox(line, Answer)
    asked = [mailbox.ask(Question(n, later=True)) for n in range(3)]
    await idle()
    heir = line.revive()
    await until(lambda: len(heir.came) == 3)
    heir.answer()
    assert await asyncio.gather(*asked) == [Answer(n, 2) for n in range(3)]


@virtual_time
async def test_a_promise_of_a_dead_incarnation_that_arrives_late_is_asked_for_again() -> None:
    """The word "later" was slow: its actor had died, and the drain was already listening to the heir."""
    line = Line()
    mailbox = Mailbox(line, Answer, in_flight=2)
    slow = line.wire.stop("deliver", way="answer")
    promised = mailbox.ask(Question(1, later=True))
    await slow.reached.wait()
    heir = line.revive()
    other = mailbox.ask(Question(2, later=True))
    await idle()
    slow.open()
    await until(lambda: {question.n for question in heir.came} == {1, 2})
    heir.answer()
    assert [await promised, await other] == [Answer(1, 2), Answer(2, 2)]


# ── replies that come later ─────────────────────────────────────────────────────────────────────────────


@virtual_time
async def test_a_later_reply_holds_up_neither_its_batch_nor_what_is_asked_behind_it() -> None:
    line = Line()
    mailbox = Mailbox(line, Answer)
    later, now = mailbox.ask(Question(1, later=True)), mailbox.ask(Question(2))
    assert (await now).n == 2
    assert (await mailbox.ask(Question(3))).n == 3
    await pass_time(60)
    assert not later.done()
    line.clerk.answer()
    assert (await later).n == 1


@virtual_time
async def test_a_drained_reply_lost_on_the_way_comes_again_and_is_then_acknowledged() -> None:
    """What was not acknowledged is kept for the client; what was, is not sent a second time."""
    line = Line()
    mailbox = Mailbox(line, Answer)
    await mailbox.ask(Question(0))
    line.wire.fail("drain", GONE, way="answer", times=2)
    asked = [mailbox.ask(Question(n, later=True)) for n in (1, 2)]
    await idle()
    line.clerk.answer()
    assert await asyncio.gather(*asked) == [Answer(1, 1), Answer(2, 1)]
    await pass_time(60)
    assert line.acknowledged[-1] == 2
    assert line.acknowledged[:3] == [0, 0, 0]
    calls = len(line.wire.calls)
    await pass_time(60)
    assert len(line.wire.calls) == calls, "with nothing owed nobody asks"
    assert len(mailbox) == 0


@virtual_time
async def test_a_question_asked_twice_because_its_answer_was_lost_has_one_reply() -> None:
    """Put off twice, so two replies are drained: the asker sees the first, the other is thrown away."""
    line = Line()
    mailbox = Mailbox(line, Answer)
    line.wire.fail("deliver", GONE, way="answer")
    asked = mailbox.ask(Question(1, later=True))
    await until(lambda: len(line.clerk.came) == 2)
    line.clerk.answer()
    assert await asked == Answer(1, 1)
    assert (await mailbox.ask(Question(2))).n == 2
    await pass_time(60)
    assert line.acknowledged[-1] == 2
    assert len(mailbox) == 0


@given(st.data())
@virtual_time
async def test_every_ask_is_answered_with_its_own_reply_whatever_is_lost(data: st.DataObject) -> None:
    """Random losses of calls and answers, random deaths, replies at once and later."""
    line = Line()
    mailbox = Mailbox(line, Answer, in_flight=data.draw(st.integers(1, 3)))
    for call in ("deliver", "drain"):
        for way in data.draw(st.lists(st.sampled_from(["request", "answer"]), max_size=4)):
            line.wire.fail(call, GONE, way=way)
    asked: list[asyncio.Future[Answer]] = []
    for step in data.draw(st.lists(st.sampled_from(["ask", "later", "answer", "die", "wait"]), max_size=15)):
        match step:
            case "ask" | "later":
                asked.append(mailbox.ask(Question(len(asked), later=step == "later")))
            case "answer":
                line.clerk.answer()
            case "die":
                line.revive()
            case _:
                await pass_time(0.3)
    while not all(future.done() for future in asked):
        await pass_time(0.5)
        line.clerk.answer()
    assert [future.result().n for future in asked] == list(range(len(asked)))
    await mailbox.close()


# ── what cannot be sent, and who no longer waits ────────────────────────────────────────────────────────


@virtual_time
async def test_a_batch_that_cannot_be_written_down_fails_its_askers_and_nobody_else() -> None:
    line = Line()
    mailbox = Mailbox(line, Answer, in_flight=1)
    gate = line.wire.stop("deliver")
    before = mailbox.ask(Question(1))
    await gate.reached.wait()
    lost = [mailbox.ask(Question(object())), mailbox.ask(Question(2))]
    gate.open()
    assert (await before).n == 1
    for future in lost:
        with pytest.raises(TypeError, match="object"):
            await future
    assert (await mailbox.ask(Question(3))).n == 3
    assert len(mailbox) == 0


@virtual_time
async def test_a_command_that_the_other_side_cannot_read_fails_its_askers_and_nobody_else() -> None:
    line = Line(Take)
    mailbox = Mailbox(line, Answer)
    with pytest.raises(msgspec.ValidationError):
        await mailbox.ask(Question("not a number"))
    assert (await mailbox.ask(Take(3))).n == 3


@pytest.mark.parametrize("give_up", [lambda ask: ask.cancel(), lambda ask: ask.set_result(0)], ids=["cancels", "says"])
@virtual_time
async def test_what_its_asker_has_given_up_is_not_taken_back_but_not_sent_again_either(give_up: Any) -> None:
    """Nothing of it stays: however long an actor is unreachable, and however many give up on it meanwhile."""
    line = Line()
    mailbox = Mailbox(line, Answer)
    gate = line.wire.stop("deliver")
    left, stayed = mailbox.ask(Question(1)), mailbox.ask(Question(2))
    give_up(left)
    await gate.reached.wait()
    gate.open()
    assert (await stayed).n == 2
    line.wire.fail("deliver", GONE, times=12_000)
    for n in range(100):
        asyncio.get_running_loop().call_later(1, give_up, mailbox.ask(Question(n)))
        await pass_time(1)
        assert len(mailbox) <= 3, "the newest, and nothing of former ones"
    await mailbox.ask(Question(3))
    assert ([question.n for question in line.clerk.came], len(mailbox)) == ([1, 2, 3], 0)


@virtual_time
async def test_closing_cancels_whoever_waits_and_ends_every_call() -> None:
    line = Line()
    mailbox = Mailbox(line, Answer, in_flight=1)
    later = mailbox.ask(Question(1, later=True))
    await idle()
    gate = line.wire.stop("deliver")
    under_way = mailbox.ask(Question(2))
    await gate.reached.wait()
    gathered = mailbox.ask(Question(3))
    await mailbox.close()
    assert [future.cancelled() for future in (later, under_way, gathered)] == [True] * 3
    calls = len(line.wire.calls)
    gate.open()
    line.clerk.answer()
    await pass_time(60)
    assert len(line.wire.calls) == calls
    assert len(mailbox) == 0
