"""Spending limits of a client, and what it reports of costs."""

import pytest
from test_client import asked, client_of, number_of, texts

from endpoints import Said, says, serving
from ladder.data.jsonl import Row
from ladder.inference.client import Client, Reply
from ladder.inference.endpoint import Budget, Endpoint, Prices
from ladder.pipeline.stage import UserError

pytestmark = pytest.mark.usefixtures("work")
PRICES = Prices(prompt=1e6, completion=1e5)  # a reply of the server has 7 and 3 tokens and costs 7.3


@pytest.mark.parametrize(
    ("budget", "bought", "said"),
    [
        (Budget(requests=8), 8, "big: the budget of 8 requests is spent. .* run again"),
        (Budget(tokens=25), 3, "budget of 25 tokens"),  # 10 tokens each
        (Budget(money=30), 5, "budget of 30 in money"),  # 7.3 each
    ],
)
def test_a_budget_stops_and_further_runs_go_on(budget: Budget, bought: int, said: str) -> None:
    with serving(says(Said())) as server:
        for run in range(1, (20 - 1) // bought + 1):
            with pytest.raises(UserError, match=said):
                client_of(server, budget, concurrency=1, prices=PRICES).ask(asked(20), progress="")
            assert len(server.asked) == run * bought
        last = client_of(server, budget, concurrency=1, prices=PRICES)
        assert texts(last.ask(asked(20), progress="")) == ["[[5]]"] * 20
        assert len(server.asked) == 20


def test_a_budget_is_not_used_up_by_what_was_met_by_429() -> None:
    def limited(body: Row, before: int) -> Said:
        return Said("slow down", status=429) if number_of(body) < 2 and not before else Said(latency=0.05)

    with serving(limited) as server:
        client = client_of(server, Budget(requests=3))
        with pytest.raises(UserError, match="the budget of 3 requests is spent"):
            client.ask(asked(6), progress="")
        assert client.bought.requests == len(client.store) == 3


def test_a_budget_holds_over_all_that_a_client_is_asked() -> None:
    with serving(says(Said())) as server:
        client = client_of(server, Budget(requests=8))
        client.ask(asked(8), progress="")
        client.ask(asked(8), progress="")
        with pytest.raises(UserError, match="budget of 8 requests"):
            client.ask(asked(9), progress="")


def test_a_budget_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(UserError, match="budget.money: needs endpoint.prices"):
        Client(Endpoint(base_url="https://host/v1", model="m"), Budget(money=1))
    with serving(says(Said(usage=False))) as server:
        assert client_of(server).ask(asked(1), progress="") == [Reply("[[5]]", 0, 0, True)]
        with pytest.raises(UserError, match="reports no token usage"):
            client_of(server, Budget(tokens=100)).ask(asked(2), progress="")


def test_cost_and_rate_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(says(Said())) as server:
        client_of(server, prices=PRICES).ask(asked(4), progress="say")
        client_of(server).ask(asked(10), progress="say")
    out, err = capfd.readouterr()
    assert out == ""
    assert "big: 10 requests, 4 from cache" in err
    assert "cost 29.2000" in err and "reply/s" in err
    assert "42 + 18 tokens" in err and "10/10" in err
