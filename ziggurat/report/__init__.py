"""The report of a run: a self-contained page, images, `front.json`, and the same numbers for the terminal."""

from ziggurat.report.card_text import PUBLISHED, write_cards
from ziggurat.report.cards import cards
from ziggurat.report.facts import ReportFacts
from ziggurat.report.page import write_report
from ziggurat.report.plain import front_json, result_json
from ziggurat.report.results import Summary
from ziggurat.report.summary import front_rows, retrained_rows, summarize
from ziggurat.report.text import pareto_rich, pareto_table

__all__ = [
    "PUBLISHED",
    "ReportFacts",
    "Summary",
    "cards",
    "front_json",
    "front_rows",
    "pareto_rich",
    "pareto_table",
    "result_json",
    "retrained_rows",
    "summarize",
    "write_cards",
    "write_report",
]
