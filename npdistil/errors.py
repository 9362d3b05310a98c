"""The errors that users see. Each says what was found, what was expected, and what to do."""


class NpdistilError(Exception):
    """Base of every error that this package raises on purpose."""


class CheckpointError(NpdistilError):
    """A model directory, or a file in it, is not what it should be."""


class InputError(NpdistilError, ValueError):
    """A text, a list of token ids or a setting that the model cannot take."""


class EngineError(NpdistilError):
    """The engine that was asked for cannot run on this machine, or numbers that it computed are not finite."""


class MissingExtraError(NpdistilError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f'this needs {package}, which is not installed: pip install "npdistil[{extra}]"')

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:
        return MissingExtraError, (self.package, self.extra)
