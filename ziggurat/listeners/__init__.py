"""Listeners: they are told every event of a run in the controller's thread, and never slow or stop it."""

from ziggurat.listeners.alerts import Alerts
from ziggurat.listeners.tracking import Tracking

__all__ = ["Alerts", "Tracking"]
