"""Expected errors: printed at the terminal as one sentence with an exit code, never as a traceback."""


class SluiceError(Exception):
    """An expected error. Its message is one sentence that names the remedy where there is one."""

    def __init__(self, sentence: str, *, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
