"""Selects ports: the configured ones, or free ones; a port in use is an error that names its owner."""

from collections.abc import Collection, Mapping

from sluice.runtime.errors import SluiceError
from sluice_launcher.process_info import free_port, port_is_free, port_owner
from sluice_launcher.roles import ops_name, port_setting, role
from sluice_launcher.scaling import process_names


def choose_ports(
    wanted: Mapping[str, int],
    own: Collection[str],
    roles: Collection[str],
    scale: Mapping[str, int] | None = None,
    *,
    taken: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The port of each own service and of each process of a role.

    ``taken``: ports that a running system uses already; they stay.

    Raises:
        SluiceError: a configured port is in use.
    """
    controller = ["kafka-controller"] if "kafka" in own else []
    processes = {process: name for name in roles for process in process_names(scale or {}, name)}
    ops = [ops_name(process) for process, name in processes.items() if role(name).ops_port is not None]
    names = [*own, *controller, *processes, *ops]
    chosen: dict[str, int] = {}
    for name in names:
        port = wanted.get(name, 0)  # a further process of a role has no setting
        while not port or port in chosen.values():
            port = free_port()
        chosen[name] = port
    for name, port in chosen.items():
        if (taken or {}).get(name) != port and not port_is_free(port):
            raise SluiceError(_port_in_use(name, port))
    return chosen


def ephemeral_ports(ports: Mapping[str, int], outgoing: Collection[int]) -> list[str]:
    """A sentence for each port that outgoing connections may take while its server is stopped; none is chosen so."""
    return [
        f"port {port}, which {name} has, may be taken by an outgoing connection while {name} is stopped, and {name} "
        f"cannot start then: set one below {min(outgoing)} in {port_setting(name)}"
        for name, port in ports.items()
        if port in outgoing
    ]


def _port_in_use(name: str, port: int) -> str:
    holder = port_owner(port)
    by = f" by {holder}" if holder else ""
    return f"port {port}, which {name} needs, is in use{by}: stop it, or set another in {port_setting(name)}"
