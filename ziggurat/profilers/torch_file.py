"""Models as files of `torch.export`: a graph with its weights, without Python code."""

from __future__ import annotations

import copy
import io
import re

import torch
from torch import Tensor, nn

from ziggurat.errors import SpecError
from ziggurat.profilers.quiet import quiet

_OPERATION = re.compile(r"((?:aten|prims|torchvision|[a-z_]+)::[\w.]+|torch\.ops\.[\w.]+|call_\w+ \S+)")


def export_torch(model: nn.Module, batch: Tensor) -> bytes:
    """A model in evaluation mode as the bytes of a `.pt2` file.

    Args:
        model: Left unchanged; a copy is exported.
        batch: (n, *shape) examples; n is the batch size of the file if it is 1, else any from 2 on goes.

    Raises:
        SpecError: torch.export cannot follow the model; the text names the operation if torch does.
    """
    model = copy.deepcopy(model).to("cpu").eval()
    batch = batch.detach().cpu()
    sizes = [{0: torch.export.Dim.AUTO}] if len(batch) > 1 else None
    buffer = io.BytesIO()
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(model, (batch,), dynamic_shapes=sizes)
            torch.export.save(program, buffer)
            close = torch.allclose(
                program.module()(batch), model(batch), rtol=1e-3, atol=1e-4, equal_nan=True
            )
    except Exception as error:
        raise SpecError(_reason(error)) from error
    if not close:
        raise SpecError("the graph of torch.export gives other outputs than the model; it depends on chance")
    return buffer.getvalue()


def _reason(error: Exception) -> str:
    text = str(error)
    found = _OPERATION.search(text)
    what = f"operation {found[1]}: " if found else ""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"torch.export cannot follow the model ({what}{type(error).__name__}: {line[:160]})"
