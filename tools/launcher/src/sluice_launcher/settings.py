"""The launcher's settings, read once from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice.runtime.paths import deploy_dir
from sluice.store.logins import read_passwords
from sluice_launcher.roles import ADDRESS_SETTINGS, SERVICES, default_ports, port_setting

TRUE_WORDS = {"1", "true", "yes", "on"}
FALSE_WORDS = {"", "0", "false", "no", "off"}


@dataclass(frozen=True, slots=True)
class LauncherSettings:
    """Directories, ports and programs of a local stack."""

    data_dir: Path
    cache_dir: Path
    encryption_key_file: Path
    ports: Mapping[str, int]  # 0: any free one
    external: Mapping[str, str]  # service -> address of one that the launcher does not start
    search_path: str
    passwords: Mapping[str, str] = field(default_factory=dict)  # of logins in PostgreSQL; a missing one is generated
    java: str | None = None
    maven_mirror: str | None = None
    unsafe_fast_database: bool = False
    role_memory_limit: int | None = None  # bytes
    postgres_pool_size: int = 8


def read_settings(environment: Mapping[str, str]) -> LauncherSettings:
    """Read the settings.

    Raises:
        SluiceError: a variable has no valid value; it is named.
    """
    data_dir = _directory(environment, "SLUICE_DATA_DIR") or _beside_the_checkout() / ".sluice"
    return LauncherSettings(
        data_dir=data_dir,
        cache_dir=_directory(environment, "SLUICE_CACHE_DIR") or _user_cache(environment) / "sluice",
        encryption_key_file=_directory(environment, "SLUICE_ENCRYPTION_KEY_FILE") or data_dir / "credentials.key",
        ports=_ports(environment),
        external={name: environment[key] for name in SERVICES if environment.get(key := ADDRESS_SETTINGS[name])},
        search_path=environment.get("PATH", ""),
        passwords=read_passwords(environment),
        java=environment.get("SLUICE_JAVA") or None,
        maven_mirror=environment.get("SLUICE_MAVEN_MIRROR") or None,
        unsafe_fast_database=_flag(environment, "SLUICE_UNSAFE_FAST_DATABASE"),
        role_memory_limit=_memory_limit(environment),
        postgres_pool_size=_pool_size(environment),
    )


def _beside_the_checkout() -> Path:
    try:
        return deploy_dir().parent
    except SluiceError:
        return Path.cwd()


def _user_cache(environment: Mapping[str, str]) -> Path:
    named = environment.get("XDG_CACHE_HOME")
    return Path(named) if named else Path(environment.get("HOME") or Path.home()) / ".cache"


def _directory(environment: Mapping[str, str], name: str) -> Path | None:
    value = environment.get(name)
    return Path(value).expanduser().absolute() if value else None


def _ports(environment: Mapping[str, str]) -> dict[str, int]:
    ports = {name: _port(environment, port_setting(name), default) for name, default in default_ports().items()}
    _refuse_one_port_twice(ports)
    return ports


def _refuse_one_port_twice(ports: Mapping[str, int]) -> None:
    holders: dict[int, str] = {}
    for name, port in ports.items():
        other = holders.setdefault(port, name) if port else name
        if other != name:
            raise SluiceError(f"{port_setting(other)} and {port_setting(name)} are both {port}: give each its own port")


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name) or str(default)
    if not value.isdecimal() or int(value) > 65535:
        raise SluiceError(f"{name} is {value!r}: it must be a port number, or 0 for any free one")
    return int(value)


def _memory_limit(environment: Mapping[str, str]) -> int | None:
    value = environment.get("SLUICE_ROLE_MEMORY_LIMIT") or "1024"
    if not value.isdecimal() or 0 < int(value) < 128:
        raise SluiceError(
            f"SLUICE_ROLE_MEMORY_LIMIT is {value!r}: it must be a number of MiB from 128, or 0 for no limit"
        )
    return (int(value) << 20) or None


def _pool_size(environment: Mapping[str, str]) -> int:
    value = environment.get("SLUICE_POSTGRES_POOL_SIZE") or "8"
    if not value.isdecimal() or not 1 <= int(value) <= 200:
        raise SluiceError(f"SLUICE_POSTGRES_POOL_SIZE is {value!r}: it must be a number from 1 to 200")
    return int(value)


def _flag(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").lower()
    if value not in TRUE_WORDS | FALSE_WORDS:
        raise SluiceError(f"{name} is {value!r}: it must be 1 or 0")
    return value in TRUE_WORDS
