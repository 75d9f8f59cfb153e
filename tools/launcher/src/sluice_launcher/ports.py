"""Selects ports: the configured ones, or free ones; a port in use is an error that names its owner."""

from collections.abc import Collection, Mapping

from sluice.runtime.errors import SluiceError
from sluice_launcher.process_info import free_port, port_is_free, port_owner
from sluice_launcher.roles import ops_name, port_setting, role


def choose_ports(wanted: Mapping[str, int], own: Collection[str], roles: Collection[str]) -> dict[str, int]:
    """The port of each own service and role.

    Raises:
        SluiceError: a configured port is in use.
    """
    controller = ["kafka-controller"] if "kafka" in own else []
    ops = [ops_name(name) for name in roles if role(name).ops_port is not None]
    names = [*own, *controller, *roles, *ops]
    chosen: dict[str, int] = {}
    for name in names:
        port = wanted[name]
        while not port or port in chosen.values():
            port = free_port()
        chosen[name] = port
    for name, port in chosen.items():
        if not port_is_free(port):
            raise SluiceError(_port_in_use(name, port))
    return chosen


def _port_in_use(name: str, port: int) -> str:
    holder = port_owner(port)
    by = f" by {holder}" if holder else ""
    return f"port {port}, which {name} needs, is in use{by}: stop it, or set another in {port_setting(name)}"
