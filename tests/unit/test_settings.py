"""Settings: an error is one sentence that names the variable."""

import base64
import os
import stat

import pytest

from gateway.settings import GatewaySettings
from health.app import HealthSettings
from router.recovery import RecoverySettings
from sluice.delivery.settings import WorkerSettings
from sluice.runtime import settings
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import EncryptionSettings, Settings, load
from sms_worker.app import SmsWorkerSettings

SECRET = "canary-secret-in-the-environment"


@pytest.fixture
def environment(monkeypatch):
    """The environment with the two variables that every role needs."""
    monkeypatch.setenv("SLUICE_POSTGRES_DSN", "postgresql://localhost/sluice")
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    for name in ("SLUICE_ENCRYPTION_KEY", "SLUICE_ENCRYPTION_KEY_FILE", "SLUICE_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def error_of(kind):
    with pytest.raises(SluiceError) as caught:
        load(kind)
    return str(caught.value)


def test_a_missing_setting_is_named(environment):
    environment.delenv("SLUICE_POSTGRES_DSN")

    assert error_of(Settings) == "invalid settings: SLUICE_POSTGRES_DSN: is not set"


def test_two_missing_settings_are_both_named(environment):
    environment.delenv("SLUICE_POSTGRES_DSN")
    environment.delenv("SLUICE_KAFKA_BOOTSTRAP_SERVERS")

    sentence = error_of(Settings)

    assert "SLUICE_POSTGRES_DSN: is not set" in sentence
    assert "SLUICE_KAFKA_BOOTSTRAP_SERVERS: is not set" in sentence


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (Settings, "SLUICE_PORT", "eighty"),
        (Settings, "SLUICE_PORT", "65536"),
        (Settings, "SLUICE_POSTGRES_POOL_SIZE", "0"),
        (Settings, "SLUICE_SHUTDOWN_TIMEOUT", "-1"),
        (Settings, "SLUICE_SHUTDOWN_TIMEOUT", "nan"),
        (RecoverySettings, "SLUICE_ATTEMPT_LEASE", "soon"),
        (RecoverySettings, "SLUICE_ATTEMPT_LEASE", "nan"),
        (RecoverySettings, "SLUICE_ATTEMPT_LEASE", "1"),  # shorter than a call
        (RecoverySettings, "SLUICE_REQUEUE_AFTER", "inf"),
        (RecoverySettings, "SLUICE_RETRY_SCHEDULE", "5,30"),
        (RecoverySettings, "SLUICE_RETRY_SCHEDULE", "[5, -30]"),
        (RecoverySettings, "SLUICE_RETRY_SCHEDULE", "[5, NaN]"),
        (RecoverySettings, "SLUICE_RECOVERY_INTERVAL", "0"),
        (WorkerSettings, "SLUICE_PROVIDER_CONCURRENCY", "0"),
        (WorkerSettings, "SLUICE_HTTP_TIMEOUT", ""),
        (GatewaySettings, "SLUICE_MAX_REQUEST_BYTES", "25 MB"),
        (HealthSettings, "SLUICE_HEALTH_THRESHOLDS", "low"),
        (HealthSettings, "SLUICE_HEALTH_THRESHOLDS", '{"half_life": 0}'),
        (HealthSettings, "SLUICE_HEALTH_THRESHOLDS", '{"half_live": 30}'),
        (HealthSettings, "SLUICE_HEALTH_SEED_THRESHOLDS", '{"window": 0}'),
        (HealthSettings, "SLUICE_HEALTH_SEED_THRESHOLDS", '{"half_life": 30}'),
        (SmsWorkerSettings, "SLUICE_SMS_WORKER_CHANNELS", "sms"),
        (SmsWorkerSettings, "SLUICE_SMS_WORKER_CHANNELS", '["pigeon"]'),
    ],
)
def test_an_invalid_setting_is_named_in_one_sentence(environment, kind, name, text):
    environment.setenv(name, text)

    sentence = error_of(kind)

    assert name in sentence
    assert "\n" not in sentence


def test_an_error_does_not_contain_the_key(environment):
    environment.setenv("SLUICE_ENCRYPTION_KEY", SECRET)

    with pytest.raises(SluiceError) as caught:
        load(EncryptionSettings).read_encryption_keys()

    assert SECRET not in str(caught.value)
    assert "SLUICE_ENCRYPTION_KEY" in str(caught.value)


def test_a_missing_key_is_an_error_that_names_its_variable(environment):
    with pytest.raises(SluiceError, match="SLUICE_ENCRYPTION_KEY_FILE"):
        load(EncryptionSettings).read_encryption_keys()


def test_a_key_file_is_read(environment, tmp_path):
    path = tmp_path / "key"
    path.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    path.chmod(0o600)
    environment.setenv("SLUICE_ENCRYPTION_KEY_FILE", str(path))

    assert load(EncryptionSettings).read_encryption_keys() == [bytes(range(32))]


@pytest.mark.parametrize("separator", [",", " ", "\n", " , "])
def test_several_keys_are_read_in_their_order(environment, separator):
    keys = [bytes([n] * 32) for n in range(3)]
    environment.setenv("SLUICE_ENCRYPTION_KEY", separator.join(base64.b64encode(key).decode() for key in keys))

    assert load(EncryptionSettings).read_encryption_keys() == keys


def test_a_key_file_that_others_may_read_is_refused(environment, tmp_path):
    path = tmp_path / "key"
    path.write_text(base64.b64encode(bytes(32)).decode())
    path.chmod(0o640)
    environment.setenv("SLUICE_ENCRYPTION_KEY_FILE", str(path))

    with pytest.raises(SluiceError, match="chmod 600"):
        load(EncryptionSettings).read_encryption_keys()


OTHERS_UID, ROOT_UID = 4711, 0


@pytest.mark.parametrize(
    ("owner", "mode", "folder", "accepted"),
    [
        (ROOT_UID, 0o440, "etc/sluice", True),  # Kubernetes with fsGroup
        (ROOT_UID, 0o400, "etc/sluice", True),
        (ROOT_UID, 0o444, "run/secrets", True),  # Docker
        (ROOT_UID, 0o444, "etc/sluice", False),
        (ROOT_UID, 0o460, "etc/sluice", False),
        (ROOT_UID, 0o646, "run/secrets", False),
        (OTHERS_UID, 0o440, "run/secrets", False),  # it can be made 600 from inside
        (OTHERS_UID, 0o600, "etc/sluice", True),
    ],
)
def test_a_mounted_secret_is_accepted_unless_others_may_read_or_change_it(
    environment, tmp_path, monkeypatch, owner, mode, folder, accepted
):
    path = tmp_path / folder / "key"
    path.parent.mkdir(parents=True)
    path.write_text(base64.b64encode(bytes(32)).decode())
    status = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, 10001, 44, 0, 0, 0))
    monkeypatch.setattr(settings.os, "stat", lambda _path: status)
    monkeypatch.setattr(settings.os, "geteuid", lambda: OTHERS_UID)
    monkeypatch.setattr(settings, "_DOCKER_SECRETS", tmp_path / "run/secrets")

    if accepted:
        assert settings.read_key_file(path) == [bytes(32)]
    else:
        with pytest.raises(SluiceError, match="may be read by others"):
            settings.read_key_file(path)


def test_a_password_of_redis_may_have_any_character(environment):
    environment.setenv("SLUICE_REDIS_PASSWORD", "p@ss/w#rd:%")

    assert load(Settings).redis_login() == "p@ss/w#rd:%"
    assert "p@ss" not in repr(load(Settings))


@pytest.mark.parametrize("content", [b"", b"short", base64.b64encode(bytes(31)), b"\xff\xfe", b"!" * 44])
def test_a_file_without_a_key_is_refused(environment, tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    environment.setenv("SLUICE_ENCRYPTION_KEY_FILE", str(path))

    with pytest.raises(SluiceError, match="key file"):
        load(EncryptionSettings).read_encryption_keys()


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_key_file_that_cannot_be_read_is_named(environment, tmp_path, name):
    environment.setenv("SLUICE_ENCRYPTION_KEY_FILE", str(tmp_path / name))

    with pytest.raises(SluiceError, match="cannot be read"):
        load(EncryptionSettings).read_encryption_keys()


def test_the_text_of_settings_does_not_contain_the_key(environment):
    environment.setenv("SLUICE_ENCRYPTION_KEY", SECRET)

    assert SECRET not in repr(load(EncryptionSettings))
