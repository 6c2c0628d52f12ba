# SPDX-License-Identifier: Apache-2.0
"""Figures, the table of them, and whether the bars are met."""
from measure import median

ORDER = ("kistl", "podman", "containerd", "docker", "crun", "limit")

# name, bar, unit, what was measured: a function of the report that gives the figure or None
BARS = (
    ("run --rm over crun run of the same bundle", 25, "ms",
     lambda r: r.difference("run --rm IMAGE true, network none", "kistl", "crun")),
    ("daemon RSS after 100 containers", 12, "MiB", lambda r: r.kistl_rss),
    ("slowest read-only call", 2, "ms", lambda r: max(map(median, r.calls.values()), default=None)),
    ("`kistl ps` of what `docker ps` on dockerd takes", 10, "%", lambda r: r.share("ps")),
    ("start of a pod, of what containerd takes", 20, "%", lambda r: r.percent("start of a pod", "containerd")),
    ("shim of a pod, RSS", 2, "MiB", lambda r: r.value("shim of a pod, RSS", "kistl")),
    ("recovery of 200 pods", 1000, "ms", lambda r: r.value("recovery of 200 pods", "kistl")),
    ("start of the command", 3, "ms", lambda r: r.value("start of the command (version)", "kistl")),
)


def show(value, unit):
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}"


class Report:
    def __init__(self, options):
        self.options = options
        self.machine, self.versions, self.images, self.containers = {}, {}, {}, {}
        self.notes, self.rows = [], {}
        self.kistl_rss, self.calls = None, {}

    def add(self, test, subject, unit, values):
        self.rows.setdefault(test, {"unit": unit, "values": {}})["values"][subject] = values

    def value(self, test, subject):
        return median(self.rows.get(test, {}).get("values", {}).get(subject, []))

    def share(self, test):
        """Kistl's time in hundredths of docker's."""
        return self.percent(next((t for t in self.rows if t.startswith(test + " of ")), None), "docker")

    def percent(self, test, peer):
        x, y = self.value(test, "kistl"), self.value(test, peer)
        return None if x is None or y is None else 100 * x / y

    def difference(self, test, a, b):
        x, y = self.value(test, a), self.value(test, b)
        return None if x is None or y is None else x - y

    def bars(self):
        """(name, bar, unit, figure, met) of those that were measured."""
        found = []
        for name, bar, unit, figure in BARS:
            value = figure(self)
            if value is not None:
                found.append((name, bar, unit, value, value < bar))
        return found

    def bars_met(self):
        return all(met for *_, met in self.bars())

    def columns(self):
        return [s for s in ORDER if any(s in r["values"] for r in self.rows.values())]

    def cell(self, test, subject):
        value = self.value(test, subject)
        text, own = show(value, self.rows[test]["unit"]), self.value(test, "kistl")
        if value is not None and own and subject != "kistl":
            text += f" ({value / own:.1f}x)"
        return text

    def table(self):
        columns = self.columns()
        lines = [["", "unit"] + columns]
        for test, row in self.rows.items():
            lines.append([test, row["unit"]] + [self.cell(test, s) for s in columns])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        out = []
        for line in lines:
            cells = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
            cells += [c.rjust(w) for c, w in zip(line[2:], widths[2:])]
            out.append("  ".join(cells).rstrip())
        return out

    def text(self):
        m = self.machine
        out = [f"machine: {m['cpus']} CPUs ({m['cpu']}), {m['memory_mib']} MiB, Linux {m['kernel']}, "
               f"load at the start {m['load']:.1f}",
               "versions: " + ", ".join(f"{k} {v}" for k, v in self.versions.items())]
        for how, i in self.images.items():
            out.append(f"{how} image: {i['layers']} layers, {i['files']} files, {i['plain_bytes'] / 1e6:.0f} MB, "
                       f"packed {i['packed_bytes'] / 1e6:.0f} MB")
        if self.containers:
            out.append("running containers for the memory: "
                       + ", ".join(f"{k} {v}" for k, v in self.containers.items()))
        out += ["note: " + n for n in self.notes]
        out += ["", f"medians of {self.options.runs} rounds (pulls: {self.options.pulls}); "
                "in parentheses: how many times Kistl's"] + self.table() + [""]
        for name, bar, unit, value, met in self.bars():
            out.append(f"bar: {name}: {show(value, unit)} {unit}, allowed {bar} {unit}: {'pass' if met else 'FAIL'}")
        return "\n".join(out)

    def document(self):
        return {"machine": self.machine, "versions": self.versions, "images": self.images,
                "containers": self.containers, "notes": self.notes,
                "results": [{"test": t, "subject": s, "unit": r["unit"], "median": median(v), "values": v}
                            for t, r in self.rows.items() for s, v in r["values"].items()],
                "bars": [{"name": n, "bar": b, "unit": u, "value": v, "pass": m} for n, b, u, v, m in self.bars()]}
