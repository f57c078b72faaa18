"""copy_db beside pgcopydb, pg_dump|psql, DSLR and the bare CREATE DATABASE … TEMPLATE.

    python benchmarks/copy.py [--size 1] [--rounds 3] [--only same,two,masks,small,catalogue]

What is measured is in copying.py. A script's own directory stands before the standard library, and
this file has the name of a module that nearly everything imports: whoever imports it gets that one.
"""

if __name__ == "__main__":
    from copying import main

    main(__doc__)
else:
    import os
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    found = PathFinder.find_spec("copy", [os.path.dirname(os.__file__)])
    sys.modules[__name__] = module_from_spec(found)
    found.loader.exec_module(sys.modules[__name__])
