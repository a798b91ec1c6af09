"""What makes the report: run the notebook, build the PDF, check the text."""


class ReportError(RuntimeError):
    """The report can not be made; the message says why, and where it helps what to do."""
