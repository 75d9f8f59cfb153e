"""The class of every command_status, written a second time."""

from __future__ import annotations

import pytest

from sluice.providers.kit.smpp_status import STATUSES, StatusClass, status_class, status_name

CLASSES = {
    StatusClass.RECIPIENT_REJECTED: [0x0B],
    StatusClass.DECLINED: [
        0x01, 0x02, 0x03, 0x06, 0x07, 0x0A, 0x33, 0x34, 0x40, 0x42, 0x43, 0x44, 0x50, 0x51, 0x54, 0x55, 0x61, 0x62,
        0x63, 0x65, 0x66, 0xFE, *range(0x104, 0x113),
    ],
    StatusClass.THROTTLED: [0x14, 0x58],
    StatusClass.AUTH_FAILED: [
        0x05, 0x0D, 0x0E, 0x0F, 0x15, 0x48, 0x49, 0x53, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0x100, 0x101, 0x103,
    ],
    StatusClass.PROVIDER_FAULT: [
        0x04, 0x08, 0x0C, 0x11, 0x13, 0x45, 0x64, 0x67, 0xFF, 0x102,
        0x09, 0x10, 0x113, 0x400, 0x4FF, 0xFFFFFFFF,  # reserved, of vendors
    ],
}  # fmt: skip


@pytest.mark.parametrize(("expected", "status"), [(key, each) for key, all_of in CLASSES.items() for each in all_of])
def test_classes(expected: StatusClass, status: int):
    assert status_class(status) is expected


def test_every_status_of_the_table_is_tested():
    assert set(STATUSES) <= {status for statuses in CLASSES.values() for status in statuses}


def test_a_connection_overrides_a_class():
    overrides = {0x400: StatusClass.THROTTLED, 0x105: StatusClass.AUTH_FAILED}

    assert status_class(0x400, overrides) is StatusClass.THROTTLED
    assert status_class(0x105, overrides) is StatusClass.AUTH_FAILED
    assert status_class(0x401, overrides) is StatusClass.PROVIDER_FAULT


def test_names():
    assert status_name(0x58) == "ESME_RTHROTTLED (0x58)"
    assert status_name(0x400) == "command_status (0x400)"
    assert len({name for name, _ in STATUSES.values()}) == len(STATUSES)
