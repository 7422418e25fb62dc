"""Runs the cases of a unittest class and leaves what the closing count needs, in JUnit's form (scripts/test_summary.py)."""
import os
import pathlib
import sys
import time
import unittest
import xml.sax.saxutils


class Recorder(unittest.TextTestResult):
    entry = ""  # the ctest entry's name

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.cases = []

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def keep(self, test, inner=""):
        self.cases.append(f'<testcase classname="{self.entry}" name="{test._testMethodName}" time="{time.monotonic() - self.began:.1f}">{inner}</testcase>')

    def addSuccess(self, test):
        super().addSuccess(test)
        self.keep(test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.keep(test, "<failure/>")

    def addError(self, test, error):
        super().addError(test, error)
        if isinstance(test, unittest.TestCase):  # else it is the class's own set-up
            self.keep(test, "<error/>")

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.keep(test, "<failure/>")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.keep(test, f"<skipped message={xml.sax.saxutils.quoteattr(reason)}/>")


def run(entry, cases, names):
    """True if all went well. `names`: of methods; empty: all."""
    Recorder.entry = entry
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(map(cases, names)) if names else loader.loadTestsFromTestCase(cases)
    result = unittest.TextTestRunner(resultclass=Recorder, verbosity=2).run(suite)
    if os.environ.get("REDOUBT_TEST_RESULTS"):
        pathlib.Path(os.environ["REDOUBT_TEST_RESULTS"], f"{entry}.xml").write_text("<testsuite>" + "".join(result.cases) + "</testsuite>")
    return result.wasSuccessful()
