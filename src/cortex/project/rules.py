"""What a project may be: kept by the client so that it can say so early, and by the operator because it must."""

MAX_BYTES = 512 * 1024 * 1024
MAX_FILES = 10_000
MAX_PATH_BYTES = 1000
MAX_NAME_BYTES = 255


def find_path_problem(path: str) -> str | None:
    """Say why this cannot be the path of a file in a project, or None if it can."""
    parts = path.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "its name is not valid Unicode"
    if any(letter < " " or "\x7f" <= letter < "\xa0" for letter in path):
        return "its name has control characters"
    if "\\" in path:
        return "its name has a backslash"
    if path.startswith("/") or (len(path) > 1 and path[1] == ":"):
        return "its path is not relative"
    if {"", ".", ".."} & set(parts):
        return "its path has an empty part, `.` or `..`"
    if max(sizes) > MAX_NAME_BYTES or sum(sizes) + len(parts) > MAX_PATH_BYTES:
        return f"its path is too long (at most {MAX_PATH_BYTES} bytes, {MAX_NAME_BYTES} for each part)"
    return None


def in_mebibytes(size: int) -> str:
    """Write a size for people: "12.5 MiB"."""
    return f"{size / 2**20:.1f} MiB"
