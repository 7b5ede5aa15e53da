"""How often an eigenvalue was missed: what the benchmarks that count it have in common."""

from __future__ import annotations

import statistics

MISS = 1e-3  # relative error, the default tolerance


def counted(rows: list[tuple[float, int]]) -> dict[str, float]:
    """Sum probes up, each a relative error and a number of products."""
    errors = [abs(error) for error, _ in rows]
    return {
        "products": statistics.mean(products for _, products in rows),
        "probes": len(rows),
        "missed": sum(error > MISS for error in errors),
        "worst": max(errors),
    }


def table(columns: tuple[str, str], probes: str, rows: list[tuple[str, str, dict[str, float]]]) -> str:
    """Lay what was `counted` out as Markdown, behind two columns that name the setting."""
    head = f"| {' | '.join(columns)} | products: mean | {probes} | further off than 1e-3 | worst |"
    lines = [
        f"| {first} | {second} | {row['products']:.1f} | {row['probes']} | {row['missed']} | {row['worst']:.1g} |"
        for first, second, row in rows
    ]
    return "\n".join([head, "|---|---|---|---|---|---|", *lines])
