"""A process that is forked while another thread loads a model can load one itself."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, signal, sys, threading, warnings
import npdistil
warnings.simplefilter("ignore")  # newer versions of Python warn of every fork beside threads
place, engine = sys.argv[1:]
inside, forked = threading.Event(), threading.Event()

def stop():
    if threading.current_thread() is loader and not inside.is_set():
        inside.set()
        forked.wait(1)  # which is over when the fork waits for this

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == place:
            stop()

def load():
    if place == "a tokenizer":
        import npdistil.checkpoint.tokenizer as tokenizer
        before = tokenizer._try
        tokenizer._try = lambda *given: (stop(), before(*given))
    if place == "a file of weights":
        import npdistil.checkpoint.tensors as tensors
        once, safe_open = threading.Lock(), tensors.safe_open  # the library has such a lock for its first file
        def opened(*given, **named):
            with once:
                stop()
                return safe_open(*given, **named)
        tensors.safe_open = opened
    made = npdistil.pipeline("text-classification", npdistil.load(engine=engine, threads=2))
    made(["good"] * 800)

sys.meta_path.insert(0, Finder)
loader = threading.Thread(target=load)
loader.start()
assert inside.wait(240)
child = os.fork()
if not child:
    signal.alarm(240)
    print(*npdistil.load(engine=engine, threads=2).predict(["good", "bad"]), flush=True)
    os._exit(0)
forked.set()
_, status = os.waitpid(child, 0)
loader.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
@pytest.mark.parametrize("engine", ["numpy", "auto"])
@pytest.mark.parametrize(
    "place",
    [
        "npdistil.model",
        "npdistil.tasks.text_classification",
        "npdistil.compiled.encoder",
        "a tokenizer",
        "a file of weights",
    ],
)
def test_a_fork_in_the_middle_of_loading_leaves_a_process_that_can_load(place: str, engine: str) -> None:
    if place == "npdistil.compiled.encoder" and engine == "numpy":
        place = "concurrent.futures._base"  # with which batches begin
    done = subprocess.run(
        [sys.executable, "-c", CODE, place, engine], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout) == (0, "POSITIVE NEGATIVE\n"), done.stderr
