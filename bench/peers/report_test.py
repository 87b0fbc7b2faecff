#!/usr/bin/env python3
"""Tests of the report: its arithmetic, and that no lane and no reason is lost."""

import json
import pathlib
import tempfile
import types
import unittest

import ceilings
import measure
import report


def lane(peer, bits, model="m", reason=None, unmeasured=None, **samples):
    out = {"model": model, "peer": peer, "weights": f"w{bits}", "bits": bits}
    if reason:
        out["reason"] = reason
    else:
        out["samples"] = samples
    if unmeasured:
        out["unmeasured"] = unmeasured
    return out


def result(lanes, side=()):
    return {"machine": {"cpu": "a <processor>", "cpus": 2, "memory_gib": 24.0, "instructions": ["avx2"]},
            "run": {"date": "2026-01-02", "mode": "quick", "rounds": 2, "quiet": "yes", "energy": "not readable", "streams": [8],
                    "prefill_tokens": 512, "decode_tokens": 32, "tier": "avx2", "tessera": "0.1.0"},
            "ceilings": {"values": {"reads": {"value": 10.0, "unit": "GB/s"}}, "output": "table"},
            "peers": {"llama.cpp": {"version": "1"}, "mistralrs": {"reason": "no wheel"}}, "lanes": lanes, "side": list(side)}


class Arithmetic(unittest.TestCase):
    def test_spread_is_median_least_most(self):
        self.assertEqual(report.spread([3.0, 1.0, 10.0]), (3.0, 1.0, 10.0))

    def test_generator_comes_off_the_wall_time(self):
        # 100 tokens in 2 s; the generator took 1 CPU second of 2 CPUs: half a second of the machine
        self.assertAlmostEqual(report.without_generator(100, 2.0, 1.0, 2), 100 / 1.5)
        self.assertAlmostEqual(report.without_generator(100, 2.0, 0.0, 2), 50.0)

    def test_generator_takes_off_half_at_most(self):
        self.assertAlmostEqual(report.without_generator(100, 2.0, 3.9, 2), 100.0)

    def test_generator_without_time_is_refused(self):
        with self.assertRaises(ValueError):
            report.without_generator(1, 0.0, 0.0, 2)

    def test_ratio_above_one_is_for_us_in_both_directions(self):
        self.assertAlmostEqual(report.ratio(30.0, 10.0, "high"), 3.0)
        self.assertAlmostEqual(report.ratio(10.0, 30.0, "low"), 3.0)
        self.assertIsNone(report.ratio(None, 3.0, "high"))
        self.assertIsNone(report.ratio(3.0, 0.0, "high"))


class Agreement(unittest.TestCase):
    WORDS = {"ids": [5, 6, 7], "beginnings": ["a", "a b", "a b c"]}

    def test_by_ids_up_to_the_first_other(self):
        self.assertEqual(report.agreement([5, 6, 9], "a b c", self.WORDS), 2)
        self.assertEqual(report.agreement([5, 6, 7], None, self.WORDS), 3)
        self.assertEqual(report.agreement([4], None, self.WORDS), 0)

    def test_by_text_where_there_are_no_ids(self):
        self.assertEqual(report.agreement(None, "a b d", self.WORDS), 2)
        self.assertEqual(report.agreement(None, "x", self.WORDS), 0)
        self.assertEqual(report.agreement(None, None, self.WORDS), 0)


class Sizes(unittest.TestCase):
    """What is begun: a peer that would take longer than a measurement may is a row that says so."""

    class Peer:
        pid, facts, process = 0, {}, None

        def __init__(self, wall):
            self.wall, self.asked = wall, []

        def together(self, prompts, tokens):
            self.asked.append(len(prompts))
            return len(prompts) * tokens, self.wall(len(prompts))

    def run_streams(self, wall, rate=10.0):
        peer, cell = self.Peer(wall), {"samples": {}, "unmeasured": {}}
        bench = types.SimpleNamespace(limit_s=20, stream_tokens=10, args=types.SimpleNamespace(streams=[1, 4, 8, 16]), prompt=lambda count: [1] * count)
        measure.Measure(bench, peer, cell).streams(rate)
        return peer.asked, cell

    def test_streams_that_gain_are_all_run(self):
        asked, cell = self.run_streams(lambda count: 1.0)
        self.assertEqual(asked, [1, 4, 8, 16])
        self.assertFalse(cell["unmeasured"])

    def test_streams_that_cost_in_proportion_end_at_the_limit(self):
        asked, cell = self.run_streams(lambda count: 3.0 * count)
        self.assertEqual(asked, [1, 4])
        self.assertIn("24 s", cell["unmeasured"]["streams_8"])
        self.assertIn("24 s", cell["unmeasured"]["streams_8"])
        self.assertIn("limit of a measurement is 20 s", cell["unmeasured"]["streams_16"])

    def test_peer_too_slow_for_one_stream_is_not_begun(self):
        asked, cell = self.run_streams(lambda count: 1.0, rate=0.1)
        self.assertEqual(asked, [])
        self.assertIn("100 s", cell["unmeasured"]["streams_1"])


class Rows(unittest.TestCase):
    def test_compared_within_model_and_width_only(self):
        lanes = [lane("Tessera", 16, decode=[20.0]), lane("Tessera", 8, decode=[40.0]), lane("Tessera", 16, model="other", decode=[7.0]),
                 lane("llama.cpp", 8, decode=[10.0, 10.0, 99.0]), lane("llama.cpp", 4, decode=[5.0])]
        rows = report.lane_rows(result(lanes), "decode")
        self.assertAlmostEqual(rows[3]["ratio"], 4.0)
        self.assertNotIn("ratio", rows[4])  # nothing of ours has that width
        self.assertNotIn("ratio", rows[0])

    def test_less_is_better_for_memory(self):
        rows = report.lane_rows(result([lane("Tessera", 16, peak_memory=[100.0]), lane("llama.cpp", 16, peak_memory=[250.0])]), "peak_memory")
        self.assertAlmostEqual(rows[1]["ratio"], 2.5)

    def test_missing_lane_is_a_row_with_its_reason(self):
        rows = report.lane_rows(result([lane("Tessera", 16, decode=[1.0]), lane("OpenVINO", 16, reason="no wheel")]), "decode")
        self.assertEqual(rows[1]["reason"], "no wheel")

    def test_reason_of_one_metric(self):
        rows = report.lane_rows(result([lane("transformers", 16, decode=[1.0], unmeasured={"streams_8": "has no server here"})]), "streams_8")
        self.assertEqual(rows[0]["reason"], "has no server here")

    def test_failure_of_ours_leaves_the_others_without_ratio(self):
        rows = report.lane_rows(result([lane("Tessera", 8, reason="refused"), lane("llama.cpp", 8, decode=[4.0])]), "decode")
        self.assertEqual(rows[0]["reason"], "refused")
        self.assertEqual(rows[1]["median"], 4.0)
        self.assertNotIn("ratio", rows[1])

    def test_lane_that_is_there_for_one_metric_has_rows_in_that_alone(self):
        lanes = [lane("transformers", 32, agreement=[32]), lane("Tessera", 16, decode=[2.0], agreement=[31])]
        lanes[0]["only"] = ["agreement"]
        whole = result(lanes)
        self.assertEqual([row["peer"] for row in report.lane_rows(whole, "agreement")], ["transformers", "Tessera"])
        self.assertEqual([row["peer"] for row in report.lane_rows(whole, "decode")], ["Tessera"])

    def test_what_only_some_tell_has_no_rows_of_the_others(self):
        rows = report.lane_rows(result([lane("Tessera", 16, busy_8=[97.0]), lane("llama.cpp", 16, decode=[1.0])]), "busy_8")
        self.assertEqual([row["peer"] for row in rows], ["Tessera"])

    def test_reason_of_a_metric_comes_before_the_lanes(self):
        broken = lane("mistral.rs", 16, reason="died", unmeasured={"streams_8": "Already borrowed"})
        self.assertEqual(report.lane_rows(result([broken]), "streams_8")[0]["reason"], "Already borrowed")

    def test_what_a_peer_does_is_not_compared(self):
        lanes = [lane("Tessera", 16, cores=[2.0], prompt_tokens=[512]), lane("llama.cpp", 16, cores=[1.0], prompt_tokens=[512])]
        for metric in ("cores", "prompt_tokens"):
            self.assertNotIn("ratio", report.lane_rows(result(lanes), metric)[1])

    def test_side_table(self):
        rows = report.side_rows({"better": "low", "rows": [{"name": "Tessera", "ours": True, "samples": [2.0]}, {"name": "peer", "samples": [9.0, 8.0, 7.0]},
                                                           {"name": "gone", "reason": "not installed"}]})
        self.assertAlmostEqual(rows[1]["ratio"], 4.0)
        self.assertEqual(rows[2]["reason"], "not installed")


class Forms(unittest.TestCase):
    def setUp(self):
        self.result = result([lane("Tessera", 16, decode=[20.0, 22.0]), lane("llama.cpp", 16, decode=[10.0]), lane("OpenVINO", 16, reason="<b>broken</b>")],
                             [{"what": "tokenise", "unit": "ms", "better": "low", "rows": [{"name": "Tessera", "ours": True, "samples": [2.0]}]}])

    def test_text_holds_every_lane_ceiling_and_absent_peer(self):
        text = report.text(self.result)
        for wanted in ("Tessera w16", "llama.cpp w16", "<b>broken</b>", "ceiling: reads", "absent: no wheel", "2.10 x", "tokenise [ms]"):
            self.assertIn(wanted, text)

    def test_markdown_has_a_row_a_measured_lane_and_a_reason_for_the_others(self):
        out = report.markdown(self.result)
        self.assertIn("| llama.cpp w16 | 10.0 (2.10) |", out)
        self.assertIn("- OpenVINO w16: <b>broken</b>", out)

    def test_titles_hold_the_numbers_of_the_run(self):
        text = report.text(self.result)
        self.assertIn("decode of 32 tokens", text)
        self.assertNotIn("decode of 128", text)

    def test_reason_is_told_once_a_model_and_every_lane_has_a_row(self):
        whole = result([lane("Tessera", 16, decode=[1.0], prefill=[2.0]), lane("OpenVINO", 16, reason="no wheel")])
        self.assertEqual(report.text(whole).count("no wheel"), 2)  # the lane's, and the head's of an absent package
        self.assertGreaterEqual(report.text(whole).count("OpenVINO w16"), 2)

    def test_nothing_measured_still_lists_every_lane(self):
        text = report.text(result([lane("OpenVINO", 16, reason="broken wheel"), lane("Tessera", 16, reason="no server")]))
        self.assertIn("broken wheel", text)
        self.assertIn("no server", text)

    def test_summary_says_ours_and_how_many_times_better(self):
        rows = report.summary(self.result)
        self.assertEqual(rows[0][0], "m w16: decode of 32 tokens, one stream")
        self.assertEqual(rows[0][1:], ("21.0 tok/s", [("llama.cpp w16", 2.1)]))
        self.assertEqual(len(rows), 1)  # nobody is compared in the side table
        self.assertIn("llama.cpp w16 2.10 x", report.page(self.result))

    def test_reason_is_one_line_without_this_machines_paths(self):
        self.assertEqual(report.plain("no\n  file /a/b/models/x", "/a/b"), "no file models/x")
        self.assertEqual(report.plain("two\nlines"), "two lines")

    def test_answers_stand_in_both_forms_escaped(self):
        self.result["run"]["words"] = {"prompt": "Once", "tokens": 32}
        self.result["lanes"][0]["answer"] = "<i>upon</i>"
        self.assertIn("<i>upon</i>", report.text(self.result))
        self.assertIn("&lt;i&gt;upon", report.page(self.result))
        self.assertNotIn("<i>", report.page(self.result))

    def test_page_escapes_what_others_said(self):
        page = report.page(self.result)
        self.assertIn("&lt;b&gt;broken&lt;/b&gt;", page)
        self.assertIn("a &lt;processor&gt;", page)
        self.assertNotIn("<b>broken", page)

    def test_written_json_holds_all_samples(self):
        with tempfile.TemporaryDirectory() as folder:
            report.write(self.result, pathlib.Path(folder))
            self.assertEqual(json.loads((pathlib.Path(folder) / "report.json").read_text())["lanes"][0]["samples"]["decode"], [20.0, 22.0])
            self.assertTrue((pathlib.Path(folder) / "report.html").read_text().startswith("<!doctype html>"))


class Ceilings(unittest.TestCase):
    def test_line_of_bench_ops_is_read(self):
        found = ceilings.parse("tier avx512, 2 threads\nceilings, medians of 9: 123.4 GFLOP/s of fp32 FMAs, 1,021.0 Gop/s of products of bytes, "
                               "12.5 GB/s of reading 0.77 GB\n")
        self.assertEqual(found["fp32 FMAs"], {"value": 123.4, "unit": "GFLOP/s"})
        self.assertEqual(found["products of bytes"], {"value": 1021.0, "unit": "Gop/s"})
        self.assertEqual(found["reading"], {"value": 12.5, "unit": "GB/s"})

    def test_output_without_ceilings_is_nothing(self):
        self.assertEqual(ceilings.parse("MatMul 3 GB/s of something\n"), {})


if __name__ == "__main__":
    unittest.main()
