"""The scripts of tests/oracles: pinned versions are asserted, and every fixture has its script."""

import ast
import re
import unittest
from pathlib import Path

ORACLES = Path(__file__).resolve().parents[1] / "oracles"
# What decides numbers or ids. The others of the requirements only carry these.
ASSERTED = {"torch", "transformers", "trl", "tokenizers"}


def pinned():
    lines = (ORACLES / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def imported(source):
    """First names of what a script imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def asserted(script):
    """{package: version} that a script asserts, itself or by importing another one of the folder."""
    source = script.read_text(encoding="utf-8")
    found = dict(re.findall(r'^assert (\w+)\.__version__(?:\.split\("\+"\)\[0\])? == "([^"]+)"', source, re.MULTILINE))
    for name in imported(source):
        other = ORACLES / f"{name}.py"
        if other.exists() and other != script:
            found = {**asserted(other), **found}
    return found


class Oracles(unittest.TestCase):
    def test_scripts_assert_the_pinned_versions(self):
        versions = pinned()
        scripts = sorted(ORACLES.glob("*_cases.py"))
        self.assertGreaterEqual(len(scripts), 3)
        for script in [*scripts, ORACLES / "real_text.py"]:
            with self.subTest(script=script.name):
                found = asserted(script)
                used = imported(script.read_text(encoding="utf-8")) & ASSERTED
                self.assertLessEqual(used, set(found), "these packages are used without an assertion of their versions")
                for package, version in found.items():
                    self.assertEqual(version, versions.get(package), f"{package}, against requirements.txt")

    def test_every_fixture_is_made_by_a_script(self):
        scripts = {script.name: script.read_text(encoding="utf-8") for script in ORACLES.glob("*_cases.py")}
        for path in sorted(ORACLES.iterdir()):
            if path.suffix in (".py", ".txt", ".md") or path.name == "__pycache__":
                continue
            with self.subTest(fixture=path.name):
                own = path.with_suffix(".py").name in scripts
                self.assertTrue(own or any(f'"{path.name}"' in text for text in scripts.values()), "no *_cases.py writes it")


if __name__ == "__main__":
    unittest.main()
