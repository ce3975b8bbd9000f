"""The experiments, runs, parameters and metric histories of an MLflow tracking server."""

from bridge.sources.builtin.mlflow.source import MlflowSource

__all__ = ["MlflowSource"]
