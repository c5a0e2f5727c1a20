"""Music that may be trained on: python scripts/free_music.py FOLDER

Fetches packages of free games from Debian 12 and keeps the recordings in them that last half a minute or
more at 44.1 kHz or above: electronic music, orchestras, rock, folk, few voices. Needs apt-get and dpkg-deb;
nothing is installed. Licenses are those of the packages, all of Debian's main section; FOLDER/sources.json
says which versions were fetched. What is there already is not fetched again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from rich.console import Console
from rich.progress import track

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.runs import write_json

PACKAGES = (
    "amoebax-data",
    "ardentryst",
    "berusky2-data",
    "colobot-common-sounds",
    "enigma-data",
    "extremetuxracer-data",
    "flare-game",
    "freedink-data",
    "freedroidrpg-data",
    "freeorion-data",
    "fretsonfire-songs-muldjord",
    "fretsonfire-songs-sectoid",
    "frozen-bubble-data",
    "hedgewars-data",
    "hex-a-hop-data",
    "hyperrogue-music",
    "lincity-ng-data",
    "lordsawar-data",
    "marsshooter-data",
    "megaglest-data",
    "naev-data",
    "noiz2sa-data",
    "planetblupi-music-ogg",
    "redeclipse-data",
    "singularity-music",
    "starfighter-data",
    "supertux-data",
    "supertuxkart-data",
    "trackballs-data",
    "ufoai-music",
    "unknown-horizons",
    "warmux-data",
    "warzone2100-music",
    "wesnoth-1.16-music",
    "widelands-data",
    "wizznic-data",
    "xmoto-data",
    "zaz-data",
)
ARCHIVES = (".pk3", ".zip")
SECONDS, RATE = 30.0, 44_100


def fetch(package: str, folder: Path) -> str:
    """Unpacks a package's recordings into a folder of its own; returns its version."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        subprocess.run(["apt-get", "download", package], cwd=place, check=True, capture_output=True)
        archive = next(Path(place).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive.name, "all"], cwd=place, check=True, capture_output=True)
        kept = Path(place) / "kept"
        for path in sorted((Path(place) / "all").rglob("*")):
            if path.is_symlink():
                continue
            if path.is_file() and path.suffix.lower() in ARCHIVES and zipfile.is_zipfile(path):
                unpack(path, kept / path.stem)
            elif path.is_file() and is_music(path):
                move(path, kept / path.parent.name)
        kept.mkdir(exist_ok=True)
        shutil.rmtree(folder / package, ignore_errors=True)
        kept.rename(folder / package)
        return archive.name.split("_")[1]


def unpack(archive: Path, folder: Path) -> None:
    """The music of an archive within a package."""
    with zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            if audio_io.is_audio(Path(name)):
                path = Path(content.extract(name, archive.parent / "unpacked"))
                if is_music(path):
                    move(path, folder)


def move(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.move(path, folder / path.name)


def is_music(path: Path) -> bool:
    """Long enough, and not recorded for a telephone."""
    try:
        about = audio_io.info(path) if audio_io.is_audio(path) else None
    except AudioError:
        return False
    return about is not None and about.seconds >= SECONDS and about.sample_rate >= RATE


def work(folder: Path) -> None:
    """Fetches what is missing and says how much there is."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ValueError("this needs apt-get and dpkg-deb, so Debian or Ubuntu")
    folder.mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.json"
    versions = json.loads(sources.read_text(encoding="utf-8")) if sources.is_file() else {}
    for package in track(PACKAGES, "fetching", console=Console(stderr=True)):
        if package in versions and (folder / package).is_dir():
            continue
        try:
            versions[package] = fetch(package, folder)
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().splitlines()
            print(f"{package}: not to be had ({reason[-1] if reason else error})", file=sys.stderr)
        write_json(sources, versions)
    seconds = sum(audio_io.info(path).seconds for path in folder.rglob("*") if audio_io.is_audio(path))
    print(f"{folder}: {seconds / 3600:.1f} hours of music")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    try:
        work(parser.parse_args().folder)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on")


if __name__ == "__main__":
    main()
