"""Puts small mistakes into the code, one at a time, and checks whether the tests notice.

A slip is a mistake that a tired engineer makes: `<` for `<=`, an ORDER BY forgotten, two arguments swapped. Each is run
against the quick suites in a copy of the checkout. Slips that no test finds are printed. A person decides whether one
needs a test, because some slips change nothing that the service promises.

    make mutants SEED=1 COUNT=50

Beside these slips, which a seed chooses, the rules of the moves are broken one by one (`bench.mutants.rules`), each
against the tests that must find it. One that none of them finds is a gap.

    make mutants ARGS=--rules
"""
