"""Every knob, typed: one tree, read from `bridge.yaml`, the environment and the command line."""

from bridge.settings.datasets import (
    ColumnSettings,
    DatasetSettings,
    HistorySettings,
    ParamSettings,
    SourceSettings,
    Volatility,
)
from bridge.settings.describe import SettingDoc, describe_settings
from bridge.settings.load import NOT_SERVED, Loaded, load_settings
from bridge.settings.tree import LimitSettings, ServerSettings, Settings, TlsSettings

__all__ = [
    "NOT_SERVED",
    "ColumnSettings",
    "DatasetSettings",
    "HistorySettings",
    "LimitSettings",
    "Loaded",
    "ParamSettings",
    "ServerSettings",
    "SettingDoc",
    "Settings",
    "SourceSettings",
    "TlsSettings",
    "Volatility",
    "describe_settings",
    "load_settings",
]
