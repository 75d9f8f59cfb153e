"""A real Postfix on loopback ports, with its own configuration, queue and mailboxes; nothing is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice_launcher.process_info import free_port
from tests.debian import PackageMissingError, unpack
from tests.transports.conftest import Certificate

DOMAIN = "far.example"
MAILBOXES = tuple(f"{name}@{DOMAIN}" for name in ("ana", "ben", "eve", "grey", *(f"r{n}" for n in range(9))))
UNKNOWN = f"unknown@{DOMAIN}"  # has no mailbox
_START = 20.0  # seconds
_OWNER, _GROUP = "daemon", "mail"  # on every Debian and Ubuntu
_MAILBOX_ID = 65534  # the user without rights


class PostfixMissingError(Exception):
    """This machine cannot run Postfix; the text is the reason."""


@dataclass(frozen=True)
class Programs:
    """Where Postfix's programs and libraries lie."""

    daemons: Path
    commands: Path
    libraries: Path


def find_programs(folder: Path) -> Programs:
    """The installed Postfix, or the distribution's package unpacked into ``folder``.

    Raises:
        PostfixMissingError: there is neither, or this process is not root's.
    """
    if os.geteuid() != 0:
        raise PostfixMissingError("Postfix needs root")
    installed = Path("/usr/lib/postfix")
    if (installed / "sbin/master").exists():
        return Programs(installed / "sbin", Path("/usr/sbin"), installed)
    try:
        root = unpack("postfix", folder) / "usr"
    except PackageMissingError as error:
        raise PostfixMissingError(str(error)) from error
    return Programs(root / "lib/postfix/sbin", root / "sbin", root / "lib/postfix")


@dataclass(frozen=True)
class Postfix:
    """A running Postfix. ``ports``: by the name of the service."""

    folder: Path
    ports: Mapping[str, int]

    def mails(self, recipient: str) -> list[bytes]:
        """What lies in the mailbox of ``recipient``, oldest first; the headers that Postfix adds are among it."""
        new = self.folder / "mailboxes" / recipient / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def log(self) -> str:
        """Everything that Postfix has logged."""
        return (self.folder / "postfix.log").read_text(errors="replace")


@contextmanager
def running(programs: Programs, folder: Path, certificate: Certificate, *, policy: int, auth: int) -> Iterator[Postfix]:
    """Postfix until the block ends, one port for each of :func:`_services`.

    ``policy``, ``auth``: ports of a policy server and of an authentication server.
    """
    ports = {name: free_port() for name in _services(certificate, policy=policy, auth=auth)}
    _prepare(programs, folder, ports, _services(certificate, policy=policy, auth=auth))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(programs.libraries), "MAIL_CONFIG": str(folder / "etc")}
    output = (folder / "master.out").open("wb")
    master = subprocess.Popen(
        [programs.daemons / "master", "-c", folder / "etc", "-d"], env=environment, stdout=output, stderr=output
    )
    postfix = Postfix(folder, ports)
    try:
        _wait_until_ready(postfix, master)
        yield postfix
    finally:
        master.terminate()  # and it ends its children
        master.wait(timeout=20)
        output.close()


def _services(certificate: Certificate, *, policy: int, auth: int) -> dict[str, dict[str, str]]:
    """The settings of each SMTP service, which differ from the ones of all."""
    return {
        "plain": {},
        "submission": {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_chain_files": f"{certificate.file.parent / 'key.pem'},{certificate.file}",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"inet:127.0.0.1:{auth}",
            "smtpd_tls_auth_only": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
        },
        "three_recipients": {"smtpd_recipient_limit": "3"},
        "small": {"message_size_limit": "3000"},
        "strict_helo": {
            "smtpd_helo_required": "yes",
            "smtpd_helo_restrictions": "reject_invalid_helo_hostname,reject_non_fqdn_helo_hostname",
        },
        "greylisting": {
            "smtpd_recipient_restrictions": f"reject_unauth_destination,check_policy_service,inet:127.0.0.1:{policy}"
        },
    }


def _prepare(
    programs: Programs, folder: Path, ports: Mapping[str, int], services: Mapping[str, Mapping[str, str]]
) -> None:
    etc = folder / "etc"
    for name in ("etc", "queue", "data", "mailboxes"):
        (folder / name).mkdir(parents=True)
    for path in (folder, *folder.parents):  # the daemons run as other users
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "incoming", "private", "saved", "trace"):
        _make(folder / "queue" / name, _OWNER, 0o700)
    for name in ("maildrop", "public"):
        _make(folder / "queue" / name, _OWNER, 0o730 if name == "maildrop" else 0o710)
    _make(folder / "queue/pid", "root", 0o755)
    shutil.chown(folder / "data", _OWNER)
    shutil.chown(folder / "mailboxes", _MAILBOX_ID)
    (etc / "mailboxes").write_text("".join(f"{address} {address}/\n" for address in MAILBOXES))
    (etc / "main.cf").write_text(_main(programs, folder))
    (etc / "master.cf").write_text(_master(ports, services))


def _make(path: Path, owner: str, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    shutil.chown(path, owner)


def _main(programs: Programs, folder: Path) -> str:
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": folder / "queue",
        "data_directory": folder / "data",
        "daemon_directory": programs.daemons,
        "command_directory": programs.commands,
        "shlib_directory": programs.libraries,
        "meta_directory": folder / "etc",
        "mail_owner": _OWNER,
        "setgid_group": _GROUP,
        "default_privs": pwd.getpwuid(_MAILBOX_ID).pw_name,
        "import_environment": f"MAIL_CONFIG LD_LIBRARY_PATH={programs.libraries}",
        "maillog_file": folder / "postfix.log",
        "maillog_file_prefixes": folder,
        "myhostname": f"mx.{DOMAIN}",
        "mydestination": "",
        "mynetworks": "",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "local_recipient_maps": "",
        "alias_maps": "",
        "alias_database": "",
        "virtual_mailbox_domains": DOMAIN,
        "virtual_mailbox_base": folder / "mailboxes",
        "virtual_mailbox_maps": f"texthash:{folder / 'etc/mailboxes'}",
        "virtual_uid_maps": f"static:{_MAILBOX_ID}",
        "virtual_gid_maps": f"static:{_MAILBOX_ID}",
        "virtual_minimum_uid": "100",
        "smtpd_client_restrictions": "",
        "smtpd_peername_lookup": "no",
        "smtpd_relay_restrictions": "reject_unauth_destination",
        "disable_dns_lookups": "yes",
        "smtputf8_enable": "no",
        "in_flow_delay": "0",
    }
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def _master(ports: Mapping[str, int], services: Mapping[str, Mapping[str, str]]) -> str:
    lines = []
    for name, port in ports.items():
        lines.append(f"127.0.0.1:{port} inet n - n - - smtpd")
        lines += [f"  -o {{ {setting} = {value} }}" for setting, value in services[name].items()]
    lines += [
        "cleanup unix n - n - 0 cleanup",
        "qmgr unix n - n 300 1 qmgr",
        "tlsmgr unix - - n 1000? 1 tlsmgr",
        "rewrite unix - - n - - trivial-rewrite",
        "bounce unix - - n - 0 bounce",
        "defer unix - - n - 0 bounce",
        "trace unix - - n - 0 bounce",
        "proxymap unix - - n - - proxymap",
        "error unix - - n - - error",
        "virtual unix - n n - - virtual",
        "anvil unix - - n - 1 anvil",
        "postlog unix-dgram n - n - 1 postlogd",
    ]
    return "\n".join(lines) + "\n"


def _wait_until_ready(postfix: Postfix, master: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and master.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", postfix.ports["plain"]), timeout=5) as client:
                if client.recv(100).startswith(b"220 "):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    log = postfix.folder / "postfix.log"
    texts = [path.read_text(errors="replace") for path in (postfix.folder / "master.out", log) if path.exists()]
    raise AssertionError("Postfix does not answer: " + "\n".join(texts)[-2000:])
