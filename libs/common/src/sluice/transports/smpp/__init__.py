"""SMPP 3.4, the client side (ESME): sessions that submit texts to an operator's SMSC and receive receipts.

    async with SmppSession(config, handler) as session:
        await session.wait_bound()
        result = await session.submit(OutboundSms(...), timeout=30)

Modules: ``contract`` (the values that pass in and out), ``session`` (stays bound), ``connection`` (one connection),
``inbound`` (stores before acknowledging), ``transport`` (calls over a session), ``receipt``, ``encoding``, ``pdu``.
"""
