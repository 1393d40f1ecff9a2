"""The page of `appliance report` as a person has it: in a browser, by mouse and by keyboard.

These need Chromium. The last one also needs axe-core, which looks for what keeps people out:
`npm install axe-core` in any folder, and AXE_CORE=.../axe-core/axe.min.js in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance import cli
from appliance.arc.submission import build, write_submission
from appliance.arc.task import Task, TaskSet
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate
from appliance.program.source import DSL_HEADER
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder
from tests.support.chromium import Browser, executable
from tests.support.small_runs import START_S, make_run, world, write_world

HOSTILE = "<img src=x onerror=console.error(1)></script>"
"""Name of a task."""

NUM_TASKS = 12

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with a model and a search, over tasks whose answers are known."""
    return made(tmp_path_factory.mktemp("run"), NUM_TASKS)


def made(folder: Path, count: int) -> Path:
    task_set, answers = world(count)
    first = task_set.tasks[0]
    hostile = Task(HOSTILE, first.train, first.test)
    task_set = TaskSet("world", (hostile, *task_set.tasks[1:]))
    answers = {HOSTILE: answers.pop(first.task_id), **answers}
    files = write_world(folder, task_set, answers)

    run = make_run(folder / "a run", task_set, answers)
    program = f"{DSL_HEADER}def transform(grid):\n    # <b>\n    return flip_h(rot180(grid))\n"
    found = Candidate(
        HOSTILE, 0, hostile.test[0][::-1], 0.0, 0, method="search", program=program, weight=0.5
    )
    losses = {"loss_before": 1.0, "loss_after": 0.2, "num_steps": 30}
    with closing(Journal(RunFolder(run).journal)) as journal:
        rows = [r for r in journal.stages() if r.stage == "deep"]
        journal.put_stage(
            StageRow(rows[0].task_id, "train", "done", 4.0, losses, at_s=rows[0].at_s)
        )
        row = StageRow(HOSTILE, "search", "done", 9.0, {"worker": 3}, at_s=START_S + 500)
        journal.put_stage(row, [found])
        journal.put_fact("tasks", HOSTILE)
        attempts = attempts_of(journal.candidates(), DEFAULT_SELECTOR)
    write_submission(RunFolder(run).submission, build(task_set, attempts))

    words = ["--tasks", files[0], "--solutions", files[1], "--out", str(folder / "page.html")]
    assert cli.main(["report", str(run), *words]) == 0
    return folder / "page.html"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as opened:
        yield opened
        assert opened.errors == []


def names(browser: Browser) -> list[str]:
    """Of the tasks that are to be seen."""
    script = "[...document.querySelectorAll('#mosaic li:not([hidden]) .id')].map(e => e.innerText)"
    return list(browser.run(script))


def click(browser: Browser, selector: str) -> None:
    browser.run(f"document.querySelector(`{selector}`).click()")
    settle(browser)


def settle(browser: Browser) -> None:
    """Until the page has followed its address."""
    browser.run("new Promise(done => setTimeout(() => requestAnimationFrame(done), 50))")


def text(browser: Browser, selector: str) -> str:
    return str(browser.run(f"document.querySelector(`{selector}`).innerText"))


def focused(browser: Browser) -> str:
    return str(browser.run("document.activeElement.innerText || document.activeElement.id"))


def test_filters_search_and_order_choose_the_tasks(page: Path, browser: Browser) -> None:
    browser.open(page)
    everything = names(browser)
    assert len(everything) == NUM_TASKS

    chip = "#filters button[data-facet=state][data-value=solved]"
    told = int(text(browser, f"{chip} .num"))
    click(browser, chip)
    solved = names(browser)
    assert 0 < len(solved) == told < NUM_TASKS
    assert text(browser, "#count") == f"{told} of {NUM_TASKS} tasks"

    click(browser, "#filters button[data-facet=state][data-value=missed]")
    assert set(solved) < set(names(browser))
    click(browser, "#filters button[type=reset]")
    assert names(browser) == everything

    browser.run("document.getElementById('q').focus()")
    for key in "FLIP_h":
        browser.press(key)
    assert names(browser) == [HOSTILE]
    # The address holds what is chosen, for a reload and for whoever gets the link.
    browser.open(page, str(browser.run("location.hash")))
    assert names(browser) == [HOSTILE]

    browser.open(page, "#order=id")
    assert names(browser) == sorted(everything)


def test_a_task_is_opened_left_and_passed_by_the_keyboard(page: Path, browser: Browser) -> None:
    browser.open(page)
    everything = names(browser)
    browser.run("document.querySelector('#mosaic a').focus()")
    browser.press("ArrowRight")
    assert everything[1] in focused(browser)
    browser.run("document.activeElement.click()")
    settle(browser)
    assert text(browser, "#task-title").startswith(everything[1])
    assert everything[1] in focused(browser)
    assert browser.run("document.getElementById('overview').hidden")

    browser.press("ArrowRight")
    settle(browser)
    assert text(browser, "#task-title").startswith(everything[2])
    browser.press("Escape")
    settle(browser)
    assert everything[2] in focused(browser)
    browser.press("/")
    assert focused(browser) == "q"

    browser.run("history.back()")
    settle(browser)
    assert text(browser, "#task-title").startswith(everything[2])


def test_a_task_shows_what_was_found_and_foreign_text_stays_text(
    page: Path, browser: Browser
) -> None:
    browser.open(page)
    click(browser, "#mosaic a")
    assert text(browser, "#task-title").startswith(HOSTILE)
    assert browser.run("[...document.images].every(i => i.src.startsWith('data:'))")
    told = text(browser, "#task")
    assert "    # <b>\n    return flip_h(rot180(grid))" in told
    assert "weight 0.50 (sure)" in told
    assert text(browser, ".steps li:last-child code") == "return flip_h(rot180(grid))"
    assert browser.run("document.querySelectorAll('.steps canvas').length") == 2
    assert browser.run("document.querySelectorAll('.pairs canvas').length") >= 4
    assert "right answer" in text(browser, "#task")


def test_the_wrong_cells_of_an_attempt_are_marked(page: Path, browser: Browser) -> None:
    browser.open(page, "#state=missed")
    click(browser, "#mosaic li:not([hidden]) a")
    told = text(browser, "figure.wrong p")
    assert "wrong" in told or "are right" in told
    # The same grid once beside the truth and once alone.
    differs = browser.run(
        "(() => { const [a, b] = ['01/23', '01/24'];"
        " return picture('x', a, b).toDataURL() !== picture('x', a).toDataURL()"
        " && picture('x', a, a).toDataURL() === picture('x', a).toDataURL(); })()"
    )
    assert differs


def test_who_worked_when_is_drawn_and_opens_tasks(page: Path, browser: Browser) -> None:
    browser.open(page)
    assert "worker 3" in text(browser, "#timeline")
    assert browser.run("document.querySelectorAll('.do-train').length") == 2  # with the legend
    click(browser, ".span.do-search:last-child")
    assert not browser.run("document.getElementById('task').hidden")


def test_light_and_dark_follow_the_system_and_the_switch(page: Path, browser: Browser) -> None:
    def is_dark() -> bool:
        found = browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        return int(found) < 128

    browser.open(page)
    assert not is_dark()
    browser.resize(1280, 900, is_dark=True)
    assert is_dark()
    click(browser, "#theme")
    browser.resize(1280, 900)
    assert is_dark()
    click(browser, "#theme")
    browser.resize(1280, 900, is_dark=True)
    assert not is_dark()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(width: int, page: Path, browser: Browser) -> None:
    browser.resize(width, 800)
    for fragment in ("", "#task=task0003"):
        browser.open(page, fragment)
        wide = browser.run("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, fragment


def test_four_hundred_tasks_are_one_small_file(tmp_path: Path, browser: Browser) -> None:
    page = made(tmp_path, 400)
    assert page.stat().st_size < 5e6
    browser.open(page)
    assert len(names(browser)) == 400
    click(browser, "#filters button[data-facet=state][data-value=solved]")
    assert 0 < len(names(browser)) < 400


@pytest.mark.parametrize("is_dark", [False, True])
def test_axe_finds_no_serious_fault(is_dark: bool, page: Path, browser: Browser) -> None:
    axe = os.environ.get("AXE_CORE")
    if not axe:
        pytest.skip("AXE_CORE does not name the file axe.min.js of the npm package axe-core")

    browser.resize(1280, 900, is_dark=is_dark)
    for fragment in ("", "#task=task0001", "#task=task0003"):
        browser.open(page, fragment)
        browser.run(Path(axe).read_text() + "; 0")
        browser.run("document.querySelectorAll('details').forEach(d => (d.open = true))")
        script = "axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html]))"
        found = [fault for fault in browser.run(script) if fault[0] in ("serious", "critical")]
        assert found == [], fragment
