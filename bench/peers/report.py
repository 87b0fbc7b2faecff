"""The arithmetic of the bench and its three forms: JSON (all samples), text for the terminal, one HTML page.

Standard library only. The result of a run is one dictionary; everything printed is computed from it here:
  {"machine": {...}, "run": {...}, "ceilings": {...}, "lanes": [{"model", "peer", "weights", "bits", "reason" or
   "samples": {metric: [numbers]}, "facts": {...}, "foreign": [shares]}], "side": [{"what", "unit", "better", "rows": [...]}]}
"""

import html
import json
import statistics

# metric -> (title, unit, digits, "high" or "low" is better); numbers in the titles are those of the run
def metrics(result):
    run = result["run"]
    out = {"prefill": (f"prefill of {run.get('prefill_tokens', '?')} tokens", "tok/s", 1, "high"),
           "decode": (f"decode of {run.get('decode_tokens', '?')} tokens, one stream", "tok/s", 1, "high"),
           "bandwidth_share": ("decode as a share of the read bandwidth", "%", 0, "high")}
    tokens = run.get("stream_tokens", "?")
    for count in run.get("streams", []):
        out[f"streams_{count}"] = (f"aggregate of {count} streams of {tokens} tokens; servers by their protocol, libraries by their own batching", "tok/s", 1, "high")
    for count in run.get("streams", []):
        out[f"streams_{count}_raw"] = (f"aggregate of {count} streams, load generator's CPU not subtracted", "tok/s", 1, "high")
    for count in run.get("streams", []):
        out[f"generator_{count}"] = (f"load generator's CPU at {count} streams, share of the machine", "%", 1, "low")
    for count in run.get("streams", []):
        out[f"busy_{count}"] = (f"engine busy at {count} streams, share of the wall time (Tessera counts it)", "%", 1, "high")
    out["peak_memory"] = ("peak resident memory, mapped files included", "MiB", 0, "low")
    out["start"] = ("start to ready", "s", 2, "low")
    out["cpu_ms_per_token"] = ("CPU time of decode, one stream", "ms/token", 1, "low")
    out["joules_per_token"] = ("energy of decode", "J/token", 2, "low")
    out["cores"] = ("processors it kept busy while decoding one stream", "CPUs", 2, "high")
    out["prompt_tokens"] = (f"prompt tokens as it counts them, of {run.get('prefill_tokens', '?')} sent", "tokens", 0, "high")
    out["cached_tokens"] = ("of them, spared by a prefix cache", "tokens", 0, "low")
    out["answer_tokens"] = (f"tokens it generated, of {run.get('decode_tokens', '?')} asked for", "tokens", 0, "high")
    words = run.get("words", {}).get("tokens", "?")
    out["agreement"] = (f"greedy tokens from the first on that are those of transformers in fp32, of {words}", "tokens", 0, "high")
    out["foreign"] = ("CPU taken by other processes while measuring", "%", 0, "low")
    return out


# A lane without a value has no row in these: they are there for those that tell
TOLD = ("generator_", "busy_", "cached_tokens", "joules_per_token")
# What a peer does, not how well
NOT_COMPARED = ("foreign", "bandwidth_share", "cores", "prompt_tokens", "answer_tokens", "agreement", *TOLD)
OUR_PEER = "Tessera"


def spread(samples):
    """(median, least, most)."""
    return statistics.median(samples), min(samples), max(samples)


def without_generator(tokens, wall, generator_cpu, cpus):
    """Tokens a second if the load generator had cost nothing: its CPU seconds, spread over all CPUs, come off the wall time.

    At most half the wall time is taken off: beyond that the figure would say more about the generator than about the server.
    """
    if wall <= 0 or cpus < 1:
        raise ValueError("a measurement needs time and a CPU")
    return tokens / max(wall - generator_cpu / cpus, wall / 2)


def ratio(ours, theirs, better):
    """How many times better ours is; above 1 is for us, whichever direction is better."""
    if not ours or not theirs:
        return None
    return ours / theirs if better == "high" else theirs / ours


def agreement(ids, text, words):
    """Tokens from the first on that are the reference's: by ids, or where there are none by text.

    `words`: {"ids": the reference's, "beginnings": the text of its first 1, 2, ... tokens}.
    """
    if ids:
        pairs = list(zip(ids, words["ids"]))
        return next((i for i, (mine, wanted) in enumerate(pairs) if mine != wanted), len(pairs))
    return max((i + 1 for i, beginning in enumerate(words["beginnings"]) if (text or "").startswith(beginning)), default=0)


def ours_of(lanes, lane):
    """Our lane that `lane` is compared with: same model, same class of weights, measured."""
    for candidate in lanes:
        if candidate["peer"] == OUR_PEER and candidate["model"] == lane["model"] and candidate["bits"] == lane["bits"]:
            return candidate if candidate.get("samples") else None
    return None


def lane_rows(result, metric):
    """Rows of a metric's table: every lane has one, measured or with the reason why not."""
    better = metrics(result)[metric][3]
    rows = []
    for lane in result["lanes"]:
        samples = (lane.get("samples") or {}).get(metric)
        if (lane.get("only") and metric not in lane["only"]) or (not samples and metric.startswith(TOLD)):
            continue
        row = {"model": lane["model"], "name": f"{lane['peer']} {lane['weights']}", "bits": lane["bits"], "peer": lane["peer"]}
        if samples:
            row["median"], row["least"], row["most"] = spread(samples)
            row["count"] = len(samples)
            ours = ours_of(result["lanes"], lane)
            mine = (ours or {}).get("samples", {}).get(metric)
            if lane["peer"] != OUR_PEER and mine and not metric.startswith(NOT_COMPARED):
                row["ratio"] = ratio(statistics.median(mine), row["median"], better)
        else:
            row["reason"] = (lane.get("unmeasured") or {}).get(metric) or lane.get("reason") or "not measured"
        rows.append(row)
    return rows


def side_rows(table):
    """Rows of a table beside the lanes (pictures, preprocessing, tokenising), with ratios to the first row that is ours."""
    ours = next((row for row in table["rows"] if row.get("ours") and row.get("samples")), None)
    rows = []
    for row in table["rows"]:
        out = {"name": row["name"]}
        if row.get("samples"):
            out["median"], out["least"], out["most"] = spread(row["samples"])
            out["count"] = len(row["samples"])
            if ours and not row.get("ours") and table.get("compared", True):
                out["ratio"] = ratio(statistics.median(ours["samples"]), out["median"], table["better"])
        else:
            out["reason"] = row.get("reason", "not measured")
        rows.append(out)
    return rows


def plain(reason, root=""):
    """What a peer said, on one line and without this machine's paths."""
    return " ".join(str(reason).replace(f"{root}/", "").split()) if root else " ".join(str(reason).split())


def markdown(result):
    """The summary that docs/performance.md holds: a table a model, one for the rest."""
    run, machine = result["run"], result["machine"]
    out = [f"{run['date']}, {machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB, tier {run.get('tier', '?')}, "
           f"{run['mode']} mode, {run['rounds']} rounds. Load average {run.get('load', '?')}. Quiet: {run['quiet']}.", ""]
    for name, entry in result["ceilings"].get("values", {}).items():
        out.append(f"- ceiling, {name}: {number(entry['value'], 1)} {entry['unit']}")
    if result["ceilings"].get("reason"):
        out.append(f"- ceilings: {result['ceilings']['reason']}")
    hidden = ("generator_", "cores", "prompt_tokens", "answer_tokens", "cached_tokens")
    shown = [metric for metric in metrics(result) if not metric.endswith("_raw") and not metric.startswith(hidden)]
    for model in dict.fromkeys(lane["model"] for lane in result["lanes"]):
        columns = [metric for metric in shown if any("median" in row for row in lane_rows(result, metric) if row["model"] == model)]
        titles = [f"{metrics(result)[metric][0]} [{metrics(result)[metric][1]}]" for metric in columns]
        out += ["", f"{model}; in brackets how many times better Tessera is with weights of the same width:", "",
                "| | " + " | ".join(titles) + " |", "|---" * (len(columns) + 1) + "|"]
        cells = {f"{lane['peer']} {lane['weights']}": ["-"] * len(columns) for lane in result["lanes"] if lane["model"] == model}
        for at, metric in enumerate(columns):
            for row in lane_rows(result, metric):
                if row["model"] == model and "median" in row:
                    compared = f" ({row['ratio']:.2f})" if row.get("ratio") else ""
                    cells[row["name"]][at] = f"{number(row['median'], metrics(result)[metric][2])}{compared}"
        absent = [lane for lane in result["lanes"] if lane["model"] == model and lane.get("reason")]
        out += [f"| {name} | " + " | ".join(values) + " |" for name, values in cells.items() if any(value != "-" for value in values)]
        out += ["", *(f"- {lane['peer']} {lane['weights']}: {' '.join(lane['reason'].split())}" for lane in absent)]
    out += ["", "| | median | least .. most | Tessera is better by |", "|---|---|---|---|"]
    for table in result.get("side", []):
        for row in side_rows(table):
            if "median" in row:
                digits = table.get("digits", 1)
                compared = f"{row['ratio']:.2f} x" if row.get("ratio") else ""
                out.append(f"| {table['what']}: {row['name']} | {number(row['median'], digits)} {table['unit']} | "
                           f"{number(row['least'], digits)} .. {number(row['most'], digits)} | {compared} |")
            else:
                out.append(f"| {table['what']}: {row['name']} | {row['reason']} | | |")
    return "\n".join(out) + "\n"


def number(value, digits):
    return f"{value:,.{digits}f}"


def tables(result):
    """[(title, unit, digits, rows)] of everything, in the order of the report. A lane's reason stands in full once a model."""
    out = []
    for model in dict.fromkeys(lane["model"] for lane in result["lanes"]):
        told = set()
        for metric, (title, unit, digits, _) in metrics(result).items():
            rows = [row for row in lane_rows(result, metric) if row["model"] == model]
            if not rows or (told and not any("median" in row for row in rows)):
                continue
            for row in rows:
                if (row["name"], row.get("reason")) in told:
                    row["reason"] = "not measured, see above"
                elif "reason" in row:
                    told.add((row["name"], row["reason"]))
            out.append((f"{model}: {title}", unit, digits, rows))
    for table in result.get("side", []):
        out.append((table["what"], table["unit"], table.get("digits", 1), side_rows(table)))
    return out


def head_lines(result):
    """(name, value) pairs: machine, run, ceilings, versions."""
    machine, run = result["machine"], result["run"]
    lines = [("date", run["date"]), ("machine", f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB"),
             ("instructions", " ".join(machine["instructions"])), ("Tessera", run.get("tessera", "?")), ("tier", run.get("tier", "?")),
             ("mode", run["mode"]), ("rounds", str(run["rounds"])), ("load average", run.get("load", "?")), ("quiet", run["quiet"]), ("energy", run["energy"])]
    lines += [(f"ceiling: {name}", f"{number(entry['value'], 1)} {entry['unit']}") for name, entry in result["ceilings"].get("values", {}).items()]
    for lane in result["lanes"]:
        if lane.get("facts"):
            lines.append((f"{lane['model']} {lane['peer']} {lane['weights']}", ", ".join(f"{key} {value}" for key, value in lane["facts"].items())))
    if result["ceilings"].get("reason"):
        lines.append(("ceilings", result["ceilings"]["reason"]))
    for peer, entry in result.get("peers", {}).items():
        lines.append((peer, "absent: " + entry["reason"] if "reason" in entry else ", ".join(f"{key} {value}" for key, value in entry.items())))
    return lines


def summary(result):
    """[(what, ours, [(peer, ratio)])]: what a reader wants first. A row a model, width and metric in which somebody is compared."""
    out = []
    streams = [f"streams_{count}" for count in result["run"].get("streams", []) if count == 8] or [f"streams_{count}" for count in result["run"].get("streams", [])[-1:]]
    for model in dict.fromkeys(lane["model"] for lane in result["lanes"]):
        for metric in ("prefill", "decode", *streams):
            title, unit, digits, _ = metrics(result)[metric]
            rows = [row for row in lane_rows(result, metric) if row["model"] == model]
            for mine in rows:
                against = [(row["name"], row["ratio"]) for row in rows if row["bits"] == mine["bits"] and row.get("ratio")]
                if mine["peer"] == OUR_PEER and against:
                    out.append((f"{model} {mine['name'].removeprefix(OUR_PEER).strip()}: {title.split(';')[0]}", f"{number(mine['median'], digits)} {unit}", against))
    for table in result.get("side", []):
        rows = side_rows(table)
        against = [(row["name"], row["ratio"]) for row in rows if row.get("ratio")]
        mine = next((row for row in rows if row["name"] == OUR_PEER and "median" in row), None)
        if against and mine:
            out.append((table["what"], f"{number(mine['median'], table.get('digits', 1))} {table['unit']}", against))
    return out


def answers(result):
    """[(lane, what it said)] to the prompt of result["run"]["words"]."""
    return [(f"{lane['peer']} {lane['weights']}", lane["answer"]) for lane in result["lanes"] if lane.get("answer")]


def text(result):
    out = [f"{name:28} {value}" for name, value in head_lines(result)]
    for title, unit, digits, rows in tables(result):
        out += ["", f"{title} [{unit}]"]
        for row in rows:
            if "reason" in row:
                out.append(f"  {row['name']:28} -  {row['reason']}")
                continue
            compared = f"   Tessera is {row['ratio']:.2f} x" if row.get("ratio") else ""
            out.append(f"  {row['name']:28} {number(row['median'], digits):>10}  ({number(row['least'], digits)} .. "
                       f"{number(row['most'], digits)}, n = {row['count']}){compared}")
    if answers(result):
        out += ["", f"greedy answers to \"{result['run']['words']['prompt']}\""]
        out += [f"  {name:28} {json.dumps(answer, ensure_ascii=False)}" for name, answer in answers(result)]
    return "\n".join(out) + "\n"


STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.05rem;margin:1.8rem 0 .3rem}table{border-collapse:collapse;width:100%}
td,th{padding:.18rem .6rem;border-bottom:1px solid #e3e6ea;text-align:left;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.r{color:#6a737d}
.bar{background:#c9d4e0;height:.7rem;min-width:1px}.ours .bar{background:#2563b8}.ours td:first-child{font-weight:600}
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14171b}td,th{border-color:#2b3138}.bar{background:#46525f}}"""


def page(result):
    run, machine = result["run"], result["machine"]

    def cell(value, kind=""):
        return f"<td class=\"{kind}\">{html.escape(str(value))}</td>"

    out = ["<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tessera beside its peers</title>",
           f"<style>{STYLE}</style></head><body><h1>Tessera beside its peers</h1>",
           "<p>Medians with least and most of all rounds, peers in turn within a round, one at a time. The ratio says how many times better "
           "Tessera's median with weights of the same width is. Everything here was written by the run itself.</p>",
           f"<p>{html.escape(run['date'])}, {html.escape(machine['cpu'])}, {machine['cpus']} CPUs, tier {html.escape(run.get('tier', '?'))}. "
           f"Quiet: {html.escape(run['quiet'])}.</p>",
           "<h2>In short</h2><table><tr><th></th><th class=\"n\">Tessera</th><th>times better than</th></tr>"]
    for what, ours, against in summary(result):
        peers = ", ".join(f"{name} {value:.2f} x" for name, value in sorted(against, key=lambda pair: pair[1]))
        out.append(f"<tr>{cell(what)}{cell(ours, 'n')}{cell(peers)}</tr>")
    out.append("</table><h2>The run</h2><table>")
    out += [f"<tr><th>{html.escape(name)}</th>{cell(value)}</tr>" for name, value in head_lines(result)]
    out.append("</table>")
    for title, unit, digits, rows in tables(result):
        most = max((row["median"] for row in rows if "median" in row), default=0) or 1
        out.append(f"<h2>{html.escape(title)}</h2><table><tr><th></th><th class=\"n\">{html.escape(unit)}</th><th class=\"n\">spread</th>"
                   "<th class=\"n\">ratio</th><th style=\"width:32%\"></th></tr>")
        for row in rows:
            kind = "ours" if row["name"].startswith(OUR_PEER) else ""
            if "reason" in row:
                out.append(f"<tr class=\"{kind}\">{cell(row['name'])}<td class=\"r\" colspan=\"4\">{html.escape(row['reason'])}</td></tr>")
                continue
            ratio_text = f"{row['ratio']:.2f} x" if row.get("ratio") else ""
            width = f"{100 * max(row['median'], 0) / most:.1f}%"
            out.append(f"<tr class=\"{kind}\">{cell(row['name'])}{cell(number(row['median'], digits), 'n')}"
                       f"{cell(number(row['least'], digits) + ' .. ' + number(row['most'], digits), 'n')}{cell(ratio_text, 'n')}"
                       f"<td><div class=\"bar\" style=\"width:{width}\"></div></td></tr>")
        out.append("</table>")
    if answers(result):
        out.append(f"<h2>Greedy answers to \"{html.escape(result['run']['words']['prompt'])}\"</h2><table>")
        out += [f"<tr class=\"{'ours' if name.startswith(OUR_PEER) else ''}\">{cell(name)}{cell(answer)}</tr>" for name, answer in answers(result)]
        out.append("</table>")
    if result["ceilings"].get("output"):
        out.append(f"<h2>Ops against the ceilings</h2><pre>{html.escape(result['ceilings']['output'])}</pre>")
    out.append("</body></html>\n")
    return "\n".join(out)


def write(result, folder):
    """report.json, report.txt, report.md, report.html."""
    (folder / "report.md").write_text(markdown(result), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (folder / "report.txt").write_text(text(result), encoding="utf-8")
    (folder / "report.html").write_text(page(result), encoding="utf-8")
