"""The recipe `images`: what this environment pulls, and moving it to where nothing can be pulled."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from envkit.environment import load_environment
from envkit.errors import UserError
from envkit.paths import just_command, path_of_argument

_Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_image_commands(add: _Add) -> None:
    """Adds it by `add(name, function, text)`."""
    images = add("images", _images, "list every image and chart that is needed, with digests; save and load them")
    images.add_argument("--json", action="store_true", help="for machines")
    for option, text in (
        ("--save", "fetch all of them into one file"),
        ("--load", "put those of a file into Docker's engine"),
    ):
        images.add_argument(option, type=path_of_argument, metavar="FILE", help=text)
    images.add_argument(
        "--to",
        nargs="?",
        const="",
        metavar="HOST/PREFIX",
        help="with --load: put them into a mirror instead; without a value into those that this environment names",
    )
    images.add_argument("--plain-http", action="store_true", help="with --to: that mirror speaks HTTP without TLS")


def _images(arguments: argparse.Namespace) -> int:
    if arguments.save and arguments.load:
        raise UserError("--save and --load are two commands.", "", f"{just_command()} images --save FILE")
    if (arguments.to is not None or arguments.plain_http) and not arguments.load:
        raise UserError(
            "--to says where the images of a file go.",
            "Without --load there is no file.",
            f"{just_command()} images --save FILE, then {just_command()} images --load FILE --to HOST/PREFIX",
        )
    from envkit import image_moves, image_report

    environment = load_environment()
    if arguments.save:
        return image_moves.save(arguments.save, environment)
    if arguments.load and arguments.to is not None:
        return image_moves.push(arguments.load, arguments.to.strip("/"), plain_http=arguments.plain_http)
    if arguments.load:
        return image_moves.load(arguments.load, environment)
    return image_report.report(environment, as_json=arguments.json)
