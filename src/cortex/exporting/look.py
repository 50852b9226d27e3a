"""Looking whether results can be written where a submission wants them, before there is a Job."""

from cortex.domain.errors import FilesError
from cortex.domain.output import Output
from cortex.exporting.events import Checked, Refused
from cortex.files.files import Files

_PROBE = ".cortex-probe"


def check(files: Files, output: Output) -> Checked | Refused:
    """Write an empty file, and remove it again; say what is wrong and what to change where that fails."""
    probe = f"{output.path.rstrip('/')}/{_PROBE}"
    try:
        files.write(probe, b"")
        files.remove(probe)
    except FilesError as error:
        message = error.message.replace(f"`{probe}`", f"`{output.path}`")
        return Refused(message=f"results.path: {message}", hint=error.hint)
    return Checked()
