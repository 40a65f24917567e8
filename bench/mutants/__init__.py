"""Small slips are put into the code one at a time, and the tests are asked whether they notice.

A slip is what a tired engineer types: `<` for `<=`, an ORDER BY forgotten, two arguments swapped. Each is run against
the quick suites in a copy of the checkout, where nothing else is touched. What no test finds is printed; whether it
needs a test is for a person to say, because some slips change nothing that anybody was promised.

    make mutants SEED=1 COUNT=50
"""
