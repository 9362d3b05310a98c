"""Where files lie: which ones a directory or a pattern means, where outputs go, and which places are refused."""

import glob
from pathlib import Path

from .. import atomic
from ..errors import InputError
from .formats import renamed
from .journal import beside


def is_many(source: str) -> bool:
    """Whether a path is a directory, or a pattern and no file."""
    return Path(source).is_dir() or (glob.has_magic(source) and not Path(source).exists())


def pairs(source: str, target: Path, output_format: str | None) -> list[tuple[Path, Path]]:
    """Each input, and its output: at the same place in the target.

    A directory stands for all files in it and in those below, but for those whose names, or whose directories' names,
    begin with "_" or ".", as Spark and Arrow have it.

    Raises:
        InputError: no input; outputs that would be written over each other or over an input, or be read as one.
    """
    root, found, everything = Path(source), [Path(source)], Path(source).is_dir()
    if not everything:
        while glob.has_magic(str(root)):
            root = root.parent
        found = [Path(path) for path in glob.glob(source, recursive=True)]  # noqa: PTH207 - absolute patterns too
    inputs = sorted({each for path in found for each in (_below(path) if path.is_dir() else [path])})
    if not inputs:
        raise InputError(f"{source}: there is no file to read")
    for path in inputs:
        if not path.is_file():
            raise InputError(f"{path} is not a file")
        if "**" in source and (links := [each for each in path.parents if root in each.parents and each.is_symlink()]):
            raise InputError(f"{links[-1]} is a link to a directory; ** does not follow these")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; expected a directory, for {len(inputs):,} files")
    inside, above = target.resolve(), root.resolve()
    if (everything or "**" in source) and above in (inside, *inside.parents):
        raise InputError(f"{target} lies in {root}, whose files are read; write to another directory")
    written: dict[Path, Path] = {}
    outputs = []
    for path in inputs:
        if inside in path.resolve().parents:
            raise InputError(f"{path} is to be read and lies in {target}; write to another directory")
        name = path.name if output_format is None else renamed(path.name, output_format)
        outputs.append(target / path.relative_to(root).with_name(name))
        for each in (outputs[-1], *beside(outputs[-1])):
            if each in written:
                raise InputError(f"{each} would be written for {written[each]} and for {path}")
            written[each] = path
    return [*zip(inputs, outputs, strict=True)]


def check_place(path: Path | None, out: Path | None, *, one_of_many: bool) -> None:
    """InputError where an input cannot be read, or an output not be written without harm to something else."""
    if path and not path.is_file():
        raise InputError(f"{path} is not a file")
    if out and out.exists() and not out.is_file():  # a device or a pipe would be replaced too
        raise InputError(f"{out} is {'a directory' if out.is_dir() else 'no file'}; expected the name of a file")
    if path and out:
        for each in [out, *beside(out)]:
            if path.resolve() == each.resolve() or (each.exists() and path.samefile(each)):
                why = "" if each == out else " and would be written beside the output"
                raise InputError(f"{each} is the input{why}; choose another name for the output")
    if out and one_of_many:
        atomic.directory(out.parent)
    if out and not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: {out.parent} is not a directory")


def _below(directory: Path) -> list[Path]:
    """The files that a directory stands for."""
    found = []
    for path in directory.rglob("*"):
        if any(part[0] in "_." for part in path.relative_to(directory).parts):
            continue
        if path.is_symlink() and not path.is_file():
            raise InputError(f"{path} is a link to no file; links to directories are not followed")
        if not path.is_dir():
            found.append(path)
    return found
