"""Every exception this package raises.

HarnessError
├── UserError                 the user's mistake; exit code 2
│   ├── TaskError             a task file or an override is wrong
│   ├── UnknownKind           no explainer, scorer, coder or provider of that name
│   ├── MissingDependency     an optional package is not installed
│   ├── MissingKey            an API key is not set
│   ├── SubjectError          the subject model is missing or cannot be loaded
│   ├── CorpusError           a corpus is missing, empty or too short
│   ├── HookpointError        the model has no such module
│   ├── CoderError            a coder's files are missing, broken or do not fit
│   ├── StoreError            a store is missing, broken or does not fit
│   ├── FormatError           a file of another project is missing, broken or of no known format
│   ├── PromptError           a prompt variant is missing or wrong
│   └── RunError              a run directory is missing, in use or unreadable
├── ClientError               a model could not be asked
│   ├── TransientError        trying again may help
│   │   ├── RateLimited
│   │   ├── Overloaded
│   │   ├── TimedOut
│   │   ├── ConnectionFailed
│   │   └── Expired           a batch's time was over before the request's turn
│   ├── Drained               the run is stopping; the request was not sent
│   │   └── Waiting           the request goes by batch; its reply comes in a later run
│   └── PermanentError        trying again will not help
│       ├── BadRequest
│       ├── ContextTooLong
│       ├── MissingLogprobs   the reply lacks logprobs that were asked for
│       ├── Refused           the provider declined to answer
│       └── RunEnding         nothing more can be asked; stops the run, which can be resumed
│           ├── OverBudget    it might cost more than may still be spent
│           ├── Starved       no reply came for too long
│           └── AccountError  no request of this account can succeed
│               ├── AuthenticationFailed
│               └── QuotaExhausted
└── RunStopped                stopped by provider or budget, resumable; exit code 3
"""

from __future__ import annotations

__all__ = [
    "AccountError",
    "AuthenticationFailed",
    "BadRequest",
    "ClientError",
    "CoderError",
    "ConnectionFailed",
    "ContextTooLong",
    "CorpusError",
    "Drained",
    "Expired",
    "FormatError",
    "HarnessError",
    "HookpointError",
    "MissingDependency",
    "MissingKey",
    "MissingLogprobs",
    "OverBudget",
    "Overloaded",
    "PermanentError",
    "PromptError",
    "QuotaExhausted",
    "RateLimited",
    "Refused",
    "RunEnding",
    "RunError",
    "RunStopped",
    "Starved",
    "StoreError",
    "SubjectError",
    "TaskError",
    "TimedOut",
    "TransientError",
    "UnknownKind",
    "UserError",
    "Waiting",
]


class HarnessError(Exception):
    """The root of all exceptions raised on purpose by this package."""


class UserError(HarnessError):
    """The user's mistake, in one sentence that says what would be right."""


class TaskError(UserError):
    """A task file or an override is wrong; the message names the file and the key."""


class UnknownKind(UserError):
    """No explainer, scorer, coder or provider of that name is registered."""


class MissingDependency(UserError):
    """An optional package is not installed; the message names it."""


class MissingKey(UserError):
    """An API key is not set; the message names the environment variable."""


class SubjectError(UserError):
    """The subject model is missing, broken or cannot be loaded; the message names its path or id."""


class CorpusError(UserError):
    """A corpus is missing, empty, malformed or shorter than one context."""


class HookpointError(UserError):
    """The model has no module of that path; the message names near matches."""


class CoderError(UserError):
    """A coder's files are missing, broken or do not fit the subject."""


class StoreError(UserError):
    """A store is missing, broken, newer than this version or does not fit the task."""


class FormatError(UserError):
    """A file that another project writes is missing, broken or of no known format; the message names it."""


class PromptError(UserError):
    """A prompt variant is missing or wrong; the message names the file."""


class RunError(UserError):
    """A run directory is missing, in use by another process or unreadable."""


class ClientError(HarnessError):
    """A model could not be asked, or did not answer.

    `model` is the model's name in the task, `status` the HTTP status where there was one. Messages hold no
    API key: whatever a provider sent back is redacted before it gets here. `billed` says whether the provider may
    charge for the attempt: it does for what it generated, also where that never arrived.
    """

    billed: bool = False

    def __init__(
        self, message: str, *, model: str = "", status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.model = model
        self.status = status
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message,), self.__dict__)


class TransientError(ClientError):
    """Trying again may help; `retry_after` is the wait the provider asked for, in seconds."""

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, model=model, status=status, request_id=request_id)
        self.retry_after = retry_after


class RateLimited(TransientError):
    """The provider asks for fewer requests."""


class Overloaded(TransientError):
    """The provider failed on its own side (HTTP 5xx)."""


class TimedOut(TransientError):
    """No reply came in time; whether the request was billed is not known."""

    billed = True


class ConnectionFailed(TransientError):
    """The connection could not be made or broke."""

    billed = True


class Expired(TransientError):
    """A batch's time was over before the request's turn; it was not billed."""


class Drained(ClientError):
    """The run is stopping and asks nothing new; the request was not sent."""


class Waiting(Drained):
    """The request goes by batch: it is written down or out already, and its reply comes with a later collection."""


class PermanentError(ClientError):
    """Trying the same request again will not help."""


class BadRequest(PermanentError):
    """The provider does not accept the request."""


class ContextTooLong(PermanentError):
    """The prompt does not fit the model's context."""


class MissingLogprobs(PermanentError):
    """Logprobs were asked for and the reply has none."""


class Refused(PermanentError):
    """The provider declined to answer (a content filter)."""


class RunEnding(PermanentError):
    """Nothing more can be asked; the run stops and can be resumed."""


class OverBudget(RunEnding):
    """The request might cost more than may still be spent; it was not sent."""


class Starved(RunEnding):
    """Replies were wanted, and none came for longer than anybody's patience."""


class AccountError(RunEnding):
    """No request of this account can succeed."""


class AuthenticationFailed(AccountError):
    """The API key is not accepted."""


class QuotaExhausted(AccountError):
    """The account has no credit left."""


class RunStopped(HarnessError):
    """The run was stopped by a provider or the budget; what was paid for is kept, and it can be resumed."""
