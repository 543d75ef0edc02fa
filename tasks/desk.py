"""The question for an approval on Prefect's pages: a paused flow run with a typed form.

It does what `prefect.pause_flow_run(wait_for_input=...)` does, piece by piece, because the run has to be
looked after while it waits, and because the answer may also come on another way. Whatever the server does,
whoever waits is not held up by it: it is asked in a thread.
"""

from __future__ import annotations

import logging
import secrets
import threading
from typing import Any, Literal, cast
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import SetStateStatus
from prefect.input import RunInput
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Paused, Running
from pydantic import Field, ValidationError

from ziggurat.stages.answering import Answer
from ziggurat.stages.approval import Question

log = logging.getLogger(__name__)

POLL_S = 2.0
"""Seconds between two looks whether the flow run has been resumed."""
JOIN_S = 10.0
HOW = "Prefect"


class ApprovalForm(RunInput):
    """What Prefect's pages ask for; empty fields leave the plan as it is."""

    decision: Literal["approve", "reject"] = Field(description="Whether it may go on.")
    k: int | None = Field(default=None, ge=1, le=1000, description="How many to retrain; empty: as planned.")
    drop: list[int] = Field(default_factory=list, description="Trials that are not to be retrained.")
    add_usd: float = Field(default=0.0, ge=0, description="US dollars by which the limit is raised.")
    comment: str = Field(default="", description="Kept in the journal.")
    name: str = Field(default="", description="Who decides, for the journal.")


class PrefectDesk:
    """Asks by pausing the flow run, and takes what the form was sent with."""

    def __init__(self) -> None:
        """Be about the flow run that calls."""
        self._id = UUID(str(runtime.flow_run.id))
        self._lock = threading.Lock()
        self._found: list[Answer] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def ask(self, question: Question, problem: str = "") -> None:
        """Pause, and look for the form in a thread."""
        self._question = question
        self._over.clear()
        self._thread = threading.Thread(target=self._wait, args=(problem,), name="approval", daemon=True)
        self._thread.start()

    def answers(self) -> list[Answer]:
        """What has been sent."""
        with self._lock:
            return list(self._found)

    def refuse(self, answer: Answer, problem: str) -> None:
        """Ask again, with what is wrong above the form."""
        if answer.how == HOW:
            self._join()
            self.ask(self._question, f"**{problem}**\n\n")

    def close(self, answer: Answer | None) -> None:
        """Let the flow run go on, also if the answer came on another way."""
        self._join()
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(self._id).state
                if state is not None and state.is_paused() and answer is not None:
                    client.set_flow_run_state(self._id, Running(message=f"answered by {answer.who}"))
        except Exception as error:  # noqa: BLE001 - the answer is in the journal, whatever a page shows
            log.warning("Prefect still shows the run as paused (%s)", error)

    def _join(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _wait(self, problem: str) -> None:
        try:
            keys = self._pause(problem)
            while not self._over.wait(POLL_S):
                with get_client(sync_client=True) as client:
                    state = client.read_flow_run(self._id).state
                if state is not None and state.is_running():
                    self._take(keys)
                    return
        except Exception as error:  # noqa: BLE001 - an answer may still come on the other way
            log.warning("Prefect does not take the question (%s); `ziggurat approve` answers it", error)

    def _pause(self, problem: str) -> Any:  # noqa: ANN401 - Prefect's keys
        state: State[Any] = Paused(pause_key=f"approval-{secrets.token_hex(4)}", reschedule=False)
        keys = keyset_from_paused_state(state)
        state.state_details.run_input_keyset = cast("dict[str, str]", keys)
        words = f"{problem}**{self._question.title}**\n\n{self._question.table()}\n"
        form = ApprovalForm.with_initial_data(description=words)
        form.save(keys, flow_run_id=self._id)  # before the pause: whoever sees it finds the form
        with get_client(sync_client=True) as client:
            done = client.set_flow_run_state(self._id, state)
        if done.status is not SetStateStatus.ACCEPT:
            raise RuntimeError(f"the run cannot be paused: {getattr(done.details, 'reason', done.status)}")
        return keys

    def _take(self, keys: Any) -> None:  # noqa: ANN401 - Prefect's keys
        try:
            sent = cast("ApprovalForm", ApprovalForm.load(keys, flow_run_id=self._id))
        except ValidationError:  # resumed without the form: money is not spent on a slip of the mouse
            self._wait("**The run was resumed without an answer; say whether it may go on.**\n\n")
            return
        answer = Answer(
            approve=sent.decision == "approve",
            k=sent.k,
            drop=tuple(sent.drop),
            add_usd=sent.add_usd,
            comment=sent.comment,
            who=sent.name or "somebody",
            how=HOW,
        )
        with self._lock:
            self._found.append(answer)
