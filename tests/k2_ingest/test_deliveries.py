"""Accounts and delivery reports."""

from __future__ import annotations

from confluent_kafka import KafkaError
from confluent_kafka.cimpl import Message

from k2_ingest.deliveries import Account, Delivery


def test_a_batch_is_done_when_all_of_it_is_acknowledged() -> None:
    account, done = Account(produced=2), list[int]()
    delivery = Delivery(account, 2, 77, done.append, lambda _: None)
    delivery(None, Message())
    assert (account.acknowledged, account.outstanding, done) == (1, 1, [])
    delivery(None, Message())
    assert (account.acknowledged, account.outstanding, done) == (2, 0, [77])


def test_a_failed_record_is_counted_and_told() -> None:
    account, failed = Account(produced=1), list[KafkaError]()
    error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    Delivery(account, 1, 77, lambda _: None, failed.append)(error, Message())
    assert (account.failed, account.outstanding, failed) == (1, 0, [error])
