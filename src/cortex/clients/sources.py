"""Files that are named here: those that the operator sees are named to it, the others are uploaded."""

from dataclasses import replace

from cortex.clients.job_request import JobOptions, Prepared, with_files, with_uploaded_files
from cortex.clients.local_files import absolute, is_local, longer_names, shares_files
from cortex.clients.operator_client import OperatorClient
from cortex.domain.source import FileSource


def prepare_files(operator: OperatorClient, job: JobOptions, source: FileSource) -> Prepared:
    """Prepare a request for files. Raises InvalidSubmission, and FilesError, where they would have to be uploaded."""
    here = [absolute(path) for path in source.paths if is_local(path)]
    source = replace(source, excludes=(*source.excludes, *longer_names(here)))
    if not here or shares_files(operator.info()):
        return with_files(job, source)
    # Here, because the readers of object stores take longer to import than most commands to run.
    from cortex.clients.listing import list_files

    upload, root = list_files(source)
    return with_uploaded_files(job, source, upload, root=root)
