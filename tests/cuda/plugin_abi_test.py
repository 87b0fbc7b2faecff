#!/usr/bin/env python3
"""tools/plugin_abi.py on this checkout, and on copies of it with a change."""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import plugin_abi  # noqa: E402


class PluginAbi(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        for name in [*plugin_abi.headers(ROOT), plugin_abi.RECORD]:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        (self.root / plugin_abi.RECORD).write_text(json.dumps(plugin_abi.state(self.root)))

    def change(self, name, old, new):
        text = (self.root / name).read_text()
        self.assertIn(old, text)
        (self.root / name).write_text(text.replace(old, new, 1))

    def raise_version(self):
        now = plugin_abi.state(self.root)["version"]
        self.change(plugin_abi.HEADER, f"kPluginVersion = {now};", f"kPluginVersion = {now + 1};")

    def test_this_checkout(self):
        self.assertIsNone(plugin_abi.check(ROOT))

    def test_headers(self):
        names = plugin_abi.headers(ROOT)
        for name in ["kernels/cuda/plugin.h", "kernels/backend.h", "kernels/factory.h", "kernels/ops.h", "kernels/tensor.h", "base/error.h"]:
            self.assertIn(name, names)
        self.assertNotIn("kernels/cuda/backend.h", names)

    def test_comments_and_spaces_are_nothing(self):
        self.change("kernels/ops.h", "struct SampleArgs {", "struct  SampleArgs\n{ // new\n /* words \"of\" // it */")
        self.assertIsNone(plugin_abi.check(self.root))

    def test_a_change_without_a_version(self):
        for name, old, new in [
            ("kernels/ops.h", "struct SampleArgs {", "struct SampleArgs { int more;"),
            ("base/error.h", "kInternal, ", "kInternal, kMore, "),
            ("kernels/factory.h", '"auto";', '"a uto";'),
        ]:
            with self.subTest(name):
                self.setUp()
                self.change(name, old, new)
                problem = plugin_abi.check(self.root)
                self.assertIn("is still", problem)
                self.assertNotIn("\n", problem)
                self.assertIn("is still", plugin_abi.update(self.root))
                self.raise_version()
                self.assertIn("--update", plugin_abi.check(self.root))
                self.assertIsNone(plugin_abi.update(self.root))
                self.assertIsNone(plugin_abi.check(self.root))

    def test_a_new_header(self):
        (self.root / "kernels/new.h").write_text("struct New {};\n")
        self.change("kernels/ops.h", '#include "kernels/', '#include "kernels/new.h"\n#include "kernels/')
        self.assertIn("kernels/new.h", plugin_abi.headers(self.root))
        self.assertIn("is still", plugin_abi.check(self.root))


if __name__ == "__main__":
    unittest.main()
