from tests.visits import concurrent

__path__ = [*__path__, *concurrent.__path__]
