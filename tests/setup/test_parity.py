"""scripts/parity.py: rows of a test run become the tables of a document."""

import importlib.util
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "parity.py"
spec = importlib.util.spec_from_file_location("parity", SCRIPT)
parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parity)

OUTPUT = """
running 3 tests
test b ... parity | logits, float32 | transformers 1 | 20 | 1.0e-6 | 1.0e-4 |
ok
parity | ids (unequal) | tokenizers 2 | 3 | 0 | 0 |
parity | ids (unequal) | tokenizers 2 | 3 | 0 | 0 |
parity | real: ids | tokenizers 2 | 9 | 0 | 0 |
parity | exports: logprobs | transformers 1 | 5 | 1.0e-7 | 1.0e-5 |
test result: ok. 3 passed; 0 failed
"""
DOCUMENT = "a\n<!-- parity: begin -->\nold\n<!-- parity: end -->\nb\n<!-- real: begin -->\nkept\n<!-- real: end -->\n" \
    "<!-- exports: begin -->\nstays\n<!-- exports: end -->\nc\n"


class Tables(unittest.TestCase):
    def test_rows_are_sorted_and_once(self):
        rows = parity.rows(OUTPUT)
        self.assertEqual([row[0] for row in rows], ["exports: logprobs", "ids (unequal)", "logits, float32", "real: ids"])
        self.assertEqual(rows[2], ("logits, float32", "transformers 1", "20", "1.0e-6", "1.0e-4"))

    def test_a_row_of_another_form_is_refused(self):
        with self.assertRaises(SystemExit):
            parity.rows("parity | a | b | 1 | 0 |\n")

    def test_all_tables_are_replaced_and_nothing_else(self):
        text = parity.document(DOCUMENT, parity.rows(OUTPUT))
        self.assertIn("| ids (unequal) | tokenizers 2 | 3 | 0 | 0 |\n| logits, float32 |", text)
        self.assertIn("| ids | tokenizers 2 | 9 | 0 | 0 |", text)
        self.assertNotIn("old", text)
        self.assertIn("| logprobs | transformers 1 | 5 | 1.0e-7 | 1.0e-5 |", text)
        self.assertNotIn("kept", text)
        self.assertNotIn("stays", text)
        self.assertEqual((text[:2], text[-2:]), ("a\n", "c\n"))
        self.assertEqual(text, parity.document(text, parity.rows(OUTPUT)))

    def test_what_was_not_made_again_stays(self):
        for name, was in [("real", "kept"), ("exports", "stays")]:
            rows = [row for row in parity.rows(OUTPUT) if not row[0].startswith(f"{name}: ")]
            text = parity.document(DOCUMENT, rows)
            self.assertIn(f"<!-- {name}: begin -->\n{was}\n<!-- {name}: end -->\n", text)
            self.assertNotIn("old", text)

    def test_a_document_without_its_markers_is_refused(self):
        for text in ["", DOCUMENT.replace("<!-- parity: end -->\n", ""), DOCUMENT + DOCUMENT]:
            with self.assertRaises(SystemExit):
                parity.document(text, parity.rows(OUTPUT))


if __name__ == "__main__":
    unittest.main()
