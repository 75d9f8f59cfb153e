"""What is explained to the person at the terminal: one sentence and an exit code, never a traceback."""


class SluiceError(Exception):
    """An expected fault. Its message is one clear sentence that names the remedy where there is one."""

    def __init__(self, sentence: str, *, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
