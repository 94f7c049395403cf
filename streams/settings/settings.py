"""All settings in one class, where their values come from, and what follows from settings of several areas.

The fields are in `areas/`. A description says what the setting is, its unit, and when to change it. `tastestream settings`
and the reference pages print it. Durations are seconds and sizes are bytes.
"""

from pathlib import Path
from socket import gethostname
from typing import Any, Self

from pydantic import PrivateAttr, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from streams.settings.areas.bags import BagSettings
from streams.settings.areas.bundles import BundleSettings
from streams.settings.areas.embed import EmbedSettings
from streams.settings.areas.events import EventSettings
from streams.settings.areas.fetch import FetchSettings
from streams.settings.areas.http import HttpSettings
from streams.settings.areas.kafka import KafkaSettings
from streams.settings.areas.logs import LogSettings
from streams.settings.areas.profile import ProfileSettings
from streams.settings.areas.topics import TopicSettings
from streams.settings.names import CLIENT, SEPARATOR, in_namespace
from streams.settings.values import unquoted

PREFIX = "TASTESTREAM_"


class Settings(  # the fields of the last class come first: pydantic goes through the classes from the end
    ProfileSettings,
    BagSettings,
    EmbedSettings,
    FetchSettings,
    EventSettings,
    LogSettings,
    HttpSettings,
    BundleSettings,
    TopicSettings,
    KafkaSettings,
):
    """Immutable once read. `read_settings` reads it and reports what is wrong in one line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8-sig",  # editors on Windows begin a file with a byte order mark
        env_ignore_empty=True,  # `TASTESTREAM_BUNDLE=` is how a compose file leaves a setting unset
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    _worker: str = PrivateAttr("")  # the kind of worker that reads the settings; "" in a command

    @field_validator("*", mode="before")  # the last one runs first
    @classmethod
    def _unquoted(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        text = unquoted(value)
        default = cls.model_fields[info.field_name or ""].default
        empty = not text.strip() and not isinstance(default, str | tuple | SecretStr)
        return default if empty else text  # a number or a path cannot be empty: the setting is unset

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence: arguments, environment, `.env`, TOML file."""
        del file_secret_settings
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    def worker_name(self, kind: str) -> str:
        """The name of a worker of a kind on this machine: `embed-web1`."""
        return f"{kind}{SEPARATOR}{self.worker_host or gethostname()}"

    def of_worker(self, kind: str) -> Self:
        """The same settings for a worker of a kind, whose clients name it at the brokers."""
        copied = self.model_copy()
        copied._worker = kind
        return copied

    @property
    def client_id(self) -> str:
        """What clients call themselves at the brokers, for quotas and logs: `tastestream-embed-web1`, or `tastestream` in a command."""
        name = f"{CLIENT}{SEPARATOR}{self.worker_name(self._worker)}" if self._worker else CLIENT
        return in_namespace(self.namespace, name)

    @property
    def group_instance_id(self) -> str | None:
        """By what its groups know a worker when it comes back; None if each start is a new member."""
        return in_namespace(self.namespace, self.worker_name(self._worker)) if self.static_membership else None

    @property
    def tokens_file(self) -> Path:
        """File of the tokens of the HTTP API."""
        return self.serve_tokens or self.state_dir / "tokens.json"

    def aiokafka(self) -> dict[str, Any]:
        """Arguments of every aiokafka client: where the brokers are, and how to authenticate."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context,
            **(
                {
                    "sasl_mechanism": self.sasl_mechanism,
                    "sasl_plain_username": self.sasl_username,
                    "sasl_plain_password": self.sasl_password.get_secret_value(),
                }
                if self.security_protocol.startswith("SASL")
                else {}
            ),
        }
