"""The stages of a run, in order; each is a plain function of an engine and can be resumed."""

from ziggurat.stages.approval import approve
from ziggurat.stages.measure import measure
from ziggurat.stages.preflight import preflight
from ziggurat.stages.retrain import retrain
from ziggurat.stages.search import search
from ziggurat.stages.validate import validate

__all__ = ["approve", "measure", "preflight", "retrain", "search", "validate"]
