"""Markdown tables, each a function of the results alone, so that a stored table can be checked."""

from __future__ import annotations

DASH = "\u2013"
MINUS = "\u2212"


def pipe_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown pipe table: first column left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
             for r in [header, *rows]]  # fmt: skip
    rule = ["-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)]
    return "\n".join([lines[0], "|" + "|".join(rule) + "|", *lines[1:]])


def number(value: float, decimals: int = 2) -> str:
    """Fixed decimals with a true minus sign."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def mean_sd(model: dict, *path: str, decimals: int = 2) -> str:
    """`mean ± standard deviation over seeds` of a quantity of a model's record."""
    mean, sd = model["mean"], model["sd"]
    for part in path:
        mean, sd = mean[part], sd[part]
    return f"{number(mean, decimals)} ± {number(sd, decimals)}"


def loss_table(results: dict, ids: list[str], pca: list[int] | None = None) -> str:
    """Optimal losses (nats per image): mean over seeds, ± standard deviation for the totals."""
    rows = []
    for name in ids:
        model = results["models"][name]
        test = model["mean"]["test"]
        rows.append([
            model["label"], mean_sd(model, "train", "total"), mean_sd(model, "validation", "total"),
            mean_sd(model, "test", "total"), number(test["reconstruction"]), number(test["kl"]),
            number(test["excess"]), number(model["mean"]["best_epoch"], 0),
        ])  # fmt: skip
    for key in [*(f"pca-{z}" for z in pca or []), "mean-image"]:
        base = results["baselines"][key]
        rows.append([base["label"], *(number(base[s]) for s in ("train", "validation", "test")),
                     number(base["test"]), DASH, number(base["test"] - results["floor"]["test"]),
                     DASH])  # fmt: skip
    header = ["Model", "Train", "Validation", "Test", "Test BCE", "Test KL", "Above floor", "Epoch"]
    return pipe_table(header, rows)


def difference_table(results: dict, entries: list[list[str]]) -> str:
    """Paired differences. entries: [row label, group, quantity] naming a recorded comparison."""
    rows = []
    for label, group, quantity in entries:
        d = results["comparisons"][group][quantity]
        decimals = 4 if abs(d["high"] - d["low"]) < 0.02 else 2
        rows.append([label, number(d["mean"], decimals),
                     f"[{number(d['low'], decimals)}, {number(d['high'], decimals)}]",
                     d["verdict"]])  # fmt: skip
    return pipe_table(["Difference", "Mean", "Interval", "Verdict"], rows)


def architecture_table(results: dict, ids: list[str]) -> str:
    """Layer sizes, as the sheet writes them, the latent layer, and parameter counts."""
    models = [results["models"][name] for name in ids]
    rows = [[m["label"], m["encoder"], m["latent_layer"], m["decoder"], f"{m['parameters']:,}"]
            for m in models]  # fmt: skip
    return pipe_table(["Model", "Encoder", "Latent layer", "Decoder", "Parameters"], rows)


def ranking_table(results: dict, group: str) -> str:
    """A family by validation loss, with each paired test difference to the best of it."""
    family = results["rankings"][group]
    rows = []
    for name in family["order"]:
        model = results["models"][name]
        cells = [model["label"], number(model["mean"]["active_units"], 1)]
        cells += [mean_sd(model, "quality", "prior", measure, decimals=decimals)
                  for measure, decimals in QUALITY[:3]]  # fmt: skip
        d = family["to_best"].get(name)
        if d is None:
            cells += [DASH, DASH, "best" if name == family["best"] else "reference"]
        else:
            cells += [number(d["mean"]), f"[{number(d['low'])}, {number(d['high'])}]", d["rank"]]
        rows.append(cells)
    header = ["Model", "Active", *QUALITY_HEADER[:3], "Minus best", "Interval", "Rank"]
    return pipe_table(header, rows)


def data_table(results: dict) -> str:
    """Images and BCE floor of each split."""
    rows = [[name, f"{results['data']['sizes'][name]:,}", number(results["floor"][name])]
            for name in ("train", "validation", "test")]  # fmt: skip
    return pipe_table(["Split", "Images", "Floor"], rows)


def quantity_table(results: dict, ids: list[str], columns: list[list]) -> str:
    """Any recorded quantities. columns: [header, dotted path in a seed's record, decimals]."""
    rows = [
        [results["models"][name]["label"],
         *(mean_sd(results["models"][name], *path.split("."), decimals=decimals)
           for _, path, decimals in columns)]
        for name in ids
    ]  # fmt: skip
    return pipe_table(["Model", *(header for header, _, _ in columns)], rows)


def sampler_table(results: dict, ids: list[str]) -> str:
    """Quality of generated images for every model and sampler, and of real training images."""
    names = {"prior": "$N(0,I)$", "gaussian": "Gaussian", "mixture": "mixture"}
    rows = [
        [results["models"][i]["label"], name, *_quality_cells(results["models"][i], sampler)]
        for i in ids
        for sampler, name in names.items()
    ]
    rows.append(["Real images", DASH, *_floor_cells(results)])
    return pipe_table(["Model", "Sampler", *QUALITY_HEADER], rows)


def generation_table(results: dict, ids: list[str]) -> str:
    """Quality of images generated from N(0, I), and of real training images."""
    rows = [[results["models"][i]["label"], *_quality_cells(results["models"][i], "prior"),
             mean_sd(results["models"][i], "quality", "prior", "total_variation", decimals=3)]
            for i in ids]  # fmt: skip
    variation = number(results["judge"]["floor"]["total_variation"], 3)
    rows.append(["Real images", *_floor_cells(results), variation])
    return pipe_table(["Model", *QUALITY_HEADER, "TV"], rows)


QUALITY_HEADER = ["Frechet", "Precision", "Recall", "Coverage"]
QUALITY = [("frechet_distance", 1), ("precision", 3), ("recall", 3), ("coverage", 3)]


def _quality_cells(model: dict, sampler: str) -> list[str]:
    return [mean_sd(model, "quality", sampler, measure, decimals=d) for measure, d in QUALITY]


def _floor_cells(results: dict) -> list[str]:
    return [number(results["judge"]["floor"][measure], d) for measure, d in QUALITY]


def render(results: dict, function: str, arguments: list) -> str:
    """The table that `function(results, *arguments)` of this module makes."""
    makers = {f.__name__: f for f in MAKERS}
    if function not in makers:
        raise ValueError(f"no table function {function!r}; there are {sorted(makers)}")
    return makers[function](results, *arguments)


MAKERS = (data_table, architecture_table, loss_table, difference_table, ranking_table,
          quantity_table, sampler_table, generation_table)  # fmt: skip
