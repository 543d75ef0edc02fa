"""Stories of trials that were trained from rung to rung."""

from tests.support import Story
from ziggurat.domain import Candidate


def told(*paths: tuple[float, ...], sizes: tuple[float, ...] = ()) -> Story:
    """A story of trials with these accuracies from rung to rung."""
    story = Story()
    for i, path in enumerate(paths):
        number = story.propose(Candidate({"width": i}), {"parameters": sizes[i]} if sizes else {})
        for rung, accuracy in enumerate(path):
            if rung:
                story.verdict(number, "continue")
            story.finish(number, val_accuracy=accuracy)
    return story
