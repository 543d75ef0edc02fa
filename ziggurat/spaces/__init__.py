"""Search spaces by kind; `AnySpace` is the `space` key of a spec."""

from typing import Annotated

from pydantic import Field

from ziggurat.spaces.backbone import Backbone
from ziggurat.spaces.cell import Cell
from ziggurat.spaces.cnn import Cnn
from ziggurat.spaces.mbconv import Mbconv
from ziggurat.spaces.mlp import Mlp
from ziggurat.spaces.parameters import Parameters
from ziggurat.spaces.python import PythonSpace
from ziggurat.spaces.table import TableSpace

AnySpace = Annotated[
    Mlp | Cnn | Cell | Mbconv | Backbone | Parameters | PythonSpace | TableSpace, Field(discriminator="kind")
]
"""One space, told apart by `kind`."""

__all__ = ["AnySpace", "Backbone", "Cell", "Cnn", "Mbconv", "Mlp", "Parameters", "PythonSpace", "TableSpace"]
