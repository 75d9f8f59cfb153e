"""Lines of a call log that belong to one call: transactions of one mail, and recipients that were refused."""

import pytest

from sluice_cli.verification import Call, merge_transactions
from tests.examples import NOON, after


def a_call(recipient="a", *, accepted=True, reference="att_1", endpoint="smtp", at=NOON):
    return Call(reference, at, accepted, endpoint, recipient, False)


@pytest.mark.parametrize(
    ("lines", "calls", "accepted"),
    [
        ([a_call()], 1, 1),
        ([a_call("b", accepted=False), a_call("a")], 1, 1),
        ([a_call("a"), a_call("d"), a_call("g")], 1, 1),
        ([a_call("b", accepted=False), a_call("c", accepted=False)], 1, 0),
        # the same recipient again, another attempt or another provider is another call
        ([a_call("a"), a_call("a")], 2, 2),
        ([a_call("a"), a_call("d"), a_call("a"), a_call("d")], 2, 2),
        ([a_call("a"), a_call("a", reference="att_2")], 2, 2),
        ([a_call("a"), a_call("a", endpoint="resend")], 2, 2),
        ([a_call(None, accepted=False), a_call(None, accepted=False)], 2, 0),
    ],
)
def test_transactions_of_one_mail_are_one_call(lines, calls, accepted):
    merged = merge_transactions(lines)

    assert (len(merged), sum(call.accepted for call in merged)) == (calls, accepted)


def test_a_call_is_as_old_as_its_accepted_line():
    merged = merge_transactions([a_call("b", accepted=False, at=NOON), a_call("a", at=after(1))])

    assert [call.occurred_at for call in merged] == [after(1)]
