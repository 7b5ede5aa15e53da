"""What the sharpness costs and how right it is, against the alternatives: ``make bench``.

Trains 784-256-256-256-10 on 1,000 MNIST images by full-batch descent at the edge of stability (a constant rate) and
in the catapult phase (rate 2.5 / sharpness). At every step the trackers of `methods.py` estimate the sharpness; their
error is taken against SciPy's eigsh in float64, their cost in units of a gradient's time, measured at the same step.
What was tried and lost runs along on a stretch of consecutive steps, peers, which start anew each time, on steps
spread evenly over the run. Results and figures go to a folder; ``--publish`` puts them into docs/curvature.md too.

With ``--device cuda`` sizes go up to what fills a GPU, and the results to docs/curvature_gpu.md.

On a CPU with one thread the clock is the process's CPU time, which other work on the machine disturbs least;
``taskset -c 0`` keeps the process on one core. Elsewhere it is wall time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import report
import torch
from figures import draw
from methods import ALTERNATIVES, METHODS, PEERS, Clock, Problem, products_table, reference, timed
from torch import Tensor

from eoc.analysis.claims.documents import fill
from eoc.data import mnist
from eoc.dynamics.curvature import CurvatureTracker, critical_sharpness
from eoc.model import MLP

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from environment import environment  # noqa: E402 - beside this folder
from publication import place  # noqa: E402

KAPPA = {"edge_of_stability": None, "catapult": 2.5}


def network(width: int = 256, seed: int = 0) -> MLP:
    return MLP(784, 10, parameterization="mup", depth=4, width=width, growth=0, seed=seed)


def descend(problem: Problem, gradient: list[Tensor], rate: float) -> None:
    with torch.no_grad():
        for weight, slope, factor in zip(problem.weights, gradient, problem.metric, strict=True):
            weight -= rate * factor * slope


def follow(phase: str, problem: Problem, options: argparse.Namespace, clock: Clock) -> dict:
    """Train through one phase and measure along it."""
    driver = CurvatureTracker()
    rate = 1.5 / float(driver.probe(problem.operator()).values[0])
    while True:  # up to the start of the phase
        sharpness = float(driver.probe(problem.operator()).values[0])
        if KAPPA[phase] is not None or rate * sharpness >= 2:
            break
        descend(problem, problem.gradient(), rate)
    methods = {name: METHODS[name]() for name in dict.fromkeys(["tracker", *options.methods])}
    alternatives = {name: make() for name, make in ALTERNATIVES.items()}
    first = (options.steps - min(options.steps, options.alternative_steps)) // 2
    peer_every = max(options.steps // options.peer_steps, 1) if options.peer_steps else options.steps + 1
    rows: list[dict] = []
    last_rate = 1 / sharpness
    for step in range(options.steps):
        gradient_seconds = min(timed(problem.gradient, clock)[0] for _ in range(3))
        row: dict = {"step": step, "gradient_seconds": gradient_seconds, "methods": {}, "peers": {}}
        along = first <= step < first + options.alternative_steps
        for name, method in {**methods, **(alternatives if along else {})}.items():
            seconds, (value, bound, products) = timed(lambda method=method: method(problem), clock)
            row["methods"][name] = {
                "value": value,
                "bound": bound,
                "products": products,
                "gradients": seconds / gradient_seconds,
            }
        sharpness = row["methods"]["tracker"]["value"]
        direction = [factor * slope for factor, slope in zip(problem.metric, problem.gradient(), strict=True)]
        arguments = (problem.loss, problem.weights, direction, problem.batches, last_rate)
        seconds, critical = timed(lambda arguments=arguments: critical_sharpness(*arguments), clock)
        last_rate = critical.rate
        row["critical"] = {
            "value": critical.value,
            "evaluations": critical.evaluations,
            "gradients": seconds / gradient_seconds,
        }
        if step % options.reference_every == 0:
            row["reference"] = reference(problem, methods["tracker"].tracker)
        if step % peer_every == peer_every // 2:
            for name, peer in PEERS.items():
                seconds, value = timed(lambda peer=peer: peer(problem), clock)
                row["peers"][name] = {"value": value, "gradients": seconds / gradient_seconds}
        row["rate_x_sharpness"] = KAPPA[phase] or rate * sharpness
        descend(problem, problem.gradient(), KAPPA[phase] / sharpness if KAPPA[phase] else rate)
        rows.append(row)
        if step % 10 == 9:
            print(f"{phase} step {step + 1}: {json.dumps(summary(rows)['methods']['tracker'])}", flush=True)
    return {"summary": summary(rows), "rows": [kept(row) for row in rows]}


def kept(row: dict) -> dict:
    """The part of a step's results that is stored: the tracker's, and what it is compared with."""
    return {
        key: row[key] for key in ("step", "rate_x_sharpness", "reference", "critical", "gradient_seconds") if key in row
    } | {"tracker": row["methods"]["tracker"]}


def save(results: dict, path: Path) -> None:
    """Write JSON with a line for each step, and no more digits than mean something."""

    def rounded(value):
        if isinstance(value, float):
            return float(f"{value:.10g}")
        if isinstance(value, dict):
            return {key: rounded(part) for key, part in value.items()}
        return [rounded(part) for part in value] if isinstance(value, list) else value

    lines = []
    for name, part in rounded(results).items():
        if isinstance(part, dict) and "rows" in part:
            rows = ",\n".join(json.dumps(row) for row in part["rows"])
            lines.append(f'"{name}": {{"summary": {json.dumps(part["summary"], indent=1)},\n"rows": [\n{rows}\n]}}')
        else:
            lines.append(f'"{name}": {json.dumps(part, indent=1)}')
    path.write_text("{" + ",\n".join(lines) + "}\n")


def summary(rows: list[dict]) -> dict:
    """Medians and worst cases over the steps."""

    def table(kind: str) -> dict:
        result = {}
        for name in {name: None for row in rows for name in row[kind]}:
            there = [row for row in rows if name in row[kind] and row[kind][name]["value"] is not None]
            known = [(row[kind][name], row["reference"]) for row in there if "reference" in row]
            errors = [abs(m["value"] - r) / r for m, r in known]
            entry = {
                "gradients_median": statistics.median(row[kind][name]["gradients"] for row in there),
                "error_median": statistics.median(errors) if errors else None,
                "error_worst": max(errors, default=None),
                "compared": len(errors),
            }
            if kind == "methods":
                products = [row[kind][name]["products"] for row in there]
                entry["error_95"] = sorted(errors)[int(0.95 * len(errors))] if errors else None
                entry |= {"products_median": statistics.median(products), "products_most": max(products)}
                entry["bound_exceeded"] = sum(e > m["bound"] for e, (m, _) in zip(errors, known, strict=True))
            result[name] = entry
        return result

    methods = table("methods")
    ratios = [row["critical"]["value"] / row["methods"]["tracker"]["value"] for row in rows]
    return {
        "methods": {name: entry for name, entry in methods.items() if name not in ALTERNATIVES},
        "alternatives": {name: entry for name, entry in methods.items() if name in ALTERNATIVES},
        "peers": table("peers"),
        "critical_over_sharpness": statistics.quantiles(ratios, n=20) if len(ratios) > 1 else ratios,
        "critical_evaluations_median": statistics.median(row["critical"]["evaluations"] for row in rows),
        "rate_x_sharpness_median": statistics.median(row["rate_x_sharpness"] for row in rows),
    }


def scaling(images_of: Callable[[int], tuple[Tensor, Tensor]], device: str, clock: Clock) -> list[dict]:
    """Cost of a tracked probe against width, number of images, and k, early in training; far larger ones on a GPU."""
    rows = []
    large = device.startswith("cuda")
    widths = (64, 128, 256, 512, *((1024, 2048, 4096) if large else ()))
    counts = (250, 500, 2000, *((8000, 30000, 60000) if large else ()))
    cases = [(w, 1000, 1) for w in widths] + [(256, n, 1) for n in counts]
    if large:
        cases.append((4096, 10000, 1))
    for width, images, k in cases + [(256, 1000, k) for k in (2, 5, 10)]:
        problem = Problem(network(width).to(device), *images_of(images))
        tracker, costs, gradients, products = CurvatureTracker(k=k), [], [], []
        other, written = CurvatureTracker(k=k), []
        rate = 1.5 / float(tracker.probe(problem.operator()).values[0])
        for step in range(16):
            gradients.append(min(timed(problem.gradient, clock)[0] for _ in range(3)))
            seconds, found = timed(lambda p=problem, t=tracker: t.probe(p.operator()), clock)
            out, _ = timed(lambda p=problem, t=other: t.probe(p.written_out()), clock)
            if step >= 6:
                costs.append(seconds)
                written.append(out)
                products.append(found.products)
            descend(problem, problem.gradient(), rate)
        rows.append(
            {
                "width": width,
                "images": images,
                "k": k,
                "parameters": sum(w.numel() for w in problem.weights),
                "gradient_seconds": statistics.median(gradients),
                "probe_seconds": statistics.median(costs),
                "written_out_seconds": statistics.median(written),
                "products": statistics.median(products),
            }
        )
        print(rows[-1], flush=True)
    return rows


def settings(options: argparse.Namespace) -> dict:
    """What was run, without the folders of the machine."""
    names = ("seed", "steps", "reference_every", "alternative_steps", "peer_steps")
    return {name: getattr(options, name) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data", help="folder of MNIST, downloaded if it is not there")
    parser.add_argument("--parts", nargs="*", default=[*KAPPA, "products", "scaling"], help="what to run; none redraws")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS, help="beside the tracker")
    parser.add_argument("--seed", type=int, default=0, help="of the network")
    parser.add_argument("--steps", type=int, default=200, help="training steps in each phase")
    parser.add_argument("--reference-every", type=int, default=1, help="steps between SciPy references (seconds each)")
    parser.add_argument(
        "--alternative-steps", type=int, default=40, help="consecutive steps of what was tried and lost"
    )
    parser.add_argument(
        "--peer-steps", type=int, default=12, help="steps at which the peers run, spread over the phase"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/curvature"), help="folder of results and figures")
    parser.add_argument("--publish", action="store_true", help="write them into docs/ and beside this file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device != "cpu":
        if not torch.cuda.is_available():
            parser.error(f"--device {options.device} is not possible: torch sees no GPU here.")
        torch.cuda.set_device(torch.device(options.device).index or 0)  # which is waited for, and named
    options.clock = "cpu" if options.device == "cpu" and options.threads == 1 else "wall"
    clock = time.process_time if options.clock == "cpu" else time.perf_counter

    def images(count: int) -> tuple[Tensor, Tensor]:
        data = mnist(root=options.root, n_train=count, n_test=10)
        return data.train_inputs.to(options.device), data.train_targets.to(options.device)

    options.out.mkdir(parents=True, exist_ok=True)
    suffix = "" if options.device == "cpu" else "_gpu"
    path = options.out / f"results{suffix}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for part in options.parts:
        start = time.perf_counter(), time.process_time()
        problem = Problem(network(seed=options.seed).to(options.device), *images(1000))
        if part in KAPPA:
            results[part] = follow(part, problem, options, clock)
        elif part == "products":
            results[part] = products_table(problem, clock)
        else:
            results[part] = scaling(images, options.device, clock)
        results["environment"] = environment(options.device) | {"clock": options.clock}
        results.setdefault("runs", {})[part] = settings(options) | {
            "wall_seconds": time.perf_counter() - start[0],
            "cpu_seconds": time.process_time() - start[1],
        }
        save(results, path)
    draw(results, options.out, suffix)
    print(report.markdown(results))
    if options.publish:
        root = HERE.parents[1]
        docs = root / "docs"
        page = docs / f"curvature{suffix}.md"
        shutil.copy(path, HERE)
        place(page, "measured", report.markdown(results))
        for figure in options.out.glob("*.png"):
            if f"images/{figure.name}" in page.read_text():
                shutil.copy(figure, docs / "images")
        for name in ("curvature.md", "curvature_gpu.md"):  # what their sentences say
            fill(docs / name, root / "results")


if __name__ == "__main__":
    main()
