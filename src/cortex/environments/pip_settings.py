"""pip's settings in uv's words.

A machine is usually told about its package index through pip, and uv reads none of that: without this translation an
environment would be built from another index, or not at all. Whatever uv has been told in its own variables wins.
"""

import configparser
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX", "UV_OFFLINE")


def uv_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Give the variables for a uv command: `variables`, with pip's settings added where uv's own say nothing.

    pip's settings are its variables (`PIP_INDEX_URL`, …) before its configuration files, as pip itself reads them.
    Folders that do not exist are left out: pip passes over them, uv would fail.
    """
    settings = _pip_settings(variables)
    translated: dict[str, str] = {}
    for setting, translate, winners in _TRANSLATIONS:
        if (value := settings.get(setting, "")) and not any(name in variables for name in winners):
            translated[winners[0]] = translate(value)
    if "UV_INDEX" in translated:
        # pip takes the best version that any index has; uv would stop at the first index that knows the name.
        translated.setdefault("UV_INDEX_STRATEGY", variables.get("UV_INDEX_STRATEGY", "unsafe-best-match"))
    return {**variables, **{name: value for name, value in translated.items() if value}}


def names_an_index(variables: Mapping[str, str]) -> bool:
    """Say whether these variables choose where packages come from, so that nothing else may be asked for them."""
    return any(variables.get(name) for name in _INDEXES)


def local_folder(location: str) -> Path | None:
    """Give the folder that a location of packages names, or None where it lies behind a network."""
    if "://" not in location:
        return Path(location).expanduser()
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def mask_passwords(text: str) -> str:
    """Hide the user and password of every URL in a text."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _pip_settings(variables: Mapping[str, str]) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    for file in _configuration_files(variables):
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip itself complains about it, to the person who can mend it
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update({_name(name): value for name, value in parser.items(section) if value})
    own = {_name(name[4:]): value for name, value in variables.items() if name.startswith("PIP_") and value}
    return settings | own


def _name(setting: str) -> str:
    return setting.lower().replace("_", "-")


def _configuration_files(variables: Mapping[str, str]) -> list[Path]:
    """List pip's configuration files, the last one winning."""
    chosen = variables.get("PIP_CONFIG_FILE")
    if chosen == "/dev/null":
        return []
    home = Path(variables.get("HOME") or Path.home())
    folders = variables.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    machine = [*(Path(folder, "pip/pip.conf") for folder in reversed(folders.split(":"))), Path("/etc/pip.conf")]
    user = [home / ".pip/pip.conf", Path(variables.get("XDG_CONFIG_HOME") or home / ".config", "pip/pip.conf")]
    if sys.platform == "darwin":
        machine.append(Path("/Library/Application Support/pip/pip.conf"))
        user.append(home / "Library/Application Support/pip/pip.conf")
    if chosen and Path(chosen).exists():
        user = []  # a chosen file stands in for the user's
    return [*machine, *user, Path(sys.prefix, "pip.conf"), *([Path(chosen)] if chosen else [])]


def _as_is(value: str) -> str:
    return value.strip()


def _separated_by(separator: str) -> Callable[[str], str]:
    return lambda value: separator.join(value.split())


def _existing(separator: str) -> Callable[[str], str]:
    def translate(value: str) -> str:
        locations = ((location, local_folder(location)) for location in value.split())
        kept = [(location, folder) for location, folder in locations if folder is None or folder.exists()]
        # uv runs in the project's folder, so a path is made absolute here.
        return separator.join(str(folder.absolute()) if folder else location for location, folder in kept)

    return translate


def _switch(value: str) -> str:
    return "1" if value.strip().lower() in {"1", "true", "yes", "on", "y", "t"} else ""


def _with_scheme(value: str) -> str:
    return value if "://" in value else f"http://{value}"


# pip's setting, its value in uv's form, and the variables that win over it: uv's name first.
_TRANSLATIONS: tuple[tuple[str, Callable[[str], str], tuple[str, ...]], ...] = (
    ("index-url", _as_is, ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("extra-index-url", _existing(" "), ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    ("find-links", _existing(","), ("UV_FIND_LINKS",)),
    ("no-index", _switch, ("UV_NO_INDEX",)),
    ("constraint", _separated_by(" "), ("UV_CONSTRAINT",)),
    ("trusted-host", _separated_by(" "), ("UV_INSECURE_HOST",)),
    ("cert", _as_is, ("SSL_CERT_FILE",)),
    ("proxy", _with_scheme, ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy")),
)
