"""What a notebook shows of a result: its figures as a table. Jupyter asks a value for ``_repr_html_``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .tables import html_table

if TYPE_CHECKING:
    from .verdicts import NumericParity, Parity


class BenchResult(dict[str, Any]):
    """A bench's JSON object, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return bench_html(self)


def parity_html(parity: Parity) -> str:
    """Give a classifier's parity as an HTML table of one figure per line."""
    rows = [("verdict", f"{parity.verdict}: {parity.reason}"), ("samples", f"{parity.samples:,}")]
    for name, value, interval in (
        ("accuracy", parity.accuracy, parity.accuracy_interval),
        ("the original's accuracy", parity.original_accuracy, parity.original_interval),
        ("agreement with the original", parity.agreement, parity.agreement_interval),
    ):
        if value is not None and interval is not None:
            rows.append((name, f"{_percent(value)} ({_percent(interval[0])} to {_percent(interval[1])})"))
    low, high = (100 * end for end in parity.drop_interval)
    rows.append(("drop, points", f"{100 * parity.drop:.2f} ({low:.2f} to {high:.2f})"))
    flips = f"{parity.flips_lost} lost, {parity.flips_won} won, {parity.flips_other} to another wrong answer"
    if parity.reference == "original":
        flips = f"{parity.flips_lost} unlike the original"
    rows.append(("flips", flips))
    if parity.mcnemar_p is not None:
        rows.append(("McNemar's p", f"{parity.mcnemar_p:.2g}"))
    rows.append(("ties", str(parity.ties)))
    return html_table(["parity", f"at {100 * parity.confidence:g} % confidence"], rows, 2)


def numeric_parity_html(parity: NumericParity) -> str:
    """Give the parity of outputs without labels as an HTML table, one output per line."""
    rows = []
    for output in parity.outputs:
        figures = (output.relative_error, output.snr_db, output.cosine, output.largest)
        rows.append([output.name, *("" if one is None else f"{one:.4g}" for one in figures)])
    header = ["output", "relative error", "SNR, dB", "cosine", "largest"]
    return html_table(header, rows, 1, f"{parity.verdict}: {parity.reason}; {parity.samples:,} samples")


def bench_html(result: Any) -> str:
    """Give a bench's rows as an HTML table: quantiles of one image's latency, cold start, memory, or the reason."""
    from .bench import cold_parts, memory, microseconds, quantile, quantile_interval

    rows = []
    for row in result["rows"]:
        names = [row["artifact"], f"{row['engine']} {row['engine_version'] or ''}".strip()]
        if not row["rounds"]:
            rows.append([*names, f"{row['status']}: {row['reason']}", *[""] * 5])
            continue
        interval, start, peak = quantile_interval(row, "p50"), cold_parts(row).get("total"), memory(row).get("peak")
        rows.append(
            [
                *names,
                microseconds(quantile(row, "p50")),
                "" if interval is None else f"{microseconds(interval[0])}–{microseconds(interval[1])}",
                microseconds(quantile(row, "p90")),
                microseconds(quantile(row, "p99")),
                "" if start is None else f"{start / 1e6:.0f}",
                "" if peak is None else f"{peak / 1e6:.0f}",
            ]
        )
    header = ["artifact", "engine", "median µs", "interval", "p90 µs", "p99 µs", "cold start ms", "peak MB"]
    notes = [f"tainted: {taint['cause']}" for taint in result["taints"]]
    return html_table(header, rows, 2, "; ".join([f"{result['bundle']}: latency of one image", *notes]))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
