"""Every error we raise on purpose. Trouble is not here: trouble is a value in ``core``.

    GatewayError
    ├── ConfigMistakes      the config is wrong: exit 2, every mistake named
    ├── ImpossibleTurn      a state machine was told what cannot happen
    ├── KeysMissing         a store stands without its keys: refused, never re-made
    ├── StoreFull           no room on the disk or in the budget
    ├── StoreDamaged        a database cannot be read: set aside, a new one begun
    └── StoreBusy           the writer is too far behind

``STATUS`` maps each to (HTTP status, OperationOutcome issue code, words for a person).
"""

from typing import Final


class GatewayError(Exception):
    """Root of the tree."""


class ConfigMistakes(GatewayError):
    """One or more mistakes in a configuration, each ``file: key = value: rule``.

    The engineer's to mend. All are found in one pass, so nobody mends one to meet the next.
    """

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class ImpossibleTurn(GatewayError):
    """A state machine was told something that cannot happen from where it stands.

    Our mistake, never the network's, so never swallowed.
    """

    def __init__(self, subject: str, state: str, news: str) -> None:
        super().__init__(f"{subject}: {news} cannot follow {state}; set it aside")


class KeysMissing(GatewayError):
    """A store exists whose keys do not: restore the keys, or delete the store by hand."""


class StoreFull(GatewayError):
    """The disk, or the store's own budget, has no room."""


class StoreDamaged(GatewayError):
    """A database file cannot be opened or read as ours."""


class StoreBusy(GatewayError):
    """The writer's queue is full; nothing was written."""


STATUS: Final[dict[type[GatewayError], tuple[int, str, str]]] = {
    GatewayError: (500, "exception", "The gateway made a mistake; it has been logged."),
    ConfigMistakes: (500, "exception", "The gateway's configuration is wrong."),
    ImpossibleTurn: (500, "exception", "The gateway made a mistake; it has been logged."),
    KeysMissing: (503, "transient", "The stored copy cannot be opened: its keys are missing."),
    StoreFull: (503, "transient", "The gateway's disk is full."),
    StoreDamaged: (503, "transient", "The stored copy is damaged and has been set aside."),
    StoreBusy: (503, "transient", "The gateway is too busy to store this now."),
}
