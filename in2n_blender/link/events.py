"""What a queue of jobs is made of: jobs, the state, what can happen to it, what is to be done, and what is told of
it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..scene.errors import In2nError
from ..scene.reporting import Progress
from .request_fields import Request

STOPPED, STARTING, READY, ENDING = "stopped", "starting", "ready", "ending"  # phases of the worker process
OPENING, WAITING, WORKING = "opening", "waiting", "working"  # stages of the running job


# --- jobs and the state ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ThreadStep:
    """A step that needs no torch: work in a thread of this process, which the client keeps by the job's id.

    Attributes:
        without_engine: Whether no worker may run beside it, because it may have the files open.
    """

    without_engine: bool = False


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        id: Unique in its client.
        label: What the interface calls it.
        steps: What is done, one after another: a request for the engine, or a `ThreadStep`.
        workspace: The folder that is locked and whose journal is kept while it runs; "": none.
        resumable: Whether it is noted in the workspace, to be offered again where it does not come to its end.
        python: The interpreter of the engine that its requests want.
        after: The job that it follows, right behind, and with which it is dropped; None: it is wanted for itself.
    """

    id: int
    label: str = ""
    steps: tuple[Request | ThreadStep, ...] = ()
    workspace: str = ""
    resumable: bool = False
    python: str = ""
    after: int | None = None

    @property
    def requests(self) -> tuple[Request, ...]:
        """Its requests alone."""
        return tuple(step for step in self.steps if not isinstance(step, ThreadStep))

    @property
    def begins_in_engine(self) -> bool:
        return not isinstance(self.steps[0], ThreadStep)


@dataclass(frozen=True)
class Running:
    """The job whose turn it is. step: which of its steps is done now. killed: its worker was ended for its sake."""

    job: Job
    stage: str = OPENING
    step: int = 0
    cancelled_at: float | None = None
    killed: bool = False
    progress: Progress | None = None
    image: str | None = None  # the picture that it wrote last

    @property
    def cancelling(self) -> bool:
        return self.cancelled_at is not None

    @property
    def request(self) -> Request | None:
        """What it asks of the engine now; None while it works in a thread."""
        step = self.job.steps[self.step]
        return None if isinstance(step, ThreadStep) else step


@dataclass(frozen=True)
class State:
    """engine: phase of the worker process. python: its interpreter. since: when it began to start or to end, None: not
    yet known."""

    engine: str = STOPPED
    python: str = ""
    since: float | None = None
    running: Running | None = None
    queue: tuple[Job, ...] = ()

    @property
    def busy(self) -> bool:
        return self.running is not None or bool(self.queue)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs whose end has not been told, the running one first."""
        return ((self.running.job,) if self.running else ()) + self.queue


# --- events: what happened ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submit:
    """first: before those that wait already."""

    job: Job
    first: bool = False


@dataclass(frozen=True)
class Cancel:
    """job None: whatever runs and all that waits."""

    job: int | None
    now: float


@dataclass(frozen=True)
class Opened:
    """The job's workspace is locked and its journal begun."""

    job: Job


@dataclass(frozen=True)
class Refused:
    """The job's workspace could not be locked."""

    job: int
    error: In2nError


@dataclass(frozen=True)
class Message:
    """A line of the worker's: any object."""

    message: dict


@dataclass(frozen=True)
class NotStarted:
    """The worker's program could not be started. reason: the system's word for it."""

    reason: str


@dataclass(frozen=True)
class Exited:
    """The process ended. last_line: what it wrote last to stderr."""

    code: int
    last_line: str = ""


@dataclass(frozen=True)
class ThreadReported:
    job: int
    event: object


@dataclass(frozen=True)
class ThreadEnded:
    """Work in a thread ended. error None: with the result."""

    job: int
    result: object = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Tick:
    now: float


@dataclass(frozen=True)
class Release:
    """End the worker if no job uses it: its memory, the GPU's too, is free again."""


@dataclass(frozen=True)
class Stop:
    """The end of all: the running job is cancelled, nothing waits any more, the worker ends."""

    now: float


Event = (
    Submit | Cancel | Opened | Refused | Message | NotStarted | Exited | ThreadReported | ThreadEnded | Tick | Release
    | Stop
)  # fmt: skip


# --- effects: what to do --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StartProcess:
    """Start the worker and say hello; `NotStarted` follows where that fails."""

    python: str


@dataclass(frozen=True)
class Send:
    message: dict


@dataclass(frozen=True)
class CloseInput:
    """The worker ends by itself when its input ends; `Exited` follows."""


@dataclass(frozen=True)
class Kill:
    """End the worker at once; `Exited` follows."""


@dataclass(frozen=True)
class Open:
    """Lock the job's workspace and begin its journal; `Opened` or `Refused` follows."""

    job: Job


@dataclass(frozen=True)
class Note:
    """Write what the job reported into its journal."""

    job: Job
    event: object


@dataclass(frozen=True)
class Close:
    """Write into the journal how the job ended (None: well), and unlock the workspace."""

    job: Job
    error: BaseException | None


@dataclass(frozen=True)
class RunThread:
    """Start the work of this step of the job; `ThreadReported` and `ThreadEnded` follow."""

    job: Job
    step: int


@dataclass(frozen=True)
class CancelThread:
    job: Job
    step: int


@dataclass(frozen=True)
class Tell:
    """Hand an event to whoever polls."""

    event: object


# --- what whoever polls is told -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The worker answered. info: process id, versions."""

    info: dict = field(hash=False)


@dataclass(frozen=True)
class Started:
    """A job's turn has come."""

    job: int


@dataclass(frozen=True)
class Reported:
    """event: Progress, Artifact or str (a log line)."""

    job: int
    event: object


@dataclass(frozen=True)
class Finished:
    job: int
    result: object


@dataclass(frozen=True)
class Failed:
    """error: In2nError (a user can mend it), Cancelled, EngineBug, or what the work in a thread raised.

    dropped: the jobs that cannot be done without this one and were taken out of the queue; each gets its own Failed
    too.
    """

    job: int
    error: BaseException
    dropped: tuple[str, ...] = ()
