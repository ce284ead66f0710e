"""The explainer that experiments: a model with tools, a budget, and a trace of what it tried."""

from __future__ import annotations

from harness.explainers.agent.explainer import Agent

__all__ = ["Agent"]
