"""What the command shows while a run goes on."""

from __future__ import annotations

from harness.cli.show import Display
from harness.clients.ledger import Amount


def test_a_bar_that_is_moved_now_and_then_has_every_unit_at_its_end() -> None:
    with Display() as display:
        display.begin(10, 1000, Amount)
        for number in range(1000):
            display.unit("ok" if number % 10 else "refused")
            if number % 100 == 99:
                display.latent()
        (bar,) = display._bars.tasks
        # it was not moved a thousand times
        assert bar.completed < 1000
    assert bar.completed == 1000
    assert bar.fields["done"] == "10 of 10 latents, 100 units failed"
