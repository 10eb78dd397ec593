"""The threads of the codecs: in order, bounded, and never waiting for each other."""

from __future__ import annotations

import threading

import pytest

from larvik.storage.workers import Tasks, map_threads, run_threads, thread_count


def test_results_come_in_order():
    assert list(map_threads(lambda number: number * 2, range(200))) == list(range(0, 400, 2))


def test_no_more_items_are_taken_than_may_be_ahead():
    taken = []
    results = map_threads(lambda number: number, (taken.append(n) or n for n in range(50)), ahead=2)
    assert next(results) == 0
    assert len(taken) == 3
    results.close()


def test_every_item_is_worked_on_once():
    done = []
    run_threads(done.append, range(500))
    assert sorted(done) == list(range(500))


@pytest.mark.parametrize(
    "run", [run_threads, lambda function, items: list(map_threads(function, items))], ids=["run", "map"]
)
def test_an_error_ends_the_work(run):
    begun = []

    def work(number):
        begun.append(number)
        if number == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        run(work, range(10_000))
    assert len(begun) < 100 + 4 * thread_count()


def test_an_error_of_the_items_ends_the_work():
    def items():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        run_threads(lambda _: None, items())


def test_threads_of_the_pool_may_use_the_pool():
    def nested(number):
        run_threads(lambda _: None, range(5))
        return sum(map_threads(lambda n: n + number, range(20)))

    assert list(map_threads(nested, range(20))) == [190 + 20 * number for number in range(20)]
    run_threads(nested, range(20))


def test_a_busy_pool_costs_no_wait():
    release = threading.Event()
    busy = [map_threads(lambda _: release.wait(30), range(8), ahead=8) for _ in range(1)]
    holder = threading.Thread(target=lambda: [list(one) for one in busy])
    holder.start()
    try:
        done = []
        run_threads(done.append, range(10))
        assert len(done) == 10
        assert list(map_threads(lambda n: n, range(10))) == list(range(10))
    finally:
        release.set()
        holder.join(10)


def test_tasks_are_waited_for():
    done = []
    tasks = Tasks(3)
    for number in range(50):
        tasks.submit(lambda number=number: done.append(number))
    tasks.wait()
    assert sorted(done) == list(range(50))


def test_tasks_tell_what_went_wrong_and_can_be_dropped():
    tasks = Tasks(100)
    tasks.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tasks.wait()
    tasks.submit(lambda: 1 / 0)
    tasks.cancel()
    tasks.wait()
