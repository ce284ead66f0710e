"""The command line of the fake provider, `python -m harness.testing.server`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from pathlib import Path
from typing import get_args

from harness.testing.answers import Answering, lognormal
from harness.testing.batches import BatchFault, BatchFaultKind
from harness.testing.bill import Price
from harness.testing.faults import FaultKind, storm
from harness.testing.rate import Rate, RetryForm
from harness.testing.server import FakeProvider
from harness.testing.tokens import TOKENS

__all__ = ["main", "parser"]


def main() -> None:
    """Serve until interrupted, or until standard input closes."""
    told = parser()
    arguments = told.parse_args()
    try:
        provider = _provider(arguments)
    except ValueError as error:
        told.error(str(error))
    try:
        asyncio.run(_serve(provider, until_eof=arguments.until_eof))
    except KeyboardInterrupt:
        sys.exit(130)


def parser() -> argparse.ArgumentParser:
    """Its options."""
    told = "Serves OpenAI's and Anthropic's protocols on this machine, with limits, a bill and faults."
    parser = argparse.ArgumentParser(prog="python -m harness.testing.server", description=told)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, help="a JSONL file that requests and replies are appended to")
    parser.add_argument("--key", help="the only API key that is accepted")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    said = parser.add_argument_group("what it says")
    named = "by_keywords, by_hash, labels_11, labels_220 or module:function"
    said.add_argument("--answer", default="by_keywords", help=named)
    said.add_argument("--lengths", type=float, nargs=2, metavar=("MEAN", "SIGMA"), help="lognormal lengths in tokens")
    said.add_argument("--reasoning", type=int, default=0, help="tokens that it thinks before each reply")
    said.add_argument("--tokens", default="characters/4", choices=sorted(TOKENS), help="how tokens are counted")
    said.add_argument("--price", action="append", default=[], type=_price, help="MODEL=IN,OUT[,READ,WRITE], repeatable")
    said.add_argument("--delay", type=float, default=0.0, help="seconds that every reply takes")
    said.add_argument("--canned", action="store_true", help="the first reply on each path is sent to all")
    wrong = parser.add_argument_group("what goes wrong")
    wrong.add_argument("--fault", action="append", choices=get_args(FaultKind), help="repeat for several kinds")
    wrong.add_argument("--share", type=float, default=0.1, help="of requests that meet a fault")
    wrong.add_argument("--seed", type=int, default=0, help="of which requests do")
    wrong.add_argument("--batch-looks", type=int, default=0, help="a batch ends once it was looked at so many times")
    wrong.add_argument(
        "--batch-fault", action="append", choices=get_args(BatchFaultKind), help="of the first batch, the second, ..."
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--rate", type=float, help="requests a second, beyond which 429 is answered")
    limits.add_argument("--burst", type=float, default=1.0, help="requests that are taken at once after a pause")
    limits.add_argument("--token-rate", type=float, help="tokens a second, of prompts and max_tokens")
    limits.add_argument("--token-burst", type=float, help="tokens at once after a pause; else a minute's worth")
    limits.add_argument("--retry-after", default="seconds", choices=get_args(RetryForm), help="how a wait is written")
    limits.add_argument("--rate-headers", action="store_true", help="tell the limits with every reply")
    return parser


def _provider(arguments: argparse.Namespace) -> FakeProvider:
    answer = _answering(arguments.answer)
    return FakeProvider(
        lognormal(answer, *arguments.lengths) if arguments.lengths else answer,
        faults=storm(arguments.share, arguments.fault, arguments.seed) if arguments.fault else (),
        delay=arguments.delay,
        rate=_rate(arguments),
        tokens=arguments.tokens,
        reasoning=arguments.reasoning,
        prices=dict(arguments.price),
        canned=arguments.canned,
        key=arguments.key,
        log=arguments.log,
        port=arguments.port,
        looks=arguments.batch_looks,
        batch_faults=[BatchFault(kind) for kind in arguments.batch_fault or ()],
    )


def _answering(name: str) -> Answering:
    """An answering function by its name in `harness.testing.answers` or as `module:function`."""
    module, _, attribute = name.rpartition(":")
    return getattr(importlib.import_module(module or "harness.testing.answers"), attribute)


def _rate(arguments: argparse.Namespace) -> Rate | None:
    if arguments.rate is None:
        return None
    return Rate(
        arguments.rate,
        arguments.burst,
        arguments.retry_after,
        arguments.rate_headers,
        arguments.token_rate,
        arguments.token_burst,
    )


def _price(text: str) -> tuple[str, Price]:
    model, _, numbers = text.rpartition("=")
    parts = [float(number) for number in numbers.split(",")]
    if not model or not 2 <= len(parts) <= 4:
        raise argparse.ArgumentTypeError("write it as MODEL=INPUT,OUTPUT or MODEL=INPUT,OUTPUT,CACHE_READ,CACHE_WRITE")
    return model, Price(*parts)


async def _serve(provider: FakeProvider, *, until_eof: bool) -> None:
    async with provider:
        sys.stdout.write(provider.url + "\n")
        sys.stdout.flush()
        if until_eof:
            await asyncio.to_thread(sys.stdin.read)
        else:
            await asyncio.Event().wait()
