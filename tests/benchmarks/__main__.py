"""Prints the cost of what the package adds to a forward pass: ``python -m tests.benchmarks``.

Times are paired ratios: both sides run in turn in one process, which keeps its freed memory, until the median of the
ratios is steady, and that is shown. Peak memory is taken in a process of its own for each model.
"""

from __future__ import annotations

from itertools import chain

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.explorer import time_explorer
from tests.benchmarks.forward import MODELS, time_cases
from tests.benchmarks.memory import measure_memory
from tests.benchmarks.patching import time_patching
from tests.benchmarks.roles import time_roles
from tests.benchmarks.second_order import time_second_order
from tests.benchmarks.sparse import time_sparse
from tests.benchmarks.text_span import time_text_span
from tests.benchmarks.texts import time_texts
from tests.benchmarks.wrapping import time_wrapping


def main() -> None:
    """Runs every benchmark and prints one table; each row as it is measured, on standard error."""
    table, progress = Table("what", "measured", "bound", "against"), Console(stderr=True, width=130)
    with torch.no_grad():
        rest = (
            measure_memory,
            time_wrapping,
            time_text_span,
            time_sparse,
            time_roles,
            time_texts,
            time_second_order,
            time_patching,
            time_explorer,
        )
        for row in chain(*map(time_cases, MODELS), *(each() for each in rest)):
            table.add_row(*row)
            progress.print(" | ".join(row), markup=False)
    console = Console(width=130)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, random weights, batch 8")
    console.print(table)


if __name__ == "__main__":
    main()
