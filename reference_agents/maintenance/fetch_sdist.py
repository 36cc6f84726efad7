"""Fetch a source distribution as the package index has it, and run nothing of it.

`pip download` asks a source distribution for its metadata, which runs its build script with the network and everything
this user may do. This script uses the rest of pip: its settings, its search of the index, its connection. That needs
internal parts of pip, so it is a separate program, which ends with an error if pip has changed. `source` runs it by
path: `python -I fetch_sdist.py NAME==VERSION FOLDER`.
"""

from __future__ import annotations

import hashlib
import sys
from optparse import Values
from pathlib import Path
from typing import Final

from pip._internal.commands.download import DownloadCommand
from pip._internal.exceptions import DistributionNotFound, InstallationError
from pip._vendor.packaging.specifiers import SpecifierSet

__all__ = ["main"]

OPTIONS: Final = ("--no-binary", ":all:", "--no-deps", "--no-input", "--disable-pip-version-check")
CHUNK: Final = 256 * 1024


class Fetch(DownloadCommand):
    """`pip download`, up to the point where the archive is there."""

    def run(self, options: Values, args: list[str]) -> int:
        """Put the archive of the one requirement into the folder of `--dest`."""
        name, _, version = args[0].partition("==")
        session = self.get_default_session(options)
        finder = self._build_package_finder(options, session)
        found = finder.find_best_candidate(name, SpecifierSet(f"=={version}")).best_candidate
        if found is None:
            raise DistributionNotFound(f"No matching distribution found for {args[0]}")
        link = found.link
        target = Path(options.download_dir) / link.filename
        digest = hashlib.new(link.hash_name) if link.hash_name else None
        # Unencoded: a server that is not told so may compress it once more.
        with session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True) as response:
            response.raise_for_status()
            with target.open("wb") as file:
                for piece in response.iter_content(CHUNK):
                    file.write(piece)
                    if digest is not None:
                        digest.update(piece)
        if digest is not None and digest.hexdigest() != link.hash:
            target.unlink()
            raise InstallationError(f"{link.filename} is not the file that the index names: its hash differs")
        return 0


def main(arguments: list[str]) -> int:
    """Fetch one source distribution; return pip's exit code."""
    requirement, folder = arguments
    Path(folder).mkdir(parents=True, exist_ok=True)
    command = Fetch("download", "Fetch a source distribution.")
    return int(command.main([*OPTIONS, "--dest", folder, "--", requirement]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
