"""Fuzzing: any bytes give a result or an error of the package, from every parser that is written by hand.

`targets.py` lists the parsers, `mutations.py` changes valid files, and `corpus/` holds what was found and fixed. The test
suite runs a few hundred inputs for each target. For a longer run, guided by coverage, install atheris: `pip install atheris`.

    cd tests && python -m fuzz --minutes 10 card
"""
