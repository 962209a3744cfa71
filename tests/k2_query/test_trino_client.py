"""The client of Trino, on a real one: who may ask, what is refused in which words, and that nothing runs on unasked."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

from k2_cli.stack import ports
from k2_core.errors import EngineError, EngineUnavailableError, K2Error, QueryError, RetryableError, SpecError
from k2_core.logs import correlation
from k2_query.budget import Budget
from k2_query.caller import calling
from k2_query.trino_client import TrinoClient, TrinoServer, client_tags
from k2_query.trino_metrics import Asked, Outcome, Purpose
from support.s3 import LocalS3
from support.trino import OUTSIDER, SHIBBOLETH, USER, LocalTrino
from support.waiting import wait_until

ENDLESS = (
    "SELECT count(*) FROM UNNEST(sequence(1, 10000)) AS a(x) CROSS JOIN UNNEST(sequence(1, 10000)) AS b(y) "
    "CROSS JOIN UNNEST(sequence(1, 10000)) AS c(z) WHERE x + y + z = 0 -- "
)
MANY_ROWS = "SELECT x, y FROM UNNEST(sequence(1, 10000)) AS a(x) CROSS JOIN UNNEST(sequence(1, 10000)) AS b(y) -- "
GREEDY = (
    "SELECT array_agg(repeat('x', 1000)) FROM UNNEST(sequence(1, 10000)) AS a(x) "
    "CROSS JOIN UNNEST(sequence(1, 1000)) AS b(y)"
)
SECRET = SecretStr(SHIBBOLETH)


def server(trino: LocalTrino, **changes: object) -> TrinoServer:
    return TrinoServer(**({"url": trino.url, "user": USER, "catalog": "system"} | changes))  # type: ignore[arg-type]


def ask(where: TrinoServer, text: str = "SELECT 1", budget: Budget | None = None, **options: Any) -> list[list[object]]:
    with closing(TrinoClient(where, connections=1, **options)) as client:
        return [list(row) for batch in client.ask(text, [], budget or Budget(120)) for row in batch]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": SECRET}, r"^K2_TRINO_URL: found http://trino:8080 with a secret, expected https://"),
        ({"token": SECRET}, r"^K2_TRINO_URL: found http://trino:8080 with a secret, expected https://"),
        ({"password": SECRET, "token": SECRET}, r"^K2_TRINO_PASSWORD: found a password and a token, expected one"),
    ],
    ids=["password", "token", "both"],
)
def test_secrets_do_not_travel_in_clear_nor_in_pairs(changes: dict[str, SecretStr], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TrinoServer("http://trino:8080", "k2", "lake", **changes)  # type: ignore[arg-type]


def test_tags_name_key_and_request_and_hold_nothing_that_separates() -> None:
    assert list(client_tags()) == []
    with calling("desk, of=mine\n"), correlation("id-1"):
        assert list(client_tags()) == ["key:desk__of_mine_", "correlation:id-1"]


def test_where_nobody_listens_the_message_says_so(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{ports.find_free(str(tmp_path))}"
    with pytest.raises(EngineUnavailableError, match=rf"^Trino at {url}: found no connection \(Connection refused\)"):
        ask(TrinoServer(url, "k2", "lake"))


def test_a_server_that_is_no_trino_is_refused(s3: LocalS3) -> None:
    with pytest.raises(EngineError, match=r"found HTTP \d+ and no version at /v1/info, expected Trino; check spec\."):
        ask(TrinoServer(s3.endpoint, "k2", "lake"))


@pytest.mark.trino
class TestWhoMayAsk:
    @pytest.fixture
    def over_tls(self, trino: LocalTrino) -> dict[str, object]:
        return {"url": trino.tls_url, "ca_file": trino.ca_file}

    def test_without_tls_a_user_is_enough(self, trino: LocalTrino) -> None:
        assert ask(server(trino), "SELECT current_user") == [[USER]]

    def test_a_password_opens_it(self, trino: LocalTrino, over_tls: dict[str, object]) -> None:
        assert ask(server(trino, password=SECRET, **over_tls), "SELECT current_user") == [[USER]]

    def test_a_token_opens_it(self, trino: LocalTrino, over_tls: dict[str, object]) -> None:
        token = SecretStr(trino.token(USER))
        assert ask(server(trino, token=token, **over_tls), "SELECT current_user") == [[USER]]

    def test_wrong_credentials_are_said_and_not_shown(self, trino: LocalTrino, over_tls: dict[str, object]) -> None:
        old = SecretStr(trino.token(USER, valid_s=-3600))
        for wrong in ({"password": SecretStr("guessed-it")}, {"token": old}, {}):
            with pytest.raises(
                EngineError, match=r"found the credentials refused \(HTTP 401\).*check user and"
            ) as told:
                ask(server(trino, **wrong, **over_tls))
            assert "guessed" not in str(told.value)

    def test_an_unknown_authority_is_refused(self, trino: LocalTrino) -> None:
        with pytest.raises(EngineError, match=r"found a certificate that no known authority signed"):
            ask(server(trino, url=trino.tls_url, password=SECRET))

    def test_a_user_without_rights_is_refused(self, trino: LocalTrino) -> None:
        with pytest.raises(EngineError, match=r"Access Denied: .* expected its user to have the right to read"):
            ask(server(trino, user=OUTSIDER), "SELECT * FROM system.runtime.nodes")


@pytest.mark.trino
class TestWhatIsRefused:
    def test_a_version_that_is_too_old(self, trino: LocalTrino) -> None:
        with pytest.raises(EngineError, match=r"found version 476, expected 10000 or newer$"):
            ask(server(trino), minimum_version=10_000)

    def test_a_catalog_that_it_has_not(self, trino: LocalTrino) -> None:
        with pytest.raises(EngineError, match=r"found that .* expected it to see the pipeline's table: compare"):
            ask(server(trino), "SELECT * FROM nothing.market.trades")

    def test_more_memory_than_it_has(self, trino: LocalTrino) -> None:
        with pytest.raises(QueryError, match=r"^end: found a window too large to answer \(Query exceeded per-node"):
            ask(server(trino), GREEDY)


@pytest.mark.trino
class TestWhatIsTold:
    """Each question is told of once, with Trino's own figures, however it ends."""

    @pytest.fixture
    def told(self) -> list[Asked]:
        return []

    @pytest.fixture
    def client(self, trino: LocalTrino, told: list[Asked]) -> Iterator[TrinoClient]:
        with closing(TrinoClient(server(trino), connections=1, told=told.append)) as made:
            yield made

    def test_an_answer(self, client: TrinoClient, told: list[Asked]) -> None:
        text = "SELECT x FROM UNNEST(sequence(1, 2500)) AS a(x)"
        assert sum(map(len, client.ask(text, [], Budget(120), Purpose.PROBE))) == 2500
        [asked] = told
        assert (asked.purpose, asked.outcome) == (Purpose.PROBE, Outcome.OK)
        figures = asked.statistics
        assert (figures["state"], figures["completedSplits"]) == ("FINISHED", figures["totalSplits"])
        assert figures["totalSplits"] > 0
        assert 0 <= figures["queuedTimeMillis"] <= figures["elapsedTimeMillis"] <= asked.seconds * 1000 + 1
        assert {"planningTimeMillis", "processedRows", "processedBytes", "physicalInputBytes"} <= figures.keys()
        assert {"peakMemoryBytes", "cpuTimeMillis"} <= figures.keys()

    def test_a_caller_that_goes_away(self, client: TrinoClient, told: list[Asked]) -> None:
        answer = client.ask(MANY_ROWS + "told", [], Budget(120))
        next(answer)
        assert told == []
        answer.close()  # type: ignore[attr-defined]
        assert [(one.purpose, one.outcome) for one in told] == [(Purpose.ANSWER, Outcome.CANCELLED)]

    def test_a_budget_that_is_over(self, client: TrinoClient, told: list[Asked]) -> None:
        with pytest.raises(RetryableError, match="found no end"):
            list(client.ask(ENDLESS + "told", [], Budget(1)))
        assert [one.outcome for one in told] == [Outcome.OUT_OF_TIME]

    def test_a_refusal_and_too_much(self, client: TrinoClient, told: list[Asked]) -> None:
        for text, kind in (("SELECT * FROM nothing.market.trades", EngineError), (GREEDY, QueryError)):
            with pytest.raises(kind):
                list(client.ask(text, [], Budget(120)))
        assert [one.outcome for one in told] == [Outcome.REFUSED, Outcome.TOO_LARGE]
        assert told[1].statistics["elapsedTimeMillis"] > 0

    def test_no_connection(self, told: list[Asked], tmp_path: Path) -> None:
        away = TrinoServer(f"http://127.0.0.1:{ports.find_free(str(tmp_path))}", "k2", "lake")
        client = TrinoClient(away, connections=1, told=told.append)
        with closing(client), pytest.raises(EngineUnavailableError):
            list(client.ask("SELECT 1", [], Budget(120)))
        assert [(one.outcome, one.statistics) for one in told] == [(Outcome.UNAVAILABLE, {})]


@pytest.mark.trino
class TestItsEnd:
    @pytest.fixture
    def client(self, trino: LocalTrino) -> Iterator[TrinoClient]:
        with closing(TrinoClient(server(trino), connections=2)) as made:
            yield made

    def test_a_budget_that_is_cancelled_ends_the_query_at_trino(self, trino: LocalTrino, client: TrinoClient) -> None:
        budget = Budget(120)
        failures = self.fails(client, ENDLESS + "cancelled", budget)
        self.until(trino, "cancelled", "RUNNING")
        budget.cancel("query: found its client gone")
        assert self.joined(failures) == (RetryableError, "query: found its client gone")
        self.until(trino, "cancelled", "FAILED", "USER_CANCELED")

    def test_a_caller_that_goes_away_ends_the_query_at_trino(self, trino: LocalTrino, client: TrinoClient) -> None:
        answer = client.ask(MANY_ROWS + "left", [], Budget(120))
        assert len(next(answer)) == 1000
        answer.close()  # type: ignore[attr-defined]
        self.until(trino, "left", "FAILED", "USER_CANCELED")

    def test_trino_ends_a_query_by_itself_where_nobody_else_does(self, client: TrinoClient) -> None:
        unhurried = Budget(1, lambda: 0.0)  # its time never passes here
        with pytest.raises(RetryableError, match=r"^query: found no end in time \(.*limit of 1000.*\), expected one"):
            list(client.ask(ENDLESS + "own limit", [], unhurried))

    def test_a_query_that_somebody_kills_can_be_asked_again(self, trino: LocalTrino, client: TrinoClient) -> None:
        failures = self.fails(client, ENDLESS + "killed", Budget(120))
        query = self.until(trino, "killed", "RUNNING")
        trino.query(f"CALL system.runtime.kill_query(query_id => '{query['queryId']}', message => 'maintenance')")
        kind, said = self.joined(failures)
        assert kind is EngineUnavailableError
        assert "ADMINISTRATIVELY_KILLED (Query killed. Message: maintenance), expected an answer; retry" in said

    def test_parameters_are_bound_whatever_is_in_them(self, client: TrinoClient) -> None:
        odd = "' OR 1 = 1; -- ? \\ ä"
        at = datetime(2024, 8, 8, 23, 59, 59, 999_999, tzinfo=UTC)
        [[row]] = client.ask("SELECT ?, ?, ?", [odd, 2**62, at], Budget(120))
        assert row == [odd, 2**62, at]

    def test_trino_knows_whose_query_it_was(self, trino: LocalTrino, client: TrinoClient) -> None:
        with calling("desk"), correlation("request-7"):
            list(client.ask("SELECT 1 -- tagged", [], Budget(120)))
        session = trino.details(trino.queries("-- tagged")[-1]["queryId"])["session"]
        assert sorted(session["clientTags"]) == ["correlation:request-7", "key:desk"]
        assert (session["source"], session["user"]) == ("k2", USER)

    def test_one_that_does_not_answer_any_more_is_given_up_in_time(
        self, trino: LocalTrino, client: TrinoClient
    ) -> None:
        list(client.ask("SELECT 1", [], Budget(120)))
        trino.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(RetryableError, match=r"found no end after 0\.5 s, expected one"):
                list(client.ask("SELECT 1", [], Budget(0.5)))
        finally:
            trino.send_signal(signal.SIGCONT)
        assert psutil.Process(trino.pid).status() != psutil.STATUS_STOPPED

    def test_one_that_is_away_and_comes_back_is_asked_again(self, trino: LocalTrino, client: TrinoClient) -> None:
        list(client.ask("SELECT 1", [], Budget(120)))
        trino.stop()
        told: set[str] = set()
        with pytest.raises(EngineUnavailableError, match=r"Connection refused"):
            list(client.ask("SELECT 1", [], Budget(120)))
        trino.start(wait=False)
        deadline = time.monotonic() + 180
        while (failure := self.failure(client)) is not None:
            assert time.monotonic() < deadline, told
            assert isinstance(failure, EngineUnavailableError)
            told.add(str(failure))
            time.sleep(0.02)
        assert any("found it starting, expected it to have started; retry" in said for said in told), told

    @staticmethod
    def failure(client: TrinoClient) -> K2Error | None:
        try:
            list(client.ask("SELECT 1", [], Budget(120)))
        except K2Error as error:
            return error
        return None

    @staticmethod
    def fails(client: TrinoClient, text: str, budget: Budget) -> tuple[threading.Thread, list[K2Error]]:
        """Ask in a thread, and return it and where its failure goes."""
        failures: list[K2Error] = []

        def work() -> None:
            try:
                list(client.ask(text, [], budget))
            except K2Error as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        return thread, failures

    @staticmethod
    def joined(failed: tuple[threading.Thread, list[K2Error]]) -> tuple[type[K2Error], str]:
        failed[0].join(60)
        [failure] = failed[1]
        return type(failure), str(failure)

    @staticmethod
    def until(trino: LocalTrino, text: str, state: str, error: str | None = None) -> dict[str, object]:
        """Wait until the newest query with this text is in a state, and return it."""

        def found() -> dict[str, object] | None:
            newest = (trino.queries(f"-- {text}") or [{}])[-1]
            code = (newest.get("errorCode") or {}).get("name")
            return newest if newest.get("state") == state and code == error else None

        wait_until(lambda: found() is not None, f"the query {text} to be {state}")
        query = found()
        assert query is not None
        return query
