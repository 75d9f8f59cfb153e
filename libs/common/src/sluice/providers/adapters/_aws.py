"""What the packages of AWS share: an access key in a region, and the topics that their receipts come through."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from sluice.providers.contract import Credentials
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret
from sluice.providers.kit.sigv4 import AwsKey
from sluice.providers.kit.sns_envelope import TOPIC_ARN

_DOMAINS = {"cn": "amazonaws.com.cn", "eusc": "amazonaws.eu"}  # by the beginning of the region


class AwsAccount(Credentials):
    """An access key in a region."""

    access_key_id: str = Field(alias="accessKeyId", pattern=r"^[A-Za-z0-9_]{5,128}$", title="Access key ID")
    secret_access_key: SecretStr = Field(alias="secretAccessKey", title="Secret access key")
    session_token: HeaderSecret | None = Field(default=None, alias="sessionToken", title="Session token")
    region: str = Field(pattern=r"^[a-z]{2,8}(-[a-z]{1,12}){1,3}-[0-9]{1,2}$", title="Region")
    base_url: str | None = Field(default=None, alias="baseUrl", pattern=BASE_URL, title="Address")
    topic_arns: tuple[Annotated[str, StringConstraints(pattern=TOPIC_ARN)], ...] = Field(
        default=(), alias="topicArns", max_length=20, title="Topics whose notifications are believed"
    )

    @property
    def key(self) -> AwsKey:
        """What signs requests."""
        return AwsKey(self.access_key_id, self.secret_access_key, self.session_token)

    def address_of(self, host: str) -> str:
        """The configured address, else that of the service in the region, in its partition."""
        domain = _DOMAINS.get(self.region.partition("-")[0], "amazonaws.com")
        return self.base_url or f"https://{host}.{self.region}.{domain}"
